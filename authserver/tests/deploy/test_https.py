"""README's blocks for nginx and Caddy, Debian's programs, with a certificate authority of ours."""

import json
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.browser import forms_of
from tests.deploy.nas import block, until
from tests.processes import Program, free_port
from tests.server import PASSWORD, Serve, Server

NAME = "login.example.org"
Proxy = Callable[[Server, int, Path], Program]


def certificate(folder: Path, name: str = f"DNS:{NAME}") -> None:
    """An authority (ca.pem), and a certificate of it (cert.pem, key.pem) for a name or address, in
    the form of OpenSSL's subjectAltName."""
    make = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    for line in (
        f"req -x509 {make} -subj /CN=home -keyout ca.key -out ca.pem",
        f"req {make} -subj /CN=login -keyout key.pem -out request.pem",
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -days 2 -extfile names -out cert.pem",
    ):
        (folder / "names").write_text(f"subjectAltName={name}\n")
        subprocess.run(["openssl", *line.split()], cwd=folder, check=True, capture_output=True)


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    """README's text with the ports and files of this test in place of its own."""
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


def nginx(server: Server, port: int, folder: Path) -> Program:
    certificate(folder)
    site = replaced(
        block("https in front", language="nginx"),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/ssl/login", str(folder)),
        ("http://127.0.0.1:8000", server.address),
    )
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {temporary} {site} }}\n"
    )
    return Program(["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)], {})


def caddy(server: Server, port: int, folder: Path) -> Program:
    site = replaced(
        block("https in front", language="Caddyfile"),
        (NAME, f"{NAME}:{port}"),
        ("127.0.0.1:8000", server.address.removeprefix("http://")),
    )
    options = ("admin off", "local_certs", "skip_install_trust", "auto_https disable_redirects")
    (folder / "Caddyfile").write_text("{\n" + "\n".join(options) + "\n}\n" + site)
    program = Program(
        ["caddy", "run", "--config", str(folder / "Caddyfile")],
        {"HOME": str(folder), "XDG_DATA_HOME": str(folder)},
    )
    root = folder / "caddy/pki/authorities/local/root.crt"
    until(root.exists)
    shutil.copy(root, folder / "ca.pem")
    return program


class Client:
    """A browser somewhere, that trusts the authority and finds NAME at the proxy."""

    def __init__(self, port: int, folder: Path, address: str) -> None:
        trusted = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        self.http = httpx.Client(
            base_url=f"https://127.0.0.1:{port}",
            headers={"Host": f"{NAME}:{port}", "X-Forwarded-For": "192.0.2.66"},
            transport=httpx.HTTPTransport(verify=trusted, local_address=address),
            trust_env=False,
            timeout=60,
        )
        self.base = f"https://{NAME}:{port}"

    def request(self, method: str, path: str, **options: object) -> httpx.Response:
        extensions = {"sni_hostname": NAME}
        return self.http.request(method, path, extensions=extensions, **options)  # type: ignore[arg-type]

    def sign_in(self) -> httpx.Response:
        page = self.request("GET", "/account/login/")
        assert "Secure" in page.headers["Set-Cookie"]
        _, fields = forms_of(page.text)[0]
        cookies = "; ".join(f"{name}={value}" for name, value in page.cookies.items())
        return self.request(
            "POST",
            "/account/login/",
            data={**fields, "login": "jane", "password": PASSWORD},
            headers={"Origin": self.base, "Cookie": cookies},
        )


@pytest.fixture(params=[nginx, caddy], ids=["nginx", "caddy"])
def proxied(
    request: pytest.FixtureRequest, serve: Serve, tmp_path: Path
) -> Iterator[tuple[Server, Client]]:
    """A server that is called https://NAME:PORT, and a client behind the proxy."""
    proxy: Proxy = request.param
    name = proxy.__name__
    if not shutil.which(name):
        pytest.skip(f"needs {name}: apt install {name}")
    port = free_port()
    server = serve(BASE_URL=f"https://{NAME}:{port}", TRUSTED_PROXIES="127.0.0.1")
    running = proxy(server, port, tmp_path)
    client = Client(port, tmp_path, "127.0.0.9")

    def answers() -> bool:
        try:
            return client.request("GET", "/health/").status_code == 200
        except httpx.TransportError:
            return False  # it is about to listen

    try:
        until(answers)
        yield server, client
    finally:
        running.stop()


def test_a_sign_in_through_it_knows_the_scheme_and_the_client(
    proxied: tuple[Server, Client],
) -> None:
    server, client = proxied
    server.make_user("jane")
    found = client.request("GET", "/.well-known/openid-configuration").json()
    assert found["issuer"] == client.base
    assert found["token_endpoint"].startswith(client.base)
    answer = client.sign_in()
    assert answer.status_code == 302, answer.text
    assert "max-age" in answer.headers["Strict-Transport-Security"]
    (event,) = json.loads(server.run("audit", "-f", "json", "--kind", "login").stdout)
    assert event["client"] == "127.0.0.9"  # not the proxy, nor what the client says it is


def test_another_name_is_not_answered(proxied: tuple[Server, Client]) -> None:
    _, client = proxied
    for host in ("other.example.org", NAME):  # the second without its port
        answer = client.request("GET", "/account/login/", headers={"Host": host})
        assert "password" not in answer.text
