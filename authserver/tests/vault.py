"""A stub of Vault's and Consul's HTTP APIs over TLS, since neither is to be had here.

The documented facts that it goes by (developer.hashicorp.com):
- vault/api-docs: the token comes in X-Vault-Token; errors are {"errors": [TEXT]}: 403 permission
  denied, 404 no such path, 503 sealed; a standby sends 307 to the active node;
- vault/api-docs/secret/databases: GET /v1/database/creds/ROLE makes a user in the database, and
  answers lease_id, lease_duration (seconds), renewable, data.username and data.password;
- vault/api-docs/system/leases: PUT /v1/sys/leases/renew {"lease_id"} answers lease_id, renewable
  and the lease_duration from now on, 400 where the lease has ended; a lease that ends or is revoked
  has its user dropped;
- vault/api-docs/system/internal-ui-mounts: GET /v1/sys/internal/ui/mounts/PATH answers the mount's
  path and, of a KV engine, options.version;
- vault/api-docs/secret/kv: POST /v1/MOUNT/PATH writes the body (version 1: 204), POST
  /v1/MOUNT/data/PATH its member `data` (version 2: 200, with the version's metadata);
- consul/api-docs/kv: PUT /v1/kv/KEY with X-Consul-Token writes the body, and answers true or false;
  403 for a token that may not.
"""

import contextlib
import json
import ssl
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.processes import keep_secret

TOKEN = keep_secret("hvs.the-token-of-the-tests")
MOUNTS = {"secret/": "2", "kv/": "1"}
Answer = tuple[int, Any]


def make_certificate(file: Path) -> None:
    """A key and a certificate for localhost, in one file, which is its own authority."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"]
    command += [
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
    ]
    command += ["-keyout", str(file), "-out", f"{file}.crt"]
    subprocess.run(command, check=True, capture_output=True)
    file.write_bytes(file.read_bytes() + Path(f"{file}.crt").read_bytes())


class Stub:
    """The API at `url`; `ca` is the file of its authority.

    `make_user` makes a user of the database and returns its name and password. `fault` answers in
    place of everything, where it is set; `hang` lets nothing be answered until `stop`.
    """

    def __init__(self, folder: Path) -> None:
        self.ca = folder / "localhost.pem"
        make_certificate(self.ca)
        self.tokens = {TOKEN}
        self.make_user: Callable[[], tuple[str, str]] | None = None
        self.lease_seconds, self.renewable = 3600, True
        self.leases: dict[str, str] = {}  # those that count, and their users
        self.written: dict[str, Any] = {}  # by the path of the API
        self.asked: list[str] = []
        self.fault: Answer | None = None
        self.hang = False
        self.over = threading.Event()
        handler = type("Bound", (Handler,), {"stub": self})
        self.listener = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.ca)
        self.listener.socket = context.wrap_socket(self.listener.socket, server_side=True)
        self.url = f"https://localhost:{self.listener.server_port}"
        self.thread = threading.Thread(
            target=self.listener.serve_forever, args=(0.05,), daemon=True
        )
        self.thread.start()

    def stop(self) -> None:
        self.over.set()
        self.listener.shutdown()
        self.listener.server_close()
        self.thread.join()

    @property
    def settings(self) -> dict[str, Any]:
        """Those of a program that asks it."""
        return {
            "VAULT_ADDR": self.url,
            "VAULT_CA": self.ca,
            "VAULT_TOKEN": TOKEN,
            "CONSUL_HTTP_ADDR": self.url,
            "CONSUL_CACERT": self.ca,
            "CONSUL_HTTP_TOKEN": TOKEN,
        }

    def answer(self, method: str, path: str, token: str, body: Any) -> Answer:
        self.asked.append(f"{method} {path}")
        if self.hang:
            self.over.wait()
        if self.fault:
            return self.fault
        if token not in self.tokens:
            return 403, {"errors": ["permission denied"]}
        path = path.removeprefix("/v1/")
        if (method, path) == ("PUT", "sys/leases/renew"):
            return self.renew(body["lease_id"])
        if method == "GET" and path.startswith("database/creds/"):
            return self.lease(path)
        if method == "GET" and path.startswith("sys/internal/ui/mounts/"):
            return self.mount_of(path.removeprefix("sys/internal/ui/mounts/"))
        if method == "PUT" and path.startswith("kv/"):  # Consul's; Vault's are written by POST
            self.written[path] = body
            return 200, True
        if method == "POST":
            return self.write(path, body)
        return 404, {"errors": []}

    def lease(self, path: str) -> Answer:
        assert self.make_user
        username, password = self.make_user()
        identifier = f"{path}/{username}"
        self.leases[identifier] = username
        return 200, {
            "lease_id": identifier,
            "lease_duration": self.lease_seconds,
            "renewable": self.renewable,
            "data": {"username": username, "password": keep_secret(password)},
        }

    def renew(self, identifier: str) -> Answer:
        if identifier not in self.leases or not self.renewable:
            return 400, {"errors": ["lease not found or lease is not renewable"]}
        return 200, {
            "lease_id": identifier,
            "renewable": True,
            "lease_duration": self.lease_seconds,
        }

    def mount_of(self, path: str) -> Answer:
        for mount, version in MOUNTS.items():
            if path.startswith(mount):
                options = {"version": version}
                return 200, {"data": {"path": mount, "type": "kv", "options": options}}
        return 403, {"errors": ["preflight capability check returned 403"]}

    def write(self, path: str, body: Any) -> Answer:
        mount = f"{path.partition('/')[0]}/"
        if MOUNTS.get(mount) == "1":
            self.written[path] = body
            return 204, None
        if MOUNTS.get(mount) == "2" and path.startswith(f"{mount}data/"):
            self.written[path] = body["data"]
            return 200, {"data": {"version": 1, "deletion_time": "", "destroyed": False}}
        return 404, {"errors": ["Invalid path for a versioned K/V secrets engine"]}


class Handler(BaseHTTPRequestHandler):
    stub: Stub

    def do_GET(self) -> None:
        with contextlib.suppress(OSError):  # who asked has gone
            self.give_answer()

    do_PUT = do_POST = do_GET  # noqa: N815

    def give_answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        token = self.headers.get("X-Vault-Token") or self.headers.get("X-Consul-Token") or ""
        status, answer = self.stub.answer(self.command, self.path, token, body)
        text = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        if status == 307:
            self.send_header("Location", f"{self.stub.url}/elsewhere")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass
