"""checkpassword: ask authserver about a login, in the ways that other programs know.

-m checkpassword  DJB's interface, as qmail and Dovecot use it: descriptor 3, then PROGRAM
-m authext        Apache's mod_authnz_external: is this password right?
-m authextgroup   and its groups: does this user hold one of these permissions?
-m init           fetch the key that answers are checked with, and write it
-m check          the same without writing: is the key that is kept still the right one?
"""

import argparse
import os
import sys
from typing import NoReturn

from authclient import __version__, djb, keys
from authclient.server import BadAnswer, Claims, Misused, NoConnection, Server, Wrong, check

MODES = ("checkpassword", "authext", "authextgroup", "init", "check")
OK, WRONG, CONNECTION, OTHER = range(4)  # the exit status but for DJB's
LONGEST_LINE = 4096


class Parser(argparse.ArgumentParser):
    """A misuse has DJB's exit status in its mode, and 3 in the others."""

    def error(self, message: str) -> NoReturn:
        print(f"checkpassword: {message}; see --help", file=sys.stderr)
        arguments = " ".join(sys.argv[1:]).replace("=", " ").replace("-m", "-m ").split()
        others = any(mode in arguments for mode in MODES[1:])
        sys.exit(OTHER if others else djb.MISUSED)


def make_parser() -> Parser:
    parser = Parser(
        prog="checkpassword",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("-m", "--mode", choices=MODES, default="checkpassword")
    add(
        "-u",
        "--url",
        required=True,
        help="of the endpoint: https://HOST/checkpassword/ or /getkey/",
    )
    add("--jwtkey", required=True, metavar="FILE", help="the key; - is stdout, with -m init")
    add("-f", "--format", choices=("pubkey", "cert"), default="pubkey", help="what -m init fetches")
    add("--no-ssl-validate", action="store_true", help="believe any certificate")
    add("--ca-file", metavar="F", help="PEM file of the authority that signed the server's one")
    add("-s", "--scope", action="append", default=[], help="a permission that the user must hold")
    add("--domain", metavar="D", help="the auth domain (default: the host of BASE_URL)")
    add("--token-file", metavar="F", help="file with the server's CHECKPASSWORD_TOKEN")
    add("--userdb-uid", metavar="UID", help="what Dovecot gets")
    add("--userdb-gid", metavar="GID", help="what Dovecot gets")
    add("--userdb-home", metavar="DIR", help="what Dovecot gets; %%u is the user's mailbox")
    add("--version", action="version", version=f"checkpassword {__version__}")
    add("program", nargs=argparse.REMAINDER, metavar="PROGRAM [ARG]...")
    return parser


def read_token(path: str | None) -> str:
    if path is None:
        return ""
    try:
        with open(path, encoding="ascii") as file:
            return file.read(LONGEST_LINE).strip()
    except (OSError, ValueError):
        raise Misused(f"--token-file: {path} cannot be read") from None


def main() -> None:
    options = make_parser().parse_args()
    run = {"checkpassword": djb_mode, "init": key_mode, "check": key_mode}
    try:
        status = run.get(options.mode, apache_mode)(options)
    except Exception as error:  # noqa: BLE001  (Python's own 1 would mean a wrong password)
        say(f"a fault in checkpassword: {type(error).__name__}")
        status = djb.TEMPORARY if options.mode == "checkpassword" else OTHER
    sys.exit(status)


def say(error: Exception | str) -> None:
    print(f"checkpassword: {error}", file=sys.stderr)


def server_of(options: argparse.Namespace) -> Server:
    token = read_token(options.token_file)
    return Server(options.url, options.ca_file, not options.no_ssl_validate, token)


def key_mode(options: argparse.Namespace) -> int:
    """-m init and -m check."""
    path = options.jwtkey
    try:
        pem = keys.fetch(server_of(options), options.domain, options.format)
        if path == "-":
            if options.mode == "init":
                sys.stdout.write(pem.decode())
            return OK
        held = keys.holds(path, pem)
        if options.mode == "check":
            return WRONG if held is False else OK
        if not held:
            keys.write(path, pem)
    except keys.NoSuchDomain as error:
        say(error)
        return WRONG
    except NoConnection as error:
        say(error)
        return CONNECTION
    except (Misused, BadAnswer, Wrong, keys.Unwritable) as error:
        say(error)
        return OTHER
    return OK


def apache_input(mode: str) -> tuple[str, str]:
    """The name, and the password or the groups: from USER and PASS or GROUP, else from stdin."""
    second = "PASS" if mode == "authext" else "GROUP"
    if "USER" in os.environ and second in os.environ:
        return os.environ["USER"], os.environ[second]
    lines = [sys.stdin.buffer.readline(LONGEST_LINE) for _ in range(2)]
    try:
        name, value = (line.decode().removesuffix("\n") for line in lines)
    except UnicodeDecodeError:
        raise Misused("stdin is not UTF-8") from None
    return name, value


def apache_mode(options: argparse.Namespace) -> int:
    """-m authext and -m authextgroup."""
    try:
        name, value = apache_input(options.mode)
        groups = value.split() if options.mode == "authextgroup" else []
        if not name.strip() or (options.mode == "authextgroup" and not groups):
            return WRONG
        password = value if options.mode == "authext" else None
        claims = ask(options, name, password, os.environ.get("IP"))
    except Wrong:
        return WRONG
    except NoConnection as error:
        say(error)
        return CONNECTION
    except (Misused, BadAnswer) as error:
        say(error)
        return OTHER
    if not claims.authorized or (groups and not set(groups) & set(claims.scopes)):
        return WRONG
    return OK


def ask(options: argparse.Namespace, name: str, password: str | None, client: str | None) -> Claims:
    server, key = server_of(options), keys.read(options.jwtkey)
    try:
        name.encode()
        (password or "").encode()
    except UnicodeEncodeError:
        raise Wrong from None  # bytes of the environment that are not UTF-8
    client = client if server.token else None
    return check(server, key, name, password, options.scope, options.domain, client)


def djb_mode(options: argparse.Namespace) -> int:
    """-m checkpassword. Dovecot's look-up of a user, without a password, has AUTHORIZED=1."""
    lookup = os.environ.get("AUTHORIZED") == "1"
    try:
        userdb = djb.Userdb.read(options.userdb_uid, options.userdb_gid, options.userdb_home)
        name, password = djb.read_input()
        if lookup and not userdb.uid:
            raise NoConnection("a look-up needs --userdb-uid")
        claims = ask(options, name, None if lookup else password, os.environ.get("TCPREMOTEIP"))
    except djb.NoLogin:
        return djb.WRONG
    except Wrong:
        return djb.NO_SUCH_USER if lookup else djb.WRONG
    except Misused as error:
        say(error)
        return djb.MISUSED
    except (NoConnection, BadAnswer) as error:
        say(error)
        return djb.TEMPORARY
    if not claims.authorized:
        return djb.WRONG
    return djb.go_on(options.program, claims.canonical_username, userdb, lookup)
