"""A NAS: the real ugos-auth-proxy, with passwd, shadow and group of its own, and real pam_unix.

It runs in a mount namespace where a folder of the test's is mounted over /etc. That needs root, or
an ordinary user who may make user namespaces; elsewhere, and where the folder above has no main.py,
its tests are skipped.
"""

import ctypes
import functools
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.processes import BOUND, Program, free_port, keep_secret

MAIN = Path(__file__).resolve().parents[2] / "main.py"
TOKEN = keep_secret("a-token-of-the-nas")
PASSWORD = keep_secret("the NAS's own password")
PAM = """\
auth required pam_unix.so nodelay
account required pam_unix.so
"""


@functools.cache
def crypt(password: str) -> str:
    """The hash of `password` by libcrypt; a cheap one."""
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    hashed: bytes = library.crypt(password.encode(), b"$6$rounds=1000$saltsalt")
    return hashed.decode()


@functools.cache
def namespace() -> tuple[str, ...]:
    """The command that starts another one in a mount namespace; skips where there is none."""
    if not MAIN.exists():
        pytest.skip("needs ugos-auth-proxy's main.py in the folder above")
    command = ("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-rm")
    with tempfile.TemporaryDirectory() as empty:
        tried = subprocess.run(
            [*command, "mount", "--bind", empty, "/etc"],
            capture_output=True,
            text=True,
            check=False,
        )
    if tried.returncode:
        pytest.skip(f"needs root, or user namespaces for ordinary users: {tried.stderr.strip()}")
    return command


@dataclass(frozen=True)
class Account:
    """A row of passwd and of shadow; `aging` is what follows shadow's hash."""

    uid: int
    password: str = PASSWORD
    gecos: str = "UGREEN USER"
    locked: bool = False
    aging: str = "19000:0:99999:7:::"
    groups: tuple[str, ...] = ()


EXPIRED = "19000:0:99999:7::19001:"  # the account
MUST_CHANGE = "0:0:99999:7:::"  # its password


@dataclass
class Etc:
    """The accounts, written as the files of /etc, which are replaced by rename, as UGOS does."""

    path: Path
    accounts: dict[str, Account] = field(default_factory=dict)

    def prepare(self) -> None:
        (self.path / "pam.d").mkdir(parents=True)
        self.path.chmod(0o755)
        for name in ("ld.so.cache", "login.defs"):
            if Path("/etc", name).exists():
                shutil.copy(Path("/etc", name), self.path)
        self.replace("nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files\n")
        self.replace("pam.d/ugos-auth-proxy", PAM)
        self.replace("pam.d/other", PAM)
        self.write()

    def write(self) -> None:
        passwd, shadow = ["root:x:0:0::/:/bin/sh\n"], ["root:*:19000:0:99999:7:::\n"]
        groups: dict[str, list[str]] = {"root": [], "users": []}
        for name, row in self.accounts.items():
            passwd.append(f"{name}:x:{row.uid}:100:{row.gecos}:/home/{name}:/usr/sbin/nologin\n")
            lock = "!" if row.locked else ""
            shadow.append(f"{name}:{lock}{crypt(row.password)}:{row.aging}\n")
            for group in row.groups:
                groups.setdefault(group, []).append(name)
        numbers = {"root": 0, "users": 100} | {
            name: 500 + i for i, name in enumerate(groups) if name not in ("root", "users")
        }
        self.replace("shadow", "".join(shadow), 0o640)
        self.replace(
            "group",
            "".join(f"{n}:x:{numbers[n]}:{','.join(of)}\n" for n, of in groups.items()),
        )
        self.replace("passwd", "".join(passwd))

    def replace(self, filename: str, text: str, mode: int = 0o644) -> None:
        new = self.path / (filename + "+")
        new.write_text(text, encoding="utf-8")
        new.chmod(mode)
        new.rename(self.path / filename)


class Nas:
    """A running ugos-auth-proxy at `url`. Its accounts may change while it runs."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.command = namespace()
        self.etc = Etc(folder / "etc")
        self.etc.prepare()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "AUTH_TOKEN": TOKEN,
            "FAIL_DELAY": "0",
            "MAX_FAILURES": "0",
            "LOG_LEVEL": "DEBUG",
            **{name: str(value) for name, value in settings.items()},
        }
        self.start()

    @property
    def settings(self) -> dict[str, Any]:
        """Those of a server that asks this NAS."""
        return {"UGOS_AUTH_PROXY_URL": self.url, "UGOS_AUTH_PROXY_TOKEN": TOKEN}

    def start(self) -> None:
        mount = f'mount --bind {shlex.quote(str(self.etc.path))} /etc\nexec "$@"'
        self.program = Program(
            [*self.command, "sh", "-ec", mount, "sh", sys.executable, str(MAIN)], self.environment
        )
        deadline = time.monotonic() + BOUND
        while time.monotonic() < deadline and self.program.process.poll() is None:
            try:
                httpx.get(self.url + "/ready", timeout=BOUND, trust_env=False)
                return
            except httpx.TransportError:
                time.sleep(0.05)  # nothing tells from outside when a port is open
        raise AssertionError("\n".join(["the NAS does not answer:", *self.program.lines]))

    def stop(self) -> None:
        """It cannot be reached any more, until `start`."""
        self.let_go()
        self.program.stop()

    def hang(self) -> None:
        """It takes connections and answers nothing, until `let_go`."""
        self.program.process.send_signal(signal.SIGSTOP)

    def let_go(self) -> None:
        if self.program.process.poll() is None:
            self.program.process.send_signal(signal.SIGCONT)

    def asked(self, path: str) -> list[str]:
        """Its log's lines of requests for `path`, as `/validate`."""
        mark = f"/mark-{secrets.token_hex(4)}"  # when its line has come, all before it have
        httpx.get(self.url + mark, trust_env=False)
        self.program.wait_for_line(f"path={mark}")
        return [line for line in self.program.lines if f"path={path}" in line]

    def add_user(self, name: str, **fields: object) -> Account:
        """An account; `fields` are those of `Account`."""
        fields.setdefault("uid", 2000 + len(self.etc.accounts))
        account = Account(**fields)  # type: ignore[arg-type]
        keep_secret(account.password)
        self.etc.accounts[name] = account
        self.etc.write()
        return account

    def change(self, name: str, **fields: object) -> None:
        """Change an account: `nas.change("jane", locked=True)`."""
        self.etc.accounts[name] = replace(self.etc.accounts[name], **fields)  # type: ignore[arg-type]
        keep_secret(self.etc.accounts[name].password)
        self.etc.write()

    def remove_user(self, name: str) -> None:
        del self.etc.accounts[name]
        self.etc.write()
