"""A private /etc with accounts for every row of what PAM can say."""

import ctypes
import functools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from secrecy import keep_secret

# cheap ones: what a hash costs is no matter here. `des` is the fastest, but sees only 8 bytes of a
# password
SALTS = {
    "sha512": "$6$rounds=1000$saltsalt",
    "yescrypt": "$y$j75$saltsaltsaltsaltsalt..",
    "des": "sa",
}


@functools.cache
def crypt(password: str, scheme: str) -> str:
    """The hash of `password` by libcrypt (Python's module is gone since 3.13); `scheme` may be a
    salt as well."""
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    hashed: bytes = library.crypt(password.encode(), SALTS.get(scheme, scheme).encode()) or b"*"
    assert not hashed.startswith(b"*"), f"libcrypt has no {scheme}"
    return hashed.decode()


class Account(NamedTuple):
    """A row of passwd and of shadow; `hashed` is the password field, `aging` what follows it."""

    uid: int
    hashed: str
    aging: str = "19000:0:99999:7:::"
    gid: int = 100
    gecos: str = "UGREEN USER"
    shell: str = "/usr/sbin/nologin"


def right(name: str) -> str:
    """The password of one of `ACCOUNTS`."""
    return keep_secret(f"right-{name}")


def accounts() -> dict[str, Account]:
    """One account for every row of what PAM can say, by scheme: `sha512`, `sha512.locked` and so
    on, and others."""
    rows: dict[str, Account] = {}
    for base, scheme in enumerate(SALTS, 1):
        cases = {
            "": ("", "19000:0:99999:7:::"),
            ".locked": ("!", "19000:0:99999:7:::"),
            ".expired": ("", "19000:0:99999:7::19001:"),  # the account
            ".mustchange": ("", "0:0:99999:7:::"),
            ".agedout": ("", "19000:0:30:7:1::"),
        }
        for i, (case, (lock, aging)) in enumerate(cases.items()):
            name = scheme + case
            rows[name] = Account(1000 + 100 * base + i, lock + crypt(right(name), scheme), aging)
    rows |= {
        "nopassword": Account(1500, ""),
        "star": Account(1501, "*"),
        "system": Account(999, crypt(right("system"), "des")),
        "highuid": Account(60001, crypt(right("highuid"), "des")),
        "toor": Account(0, crypt(right("toor"), "des"), gid=0),
        "jane.doe": Account(
            1600,
            crypt(right("jane.doe"), "des"),
            gid=10,
            gecos="Jane Doe,Room 1,,,jane@example.org",
            shell="/bin/bash",
        ),
        "MarcEwers": Account(1601, crypt(right("MarcEwers"), "des")),
        "ampersand": Account(1602, "*", gecos="& Sand <amp@example.org>"),
        "mailonly": Account(1603, "*", gecos="mail.only@example.org"),
        "juergen": Account(1604, "*", gecos="J\udcfcrgen"),
    }
    return rows


ACCOUNTS = accounts()

GROUPS = """\
root:x:0:
admin:x:10:
shadow:x:42:
users:x:100:
docker:x:121:jane.doe
ughomeusers:x:133:MarcEwers,jane.doe
media team:x:90:jane.doe
family:x:300:jane.doe
familie:x:300:jane.doe
nogroup:x:65534:
"""

PLAIN = """\
auth required pam_unix.so nodelay
account required pam_unix.so
"""
# as Debian's login: it sleeps 2 s on a refusal, and lets any password in where none is set
DEBIAN = """\
auth optional pam_faildelay.so delay=2000000
auth [success=1 default=ignore] pam_unix.so nullok
auth requisite pam_deny.so
auth required pam_permit.so
account [success=1 new_authtok_reqd=done default=ignore] pam_unix.so
account requisite pam_deny.so
account required pam_permit.so
"""


class Etc:
    """A private /etc with `ACCOUNTS`, to be mounted over the real one. Files are replaced by
    rename, as UGOS does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o755)
        (path / "pam.d").mkdir()
        for name in ("ld.so.cache", "login.defs"):
            if Path("/etc", name).exists():
                shutil.copy(Path("/etc", name), path)
        self.replace("nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files\n")
        self.replace("group", GROUPS)
        rows = {
            "root": Account(0, "*", gid=0),
            **ACCOUNTS,
            "nobody": Account(65534, "*", gid=65534),
        }
        self.replace("passwd", "".join(self.passwd_row(name, row) for name, row in rows.items()))
        self.replace("shadow", "".join(self.shadow_row(name, row) for name, row in rows.items()))
        self.pam("ugos-auth-proxy", PLAIN)
        self.pam("debian", DEBIAN)
        self.pam("other", DEBIAN)

    @staticmethod
    def passwd_row(name: str, row: Account) -> str:
        return f"{name}:x:{row.uid}:{row.gid}:{row.gecos}:/home/{name}:{row.shell}\n"

    @staticmethod
    def shadow_row(name: str, row: Account) -> str:
        return f"{name}:{row.hashed}:{row.aging}\n"

    def read(self, filename: str) -> str:
        return (self.path / filename).read_text(encoding="utf-8", errors="surrogateescape")

    def replace(self, filename: str, text: str, mode: int | None = None) -> None:
        """Put a new file in the place of `filename`, by rename; shadow is 0640 root:shadow."""
        secret = Path(filename).name == "shadow"
        new = self.path / (filename + "+")
        new.write_text(text, encoding="utf-8", errors="surrogateescape")
        new.chmod(mode if mode is not None else 0o640 if secret else 0o644)
        if secret and os.geteuid() == 0:
            os.chown(new, 0, 42)
        new.rename(self.path / filename)

    def pam(self, service_name: str, text: str) -> None:
        self.replace(f"pam.d/{service_name}", text)

    def script(self, name: str, text: str) -> None:
        """A program for pam_exec.so, at /etc/NAME."""
        self.replace(name, f"#!/bin/sh\n{text}", 0o755)

    def add_user(self, name: str, password: str = "", **fields: Any) -> None:
        """Add an account; `fields` are those of `Account`, and `scheme`."""
        scheme = fields.pop("scheme", "des")
        taken = {int(row.split(":")[2]) for row in self.read("passwd").splitlines()}
        fields.setdefault("uid", next(uid for uid in range(2000, 60000) if uid not in taken))
        fields.setdefault("hashed", crypt(keep_secret(password), scheme) if password else "*")
        row = Account(**fields)
        self.replace("shadow", self.read("shadow") + self.shadow_row(name, row))
        self.replace("passwd", self.read("passwd") + self.passwd_row(name, row))

    def set_hash(self, name: str, change: Callable[[str], str]) -> None:
        rows = [row.split(":") for row in self.read("shadow").splitlines()]
        for row in rows:
            if row[0] == name:
                row[1] = change(row[1])
        self.replace("shadow", "".join(":".join(row) + "\n" for row in rows))

    def set_password(self, name: str, password: str, scheme: str = "des") -> None:
        self.set_hash(name, lambda _: crypt(keep_secret(password), scheme))

    def lock(self, name: str) -> None:
        self.set_hash(name, lambda hashed: "!" + hashed)
