"""DJB's checkpassword interface (https://cr.yp.to/checkpwd/interface.html), and what Dovecot adds.

Dovecot's checkpassword driver takes USER, HOME and `userdb_*` from the environment, those that
EXTRA names; for a look-up it sets AUTHORIZED=1, and wants 2 back.
"""

import os
import re
from dataclasses import dataclass

from authclient.server import Misused

WRONG, MISUSED, NO_SUCH_USER, TEMPORARY = 1, 2, 3, 111
INPUT, LARGEST = 3, 512  # the descriptor, and the bytes that may come there
# what may hold a password
SECRETS = ("PASS", "PASSWORD")


class NoLogin(Exception):
    """What came in is nobody's login: it is longer than 512 bytes, no UTF-8, or has no name."""


@dataclass(frozen=True)
class Userdb:
    """What Dovecot is told of a user; "" where nothing."""

    uid: str = ""
    gid: str = ""
    home: str = ""

    @classmethod
    def read(cls, uid: str | None, gid: str | None, home: str | None) -> "Userdb":
        for name, value in (("uid", uid), ("gid", gid)):
            if value and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", value):
                raise Misused(f"--userdb-{name} is no number or name")
        return cls(uid or "", gid or "", home or "")


def read_input() -> tuple[str, str]:
    """The name and the password; raises Misused and NoLogin."""
    data = b""
    try:
        while len(data) <= LARGEST and (more := os.read(INPUT, LARGEST + 1)):
            data += more
        os.close(INPUT)
    except OSError:
        raise Misused("descriptor 3 cannot be read: this is run by another program") from None
    if len(data) > LARGEST:
        raise NoLogin
    parts = data.split(b"\0")
    if len(parts) < 3:
        raise Misused("descriptor 3 does not give NAME, PASSWORD and a timestamp")
    try:
        name, password = parts[0].decode(), parts[1].decode()
    except UnicodeDecodeError:
        raise NoLogin from None
    if not name.strip():
        raise NoLogin
    return name, password


def environment(name: str, userdb: Userdb, lookup: bool) -> dict[str, str]:
    """What PROGRAM gets: no secret, and who has logged in."""
    kept = {key: value for key, value in os.environ.items() if key not in SECRETS}
    # an address may hold a slash: it must not lead out of the folder
    home = userdb.home.replace("%u", name.replace("/", "_").lstrip(".")) or "/"
    kept |= {"USER": name, "HOME": home, "SHELL": "/bin/false"}
    extra = {"userdb_uid": userdb.uid, "userdb_gid": userdb.gid}
    if userdb.home:
        extra["userdb_home"] = home
    extra = {key: value for key, value in extra.items() if value}
    for key in ("userdb_uid", "userdb_gid", "userdb_home"):
        kept.pop(key, None)
    if extra:
        kept |= extra
        kept["EXTRA"] = " ".join(extra)
    if lookup:
        kept["AUTHORIZED"] = "2"
    return kept


def go_on(program: list[str], name: str, userdb: Userdb, lookup: bool) -> int:
    """Run PROGRAM in our place; 0 where there is none."""
    if program[:1] == ["--"]:
        program = program[1:]
    if not program:
        return 0
    try:
        os.execvpe(program[0], program, environment(name, userdb, lookup))  # noqa: S606
    except OSError:
        return TEMPORARY
