"""ugos-auth-proxy: NAS logins over HTTP.

POST /validate   {"username", "password"}: asks PAM, now, whether the password is right
GET  /user-info  ?username=U: who the account is, from passwd, group and shadow
GET  /health     the process answers
GET  /ready      a login could succeed now, or what stands in its way

Nothing is stored or cached. Whatever cannot be answered truly is an error, never a verdict.
"""

import _thread
import collections
import contextlib
import ctypes
import errno
import grp
import hmac
import http.server
import ipaddress
import json
import math
import mmap
import os
import pwd
import random
import re
import resource
import select
import signal
import socket
import socketserver
import ssl
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from email.utils import formatdate
from functools import lru_cache, partial
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple
from urllib.parse import parse_qs

try:
    import pam
except ImportError:
    pam = None  # type: ignore[assignment]  # `main` says so, where it is needed

__version__ = "0.2.0"

libc = ctypes.CDLL(None)


class Error(Exception):
    """No answer to the question, and why; raised where that is seen.

    `status` is the HTTP status (503: a fault of the service, worth another try), `text` is for
    the client, `headers` go with it, and `reason` is what the log says instead of the text.
    """

    def __init__(self, status: int, text: str, reason: str = "", **headers: str) -> None:
        self.status, self.text, self.reason = status, text, reason or text
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if status == 503:
            self.headers["Retry-After"] = "2"


# --- Settings ----------------------------------------------------------------------------------
LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}


def number(low: float, high: float, text: str, cast: Callable[[str], float] = int) -> float:
    """A plain decimal number from `low` to `high`; a whole one unless `cast` is float."""
    form, kind = r"[0-9]+", "a whole number"
    if cast is float:
        form, kind = r"[0-9]+(\.[0-9]+)?", "a number"
    if not re.fullmatch(form, text, re.ASCII) or len(text) > 12 or not low <= cast(text) <= high:
        raise ValueError(f"must be {kind} from {low} to {high}")
    return cast(text)


def matching(form: str, what: str, text: str) -> str:
    if not re.fullmatch(form, text):
        raise ValueError(f"must be {what}")  # without the text: it may be a secret
    return text


read_token = partial(matching, r"[!-~]{16,4096}", "at least 16 visible ASCII characters")


def read_groups(text: str) -> frozenset[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise ValueError("must be group names with commas between")
    return frozenset(names)


class Setting(NamedTuple):
    """One environment variable: `cast` reads its text, or raises ValueError; no default: unset."""

    name: str
    cast: Callable[[str], Any]
    default: str
    meaning: str


uid = partial(number, 1, 2**32 - 2)
levels = partial(matching, "|".join(LEVELS), "one of " + ", ".join(LEVELS))
service_name = partial(matching, r"[\w-][\w.-]{0,63}", "a name")
seconds = partial(number, cast=float)
SETTINGS = (
    Setting("HOST", str, "0.0.0.0", "address to bind; an IPv6 address works"),  # noqa: S104
    Setting("PORT", partial(number, 1, 65535), "8080", "port to listen on, 1 to 65535"),
    Setting("AUTH_TOKEN", read_token, "", "secret that callers must send, 16 characters or more"),
    Setting("AUTH_TOKEN_FILE", str, "", "file that holds the secret instead"),
    Setting("TLS_CERT", str, "", "PEM file with the certificate chain; TLS 1.2 and later"),
    Setting("TLS_KEY", str, "", "PEM file with its key, without a passphrase"),
    Setting("PAM_SERVICE", service_name, "ugos-auth-proxy", "name in /etc/pam.d"),
    Setting("MIN_UID", uid, "1000", "lowest uid that is served"),
    Setting("MAX_UID", uid, "60000", "highest uid that is served"),
    Setting("ALLOWED_GROUPS", read_groups, "", "groups, commas between: others are not served"),
    Setting(
        "FAIL_DELAY", partial(seconds, 0, 3), "1.0", "seconds a refusal takes at least, 0 to 3"
    ),
    Setting("MAX_FAILURES", partial(number, 0, 10_000), "10", "refusals until 429; 0: never"),
    Setting("FAILURE_WINDOW", partial(number, 1, 86_400), "300", "seconds in which they count"),
    Setting("MAX_CONNECTIONS", partial(number, 1, 65_536), "256", "open connections"),
    Setting("REQUEST_TIMEOUT", partial(seconds, 0.1, 3600), "10", "seconds for a request to come"),
    Setting("LOG_LEVEL", levels, "INFO", ", ".join(LEVELS)),
)


class Settings(SimpleNamespace):
    """The values of `SETTINGS` by their names in lower case, None where unset.

    Raises ValueError, which names the variable.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__()
        for name, cast, default, _ in SETTINGS:
            text = environ.get(name) or default
            try:
                setattr(self, name.lower(), cast(text) if text else None)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        if self.auth_token and self.auth_token_file:
            raise ValueError("AUTH_TOKEN and AUTH_TOKEN_FILE: set only one of them")
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("TLS_CERT and TLS_KEY: set both or neither")
        if self.min_uid > self.max_uid:
            raise ValueError(f"MIN_UID: {self.min_uid} is above MAX_UID, {self.max_uid}")


def load_token(settings: Settings) -> bytes:
    """The secret that callers must send, b"" for none; ValueError where its file is no good."""
    path = settings.auth_token_file
    if not path:
        return (settings.auth_token or "").encode()
    try:
        with open(path, encoding="latin-1", newline="") as file:
            text = file.read(8192)
        return read_token(re.sub(r"\r?\n\Z", "", text)).encode()
    except OSError as error:
        text = f"{path!r} cannot be read: {error.strerror}"
        raise ValueError(f"AUTH_TOKEN_FILE: {text}") from None
    except ValueError as error:
        raise ValueError(f"AUTH_TOKEN_FILE: {error}") from None


def load_tls(settings: Settings) -> ssl.SSLContext | None:
    """What TLS needs, None where it is off; ValueError where the files are no good."""
    if not settings.tls_cert:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # the empty passphrase keeps OpenSSL from asking for one on the terminal
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password="")
    except OSError as error:  # ssl.SSLError is one
        text = error.strerror or error
        raise ValueError(f"TLS_CERT: cannot be loaded with TLS_KEY: {text}") from None
    return context


# --- Log ---------------------------------------------------------------------------------------

# visible ASCII without the quote, the equals sign and the backslash
BARE = re.compile(r"[!#-<>-\[\]-~]+")
MAX_VALUE = 400  # characters of a value: a line stays below PIPE_BUF (pipe(7)), so lines never mix


def quoted(value: object) -> str:
    """`value` as one token of a line: quoted where needed, nothing in it that is not printable."""
    text = str(value)
    if len(text) > MAX_VALUE:
        text = text[:MAX_VALUE] + "..."
    if BARE.fullmatch(text):
        return text
    text = text.replace("\\", r"\\").replace('"', r"\"")
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return f'"{"".join(escaped)}"'


@lru_cache(1)
def timestamps(second: int) -> tuple[str, str]:
    """A time as the log and as HTTP (RFC 9110, 5.6.7) write it; many are asked in one second."""
    log_time = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))
    return log_time, formatdate(second, usegmt=True)


class Log:
    """`key=value` lines on stderr. What cannot be written is dropped; the next line counts it."""

    def __init__(self) -> None:
        self.level = LEVELS["INFO"]
        self.lock = threading.Lock()
        self.lost = 0  # lines that could not be written
        self.gap = ""  # what ends a line that was written in part
        self.is_file = os.path.isfile("/dev/fd/2")  # which takes every write at once

    def __call__(self, level: str, event: str, **values: object) -> None:
        if LEVELS[level] < self.level:
            return
        now, _ = timestamps(int(time.time()))
        pairs = {"time": now, "level": level, "event": event, **values}
        line = " ".join([f"{key}={quoted(value)}" for key, value in pairs.items()])
        with self.lock:
            lost = f" lost={self.lost}" if self.lost else ""
            self.write(f"{self.gap}{line}{lost}\n".encode("utf-8", "backslashreplace"))

    def write(self, data: bytes) -> None:
        """A pipe that nobody empties is waited for only once."""
        written, patience = 0, 0 if self.lost else 0.1
        with contextlib.suppress(OSError):
            if self.is_file or select.select((), (2,), (), patience)[1]:
                written = os.write(2, data)
        if written:
            self.gap = "" if written == len(data) else "\n"
        self.lost = 0 if written == len(data) else self.lost + 1


log = Log()


def log_bug(error: BaseException) -> None:
    """Log where an exception came from, without its message: that may hold what a user typed."""
    trace = error.__traceback__
    places = []
    while trace:
        places.append(f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}")
        trace = trace.tb_next
    log("ERROR", "bug", error=type(error).__name__, at=" ".join(places[-8:]))


# --- PAM ---------------------------------------------------------------------------------------

# The names of the return codes, 0 to 31, without PAM_ (Linux-PAM, security/_pam_types.h).
CODES = """
SUCCESS OPEN_ERR SYMBOL_ERR SERVICE_ERR SYSTEM_ERR BUF_ERR PERM_DENIED AUTH_ERR CRED_INSUFFICIENT
AUTHINFO_UNAVAIL USER_UNKNOWN MAXTRIES NEW_AUTHTOK_REQD ACCT_EXPIRED SESSION_ERR CRED_UNAVAIL
CRED_EXPIRED CRED_ERR NO_MODULE_DATA CONV_ERR AUTHTOK_ERR AUTHTOK_RECOVERY_ERR AUTHTOK_LOCK_BUSY
AUTHTOK_DISABLE_AGING TRY_AGAIN IGNORE ABORT AUTHTOK_EXPIRED MODULE_UNKNOWN BAD_ITEM CONV_AGAIN
INCOMPLETE
""".split()
# security/pam_appl.h and security/_pam_types.h
PAM_TTY, PAM_RHOST, PAM_FAIL_DELAY = 3, 4, 10
DISALLOW_NULL_AUTHTOK = 1
TTY = b"ugos-auth-proxy"  # some modules refuse to work without one

INVALID, EXPIRED = "Invalid credentials", "Password expired"
DENIED = ("AUTH_ERR", "CRED_INSUFFICIENT", "USER_UNKNOWN", "MAXTRIES")
# What the codes that are a no come to after the password was found right.
REFUSALS = dict.fromkeys(("PERM_DENIED", *DENIED), INVALID)
REFUSALS |= {"ACCT_EXPIRED": "Account expired"}
REFUSALS |= {"NEW_AUTHTOK_REQD": EXPIRED, "AUTHTOK_EXPIRED": EXPIRED}
# What the account phase says of an account by itself. AUTH_ERR is no verdict there: Debian 13's
# helper could not be forked, or was killed.
ACTIVE = {"SUCCESS", "NEW_AUTHTOK_REQD", "AUTHTOK_EXPIRED"}
INACTIVE = {"PERM_DENIED", "CRED_INSUFFICIENT", "USER_UNKNOWN", "MAXTRIES", "ACCT_EXPIRED"}
REMEDIES = {
    "AUTHINFO_UNAVAIL": "see that this process may read /etc/shadow, or that the server which "
    "PAM asks is there",
    "MODULE_UNKNOWN": "install the module that the rules of PAM_SERVICE name, or take it out",
}
NOBODY = "ugos-auth-proxy-nobody"  # a name that no account has


class Verdict(NamedTuple):
    """What a login came to: `error` is "" where it is valid, `reason` is for the log only."""

    error: str
    reason: str


class Attempt(pam.pam if pam else object):  # type: ignore[misc]
    """One question to PAM, asked once, by python-pam, whose calls to libpam these replace.

    `phases` are asked in turn; `said_by` is the one whose answer counts.
    """

    bound: ClassVar[dict[str, Any]]  # what python-pam has bound of libpam

    @classmethod
    def load(cls) -> None:
        """Load libpam once: python-pam 2.0.2's constructor, which does it, runs ldconfig."""
        cls.bound = dict(vars(pam.pam()))  # type: ignore[no-untyped-call]
        for name in cls.bound.keys() - vars(cls).keys():
            setattr(cls, name, cls.bound[name])
        # PyDLL keeps the interpreter lock: for a call this short, to let it go costs more
        set_item = ctypes.PyDLL("libpam.so.0").pam_set_item
        set_item.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
        cls.bound["pam_set_item"] = set_item
        cls.bound["pam_start"] = ctypes.CDLL("libpam.so.0").pam_start  # takes any conversation
        # abs(3) needs no interpreter and changes nothing: libpam calls it instead of sleeping,
        # and as a conversation (pam_conv(3)) that fails, as it returns the number of messages
        cls.bound["no_delay"] = no_delay = ctypes.cast(libc.abs, ctypes.c_void_p)
        cls.bound["no_conversation"] = ctypes.byref((ctypes.c_void_p * 2)(no_delay.value))

    def __init__(self, rhost: str, phases: tuple[str, ...]) -> None:
        self.messages: list[str] = []
        self.rhost, self.phases = rhost.encode(), phases
        self.said_by = "start"

    def pam_start(self, service: bytes, username: bytes, conversation: Any, handle: Any) -> int:
        if not username:  # a module that asks for one gets no answer
            conversation = self.bound["no_conversation"]
        return int(self.bound["pam_start"](service, username or None, conversation, handle))

    def pam_authenticate(self, handle: Any, flags: int) -> int:
        items = {PAM_FAIL_DELAY: self.bound["no_delay"], PAM_TTY: TTY, PAM_RHOST: self.rhost}
        for item, value in items.items():
            if code := self.bound["pam_set_item"](handle.handle, item, value):
                return int(code)
        return self.ask("pam_authenticate", handle, flags)

    def pam_acct_mgmt(self, handle: Any, flags: int) -> int:
        return self.ask("pam_acct_mgmt", handle, flags)

    def ask(self, phase: str, handle: Any, flags: int) -> int:
        if phase not in self.phases:
            return 0
        self.said_by = phase
        # python-pam passes no flags, and then `nullok` lets any password in where none is set
        return int(self.bound[phase](handle, flags | DISALLOW_NULL_AUTHTOK))


AUTH, ACCOUNT = "pam_authenticate", "pam_acct_mgmt"


class Pam:
    """The stack of one service name. Every question is by itself, so any thread may ask."""

    def __init__(self, service: str) -> None:
        os.environ.pop("DISPLAY", None)  # python-pam makes items of it, as of a terminal on stdin
        self.service = service.encode()
        Attempt.load()
        # A handle that stays open keeps the modules mapped: a fifth of the cost of a login.
        self.kept = ctypes.c_void_p()
        start = Attempt.bound["pam_start"]
        start(self.service, b"", Attempt.bound["no_conversation"], ctypes.byref(self.kept))

    def ask(self, username: str, password: str, rhost: str, *phases: str) -> tuple[str, str]:
        """The name of the code in which the question ends, and the phase that has said it."""
        attempt = Attempt(rhost, phases)
        # latin-1 is for the modules' prompts, which python-pam decodes: it takes any byte
        attempt.authenticate(
            os.fsencode(username), password.encode(), self.service, None, True, "latin-1", False
        )
        code = CODES[attempt.code] if 0 <= attempt.code < len(CODES) else str(attempt.code)
        return code, attempt.said_by

    def check(self, username: str, password: str, rhost: str) -> Verdict:
        """Whether the password is right and the account may log in; Error where PAM is silent."""
        code, phase = self.ask(username, password, rhost, AUTH, ACCOUNT)
        if code == "SUCCESS" and phase == ACCOUNT:
            return Verdict("", "PAM_SUCCESS")
        if code in REFUSALS:
            return Verdict(REFUSALS[code] if phase == ACCOUNT else INVALID, f"PAM_{code}")
        raise no_verdict(code)

    def is_active(self, username: str) -> bool:
        """What the account phase says of an account; Error where that is no verdict."""
        code, _ = self.ask(username, "", "localhost", ACCOUNT)
        if code not in ACTIVE | INACTIVE:
            raise no_verdict(code)
        return code in ACTIVE

    def probe(self, username: str) -> None:
        """Raise Error unless both phases of the stack answer; `username` is an account.

        The auth phase is asked without a username first: pam_unix takes no notice of that in the
        system's log, while an unknown name looks like an attack there, at every probe.
        """
        self.is_active(username)
        for name in "", NOBODY:
            code, _ = self.ask(name, "x" if name else "", "localhost", AUTH)
            if code in DENIED or (code == "CONV_ERR" and not name):
                return
        if code == "PERM_DENIED":  # what libpam says when no module has said anything
            text = "PAM has no module that checks passwords; see the rules of PAM_SERVICE"
            raise Error(503, text, "PAM_PERM_DENIED")
        if code not in REFUSALS and code != "SUCCESS":
            raise no_verdict(code)


def no_verdict(code: str) -> Error:
    remedy = REMEDIES.get(code, "the log of the system may say why")
    return Error(503, f"PAM gave no verdict: PAM_{code}; {remedy}", f"PAM_{code}")


# What crypt(3) takes: 16 MB with yescrypt, for this turn at PAM and for each of the others.
HASHING = 2**24 * (1 + len(os.sched_getaffinity(0)))


def need_memory() -> None:
    """Raise MemoryError without room for crypt(3)."""
    try:
        mmap.mmap(-1, HASHING, mmap.MAP_PRIVATE).close()
    except OSError:
        raise MemoryError from None


def need_descriptors() -> None:
    """Raise Error without what the calls and look-ups that run at once may open."""
    taken: list[int] = []
    try:
        for _ in range(32):
            taken.append(os.dup(2))
    except OSError as error:
        raise Error(503, f"PAM may lack descriptors: {error.strerror}") from None
    finally:
        for descriptor in taken:
            os.close(descriptor)


# --- Accounts ----------------------------------------------------------------------------------

Row = pwd.struct_passwd
PASSWD, SHADOW, GROUP = ACCOUNT_FILES = "/etc/passwd", "/etc/shadow", "/etc/group"
# the rows that NSS reads: it passes over those that begin with + - #, and over ids above MAX_ID
PASSWD_ROW = rb"(?m)^(?![+#-])%b:[^:\n]*:([0-9]+):([0-9]+):"
GROUP_ROW = rb"(?m)^(?![+#-])[^:\n]+:[^:\n]*:([0-9]+):([^:\n]*)$"
SHADOW_ROW = rb"(?m)^%b:(.*)$"
MAX_ID = 2**32 - 1
# what HTML takes for an e-mail address (WHATWG, 4.10.5.1.5)
EMAIL = re.compile(r"[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)*")
# the formats of hashed passwords, each as crypt(5) of libxcrypt 4.4 has it
HASHED = re.compile(
    rb"""(?x)
      \$g?y\$ [./A-Za-z0-9]+ \$ [./A-Za-z0-9]{,86} \$ [./A-Za-z0-9]{43}
    | \$7\$ [./A-Za-z0-9]{11,97} \$ [./A-Za-z0-9]{43}
    | \$2[abxy]\$ [0-9]{2} \$ [./A-Za-z0-9]{53}
    | \$6\$ (rounds=[1-9][0-9]+\$)? [^$:\n]{1,16} \$ [./0-9A-Za-z]{86}
    | \$5\$ (rounds=[1-9][0-9]+\$)? [^$:\n]{1,16} \$ [./0-9A-Za-z]{43}
    | \$sha1\$ [1-9][0-9]+ \$ [./0-9A-Za-z]{1,64} \$ [./0-9A-Za-z]{8,64} [./0-9A-Za-z]{32}
    | \$md5 (,rounds=[1-9][0-9]+)? \$ [./0-9A-Za-z]{8} \${1,2} [./0-9A-Za-z]{22}
    | \$1\$ [^$:\n]{1,8} \$ [./0-9A-Za-z]{22}
    | \$3\$\$ [0-9a-f]{32}
    | _ [./0-9A-Za-z]{19}
    | [./0-9A-Za-z]{13,178}
    """
)


class Passwd(ctypes.Structure):  # the beginning of struct passwd
    _fields_ = (
        ("pw_name", ctypes.c_char_p),
        ("pw_passwd", ctypes.c_char_p),
        ("pw_uid", ctypes.c_uint),
    )


# Python's own getgrouplist and getpwall keep the interpreter lock, so that a source of NSS that
# hangs would stop the whole service; ctypes lets it go.
libc.getpwent.restype = ctypes.POINTER(Passwd)
IDS, ROOM = ctypes.POINTER(ctypes.c_uint), ctypes.POINTER(ctypes.c_int)
libc.getgrouplist.argtypes = ctypes.c_char_p, ctypes.c_uint, IDS, ROOM


def decoded(value: str) -> str:
    """A string from pwd or grp as Unicode; bytes that are not UTF-8 become U+FFFD."""
    return os.fsencode(value).decode("utf-8", "replace")


def read_file(path: str, size: int = -1) -> bytes:
    """What is in an account file; raises Error with the remedy where it cannot be read."""
    try:
        with open(path, "rb") as file:
            data = file.read(size)
    except PermissionError:
        raise Error(503, f"{path} cannot be read: {right_to_read(path)}") from None
    except OSError as error:
        raise Error(503, f"{path} cannot be read: {error.strerror}") from None
    if not data.strip():
        raise Error(503, f"{path} is empty")
    return data


def right_to_read(path: str) -> str:
    """What this process lacks to read a file, and how to give it that."""
    of = os.stat(path)
    way, run_as = f"uid {of.st_uid}", f"{of.st_uid}:{of.st_gid}"
    if of.st_mode & 0o040 and of.st_gid:
        way, run_as = f"gid {of.st_gid} as a further group", f"{os.geteuid()}:{of.st_gid}"
    gids = sorted({os.getegid(), *os.getgroups()})
    return (
        f"it belongs to uid {of.st_uid} and gid {of.st_gid}, mode {of.st_mode & 0o777:o}; "
        f"this process has uid {os.geteuid()} and gids {gids}: run it with {way} "
        f"(docker-compose.yml: RUN_AS={run_as} in .env), or CAP_DAC_READ_SEARCH"
    )


class Mounts:
    """Which account files are mounted by themselves, and whether the host has replaced one."""

    TABLE = "/proc/self/mountinfo"  # proc(5)

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.table = os.open(self.TABLE, os.O_RDONLY | os.O_CLOEXEC)
        self.points = self.read()

    def read(self) -> dict[str, bool]:
        """The account files that are mount points, each with whether it is stale."""
        files = {os.fsencode(os.path.realpath(path)): path for path in ACCOUNT_FILES}
        points = {}
        with open(self.TABLE, "rb") as table:
            for line in table:
                _, _, _, root, point, *_ = line.split(b" ")
                if path := files.get(point):
                    points[path] = root.endswith(b"//deleted") or os.stat(path).st_nlink == 0
        return points

    def check(self) -> None:
        """Raise Error while one is stale."""
        try:
            with self.lock:
                # of a change of the table the kernel tells once; that of a mounted file, never
                changed = select.select((), (), (self.table,), 0)[2]
                if changed or self.points:
                    self.points = dict.fromkeys(ACCOUNT_FILES, True)  # until it is known
                    self.points = self.read()
                stale = [path for path, replaced in self.points.items() if replaced]
        except OSError as error:
            raise Error(503, f"{self.TABLE} cannot be read: {error.strerror}") from None
        if stale:
            text = f"the mount of {stale[0]} is stale, it is the old file"
            raise Error(503, f"{text}: mount the directory, and restart")


def find_row(name: bytes) -> Row | None:
    """The row of passwd; None only where passwd could be read and has none, else Error.

    getpwnam(3) calls an account unknown where it could not look.
    """
    for _ in range(3):  # the file may be replaced between the two looks
        try:
            return pwd.getpwnam(os.fsdecode(name))
        except KeyError:
            row = re.search(PASSWD_ROW % re.escape(name), read_file(PASSWD))
            if not row or max(map(int, row.groups())) > MAX_ID:
                return None
    raise Error(503, f"{PASSWD} has accounts that NSS does not find; see that descriptors are left")


def group_ids(row: Row) -> list[int]:
    """getgrouplist(3): the primary group first, each group as often as it is found."""
    room = ctypes.c_int(64)
    for _ in range(4):  # it says how much room it needs
        gids = (ctypes.c_uint * room.value)()
        name = os.fsencode(row.pw_name)
        if libc.getgrouplist(name, row.pw_gid, gids, ctypes.byref(room)) >= 0:
            return gids[: room.value]
    raise Error(503, "the groups cannot be listed")


def group_names(row: Row) -> list[str]:
    """The names of the groups, primary first, each once; Error where they are not all known.

    getgrouplist(3) leaves out what it could not read.
    """
    for _ in range(3):  # the file may be replaced between the two looks
        names, unnamed = {}, set()
        gids = group_ids(row)
        for gid in gids:
            try:
                names[decoded(grp.getgrgid(gid).gr_name)] = gid
            except KeyError:
                unnamed.add(gid)
        rows = [(int(gid), members) for gid, members in re.findall(GROUP_ROW, read_file(GROUP))]
        known = {gid: members for gid, members in rows if gid <= MAX_ID}
        name = os.fsencode(row.pw_name)
        expected = {gid for gid, members in rows if name in members.split(b",") and gid <= MAX_ID}
        if expected <= set(gids) and unnamed.isdisjoint(known):
            return list(names)
    raise Error(503, f"{GROUP} has groups that NSS does not find; see that descriptors are left")


def is_locked(row: Row) -> bool:
    """Whether passwd and shadow say that an account is locked, or has expired (shadow(5)).

    The hashed password never leaves this function.
    """
    found = re.search(SHADOW_ROW % re.escape(os.fsencode(row.pw_name)), read_file(SHADOW))
    fields = found[1].split(b":") if found else []
    expires = fields[6] if len(fields) > 6 else b""
    if expires.isdigit() and 0 < int(expires) <= time.time() // 86_400:
        return True
    if row.pw_passwd != "x":  # noqa: S105
        return not HASHED.fullmatch(os.fsencode(row.pw_passwd))
    return bool(fields) and not HASHED.fullmatch(fields[0])


def full_name(gecos: str, username: str) -> str:
    """The first GECOS field, `&` standing for the capitalised login name; else the username.

    The rules are passwd(5)'s and finger(1)'s.
    """
    field = gecos.partition(",")[0].strip()
    if field in ("", "UGREEN USER"):  # UGOS writes this placeholder for everybody
        return username
    return field.replace("&", username[:1].upper() + username[1:])


def email(gecos: str) -> str:
    """The first e-mail address that is a field or subfield of GECOS, or in one as `Name <...>`."""
    for field in re.split("[,;]", gecos):
        address = re.sub(r"^[^<>]*<([^<>]*)>$", r"\1", field.strip()).strip()
        if len(address) <= 254 and EMAIL.fullmatch(address):
            return address
    return ""


def names_between(lowest: int, highest: int) -> Iterator[bytes]:
    """The names of the accounts that NSS lists and whose uid lies between the two."""
    libc.setpwent()
    try:
        while row := libc.getpwent():
            if lowest <= row.contents.pw_uid <= highest:
                yield row.contents.pw_name
    finally:
        libc.endpwent()


class Account(NamedTuple):
    """What a username stands for: `name` is as passwd has it; `refusal` says, for the log, why
    it is not served, and is "" where it is. Without a `row` there is no such account."""

    name: str
    row: Row | None
    refusal: str


class Accounts:
    """The accounts that are served, read anew for every question."""

    def __init__(self, settings: Settings) -> None:
        self.lowest, self.highest = settings.min_uid, settings.max_uid
        self.groups = settings.allowed_groups
        self.mounts = Mounts()

    def find(self, username: str) -> Account:
        self.mounts.check()
        row = find_row(username.encode())
        if self.groups:
            read_file(GROUP, 1)  # that it cannot be read is said of every name
        name = decoded(row.pw_name) if row else username
        return Account(name, row, self.refusal(row))

    def refusal(self, row: Row | None) -> str:
        if row is None:
            return "NO_SUCH_ACCOUNT"
        if not self.lowest <= row.pw_uid <= self.highest:
            return "UID_NOT_SERVED"
        if self.groups and not self.groups.intersection(group_names(row)):
            return "GROUP_NOT_SERVED"
        return ""

    def describe(self, username: str) -> tuple[Row, bool, dict[str, Any]] | None:
        """The row of a served account, whether the files say that it is locked, and what
        /user-info says of it; None where there is none."""
        account = self.find(username)
        row, name = account.row, account.name
        if row is None or account.refusal:
            return None
        gecos = decoded(row.pw_gecos)
        described = {
            "exists": True,
            "username": name,
            "uid": row.pw_uid,
            "gid": row.pw_gid,
            "full_name": full_name(gecos, name),
            "email": email(gecos),
            "home": decoded(row.pw_dir),
            "shell": decoded(row.pw_shell),
            "groups": group_names(row),
        }
        return row, is_locked(row), described

    def check(self) -> str:
        """The name of a served account, if there is one that is not locked; raises Error where
        there is none, or a file cannot be used."""
        self.mounts.check()
        for path in ACCOUNT_FILES:
            read_file(path)
        locked = ""
        for name in names_between(self.lowest, self.highest):
            row = find_row(name)
            if row and not self.refusal(row):
                if not is_locked(row):
                    return row.pw_name
                locked = locked or row.pw_name
        if locked:
            return locked
        text = "see MIN_UID, MAX_UID and ALLOWED_GROUPS, and whose /etc/passwd this is"
        raise Error(503, f"no account is served: {text}")


# --- Throttle ----------------------------------------------------------------------------------


class Client(NamedTuple):
    """Where a login comes from: its address, and what it is counted by (of IPv6, the /64)."""

    address: str
    network: str


def read_client(address: str) -> Client:
    """Raises ValueError where `address` is no IP address, or has a zone."""
    if "%" in address:
        raise ValueError("an address with a zone")
    ip = ipaddress.ip_address(address)
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.version == 4:
        return Client(str(ip), str(ip))
    return Client(str(ip), str(ipaddress.ip_network((ip, 64), strict=False)))


class Table(collections.OrderedDict[Any, Any]):
    """A bounded table: the key that was set longest ago goes first."""

    SIZE = 20_000

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > self.SIZE:
            self.popitem(last=False)


Refusals = list[tuple[float, str]]  # when each was, and of which client or username


class Throttle:
    """How many refusals there may be in a sliding window before nobody asks PAM any more.

    A username and client may collect `limit`; a username over all clients, and, `by_client`, a
    client over all usernames, 10 * `limit`: from then on a login is asked only where that
    username has logged in from there since the start, its usual place. What could be the last
    one allowed waits for those that are at PAM. Usernames that are not served are counted alike,
    in a table of their own, so they never push out those that are.
    """

    def __init__(self, limit: int, window: int, by_client: bool) -> None:
        self.limit, self.window, self.by_client = limit, window, by_client
        self.usernames = {True: Table(), False: Table()}  # by whether they are served
        self.networks = Table()
        self.usual = Table()  # (username, network)
        self.pending = collections.Counter[tuple[str, str]]()  # at PAM now

    def is_usual(self, username: str, network: str) -> bool:
        return (username, network) in self.usual

    def recent(self, table: Table, key: str) -> Refusals:
        since = time.monotonic() - self.window
        return [refusal for refusal in table.get(key, ()) if refusal[0] > since]

    def add(self, table: Table, key: str, of: str) -> None:
        table[key] = [*self.recent(table, key), (time.monotonic(), of)]
        while not self.recent(table, oldest := next(iter(table))):
            del table[oldest]

    def counts(self, username: str, network: str, served: bool) -> list[Any]:
        """What limits a login: by what its pending ones are found, how many refusals there may
        be, and when those so far were."""
        of_username = self.recent(self.usernames[served], username)
        here = [when for when, at in of_username if at == network]
        counts = [((username, network), self.limit, here)]
        if not self.is_usual(username, network):
            counts.append(((username, ""), 10 * self.limit, [when for when, _ in of_username]))
            if self.by_client:
                of_client = [when for when, _ in self.recent(self.networks, network)]
                counts.append((("", network), 10 * self.limit, of_client))
        return counts

    def admit(self, username: str, network: str, served: bool) -> bool:
        """Whether it may be asked now, which is at PAM until `settle`, or only after those that
        are there now; Error means never."""
        if self.limit:
            counts = self.counts(username, network, served)
            for _, most, times in counts:
                if len(times) >= most:
                    seconds = times[-most] + self.window - time.monotonic()
                    after = str(max(1, math.ceil(seconds)))
                    raise Error(429, "Too many failed logins", "THROTTLED", Retry_After=after)
            if any(len(times) + self.pending[key] >= most for key, most, times in counts):
                return False
        for key in (username, network), (username, ""), ("", network):
            self.pending[key] += 1
        return True

    def settle(self, username: str, network: str, served: bool, verdict: Verdict | None) -> None:
        """Count what PAM has said of a login that was admitted; None: nothing."""
        for key in (username, network), (username, ""), ("", network):
            self.pending[key] -= 1
            if not self.pending[key]:
                del self.pending[key]
        if verdict and not verdict.error:
            self.usual[username, network] = True
        if not verdict or not self.limit:
            return
        table = self.usernames[served]
        if verdict.error:
            self.add(table, username, network)
            if self.by_client:
                self.add(self.networks, network, username)
        elif username in table:
            # they stay those of the username, but no longer this client's
            refusals = self.recent(table, username)
            table[username] = [(when, "" if at == network else at) for when, at in refusals]


# --- Turns -------------------------------------------------------------------------------------


class Gate:
    """So many calls of one kind at once. Others wait in order of arrival, in two lanes that take
    turns. Those that hang hold no place, but while there are `MAX_HUNG`, none is begun."""

    MAX_HUNG = 8

    def __init__(self, name: str, places: int) -> None:
        self.name, self.places = name, places
        self.lanes = collections.deque[Question](), collections.deque[Question]()
        self.turn = True  # the lane that is next
        self.running = set[Question]()
        self.hung = set[Question]()

    def is_open(self) -> bool:
        return len(self.running) < self.places and len(self.hung) < self.MAX_HUNG


class Step(NamedTuple):
    """A call to `run` when its turn at `gate` comes.

    `admit` says whether it may run now, or raises Error where it never may; `settle` is called
    when its turn is over, with what came of it, or None. `Turns` calls both with its lock held.
    """

    gate: Gate
    run: Callable[[], Any]
    admit: Callable[[], bool] = lambda: True
    settle: Callable[[Any], None] = lambda _: None
    preferred: bool = False  # which of the two lanes it waits in


# Yields the steps of a question, is sent what each came to, and returns the answer. It must not
# wait: that is for the steps.
Steps = Generator[Step, Any, Any]


class Question:
    """Where `steps` have come to: `step` waits, or runs, until `deadline`."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.step: Step
        self.deadline = 0.0
        self.answer: Any = None
        self.error: BaseException | None = None
        self.done = threading.Lock()
        self.done.acquire()

    def end(self, answer: Any, error: BaseException | None = None) -> None:
        self.answer, self.error = answer, error
        self.done.release()


class Turns:
    """Kept threads, each of which takes the step whose turn it is, through all the gates.

    A step that waits for `PATIENCE` seconds, or runs for `HANG`, costs its asker an Error. One
    that hangs takes its thread with it, and gives its place to another.
    """

    PATIENCE, HANG = 4.0, 10.0

    def __init__(self, *gates: Gate) -> None:
        self.gates = gates
        self.most = sum(gate.places for gate in gates)
        self.lock = threading.Lock()
        self.threads = 0  # those that do not hang
        self.idle: list[_thread.LockType] = []  # of threads that wait; wake one by it

    def ask(self, steps: Steps) -> Any:
        """What `steps` return; raises what they or a step of theirs raise, or Error."""
        question = Question(steps)
        with self.lock:
            self.go_on(question, None)
            self.wake()
        while not question.done.acquire(timeout=self.until_next_look(question)):
            self.give_up(question)
        if question.error:
            raise question.error
        return question.answer

    def until_next_look(self, question: Question) -> float:
        """Seconds; no deadline that is set meanwhile comes before."""
        left = question.deadline - time.monotonic()
        return max(0.0, min(left, self.PATIENCE, self.HANG))

    def go_on(self, question: Question, result: Any) -> None:
        """Have it wait for its next step. The lock is held."""
        try:
            step = question.steps.send(result)
        except StopIteration as end:
            question.end(end.value)
            return
        except Exception as error:  # noqa: BLE001 - `ask` raises it again
            question.end(None, error)
            return
        gate = step.gate
        if len(gate.hung) >= gate.MAX_HUNG:
            text = f"{gate.name} hangs: {gate.MAX_HUNG} calls have not returned"
            question.end(None, Error(503, text, "HANG"))
            return
        question.step, question.deadline = step, time.monotonic() + self.PATIENCE
        gate.lanes[step.preferred].append(question)

    def give_up(self, question: Question) -> None:
        """Raise Error if its time is over."""
        with self.lock:
            if time.monotonic() < question.deadline:
                return
            step, gate = question.step, question.step.gate
            if question in gate.lanes[step.preferred]:
                gate.lanes[step.preferred].remove(question)
                text = f"{gate.name} is busy: no turn within 4 seconds"
                raise Error(503, text, "PATIENCE")
            if question in gate.running:
                gate.running.remove(question)
                gate.hung.add(question)
                self.threads -= 1
                step.settle(None)
                self.wake()
                text = f"{gate.name} hangs: a call has not returned within 10 seconds"
                raise Error(503, text, "HANG")

    def wake(self) -> None:
        """See to it that a free thread looks for what may run. The lock is held."""
        if not any(any(gate.lanes) and gate.is_open() for gate in self.gates):
            return
        if self.idle:
            self.idle.pop().release()
        elif self.threads < self.most:
            try:
                _thread.start_new_thread(self.work, ())
                self.threads += 1
            except RuntimeError:  # the next question tries again
                log("ERROR", "thread", error="no thread to be had")

    def take(self) -> Question | None:
        """Begin the step whose turn it is. The lock is held."""
        for gate in filter(Gate.is_open, self.gates):
            for question in [*gate.lanes[gate.turn], *gate.lanes[not gate.turn]]:
                step = question.step
                try:
                    if not step.admit():
                        continue
                except Exception as error:  # noqa: BLE001 - `ask` raises it again
                    gate.lanes[step.preferred].remove(question)
                    question.end(None, error)
                    continue
                gate.lanes[step.preferred].remove(question)
                gate.turn = not step.preferred
                gate.running.add(question)
                question.deadline = time.monotonic() + self.HANG
                self.wake()  # another may have become possible with this one
                return question
        return None

    def work(self) -> None:
        """Run steps for ever, or until one has hung."""
        woken = threading.Lock()
        woken.acquire()
        while True:
            with self.lock:
                question = self.take()
                if not question:
                    self.idle.append(woken)
            if not question:
                woken.acquire()
                continue
            result = error = None
            try:
                result = question.step.run()
            except BaseException as raised:  # noqa: BLE001 - `ask` raises it again
                error = raised
            with self.lock:
                gate = question.step.gate
                if question in gate.hung:  # it came back after all, to nobody
                    gate.hung.remove(question)
                    self.wake()
                    return
                gate.running.remove(question)
                try:
                    question.step.settle(result)
                except Exception as raised:  # noqa: BLE001 - as above
                    error = raised
                if error:
                    question.end(None, error)
                else:
                    self.go_on(question, result)


# --- Logins ------------------------------------------------------------------------------------


class Logins:
    """What is asked of the accounts and then of PAM: `ask` takes what the other three return.

    The turns at PAM are as many as there are processors: a check keeps one of them busy. To ask
    whether an account is active is no login, has one turn of its own and delays none.
    """

    def __init__(self, settings: Settings, by_client: bool) -> None:
        self.pam = Pam(settings.pam_service)
        self.accounts = Accounts(settings)
        self.throttle = Throttle(settings.max_failures, settings.failure_window, by_client)
        self.checks = Gate("PAM", len(os.sched_getaffinity(0)))
        self.activity = Gate("PAM, asked whether accounts are active,", 1)
        self.lookups = Gate("The look-up of an account", 8)
        self.ask = Turns(self.checks, self.activity, self.lookups).ask

    def check(self, username: str, password: str, client: Client) -> Steps:
        """The account's name as passwd has it, and the Verdict; raises Error."""
        account = yield Step(self.lookups, partial(self.accounts.find, username))
        who = account.name, client.network, not account.refusal
        verdict = yield Step(
            self.checks,
            partial(self.ask_pam, account, password, client.address),
            partial(self.throttle.admit, *who),
            partial(self.throttle.settle, *who),
            preferred=self.throttle.is_usual(account.name, client.network),
        )
        return account.name, verdict

    def ask_pam(self, account: Account, password: str, rhost: str) -> Verdict:
        """Of an account that is not served, PAM is asked about a name that no account has: so the
        two cannot be told apart while PAM is out of order."""
        served = account.row if not account.refusal else None
        try:
            verdict = self.pam.check(served.pw_name if served else NOBODY, password, rhost)
        except Error as error:
            self.check_files(error.reason)  # of which the same is said for every name
            raise
        if verdict.error or not served:
            need_memory()
            need_descriptors()
            self.check_files()
        return verdict if served else Verdict(INVALID, account.refusal)

    def check_files(self, reason: str = "") -> None:
        """Raise Error where a file is away without which pam_unix refuses a right password, or
        says no more than a code; `reason` is for the log."""
        try:
            for path in PASSWD, SHADOW:
                read_file(path, 1)
        except Error as error:
            raise Error(503, error.text, reason) from None

    def describe(self, username: str) -> Steps:
        """What /user-info says of a served account, else None; raises Error."""
        found = yield Step(self.lookups, partial(self.accounts.describe, username))
        if not found:
            return None
        row, locked, described = found
        active = not locked
        if active:
            active = yield Step(self.activity, partial(self.pam.is_active, row.pw_name))
        return {**described, "active": active}

    def probe(self) -> Steps:
        """Raises Error unless a login could succeed now."""
        account = yield Step(self.lookups, self.accounts.check)
        yield Step(self.checks, partial(self.pam.probe, account))


class Look:
    """One look at whether a login could succeed now; `error` is what came of it."""

    def __init__(self) -> None:
        self.followers: list[threading.Event] = []
        self.error: Exception | None = None


class Probe:
    """What /ready asks, once for all who ask while it is looked for: one leads, others follow."""

    def __init__(self, ask: Callable[[], None]) -> None:
        self.ask = ask
        self.lock = threading.Lock()
        self.current: Look | None = None

    def join(self, woken: threading.Event) -> tuple[Look, bool]:
        """The look, and whether the one who joins is to lead; else `woken` is set for him."""
        with self.lock:
            leads = self.current is None
            look = self.current = self.current or Look()
            if not leads:
                look.followers.append(woken)
            return look, leads

    def lead(self, look: Look) -> None:
        try:
            self.ask()
        except Exception as error:  # noqa: BLE001 - each who asked raises it
            look.error = error
        with self.lock:
            self.current = None
        for woken in look.followers:
            woken.set()


# --- Parsing -----------------------------------------------------------------------------------

MAX_LINE, MAX_HEAD, MAX_BODY = 8192, 32_768, 4096
# The first empty line, however lines end; a CR at the end of the data may be half of CR LF.
END_OF_HEAD = re.compile(rb"(?:\A|\r\n|\n)(?:\r\n|\n|\r(?=[^\n]))|\r(?=\r)")
WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, 5.6.2
# RFC 9112, 3; the bytes above ASCII are for an answer that helps
REQUEST_LINE = re.compile(rf"({WORD}) (/[!-~\x80-\xff]*) HTTP/1\.([01])")
HEADER = re.compile(rf"({WORD}):[ \t]*([^\0\r\n]*?)[ \t]*")
CLOSE = re.compile(r"(?i)(^|,)[ \t]*close[ \t]*(,|$)")  # among the options of Connection
NOT_IN_NAMES = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff:/]")  # the ranges: Unicode Cc and Cs


def head_size(data: bytes | bytearray, searched: int) -> int:
    """How many bytes of `data` are the head of a request, 0 while it is not whole.

    The first `searched` bytes have been looked at before. Raises Error beyond the limits.
    """
    end = END_OF_HEAD.search(data, max(0, searched - 3))
    size = end.end() if end else len(data)
    if min(size, len(data)) > MAX_LINE and not re.search(rb"[\r\n]", data[: MAX_LINE + 1]):
        raise Error(414, f"Request line is too long: at most {MAX_LINE} bytes")
    if size > MAX_HEAD:
        raise Error(431, f"Request head is too large: at most {MAX_HEAD} bytes")
    return size if end else 0


class Head:
    """The head of a request. Header names are in lower case, repeated ones joined by ", "
    (RFC 9110, 5.3); `length` is the body's."""

    def __init__(self) -> None:
        self.method = self.path = self.query = ""
        self.version = 1  # what follows HTTP/1.
        self.headers: dict[str, str] = {}
        self.length = 0
        self.keep_alive = False

    def read(self, text: str) -> None:
        """Read all of it, strictly: what two parsers could read in two ways raises Error, and
        what was read before that stays."""
        line, *lines = text.split("\r\n")
        found = REQUEST_LINE.fullmatch(line)
        if not found:
            raise Error(400, "Bad request: the request line is not METHOD /target HTTP/1.1")
        self.method, target, version = found.groups()
        self.path, _, self.query = target.partition("?")
        self.version = int(version)
        if not target.isascii():
            text = "must be percent-encoded, as in ?username=j%C3%BCrgen for jürgen"
            raise Error(400, f"Bad request: what is not ASCII {text}")
        for line in lines[:-2]:
            self.read_header(line)
        if lines[-2:] != ["", ""]:
            raise Error(400, "Bad request: a line of the head does not end in CR LF")
        if self.version == 1 and "host" not in self.headers:
            raise Error(400, "Bad request: no Host header")
        if "transfer-encoding" in self.headers:
            raise Error(501, "Transfer-Encoding is not implemented; send Content-Length")
        length = self.headers.get("content-length", "0")
        if not re.fullmatch("[0-9]{1,10}", length):
            raise Error(400, "Bad request: Content-Length is not 1 to 10 digits")
        self.length = int(length)
        closes = CLOSE.search(self.headers.get("connection", ""))
        self.keep_alive = self.version == 1 and not closes

    def read_header(self, line: str) -> None:
        found = HEADER.fullmatch(line)
        if not found:
            text = "a line of the head is not NAME: VALUE, is folded, or does not end in CR LF"
            raise Error(400, f"Bad request: {text}")
        name, value = found[1].lower(), found[2]
        if name in self.headers:
            if name in ("host", "content-length"):
                raise Error(400, f"Bad request: two {name.title()} headers")
            value = f"{self.headers[name]}, {value}"
        self.headers[name] = value


def read_username(value: str) -> str:
    """A username as it is judged; raises Error."""
    username = value.strip()
    if not username:
        raise Error(400, "Username is missing")
    if NOT_IN_NAMES.search(username):
        text = "a control character, an unpaired surrogate, ':' or '/' in it"
        raise Error(400, f"Username has {text}")
    if len(username.encode()) > 256:
        raise Error(400, "Username is too long: at most 256 bytes")
    return username


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a key given twice")
    return fields


def read_credentials(body: bytes) -> tuple[str, str]:
    """Username and password from the JSON body of /validate.

    Raises Error, which never repeats the body.
    """
    if not body:
        raise Error(400, "Body is empty: it must be JSON")
    try:
        # NaN and the like are no JSON (RFC 8259, 6): int() raises ValueError
        fields = json.loads(body.decode(), object_pairs_hook=unique, parse_constant=int)
    except (ValueError, RecursionError):
        raise Error(400, "Body is not valid JSON in UTF-8, each key once") from None
    if not isinstance(fields, dict):
        raise Error(400, "Body is not a JSON object")
    for field in ("username", "password"):
        if not isinstance(fields.get(field), str) or not fields[field]:
            raise Error(400, f"{field.title()} is missing, empty or not a string")
    username, password = read_username(fields["username"]), fields["password"]
    if "\0" in password or re.search("[\ud800-\udfff]", password):
        raise Error(400, "Password has a NUL or an unpaired surrogate in it")
    return username, password


def read_query(query: str) -> str:
    """The username from the query of /user-info; raises Error."""
    try:
        names = parse_qs(query, keep_blank_values=True, errors="strict").get("username", [])
    except ValueError:
        raise Error(400, "The query is not UTF-8") from None
    if len(names) != 1:
        raise Error(400, "Username must be given once, as ?username=NAME")
    return read_username(names[0])


def render(status: int, payload: Mapping[str, Any], headers: Mapping[str, str]) -> bytes:
    """An answer as it goes over the wire."""
    body = json.dumps(payload).encode() + b"\n"
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    head = (
        f"HTTP/1.1 {status} {http.server.BaseHTTPRequestHandler.responses[status][0]}\r\n"
        f"Date: {timestamps(int(time.time()))[1]}\r\n"
        "Content-Type: application/json; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\n"
        f"X-Content-Type-Options: nosniff\r\n{lines}\r\n"
    )
    return head.encode("latin-1") + body


# --- Connections -------------------------------------------------------------------------------

# What the thread of a connection does: it waits for a whole request; follows another's question
# of /ready; runs a request; sends an answer; or has to leave.
WAITING, FOLLOWING, RUNNING, ANSWERING, LEAVING = range(5)


class Connection:
    """An open connection: its `state`, `since` when, and the `deadline` at which it is cut."""

    def __init__(self, transport: socket.socket, deadline: float) -> None:
        self.transport = transport
        self.state, self.since, self.deadline = WAITING, time.monotonic(), deadline
        self.woken = threading.Event()  # set when it may follow no longer
        self.has_thread = False  # which may have found no memory to begin

    def cut(self) -> None:
        """End both directions; a thread that waits on it wakes."""
        with contextlib.suppress(OSError):
            # not the method of SSLSocket: in TLS only its own thread may speak
            socket.socket.shutdown(self.transport, socket.SHUT_RDWR)
        self.woken.set()


class Connections:
    """All open connections, by socket: what the time of a request, the making of room and the
    stop go by. Those that are leaving do not count against `most`, and are few."""

    TAKING = 1.0  # seconds in which an answer should be taken
    MAX_LEAVING = 64

    def __init__(self, most: int, timeout: float) -> None:
        self.most, self.timeout = most, timeout
        self.lock = threading.Lock()
        self.all: dict[socket.socket, Connection] = {}
        self.leaving = 0
        self.is_open = True

    def add(self, transport: socket.socket) -> Connection:
        """Let one in, if need be for another; where all run a request, it is leaving at once."""
        with self.lock:
            new = Connection(transport, time.monotonic() + self.timeout)
            if len(self.all) - self.leaving >= self.most:
                if longest := self.longest_waiting():
                    self.leave(longest)
                else:
                    self.set_leaving(new, self.TAKING)
            self.all[transport] = new
            return new

    def longest_waiting(self) -> Connection | None:
        """Whose place a new one takes: one that only follows another's question; else the one
        that waits, or is slow to take its answer; else one that is answering; of several the one
        that does so for the longest time."""
        now = time.monotonic()
        least: tuple[int, float] = (3, math.inf)
        longest = None
        for connection in self.all.values():
            if connection.state in (RUNNING, LEAVING):
                continue
            rank = 0 if connection.state == FOLLOWING else 1
            if connection.state == ANSWERING and now < connection.since + self.TAKING:
                rank = 2
            if (rank, connection.since) < least:
                least, longest = (rank, connection.since), connection
        return longest

    def leave(self, connection: Connection) -> None:
        """Count it no longer, and cut it, if it has no answer coming. The lock is held."""
        answering = connection.state == ANSWERING
        self.set_leaving(connection, self.TAKING if answering else 0)
        if connection.deadline <= connection.since:
            connection.cut()

    def set_leaving(self, connection: Connection, seconds: float) -> None:
        """It has so long, and no time at all where there are many. The lock is held."""
        few = self.leaving < self.MAX_LEAVING
        connection.deadline = connection.since + (seconds if few else 0)
        connection.state = LEAVING
        self.leaving += 1

    def enter(self, connection: Connection, state: int) -> None:
        """Go on to `state`; raises ConnectionAbortedError where it has to leave instead."""
        now = time.monotonic()
        with self.lock:
            if state == WAITING and not self.is_open and connection.state != LEAVING:
                self.leave(connection)
            if connection.state == LEAVING:
                raise ConnectionAbortedError
            connection.state, connection.since = state, now
            limited = state in (WAITING, ANSWERING)
            connection.deadline = now + self.timeout if limited else math.inf

    def remove(self, transport: socket.socket) -> None:
        with self.lock:
            connection = self.all.pop(transport, None)
            if connection and connection.state == LEAVING:
                self.leaving -= 1

    def sweep(self) -> list[socket.socket]:
        """Cut what is past its deadline; returns those of them that no thread will close."""
        now = time.monotonic()
        with self.lock:
            late = [each for each in self.all.values() if each.deadline <= now]
        for connection in late:
            connection.cut()
        return [each.transport for each in late if not each.has_thread]

    def close(self) -> None:
        """Keep none alive any longer, and cut those that wait."""
        with self.lock:
            self.is_open = False
            for connection in self.all.values():
                if connection.state == WAITING:
                    self.leave(connection)

    def wait(self, seconds: float) -> None:
        """Let the others end what they do, for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with self.lock:
                states = {connection.state for connection in self.all.values()}
            if states.isdisjoint({FOLLOWING, RUNNING, ANSWERING}):
                return
            time.sleep(0.02)


# --- Server ------------------------------------------------------------------------------------


def fault(error: Exception) -> Error:
    """What is answered to an exception; one that is not expected is logged."""
    if isinstance(error, Error):
        return error
    if isinstance(error, MemoryError):
        return Error(503, "There is not enough memory")
    log_bug(error)
    if isinstance(error, OSError):
        return Error(503, f"The system fails: {error.strerror}")
    return Error(500, "Internal server error", type(error).__name__)


class Handler(http.server.BaseHTTPRequestHandler):
    """The requests of one connection."""

    disable_nagle_algorithm = True
    rbufsize = 0  # `receive` keeps what has come
    server: "Server"

    def setup(self) -> None:
        super().setup()
        self.here = self.server.connections.all[self.request]
        self.here.has_thread = True
        self.peer = read_client(self.client_address[0].partition("%")[0])
        self.data = bytearray()  # what has come and is not used yet

    def handle(self) -> None:
        """Serve the requests, end our direction, and drop what comes until the peer ends his.

        Closing on unread bytes would reset the connection, and the last answer might be lost
        (RFC 9112, 9.6).
        """
        if self.here.state != LEAVING:  # it has been told that the service is full
            if isinstance(self.connection, ssl.SSLSocket):
                self.connection.do_handshake()
            with contextlib.suppress(ConnectionAbortedError):
                super().handle()
            self.end()
        while self.connection.recv(16_384):
            pass

    def end(self) -> None:
        """End our direction; from then on the connection is raw."""
        if isinstance(self.connection, ssl.SSLSocket):
            self.connection.setblocking(False)
            with contextlib.suppress(OSError):
                self.connection.unwrap()  # says close_notify (RFC 8446, 6.1), and does not wait
            self.connection.setblocking(True)
        self.connection.shutdown(socket.SHUT_WR)

    def enter(self, state: int) -> None:
        self.server.connections.enter(self.here, state)

    def handle_one_request(self) -> None:
        """Receive, judge, answer and log one; raises OSError where the peer has gone."""
        self.head, self.size = Head(), 0
        self.client = self.peer
        try:
            self.receive_request()
        except Error as error:
            self.begin()
            self.refuse(error)
        else:
            self.begin()
            self.run()
        if not self.close_connection and not self.data:
            self.receive()
            self.enter(WAITING)  # until now it was idle

    def receive(self) -> None:
        """More bytes into `data`; raises ConnectionError at the end of the stream."""
        more = self.connection.recv(2048)  # a larger buffer would be kept for each that drips
        if not more:
            raise ConnectionResetError
        self.data += more

    def receive_request(self) -> None:
        """All of a request, judged in the order that the API promises; raises Error."""
        size = head_size(self.data, 0)
        while not size:
            searched = len(self.data)
            self.receive()
            size = head_size(self.data, searched)
        head = self.head
        head.read(self.data[:size].decode("latin-1"))
        self.size = size + head.length
        self.judge()
        expects = head.version == 1 and head.headers.get("expect", "").lower() == "100-continue"
        if expects and len(self.data) < self.size:
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while len(self.data) < self.size:
            self.receive()
        self.body = bytes(self.data[size : self.size])

    def judge(self) -> None:
        """Raise Error for what no endpoint takes."""
        head = self.head
        route = ROUTES.get(head.path)
        if not route:
            raise Error(404, f"Not found: the endpoints are {ENDPOINTS}")
        if head.method not in route.methods:
            raise Error(405, "Method not allowed", Allow=", ".join(route.methods))
        if route.is_guarded and self.server.token:
            self.authorize()
        if head.length > MAX_BODY:
            raise Error(413, f"Body is too large: at most {MAX_BODY} bytes")
        kind = head.headers.get("content-type", "").partition(";")[0].strip(" \t")
        if head.path == "/validate" and kind.lower() != "application/json":
            raise Error(415, "Content-Type must be application/json")

    def authorize(self) -> None:
        """Raise Error without the right token; who has it is believed who the client is."""
        headers = self.head.headers
        scheme, _, given = headers.get("authorization", "").partition(" ")
        token = given.strip(" \t").encode("latin-1")
        if not hmac.compare_digest(token, self.server.token) or scheme.lower() != "bearer":
            text = "Authorization: Bearer TOKEN is missing or wrong"
            raise Error(401, text, WWW_Authenticate="Bearer")
        with contextlib.suppress(ValueError):
            self.client = read_client(headers.get("x-forwarded-for", ""))

    def begin(self) -> None:
        self.enter(RUNNING)
        self.arrived = self.here.since

    def run(self) -> None:
        route = ROUTES[self.head.path]
        try:
            payload = route.endpoint(self)
        except ConnectionAbortedError:  # it has to leave
            raise
        except Exception as error:  # noqa: BLE001 - it costs its request
            self.refuse(fault(error))
        else:
            self.note_request("DEBUG" if route.is_polled else "INFO", 200)
            self.answer(200, payload, {})

    def refuse(self, error: Error) -> None:
        if error.status in (500, 503):
            self.note_request("ERROR", error.status, reason=error.reason)
        else:
            self.note_request("INFO", error.status)
        route = ROUTES.get(self.head.path)
        beside = route.refusal if route and error.status in route.refused_with else {}
        self.answer(error.status, {**beside, "error": error.text}, error.headers)

    def answer(self, status: int, payload: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        """Send an answer, in one write."""
        unread = len(self.data) < self.size
        is_open = self.server.connections.is_open
        self.close_connection = unread or not self.head.keep_alive or not is_open
        if self.close_connection:
            headers = {**headers, "Connection": "close"}
        data = render(status, payload, headers)
        if self.data.startswith(b"HEAD "):
            data = data[: data.index(b"\r\n\r\n") + 4]
        del self.data[: self.size]
        self.enter(ANSWERING)
        self.wfile.write(data)
        self.enter(WAITING)

    def note_request(self, level: str, status: int, **reason: str) -> None:
        method, path = self.head.method or "-", self.head.path or "-"
        values = {"client": self.client.address, "method": method, "path": path}
        self.log(level, "request", **values, status=status, **reason)

    def log(self, level: str, event: str, **values: object) -> None:
        log(level, event, **values, ms=f"{(time.monotonic() - self.arrived) * 1000:.1f}")

    def validate(self) -> dict[str, Any]:
        username, password = read_credentials(self.body)
        try:
            logins = self.server.logins
            username, verdict = logins.ask(logins.check(username, password, self.client))
        except Exception as exception:
            error = fault(exception)
            if error.status != 429:
                self.log_verdict("ERROR", username, "error", error.reason)
                raise error from None
            self.log_verdict("INFO", username, "throttled", error.reason)
            self.hold()
            raise
        result = "invalid" if verdict.error else "valid"
        self.log_verdict("INFO", username, result, verdict.reason)
        if not verdict.error:
            return {"valid": True, "username": username}
        self.hold()
        return {"valid": False, "error": verdict.error}

    def log_verdict(self, level: str, username: str, result: str, reason: str) -> None:
        client = self.client.address
        self.log(level, "verdict", user=username, client=client, result=result, reason=reason)

    def hold(self) -> None:
        """Wait out FAIL_DELAY; a random share keeps refused clients from coming back in step."""
        share = 1 + 0.2 * random.random()  # noqa: S311
        until = self.arrived + self.server.settings.fail_delay * share
        time.sleep(max(0.0, until - time.monotonic()))

    def user_info(self) -> dict[str, Any]:
        logins = self.server.logins
        described = logins.ask(logins.describe(read_query(self.head.query)))
        return described or {"exists": False, "error": "User not found"}

    def health(self) -> dict[str, Any]:
        return {"status": "healthy", "service": "ugos-auth-proxy", "version": __version__}

    def ready(self) -> dict[str, Any]:
        probe, woken = self.server.probe, self.here.woken
        woken.clear()
        look, leads = probe.join(woken)
        if leads:
            probe.lead(look)
        else:
            self.enter(FOLLOWING)
            woken.wait()
            self.enter(RUNNING)
        if look.error:
            raise look.error
        return {"status": "ready"}


class Route(NamedTuple):
    """An endpoint. `refusal` stands beside `error` where it is `refused_with` such a status."""

    endpoint: Callable[[Handler], dict[str, Any]]
    methods: tuple[str, ...]
    refusal: dict[str, Any]
    refused_with: tuple[int, ...]
    is_guarded: bool = False  # by the token
    is_polled: bool = False  # so often that its success is for DEBUG only


READ = ("GET", "HEAD")
REFUSED_WITH = (400, 401, 413, 415, 429, 503)
ENDPOINTS = "POST /validate, GET /user-info?username=NAME, GET /health and GET /ready"
ROUTES = {
    "/validate": Route(
        Handler.validate, ("POST",), {"valid": False}, REFUSED_WITH, is_guarded=True
    ),
    "/user-info": Route(Handler.user_info, READ, {"exists": False}, REFUSED_WITH, is_guarded=True),
    "/health": Route(Handler.health, READ, {}, (), is_polled=True),
    "/ready": Route(Handler.ready, READ, {"status": "not ready"}, (503,), is_polled=True),
}


class Server(http.server.ThreadingHTTPServer):
    """The listening socket, and what the handlers of its connections need."""

    allow_reuse_port = False  # or another process of this user could share it, and the passwords
    request_queue_size = 256
    SWEEP = 0.25  # seconds between two looks at the deadlines

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.token = load_token(settings)
        self.tls = load_tls(settings)
        self.logins = Logins(settings, by_client=bool(self.token))
        self.probe = Probe(lambda: self.logins.ask(self.logins.probe()))
        self.connections = Connections(settings.max_connections, settings.request_timeout)
        self.next_sweep = 0.0
        address = settings.host, settings.port
        try:
            found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
            self.address_family = found[0][0]
            super().__init__(address, Handler)
        except (OSError, UnicodeError) as error:
            text = f"HOST {settings.host!r}, PORT {settings.port}: cannot listen there"
            raise ValueError(f"{text}: {error}") from None

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's own asks DNS for its name
        self.socket.settimeout(self.SWEEP)  # of accept(2): the peer may be gone by then

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            request, address = self.socket.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                log("ERROR", "accept", error=error.strerror)
                time.sleep(0.05)  # it is tried again for as long as somebody waits there
            raise
        if self.tls:
            request = self.tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        return request, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether it gets a thread; where all are busy, only to tell the peer and to wait for
        its end: a request still on its way would reset the answer."""
        new = self.connections.add(request)
        if new.state != LEAVING:
            return True
        client = read_client(client_address[0].partition("%")[0]).address
        most = self.settings.max_connections
        log("ERROR", "full", client=client, status=503, reason="FULL", connections=most)
        if self.tls:
            return False
        headers = {"Retry-After": "2", "Connection": "close"}
        with contextlib.suppress(OSError):
            answer = render(503, {"error": "The service is full"}, headers)
            request.send(answer, socket.MSG_DONTWAIT)
            request.shutdown(socket.SHUT_WR)
        return new.deadline > new.since

    def process_request(self, request: Any, client_address: Any) -> None:
        # not by Thread.start(), which waits for the new thread, for ever where it has no memory
        _thread.start_new_thread(self.process_request_thread, (request, client_address))

    def shutdown_request(self, request: Any) -> None:
        self.connections.remove(request)
        request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        client = client_address[0]
        if isinstance(error, OSError):
            log("DEBUG", "closed", client=client, error=type(error).__name__)
        elif isinstance(error, RuntimeError | MemoryError):
            log("ERROR", "thread", client=client, error="no thread or memory to be had")
        elif error:
            log_bug(error)

    def service_actions(self) -> None:
        """Called all the time by `serve_forever`: cut what is past its deadline."""
        now = time.monotonic()
        if now >= self.next_sweep:
            self.next_sweep = now + self.SWEEP
            for request in self.connections.sweep():
                self.shutdown_request(request)

    def serve(self) -> None:
        """Serve until `shutdown`; a lack of memory ends no more than a connection."""
        while True:
            try:
                return self.serve_forever(self.SWEEP)
            except Exception as error:  # noqa: BLE001 - the next connection is served
                fault(error)
                time.sleep(self.SWEEP)

    def reload(self) -> None:
        """Read the token's file and the certificate with its key anew, each by itself."""
        for name, load in ("token", load_token), ("tls", load_tls):
            try:
                setattr(self, name, load(self.settings))
            except ValueError as error:
                log("ERROR", "reload", error=error)
        log("INFO", "reload", tls=bool(self.tls), token=bool(self.token))

    def stop(self) -> None:
        """Accept no more, cut the connections that wait, and let the others end."""
        self.shutdown()
        self.server_close()
        self.connections.close()
        self.connections.wait(10)


# --- Start -------------------------------------------------------------------------------------


def make_server(settings: Settings) -> Server:
    """The service, listening but not serving; warns of its surroundings.

    Raises ValueError for a setting, OSError for the system.
    """
    log.level = LEVELS[settings.log_level]
    server = Server(settings)
    host, port = server.socket.getsockname()[:2]
    if not server.token and not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        log("WARNING", "no-token", help=f"anyone who reaches {host} can ask; set AUTH_TOKEN")
    name = settings.pam_service.lower()  # as pam_start(3) does
    if not any(os.path.exists(f"{folder}/{name}") for folder in ("/etc/pam.d", "/usr/lib/pam.d")):
        text = f"/etc/pam.d/{name} is missing; PAM uses /etc/pam.d/other instead"
        log("WARNING", "no-pam-service", help=text)
    for path in server.logins.accounts.mounts.points:
        text = f"{path} is a mount of its own, which goes stale; mount the directory"
        log("WARNING", "single-file-mount", help=text)
    tls, token = bool(server.tls), bool(server.token)
    log("INFO", "start", version=__version__, host=host, port=port, tls=tls, token=token)
    return server


def allow_descriptors(needed: int) -> None:
    """Raise the soft limit as far as that; ValueError where the hard one is below it.

    Without a descriptor, pam_unix finds no account, which is a refusal.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        text = f"needs {needed} descriptors (256 more), and the hard limit is {hard}"
        raise ValueError(f"MAX_CONNECTIONS: {text}; see ulimit -n")
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def notify(server: Server) -> None:
    """Tell systemd, where it waits for that (sd_notify(3)), that the service listens, and where."""
    path = re.sub("^@", "\0", os.environ.pop("NOTIFY_SOCKET", ""))
    if not path:
        return
    host, port = server.socket.getsockname()[:2]
    scheme = "https" if server.tls else "http"
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        try:
            systemd.sendto(f"READY=1\nSTATUS={url}".encode(), path)
        except OSError as error:
            log("WARNING", "notify", error=error.strerror)


def usage() -> str:
    lines = [f"usage: {sys.argv[0]} [--help | --version]", "", "Settings, in the environment:"]
    for name, _, default, meaning in SETTINGS:
        lines.append(f"  {name:<16} {meaning} (default: {default or 'unset'})")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Run until SIGTERM or SIGINT; the exit status: 0, or 2 for a bad argument or setting."""
    if arguments == ["--help"]:
        print(usage())
        return 0
    if arguments == ["--version"]:
        print(f"ugos-auth-proxy {__version__}")
        return 0
    if arguments:
        text = f"ugos-auth-proxy: unknown argument {arguments[0]!r}"
        print(f"{text}\n{usage()}", file=sys.stderr)
        return 2
    if pam is None:
        text = "run `apt install python3-pampy python3-six`, or `pip install python-pam`"
        print(f"ugos-auth-proxy: python-pam is missing: {text}", file=sys.stderr)
        return 2
    signals = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # in all threads: they are waited for
    sys.unraisablehook = lambda unraisable: log_bug(unraisable.exc_value or Exception())
    try:
        settings = Settings(os.environ)
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)  # python-pam would make an item of a terminal
        os.environ.pop("AUTH_TOKEN", None)  # PAM modules and their helpers have no use for it
        allow_descriptors(settings.max_connections + 256)  # for what PAM opens, and what leaves
        server = make_server(settings)
    except (ValueError, OSError) as error:
        print(f"ugos-auth-proxy: {error}", file=sys.stderr)
        return 2
    _thread.start_new_thread(server.serve, ())
    notify(server)
    while (caught := signal.sigwait(signals)) == signal.SIGHUP:
        server.reload()
    log("INFO", "stop", signal=signal.Signals(caught).name)
    server.stop()
    os._exit(0)  # without waiting for calls that hang in PAM


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
