"""ugos-auth-proxy: NAS logins over HTTP.

POST /validate   {"username", "password"}: asks PAM, now, whether the password is right
GET  /user-info  ?username=U: who the account is, from passwd and group
GET  /health     the process answers
GET  /ready      a login could succeed now, or what stands in its way

Nothing is stored or cached. Whatever cannot be answered truly is an error, never a verdict.
"""

import _thread
import collections
import ctypes
import errno
import functools
import grp
import hmac
import http
import http.server
import ipaddress
import json
import math
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
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import IO, Any, ClassVar, NamedTuple
from urllib.parse import parse_qsl

try:
    import pam
except ImportError:
    sys.exit(
        "ugos-auth-proxy: python-pam is missing: "
        "run `apt install python3-pampy python3-six`, or `pip install python-pam`"
    )

__version__ = "0.2.0"


class Error(Exception):
    """An answer other than 200: raised where the fault is seen, rendered in `Handler`.

    `status` is the HTTP status, `text` what the client is told, `headers` further header lines,
    `reason` what the log says instead of the text.
    """

    def __init__(self, status: int, text: str, headers: dict[str, str] | None = None, reason: str = "") -> None:
        super().__init__(text)
        self.status, self.text, self.headers, self.reason = status, text, headers or {}, reason or text


def unavailable(text: str, reason: str = "") -> Error:
    """A fault of the service or the system under it: 503, worth another try."""
    return Error(503, text, {"Retry-After": "2"}, reason)


# --- Logging -----------------------------------------------------------------------------------

LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}
BARE = re.compile(r"[!#-\[\]-~]+")  # visible ASCII without the quote and the backslash
log_level, log_lost, log_file = LEVELS["INFO"], 0, False


def quoted(value: object) -> str:
    """`value` as one log token: quoted where needed, every character that is not printable escaped."""
    text = str(value)
    if len(text) > 400:  # a line stays below PIPE_BUF (4096, pipe(7)), so lines never mix
        text = text[:400] + "..."
    if BARE.fullmatch(text) and "=" not in text:
        return text
    escaped = (
        "\\" + c if c in '"\\' else c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )
    return f'"{"".join(escaped)}"'


@functools.lru_cache(1)
def timestamps(second: int) -> tuple[str, str]:
    """A time as the log and as HTTP (RFC 9110, 5.6.7) write it; kept, as many are needed in one second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second)), formatdate(second, usegmt=True)


def log(level: str, event: str, **values: object) -> None:
    """Write one `key=value` line to stderr. One that cannot be written is dropped, and the next says how many were."""
    global log_lost
    if LEVELS[level] < log_level:
        return
    line = f"time={timestamps(int(time.time()))[0]} level={level} event={event}" + "".join(
        f" {key}={quoted(v)}" for key, v in values.items()
    )
    if log_lost:
        line += f" lost={log_lost}"
    try:
        if not (log_file or select.select((), (2,), (), 0 if log_lost else 0.1)[1]):  # a pipe that nobody empties
            raise BlockingIOError
        os.write(2, line.encode("utf-8", "backslashreplace") + b"\n")
        log_lost = 0
    except OSError:
        log_lost += 1


def log_bug(error: BaseException) -> None:
    """Log where an unexpected exception came from, without its message: that may hold what a user typed."""
    trace, at = error.__traceback__, []
    while trace:
        at.append(f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}")
        trace = trace.tb_next
    log("ERROR", "bug", error=type(error).__name__, at=" ".join(at[-8:]))


def spawn(function: Callable[..., None], *arguments: object) -> None:
    """Start a thread, if one is to be had."""
    try:
        _thread.start_new_thread(function, arguments)
    except RuntimeError:
        log("ERROR", "thread", error="no thread to be had")


# --- Settings ----------------------------------------------------------------------------------


def number(low: float, high: float, cast: Callable[[str], float] = int) -> Callable[[str], Any]:
    """A reader of plain decimal numbers from `low` to `high`; whole ones unless `cast` is float."""
    form, kind = (r"[0-9]+", "a whole number") if cast is int else (r"[0-9]+(\.[0-9]+)?", "a number")

    def read(text: str) -> float:
        if not re.fullmatch(form, text, re.ASCII) or len(text) > 12 or not low <= cast(text) <= high:
            raise ValueError(f"must be {kind} from {low} to {high}, not {text!r}")
        return cast(text)

    return read


def matching(form: str, what: str, secret: bool = False) -> Callable[[str], str]:
    """A reader of text that matches the regular expression `form`."""

    def read(text: str) -> str:
        if not re.fullmatch(form, text):
            raise ValueError(f"must be {what}" + ("" if secret else f", not {text!r}"))
        return text

    return read


read_token = matching(r"[!-~]{16,4096}", "at least 16 visible ASCII characters", secret=True)


def read_token_file(path: str) -> str:
    try:
        with open(path, encoding="latin-1", newline="") as file:
            return read_token(re.sub(r"\r?\n\Z", "", file.read(8192)))
    except OSError as error:
        raise ValueError(f"{path!r} cannot be read: {error.strerror}") from None


def read_groups(text: str) -> frozenset[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise ValueError(f"must be group names with commas between, not {text!r}")
    return frozenset(names)


class Setting(NamedTuple):
    """One environment variable: `cast` reads its text and raises ValueError; no default means unset."""

    name: str
    cast: Callable[[str], Any]
    default: str
    meaning: str


SETTINGS = (
    Setting("HOST", str, "0.0.0.0", "address to bind; an IPv6 address works"),  # noqa: S104
    Setting("PORT", number(1, 65535), "8080", "port to listen on, 1 to 65535"),
    Setting("AUTH_TOKEN", read_token, "", "shared secret that callers must send, at least 16 visible ASCII characters"),
    Setting("AUTH_TOKEN_FILE", read_token_file, "", "file that holds the secret instead"),
    Setting("TLS_CERT", str, "", "PEM file with the certificate chain; TLS 1.2 and later"),
    Setting("TLS_KEY", str, "", "PEM file with its key, without a passphrase"),
    Setting(
        "PAM_SERVICE", matching(r"[\w-][\w.-]{0,63}", "a name as in /etc/pam.d"), "ugos-auth-proxy", "PAM service name"
    ),
    Setting("MIN_UID", number(1, 2**32 - 2), "1000", "lowest uid that is served"),
    Setting("MAX_UID", number(1, 2**32 - 2), "60000", "highest uid that is served"),
    Setting("ALLOWED_GROUPS", read_groups, "", "group names with commas between: only their members are served"),
    Setting("FAIL_DELAY", number(0, 3, float), "1.0", "seconds that a refusal takes at least, 0 to 3"),
    Setting("MAX_FAILURES", number(0, 10_000), "10", "refusals for a username and client before 429; 0 turns it off"),
    Setting("FAILURE_WINDOW", number(1, 86_400), "300", "seconds over which refusals are counted"),
    Setting("MAX_CONNECTIONS", number(1, 65_536), "256", "open connections"),
    Setting("REQUEST_TIMEOUT", number(0.1, 3600, float), "10", "seconds for a whole request to arrive"),
    Setting("LOG_LEVEL", matching("|".join(LEVELS), "one of " + ", ".join(LEVELS)), "INFO", ", ".join(LEVELS)),
)


class Settings:
    """The values of `SETTINGS`, read from an environment; an empty variable counts as unset.

    Raises ValueError, its text naming the variable.
    """

    host: str
    port: int
    auth_token: str | None
    tls_cert: str | None
    tls_key: str | None
    pam_service: str
    min_uid: int
    max_uid: int
    allowed_groups: frozenset[str] | None
    fail_delay: float
    max_failures: int
    failure_window: int
    max_connections: int
    request_timeout: float
    log_level: str

    def __init__(self, environ: Mapping[str, str]) -> None:
        for name, cast, default, _ in SETTINGS:
            text = environ.get(name) or default
            try:
                setattr(self, name.lower(), cast(text) if text else None)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        if environ.get("AUTH_TOKEN") and environ.get("AUTH_TOKEN_FILE"):
            raise ValueError("AUTH_TOKEN: AUTH_TOKEN_FILE is set as well; set only one of them")
        self.auth_token = self.auth_token or self.auth_token_file  # type: ignore[attr-defined]
        if bool(self.tls_cert) != bool(self.tls_key):
            missing, given = ("TLS_KEY", "TLS_CERT") if self.tls_cert else ("TLS_CERT", "TLS_KEY")
            raise ValueError(f"{missing}: must be set because {given} is")
        if self.min_uid > self.max_uid:
            raise ValueError(f"MIN_UID: {self.min_uid} is above MAX_UID, {self.max_uid}")

    def tls(self) -> ssl.SSLContext | None:
        """The TLS context, if TLS is set."""
        if not self.tls_cert:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:  # the empty passphrase keeps OpenSSL from asking for one on the terminal
            context.load_cert_chain(self.tls_cert, self.tls_key, password="")
        except OSError as error:  # ssl.SSLError is one
            raise ValueError(f"TLS_CERT: cannot be loaded with TLS_KEY: {error.strerror or error}") from None
        return context


# --- PAM ---------------------------------------------------------------------------------------

# The return codes in their order, 0 to 31 (Linux-PAM, security/_pam_types.h).
CODES = tuple(
    "PAM_" + name
    for name in (
        "SUCCESS OPEN_ERR SYMBOL_ERR SERVICE_ERR SYSTEM_ERR BUF_ERR PERM_DENIED AUTH_ERR CRED_INSUFFICIENT "
        "AUTHINFO_UNAVAIL USER_UNKNOWN MAXTRIES NEW_AUTHTOK_REQD ACCT_EXPIRED SESSION_ERR CRED_UNAVAIL CRED_EXPIRED "
        "CRED_ERR NO_MODULE_DATA CONV_ERR AUTHTOK_ERR AUTHTOK_RECOVERY_ERR AUTHTOK_LOCK_BUSY AUTHTOK_DISABLE_AGING "
        "TRY_AGAIN IGNORE ABORT AUTHTOK_EXPIRED MODULE_UNKNOWN BAD_ITEM CONV_AGAIN INCOMPLETE"
    ).split()
)
REFUSALS = {"PAM_PERM_DENIED", "PAM_AUTH_ERR", "PAM_CRED_INSUFFICIENT", "PAM_USER_UNKNOWN", "PAM_MAXTRIES"}
REMEDIES = {
    "PAM_AUTHINFO_UNAVAIL": "see that this process may read /etc/shadow, or that the server which PAM asks is there",
    "PAM_MODULE_UNKNOWN": "install the module that the rules of PAM_SERVICE name, or take it out of them",
}
PAM_FAIL_DELAY = 10  # security/pam_appl.h; python-pam has no name for it


class Verdict(NamedTuple):
    """What a login came to: `error` is "" where it is valid, `reason` is for the log only."""

    error: str
    reason: str


UNASKED = Verdict("Invalid credentials", "UNASKED")  # until PAM has spoken


def judge(code: int, account_phase: bool) -> Verdict:
    """The verdict that a PAM return code is; raises Error where it is none.

    `account_phase` tells whether pam_acct_mgmt said it, that is, after the password was found right.
    """
    name = CODES[code] if 0 <= code < len(CODES) else f"PAM_{code}"
    if name == "PAM_SUCCESS" and account_phase:
        return Verdict("", name)
    if name in REFUSALS:
        return Verdict("Invalid credentials", name)
    if name in ("PAM_ACCT_EXPIRED", "PAM_NEW_AUTHTOK_REQD", "PAM_AUTHTOK_EXPIRED"):
        expired = "Account expired" if name == "PAM_ACCT_EXPIRED" else "Password expired"
        return Verdict(expired if account_phase else "Invalid credentials", name)
    raise unavailable(f"PAM gave no verdict: {name}; {REMEDIES.get(name, 'the log of the system may say why')}", name)


class Attempt(pam.pam):
    """One question to PAM, by python-pam (2.0.2 and 2.1.0), whose calls to libpam these methods stand in for.

    An instance is used once and by one thread.
    """

    library: ClassVar[dict[str, Any]] = {}  # what python-pam's constructor binds, bound once

    @classmethod
    def load(cls, service: str) -> None:
        """Load libpam, and map the modules of `service` by a handle that stays open.

        Opening and closing the modules is a fifth of the cost of a SHA-512 login.
        """
        os.environ.pop("DISPLAY", None)  # python-pam makes PAM_TTY of it, and raises where it is not text
        bound = vars(pam.pam())  # type: ignore[no-untyped-call]
        cls.library = {name: value for name, value in bound.items() if name not in vars(cls)}
        cls.really_authenticate, cls.really_acct_mgmt = bound["pam_authenticate"], bound["pam_acct_mgmt"]
        # PyDLL keeps the interpreter lock: for a call this short, letting it go costs more than the call
        libpam = ctypes.PyDLL("libpam.so.0")
        cls.set_item = libpam.pam_set_item
        cls.set_item.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
        # libpam calls this instead of sleeping; abs(3) does nothing with its argument and needs no interpreter
        cls.no_delay = ctypes.cast(ctypes.CDLL(None).abs, ctypes.c_void_p)
        no_conversation = (ctypes.c_void_p * 2)()
        handle = ctypes.c_void_p()
        libpam.pam_start(service.encode(), b"", ctypes.byref(no_conversation), ctypes.byref(handle))

    set_item: ClassVar[Any]
    no_delay: ClassVar[Any]
    really_authenticate: ClassVar[Any]
    really_acct_mgmt: ClassVar[Any]

    def __init__(self, service: str, rhost: str, account_only: bool = False) -> None:
        # not python-pam's own constructor: 2.0.2's runs ldconfig each time
        self.__dict__.update(self.library)
        self.messages: list[str] = []
        self.service, self.rhost = service.encode(), rhost.encode()
        self.account_only, self.account_phase = account_only, False

    def check(self, username: str, password: str) -> Verdict:
        """Ask whether the password is right and the account may log in. Raises Error where PAM cannot tell."""
        # latin-1 is for the modules' prompts, which python-pam decodes: it takes any byte
        self.authenticate(os.fsencode(username), password.encode(), self.service, None, True, "latin-1", False)
        return judge(self.code, self.account_phase)

    def pam_authenticate(self, handle: Any, flags: int) -> int:
        for item, value in (
            (PAM_FAIL_DELAY, self.no_delay),
            (pam.PAM_TTY, b"ugos-auth-proxy"),  # some modules refuse to work without one
            (pam.PAM_RHOST, self.rhost),
        ):
            if code := self.set_item(handle.handle, item, value):
                return int(code)
        if self.account_only:
            return 0
        # python-pam passes no flags, and then `nullok` lets any password in where none is set
        return int(self.really_authenticate(handle, flags | pam.PAM_DISALLOW_NULL_AUTHTOK))

    def pam_acct_mgmt(self, handle: Any, flags: int) -> int:
        self.account_phase = True
        return int(self.really_acct_mgmt(handle, flags | pam.PAM_DISALLOW_NULL_AUTHTOK))

    def pam_set_item(self, *_: object) -> int:
        return 0  # python-pam would set PAM_TTY and PAM_XDISPLAY from the terminal it runs in

    def pam_strerror(self, *_: object) -> bytes:
        return b""  # translated text that nobody reads


class Call:
    """Something to do in its turn at PAM. `Gate` calls the methods, `admit` and `settle` with its lock held."""

    preferred = False  # which of the two lanes it waits in
    error: BaseException | None

    def __init__(self) -> None:
        self.done = _thread.allocate_lock()
        self.done.acquire()
        self.since = 0.0  # when it began to wait, or its turn came
        self.verdict, self.error = UNASKED, None
        self.abandon: Callable[[Error], None] | None = None

    def admit(self) -> bool:
        """Whether it may run now; if not, it keeps its place."""
        return True

    def run(self) -> Verdict:
        """Do it, in a thread that may be kept as long as PAM likes."""
        raise NotImplementedError

    def settle(self) -> None:
        """Called once, when it has run or hangs."""


class Gate:
    """The turns at PAM: at most `limit` calls at once, others wait in order of arrival, in two lanes.

    The lanes take turns while both have someone waiting. A call that waits for `PATIENCE` seconds, or runs for `HANG`,
    ends with an Error; one that hangs no longer counts against the limit, until `MAX_HUNG` hang: then none is started.

    A call runs in the thread that asks while nobody waits, which saves two switches of threads. Calls that had to wait
    run in threads kept for it: if each asking thread went on by itself, it would have to wait for the interpreter while
    a processor stands idle (SHA-512, 16 clients on two processors: 0.65 of libpam's own rate, against 0.86).
    """

    PATIENCE, HANG, MAX_HUNG = 4.0, 10.0, 8

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.lock = _thread.allocate_lock()
        self.lanes: tuple[collections.deque[Call], ...] = (collections.deque(), collections.deque())
        self.turn = True
        self.running: set[Call] = set()
        self.hung: set[Call] = set()
        self.idle: list[_thread.LockType] = []

    def ask(self, call: Call, abandon: Callable[[Error], None] | None = None) -> Verdict:
        """Run `call` in its turn and wait for its verdict; raises what it raised, or Error.

        With `abandon`, the call may run in this thread. If it hangs, `abandon` is called in another one and has to
        answer; this one, if it ever returns, raises ConnectionAbortedError.
        """
        with self.lock:
            self.check()
            here = abandon and len(self.running) < self.limit and not any(self.lanes) and call.admit()
            if here:
                call.abandon = abandon
                self.start(call)
            else:
                call.since = time.monotonic()
                self.lanes[call.preferred].append(call)
                self.wake()
        if here:
            self.perform(call)
        else:
            call.done.acquire()  # `sweep` sees to it that this ends
        if call.error:
            raise call.error
        return call.verdict

    def check(self) -> None:
        """Raise Error when PAM hangs."""
        if len(self.hung) >= self.MAX_HUNG:
            raise unavailable(f"PAM hangs: {len(self.hung)} calls have not returned; see the modules of PAM_SERVICE")

    def start(self, call: Call) -> None:
        call.since = time.monotonic()
        self.running.add(call)

    def perform(self, call: Call) -> Call | None:
        """Run a call that was started; the one whose turn is next, if this thread may go on with it."""
        verdict = UNASKED
        error: BaseException | None = None
        try:
            verdict = call.run()
        except BaseException as fault:  # noqa: BLE001 - `ask` raises it again
            error = fault
        with self.lock:
            late = call in self.hung
            if late:  # it came back after all
                self.hung.discard(call)
            else:
                call.verdict, call.error = verdict, error
                self.running.discard(call)
                call.settle()
            following = None if call.abandon else self.take()
            if call.abandon:
                self.wake()
        if not late:
            call.done.release()
        return following

    def take(self) -> Call | None:
        """Start the call whose turn it is. The lock is held."""
        if len(self.running) >= self.limit or len(self.hung) >= self.MAX_HUNG:
            return None
        for preferred in (self.turn, not self.turn):
            lane = self.lanes[preferred]
            for place, call in enumerate(lane):
                if call.admit():
                    del lane[place]
                    self.turn = not preferred
                    self.start(call)
                    return call
        return None

    def wake(self) -> None:
        """See to it that someone serves the lanes. The lock is held."""
        for _ in range(min(self.limit - len(self.running), sum(map(len, self.lanes)))):
            if self.idle:
                self.idle.pop().release()
            else:
                spawn(self.work)  # if it fails, the next call or the next sweep tries again

    def work(self) -> None:
        """One of the threads that run the calls which had to wait."""
        rest = _thread.allocate_lock()
        rest.acquire()
        while True:
            with self.lock:
                call = self.take()
                if not call:
                    if len(self.idle) >= self.limit:
                        return
                    self.idle.append(rest)
            if not call:
                rest.acquire()
            while call:
                call = self.perform(call)

    def sweep(self, now: float) -> None:
        """End the calls that wait or run too long; called now and then by whoever watches the connections."""
        with self.lock:
            for lane in self.lanes:
                while lane and now - lane[0].since >= self.PATIENCE:
                    call = lane.popleft()
                    call.error = unavailable("PAM is busy: no turn within 4 seconds", "PATIENCE")
                    call.done.release()
            for call in [c for c in self.running if now - c.since >= self.HANG]:
                self.running.discard(call)
                self.hung.add(call)
                call.settle()
                error = unavailable("PAM hangs: the call has not returned within 10 seconds", "HANG")
                if call.abandon:
                    call.error = ConnectionAbortedError()
                    spawn(call.abandon, error)
                else:
                    call.error = error
                    call.done.release()
            self.wake()


# --- Accounts ----------------------------------------------------------------------------------

PASSWD, SHADOW, GROUP = ACCOUNT_FILES = "/etc/passwd", "/etc/shadow", "/etc/group"
IGNORED, MAX_ID = (
    (b"", b"+", b"-", b"#"),
    2**32 - 1,
)  # rows that NSS does not read: how they begin, or whose id is above
# what HTML takes for an e-mail address (WHATWG, 4.10.5.1.5)
EMAIL = re.compile(r"[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)*")


def decoded(value: str) -> str:
    """A string from pwd or grp as Unicode; bytes that are not UTF-8 become U+FFFD, whatever the locale."""
    return os.fsencode(value).decode("utf-8", "replace")


def read_file(path: str) -> bytes:
    """The content of an account file; raises Error with the remedy where it cannot be read or is empty."""
    try:
        with open(path, "rb") as file:
            data = file.read(1 if path == SHADOW else -1)  # that it can be read is all we want of shadow
    except PermissionError:
        of, groups = os.stat(path), sorted({os.getegid(), *os.getgroups()})
        way, user = f"uid {of.st_uid}", of.st_uid
        if of.st_mode & 0o040 and of.st_gid:
            way, user = f"gid {of.st_gid} as a further group", os.geteuid()
        raise unavailable(
            f"{path} cannot be read: it belongs to uid {of.st_uid} and gid {of.st_gid}, mode {of.st_mode & 0o777:o}; "
            f"this process has uid {os.geteuid()} and gids {groups}: run it with {way} "
            f"(docker-compose.yml: RUN_AS={user}:{of.st_gid} in .env), or CAP_DAC_READ_SEARCH"
        ) from None
    except OSError as error:
        raise unavailable(f"{path} cannot be read: {error.strerror}") from None
    if not data.strip():
        raise unavailable(f"{path} is empty")
    return data


class Mounts:
    """Which account files are mount points, and whether the file under one was replaced on the host.

    The mount table is read again only when the kernel says that it changed (proc(5), /proc/pid/mountinfo), or while
    an account file is a mount point.
    """

    def __init__(self) -> None:
        self.table = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        self.lock, self.changed, self.points = _thread.allocate_lock(), False, self.read()

    def read(self) -> dict[str, bool]:
        """The account files that are mount points, each with whether it is stale."""
        files, points = {os.fsencode(os.path.realpath(path)): path for path in ACCOUNT_FILES}, {}
        with open("/proc/self/mountinfo", "rb") as table:
            for line in table:
                _, _, _, root, point, *_ = line.split(b" ")
                if path := files.get(point):
                    points[path] = root.endswith(b"//deleted") or os.stat(path).st_nlink == 0
        return points

    def check(self) -> None:
        """Raise Error while one is stale."""
        try:
            with self.lock:
                self.changed = self.changed or bool(select.select((), (), (self.table,), 0)[2])  # says it only once
                if self.changed or self.points:
                    self.points = self.read()
                    self.changed = False
        except OSError as error:
            raise unavailable(f"/proc/self/mountinfo cannot be read: {error.strerror}") from None
        for path, stale in self.points.items():
            if stale:
                raise unavailable(
                    f"the mount of {path} is stale: the host has replaced the file, this is still the old one; "
                    "mount its directory instead, and restart"
                )


def lookup(username: str) -> pwd.struct_passwd | None:
    """The passwd entry of `username`; None only where passwd could be read and has none, else raises Error.

    getpwnam(3) finds nobody, without an error, where the file cannot be opened.
    """
    name = username.encode()
    for _ in range(3):  # the file may be replaced between the two looks
        try:
            return pwd.getpwnam(os.fsdecode(name))
        except KeyError:
            row = re.search(rb"(?m)^%b:[^:\n]*:([0-9]+):([0-9]+):" % re.escape(name), read_file(PASSWD))
            if not row or name[:1] in IGNORED or max(int(row[1]), int(row[2])) > MAX_ID:
                return None
    raise unavailable(f"{PASSWD} has accounts that NSS does not find; see that descriptors are left")


def group_names(entry: pwd.struct_passwd) -> list[str]:
    """The account's groups by getgrouplist(3), primary first; raises Error where they are not all known.

    getgrouplist gives the primary group alone, without an error, where the file cannot be opened.
    """
    for _ in range(3):
        names, unnamed = {}, set()
        gids = os.getgrouplist(entry.pw_name, entry.pw_gid)
        for gid in gids:
            try:
                names[decoded(grp.getgrgid(gid).gr_name)] = gid
            except KeyError:
                unnamed.add(gid)
        name, expected, named = os.fsencode(entry.pw_name), set(), set()
        for line in read_file(GROUP).split(b"\n"):
            fields = line.split(b":")
            if len(fields) == 4 and fields[0][:1] not in IGNORED and fields[2].isdigit() and int(fields[2]) <= MAX_ID:
                named.add(int(fields[2]))
                if name in fields[3].split(b","):
                    expected.add(int(fields[2]))
        if expected <= set(gids) and not unnamed & named:
            return list(names)
    raise unavailable(f"{GROUP} has groups that NSS does not find; see that descriptors are left")


def not_served(entry: pwd.struct_passwd | None, settings: Settings) -> str:
    """Why an account is not served, for the log; "" where it is."""
    if entry is None:
        return "NO_SUCH_ACCOUNT"
    if not settings.min_uid <= entry.pw_uid <= settings.max_uid:
        return "UID_NOT_SERVED"
    if settings.allowed_groups and not settings.allowed_groups.intersection(group_names(entry)):
        return "GROUP_NOT_SERVED"
    return ""


def served_account(settings: Settings) -> str:
    """The name of an account that is served; raises Error where there is none."""
    for entry in pwd.getpwall():
        if not not_served(entry, settings):
            return entry.pw_name
    raise unavailable("no account is served: see MIN_UID, MAX_UID and ALLOWED_GROUPS, and whose /etc/passwd this is")


def full_name(gecos: str, username: str) -> str:
    """The first GECOS field, `&` standing for the capitalised login name (passwd(5), finger(1)); else the username."""
    field = gecos.partition(",")[0].strip()
    if field in ("", "UGREEN USER"):  # UGOS writes this placeholder for everybody
        return username
    return field.replace("&", username[:1].upper() + username[1:])


def email(gecos: str) -> str:
    """The first e-mail address that stands by itself, or as `Name <address>`, in a GECOS field or subfield; else ""."""
    for field in re.split("[,;]", gecos):
        address = re.sub(r"^[^<>]*<([^<>]*)>$", r"\1", field.strip()).strip()
        if len(address) <= 254 and EMAIL.fullmatch(address):
            return address
    return ""


# --- Throttle ----------------------------------------------------------------------------------


class Client(NamedTuple):
    """Where a login comes from: its address, and what the failure count goes by (IPv6: the /64)."""

    address: str
    network: str


def read_client(address: str) -> Client:
    """Raises ValueError where `address` is no IP address, or has a zone."""
    if "%" in address:
        raise ValueError("an address with a zone")
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is None:
            return Client(str(ip), f"{ipaddress.IPv6Address(int(ip) >> 64 << 64)}/64")
        ip = ip.ipv4_mapped
    return Client(str(ip), str(ip))


class Table(collections.OrderedDict[Any, Any]):
    """A bounded table: the key that was set longest ago goes first."""

    SIZE = 10_000

    def put(self, key: object, value: object) -> None:
        self[key] = value
        self.move_to_end(key)
        if len(self) > self.SIZE:
            self.popitem(last=False)


class Throttle:
    """How many refusals a login may collect in a sliding window before nobody asks PAM any more.

    - A username and client: `limit`, also for names that do not exist, so the answer does not tell them apart.
    - A served username over all clients: 10 * `limit`; from then on only clients from which that username has logged
      in since the start are still asked.

    What an attacker can do: with one address, `limit` guesses in a window at each name; with a hundred, or with a
    whole IPv6 provider, ten times that at one name, all together. Guesses sent at once get no more than guesses sent
    in turn: one that could be the last allowed waits until the others have been answered. Made-up names fill a table
    of their own. A forged X-Forwarded-For counts only with the token; who has the token chooses his address, and so
    has 10 * `limit` guesses at a name.

    Whom he can lock out: a name at his own address; and a served name at all addresses where it has not logged in
    since the start, but nobody at a usual place. Without a token every login through authentik has one address,
    authentik's: there, `limit` wrong guesses by anyone lock a name out for the window.
    """

    def __init__(self, limit: int, window: int) -> None:
        self.limit, self.window = limit, window
        self.served, self.unserved, self.totals, self.places = Table(), Table(), Table(), Table()
        self.pending: collections.Counter[object] = collections.Counter()  # at PAM now, bounded by the gate

    def knows(self, username: str, client: Client) -> bool:
        """Whether `username` has logged in from there since the start."""
        return (username, client.network) in self.places

    def counts(self, username: str, client: Client, served: bool) -> list[tuple[Table, object, int]]:
        if not self.limit:
            return []
        here = (self.served if served else self.unserved, (username, client.network), self.limit)
        return [here, (self.totals, username, 10 * self.limit)] if served else [here]

    def admit(self, username: str, client: Client, served: bool) -> bool:
        """Whether the login may be asked now; False means not before those at PAM are answered.

        One that may be asked counts as being at PAM until `settle`. Raises Error where it may not be asked at all.
        """
        now, counts = time.monotonic(), self.counts(username, client, served)
        for table, key, limit in counts:
            times = self.recent(table, key, now)
            if table is self.totals and self.knows(username, client):
                continue
            if len(times) >= limit:
                seconds = max(1, math.ceil(times[-limit] + self.window - now))
                raise Error(429, "Too many failed logins", {"Retry-After": str(seconds)}, "THROTTLED")
            if len(times) + self.pending[key] >= limit:
                return False
        for _, key, _ in counts:
            self.pending[key] += 1
        return True

    def recent(self, table: Table, key: object, now: float) -> list[float]:
        """When the refusals within the window were."""
        return [t for t in table.get(key, ()) if t > now - self.window]

    def settle(self, username: str, client: Client, served: bool, verdict: Verdict) -> None:
        """Count what PAM has said of a login that was admitted."""
        now = time.monotonic()
        for table, key, limit in self.counts(username, client, served):
            self.pending[key] -= 1
            if not self.pending[key]:
                del self.pending[key]
            if verdict is not UNASKED and verdict.error:
                table.put(key, [*self.recent(table, key, now), now][-limit:])
        if not verdict.error:
            self.served.pop((username, client.network), None)
            self.places.put((username, client.network), None)


class Login(Call):
    """A login, waiting for its turn and then for PAM."""

    def __init__(
        self, username: str, password: str, client: Client, entry: pwd.struct_passwd | None, server: "Server"
    ) -> None:
        super().__init__()
        self.entry, self.password, self.server = entry, password, server
        self.refusal = not_served(entry, server.settings)
        self.who = (username, client, not self.refusal)
        self.preferred = server.throttle.knows(*self.who[:2])
        self.throttled: Error | None = None
        self.entered = False

    def admit(self) -> bool:
        try:
            self.entered = self.server.throttle.admit(*self.who)
        except Error as error:
            self.throttled = error
        return self.entered or self.throttled is not None

    def run(self) -> Verdict:
        if self.throttled:
            raise self.throttled
        if not self.entry or self.refusal:  # not served: no call, but a turn like the others
            return Verdict("Invalid credentials", self.refusal)
        return Attempt(self.server.settings.pam_service, self.who[1].address).check(self.entry.pw_name, self.password)

    def settle(self) -> None:
        if self.entered:
            self.server.throttle.settle(*self.who, self.verdict)


class Probe(Call):
    """The question of /ready: do both phases of the stack answer, for one served account and one that none is?"""

    def __init__(self, username: str, service: str) -> None:
        super().__init__()
        self.username, self.service = username, service

    def run(self) -> Verdict:
        Attempt(self.service, "localhost", account_only=True).check(self.username, "")
        verdict = Attempt(self.service, "localhost").check("ugos-auth-proxy-ready", "x")
        if verdict.reason == "PAM_PERM_DENIED":  # what libpam says when no module has said anything
            raise unavailable("PAM has no module that checks passwords; see the rules of PAM_SERVICE", verdict.reason)
        return verdict


# --- HTTP --------------------------------------------------------------------------------------

MAX_LINE, MAX_HEAD, MAX_BODY = 8192, 32_768, 4096
TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
REQUEST_LINE = re.compile(rb"(%b) (/[!-~]*) HTTP/1\.([01])\r\n" % TOKEN.pattern)  # RFC 9112, 3
LENGTH = re.compile("[0-9]{1,10}")
FIELD = re.compile(rb"(%b):[ \t]*+([^\0\r\n]*+)\r\n" % TOKEN.pattern)  # RFC 9112, 5
NOT_IN_NAMES = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff:/]")  # the ranges: Unicode Cc and Cs


class Head:
    """The head of a request, parsed as it arrives, strictly (RFC 9112): what two parsers could read in two ways is 400.

    `method` and `path` are "" until the request line is read; header names are lower case, the values of repeated ones
    are joined by ", ". `size` is where the body begins.
    """

    def __init__(self) -> None:
        self.method = self.path = self.query = ""
        self.version, self.size, self.whole = 1, 0, False
        self.headers: dict[str, str] = {}

    def feed(self, data: bytes) -> bool:
        """Parse on in `data`, all that has come since the request began; True when the head is whole. Raises Error."""
        if not self.method and not self.request_line(data):
            return False
        while field := FIELD.match(data, self.size):
            self.size = field.end()
            name, value = self.name(field[1]), field[2].decode("latin-1").rstrip(" \t")
            if name in self.headers:
                value = f"{self.headers[name]}, {value}"
            if name == "content-length" and not LENGTH.fullmatch(value):
                raise Error(400, "Bad request: Content-Length is not 1 to 10 digits")
            self.headers[name] = value
        whole = data.startswith(b"\r\n", self.size)
        if (self.size + 2 if whole else len(data)) > MAX_HEAD:
            raise Error(431, f"Request head is too large: at most {MAX_HEAD} bytes")
        if whole:
            self.size += 2
            self.finish()
            return True
        line = self.line(data)
        token, colon, _ = line.partition(b":")
        if line[:1] in (b" ", b"\t"):
            raise Error(400, "Bad request: a folded header line")
        if colon or line[-1:] == b"\n":
            if not TOKEN.fullmatch(token):
                raise Error(400, "Bad request: a header line is not NAME: VALUE")
            self.name(token)
        return False

    def name(self, token: bytes) -> str:
        name = token.decode("ascii").lower()
        if name in ("host", "content-length") and name in self.headers:
            raise Error(400, f"Bad request: two {name.title()} headers")
        return name

    def line(self, data: bytes) -> bytes:
        """The line that begins at `size`, as far as it has come."""
        line = data[self.size : data.find(b"\n", self.size) + 1 or None]
        content = line.removesuffix(b"\n").removesuffix(b"\r")
        if b"\0" in content or b"\r" in content or (line[-1:] == b"\n" and line[-2:] != b"\r\n"):
            raise Error(400, "Bad request: a NUL, or a CR or LF by itself, in the head")
        return line

    def request_line(self, data: bytes) -> bool:
        line = self.line(data)
        if len(line.rstrip(b"\r\n")) > MAX_LINE:
            raise Error(414, f"Request line is too long: at most {MAX_LINE} bytes")
        if line[-1:] != b"\n":
            return False
        match = REQUEST_LINE.fullmatch(line)
        if not match:
            raise Error(400, "Bad request: the request line is not METHOD /target HTTP/1.1")
        self.method, target, version = (part.decode("ascii") for part in match.groups())
        self.path, _, self.query = target.partition("?")
        self.version, self.size = int(version), len(line)
        return True

    def finish(self) -> None:
        if self.version == 1 and "host" not in self.headers:
            raise Error(400, "Bad request: no Host header")
        if "transfer-encoding" in self.headers:
            raise Error(501, "Transfer-Encoding is not implemented; send Content-Length")
        self.whole = True

    @property
    def length(self) -> int:
        """Bytes of body, as declared."""
        return int(self.headers.get("content-length", "0"))

    @property
    def keep_alive(self) -> bool:
        options = self.headers.get("connection", "").lower().split(",")
        return self.version == 1 and "close" not in (option.strip() for option in options)


def read_username(value: str) -> str:
    """A username as it is judged; raises Error."""
    username = value.strip()
    if not username:
        raise Error(400, "Username is missing")
    if NOT_IN_NAMES.search(username):
        raise Error(400, "Username has a control character, an unpaired surrogate, ':' or '/' in it")
    if len(username.encode()) > 256:
        raise Error(400, "Username is too long: at most 256 bytes")
    return username


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a key given twice")
    return fields


def no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON (RFC 8259, 6)")


JSON = json.JSONDecoder(object_pairs_hook=unique, parse_constant=no_constant)


def read_credentials(body: bytes) -> tuple[str, str]:
    """Username and password from the JSON body of /validate; raises Error, which never repeats the body."""
    try:
        fields = JSON.decode(body.decode())
    except (ValueError, RecursionError):
        raise Error(400, "Body is not valid JSON in UTF-8, each key once") from None
    if not isinstance(fields, dict):
        raise Error(400, "Body is not a JSON object")
    for field in ("username", "password"):
        if field not in fields:
            raise Error(400, f"{field.title()} is missing")
        if not isinstance(fields[field], str):
            raise Error(400, f"{field.title()} must be a string")
        if not fields[field]:
            raise Error(400, f"{field.title()} is empty")
    username, password = read_username(fields["username"]), fields["password"]
    if "\0" in password or re.search("[\ud800-\udfff]", password):
        raise Error(400, "Password has a NUL or an unpaired surrogate in it")
    return username, password


def read_query(query: str) -> str:
    """The username from the query of /user-info; raises Error."""
    try:
        fields = parse_qsl(query, keep_blank_values=True, errors="strict")
    except ValueError:
        raise Error(400, "The query is not UTF-8") from None
    names = [value for key, value in fields if key == "username"]
    if len(names) != 1:
        raise Error(400, "Username must be given once, as ?username=NAME")
    return read_username(names[0])


class Connection:
    """An accepted connection. `deadline` is when it is cut; it is closed by the thread that serves it."""

    def __init__(self, connected: socket.socket, peer: str, deadline: float) -> None:
        self.socket, self.client, self.deadline = connected, read_client(peer.partition("%")[0]), deadline
        self.answering = self.refused = False

    def drain(self) -> None:
        """End our direction, then read and drop what still comes, until the peer ends his or the connection is cut.

        Closing on unread bytes resets the connection, and the answer may be lost (RFC 9112, 9.6).
        """
        if isinstance(self.socket, ssl.SSLSocket):
            self.socket.setblocking(False)
            try:
                self.socket.unwrap()  # says close_notify (RFC 8446, 6.1); the peer's is not waited for
            except (OSError, ValueError):
                pass
            self.socket.setblocking(True)
        socket.socket.shutdown(self.socket, socket.SHUT_WR)
        while socket.socket.recv(self.socket, 16_384):
            pass

    def cut(self) -> None:
        """End both directions; a thread that waits on it wakes. Raw, because in TLS only its thread may speak."""
        try:
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)
        except OSError:
            pass


def render(status: int, payload: dict[str, Any], headers: Mapping[str, str], head_only: bool = False) -> bytes:
    """An answer, whole."""
    body = json.dumps(payload).encode()
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return (
        f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\n"
        f"Date: {timestamps(int(time.time()))[1]}\r\n"
        "Content-Type: application/json; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\n"
        f"X-Content-Type-Options: nosniff\r\n{lines}\r\n"
    ).encode("latin-1") + (b"" if head_only else body)


class Route(NamedTuple):
    """An endpoint: its methods, what stands beside `error` in which of its errors, whether it asks for the token."""

    answer: Callable[["Handler"], dict[str, Any]]
    methods: tuple[str, ...]
    refusal: dict[str, Any]
    own_errors: tuple[int, ...]  # 503 beside these
    guarded: bool


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection, in a thread of its own: requests come in, one is answered after the other."""

    request: Connection
    server: "Server"

    def setup(self) -> None:
        self.data = b""  # what has come and is not used yet
        connected = self.request.socket
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.abandoned = _thread.allocate_lock()  # released when `abandon` is done with the connection
        self.abandoned.acquire()
        if tls := self.server.tls:
            wrapped = tls.wrap_socket(connected, server_side=True, do_handshake_on_connect=False)
            self.request.socket = wrapped
            if self.request not in self.server.waiting:  # cut before there was a socket that could be
                raise ConnectionAbortedError
            wrapped.do_handshake()

    def handle(self) -> None:
        while self.one_request():
            if not self.data:
                self.receive()
                self.server.extend(self.request)  # a kept-alive connection was idle until now

    def finish(self) -> None:
        pass  # the base class would flush a file it does not have

    def receive(self) -> None:
        """More bytes into `data`; raises ConnectionError at the end of the stream."""
        more = self.request.socket.recv(16_384)
        if not more:
            raise ConnectionResetError
        self.data = self.data + more if self.data else more

    def one_request(self) -> bool:
        """Receive, judge, answer and log one request; whether another may follow. Raises OSError without a peer."""
        self.head, self.client, self.arrived = Head(), self.request.client, 0.0
        try:
            return self.answer(200, self.judge(), NO_HEADERS)
        except Error as error:
            return self.fail(error)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - a bug costs its request
            log_bug(error)
            return self.answer(500, {"error": "Internal server error"}, NO_HEADERS)

    def fail(self, error: Error) -> bool:
        route, payload = ROUTES.get(self.head.path), {}
        if route and error.status in (503, *route.own_errors):
            payload = route.refusal
        return self.answer(error.status, {**payload, "error": error.text}, error.headers)

    def judge(self) -> dict[str, Any]:
        """The payload of a 200; raises Error for everything else, in the order that the API promises."""
        head = self.head
        while not head.feed(self.data):
            self.receive()
        route = ROUTES.get(head.path)
        if not route:
            raise Error(404, "Not found")
        if head.method not in route.methods:
            raise Error(405, "Method not allowed", {"Allow": ", ".join(route.methods)})
        if route.guarded and self.server.token:
            self.authorize(self.server.token)
        if head.length > MAX_BODY:
            raise Error(413, f"Body is too large: at most {MAX_BODY} bytes")
        if head.path == "/validate":
            kind = head.headers.get("content-type", "").partition(";")[0]
            if kind.strip(" \t").lower() != "application/json":
                raise Error(415, "Content-Type must be application/json")
        if len(self.data) < head.size + head.length:
            if head.version and head.headers.get("expect", "").lower() == "100-continue":
                self.request.socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            while len(self.data) < head.size + head.length:
                self.receive()
        self.runs()
        try:
            return route.answer(self)
        except ConnectionAbortedError:
            raise
        except OSError as error:  # not the peer's: nothing has been sent yet
            log_bug(error)
            raise unavailable(f"The system fails: {error.strerror}") from None

    def authorize(self, token: bytes) -> None:
        """Raise Error without the token; with it, believe who the client is said to be."""
        scheme, _, given = self.head.headers.get("authorization", "").partition(" ")
        if not hmac.compare_digest(given.strip().encode("latin-1"), token) or scheme.lower() != "bearer":
            raise Error(401, "Authorization: Bearer TOKEN is missing or wrong", {"WWW-Authenticate": "Bearer"})
        try:
            self.client = read_client(self.head.headers.get("x-forwarded-for", ""))
        except ValueError:
            pass

    def runs(self) -> None:
        if not self.arrived:
            self.server.runs(self.request)
            self.arrived = time.monotonic()

    def answer(self, status: int, payload: dict[str, Any], headers: Mapping[str, str]) -> bool:
        """Send and log; whether another request may follow."""
        head, server = self.head, self.server
        self.runs()
        rest = head.size + head.length if head.whole else math.inf
        keep = len(self.data) >= rest and head.keep_alive and not server.stopping
        where = {"client": self.client.address, "method": head.method or "-", "path": head.path or "-"}
        log("INFO", "request", **where, status=status, ms=self.elapsed())
        if not keep:
            headers = {**headers, "Connection": "close"}
        server.answers(self.request)
        self.request.socket.sendall(render(status, payload, headers, head.method == "HEAD"))
        server.answered(self.request)
        if keep:
            self.data = self.data[int(rest) :]
            return True
        self.request.drain()
        return False

    def hold(self) -> None:
        """Wait until FAIL_DELAY has passed since the request arrived; a random share keeps clients out of step."""
        until = self.arrived + self.server.settings.fail_delay * (1 + 0.2 * random.random())  # noqa: S311
        time.sleep(max(0.0, until - time.monotonic()))

    # the endpoints: each returns the payload of a 200, or raises Error

    def validate(self) -> dict[str, Any]:
        server, head = self.server, self.head
        username, password = read_credentials(self.data[head.size : head.size + head.length])
        try:
            server.mounts.check()
            entry = lookup(username)
            if entry:
                username = decoded(entry.pw_name)
            login = Login(username, password, self.client, entry, server)
            verdict = server.gate.ask(login, functools.partial(self.abandon, username))
        except ConnectionAbortedError:  # the call hung, and `abandon` answers; only then may the connection be closed
            self.abandoned.acquire(timeout=3 * server.settings.request_timeout)
            raise
        except Error as error:
            self.log_verdict(username, "throttled" if error.status == 429 else "error", error.reason)
            if error.status == 429:
                self.hold()
            raise
        self.log_verdict(username, "invalid" if verdict.error else "valid", verdict.reason)
        if verdict.error:
            self.hold()
            return {"valid": False, "error": verdict.error}
        return {"valid": True, "username": username}

    def abandon(self, username: str, error: Error) -> None:
        """Answer in place of the thread that hangs in PAM, and cut the connection."""
        self.log_verdict(username, "error", error.reason)
        self.head.whole = False  # so no other request follows
        try:
            self.fail(error)
        except OSError:
            pass
        self.request.cut()
        self.abandoned.release()

    def log_verdict(self, username: str, result: str, reason: str) -> None:
        where = {"user": username, "client": self.client.address}
        log("INFO", "verdict", **where, result=result, reason=reason, ms=self.elapsed())

    def elapsed(self) -> str:
        return f"{(time.monotonic() - self.arrived) * 1000:.1f}"

    def user_info(self) -> dict[str, Any]:
        username = read_query(self.head.query)
        self.server.mounts.check()
        entry = lookup(username)
        if not entry or not_served(entry, self.server.settings):
            return {"exists": False, "error": "User not found"}
        name, gecos = decoded(entry.pw_name), decoded(entry.pw_gecos)
        return {
            "exists": True,
            "username": name,
            "uid": entry.pw_uid,
            "gid": entry.pw_gid,
            "full_name": full_name(gecos, name),
            "email": email(gecos),
            "home": decoded(entry.pw_dir),
            "shell": decoded(entry.pw_shell),
            "groups": group_names(entry),
        }

    def health(self) -> dict[str, Any]:
        return {"status": "healthy", "service": "ugos-auth-proxy", "version": __version__}

    def ready(self) -> dict[str, Any]:
        self.server.mounts.check()
        for path in ACCOUNT_FILES:
            read_file(path)
        self.server.gate.ask(Probe(served_account(self.server.settings), self.server.settings.pam_service))
        return {"status": "ready"}


NO_HEADERS: dict[str, str] = {}
OWN_ERRORS = (400, 401, 413, 415, 429)
ROUTES = {
    "/validate": Route(Handler.validate, ("POST",), {"valid": False}, OWN_ERRORS, True),
    "/user-info": Route(Handler.user_info, ("GET", "HEAD"), {"exists": False}, OWN_ERRORS, True),
    "/health": Route(Handler.health, ("GET", "HEAD"), {}, (), False),
    "/ready": Route(Handler.ready, ("GET", "HEAD"), {"status": "not ready"}, (), False),
}


class Server(http.server.ThreadingHTTPServer):
    """The listening socket, and the registry of connections.

    A connection waits for a complete request (the one that has waited longest first in `waiting`), or is busy running
    one. The accepting thread cuts those that wait, or whose answer is not taken, past their deadline.
    """

    daemon_threads = True
    allow_reuse_port = False  # or another process of this user could share the port, and the passwords
    request_queue_size = 256
    SWEEP = 0.25  # seconds between two looks at the deadlines
    MAX_LEAVING = 64  # connections that no longer count, but whose answer is still on its way

    def __init__(self, settings: Settings) -> None:
        self.settings, self.tls = settings, settings.tls()
        self.token = settings.auth_token.encode() if settings.auth_token else None
        self.gate = Gate(len(os.sched_getaffinity(0)))
        self.throttle = Throttle(settings.max_failures, settings.failure_window)
        self.mounts = Mounts()
        self.lock = threading.Lock()
        self.drained = threading.Condition(self.lock)
        self.waiting: dict[Connection, None] = {}
        self.busy: set[Connection] = set()
        self.leaving: dict[Connection, None] = {}
        self.stopping, self.next_sweep = False, 0.0
        self.spare: IO[bytes] | None = open("/dev/null", "rb")  # a descriptor, to give up when none is left
        try:
            self.address_family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        except (OSError, UnicodeError):
            raise ValueError(f"HOST: {settings.host!r} is no address") from None
        super().__init__((settings.host, settings.port), Handler)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's own asks DNS for its name
        self.socket.setblocking(False)  # a peer may be gone before it is accepted

    def get_request(self) -> tuple[Connection, Any]:  # type: ignore[override]
        try:
            self.spare = self.spare or open("/dev/null", "rb")
        except OSError:
            time.sleep(0.05)  # not even one descriptor is left: try again, but not all the time
            raise
        try:
            connected, peer = self.socket.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                log("ERROR", "accept", error=error.strerror)
                self.spare.close()  # makes room to take the connection and drop it, or it would be tried for ever
                self.spare = None
                self.socket.accept()[0].close()
            raise
        return Connection(connected, peer[0], time.monotonic() + self.settings.request_timeout), peer

    def verify_request(self, request: Connection, client_address: Any) -> bool:  # type: ignore[override]
        """Let a connection in, the longest waiting one making room if need be."""
        oldest = None
        with self.lock:
            if len(self.waiting) + len(self.busy) >= self.settings.max_connections:
                oldest = next((c for c in self.waiting if not c.answering), None)
                if not oldest and (not self.waiting or len(self.leaving) >= self.MAX_LEAVING):
                    self.refuse(request)
                    return False
                leaving = oldest or next(iter(self.waiting))  # one that is being answered closes when that is done
                del self.waiting[leaving]
                self.leaving[leaving] = None
            self.waiting[request] = None
        if oldest:
            oldest.cut()
        return True

    def refuse(self, request: Connection) -> None:
        """Answer 503 without a thread. The lock is held.

        The connection is closed a second later, so that a request still on its way does not reset the answer.
        """
        log("WARNING", "full", client=request.client.address, connections=self.settings.max_connections)
        if self.tls:
            return
        error = unavailable("The service is full")
        request.socket.setblocking(False)
        try:
            request.socket.send(render(503, {"error": error.text}, {**error.headers, "Connection": "close"}))
            request.socket.shutdown(socket.SHUT_WR)
        except OSError:
            return
        if len(self.leaving) < self.MAX_LEAVING:
            request.refused, request.deadline = True, time.monotonic() + 1
            self.leaving[request] = None

    def process_request(self, request: Connection, client_address: Any) -> None:  # type: ignore[override]
        serve: Callable[[Any, Any], None] = self.process_request_thread
        _thread.start_new_thread(serve, (request, client_address))

    def shutdown_request(self, request: Connection) -> None:  # type: ignore[override]
        with self.lock:
            if request.refused:
                return
            self.leaving.pop(request, None)
            self.waiting.pop(request, None)
            self.busy.discard(request)
            if self.stopping:
                self.drained.notify()
        request.socket.close()

    def handle_error(self, request: Connection, client_address: Any) -> None:  # type: ignore[override]
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            log("DEBUG", "closed", client=request.client.address, error=type(error).__name__)
        elif isinstance(error, RuntimeError) and request in self.waiting:
            log("ERROR", "thread", client=request.client.address, error="no thread to be had")
        elif error:
            log_bug(error)

    def runs(self, request: Connection) -> None:
        """Its request is complete; raises ConnectionError where it was closed to make room."""
        with self.lock:
            if request not in self.waiting:
                raise ConnectionAbortedError
            del self.waiting[request]
            self.busy.add(request)
            request.deadline = math.inf

    def extend(self, request: Connection) -> None:
        """It has from now on REQUEST_TIMEOUT to deliver, or to take, what is under way."""
        request.deadline = time.monotonic() + self.settings.request_timeout

    def answers(self, request: Connection) -> None:
        """Its answer is about to be sent; from then on it waits, as its peer may know before its thread does."""
        with self.lock:
            self.busy.discard(request)
            self.waiting[request] = None
            request.answering = True
            self.extend(request)

    def answered(self, request: Connection) -> None:
        request.answering = False
        if self.stopping or request not in self.waiting:
            raise ConnectionAbortedError

    def service_actions(self) -> None:
        """Cut the connections that are past their deadline; http.server calls this between two accepts."""
        now = time.monotonic()
        if now < self.next_sweep:
            return
        self.next_sweep = now + self.SWEEP
        self.gate.sweep(now)
        with self.lock:
            for connection in [c for c in (*self.waiting, *self.leaving) if c.deadline < now]:
                connection.cut()
                if connection.refused:  # it has no thread to close it
                    del self.leaving[connection]
                    connection.socket.close()

    def stop(self) -> None:
        """Accept no more, cut the connections that wait, and let the busy ones end, for at most 10 seconds."""
        self.server_close()
        with self.lock:
            self.stopping = True
            for connection in self.waiting:
                if not connection.answering:
                    connection.cut()
            until = time.monotonic() + 10
            while (self.busy or any(c.answering for c in (*self.waiting, *self.leaving))) and (
                now := time.monotonic()
            ) < until:
                self.drained.wait(self.SWEEP)
                self.gate.sweep(now)


# --- Start -------------------------------------------------------------------------------------


def make_server(settings: Settings) -> Server:
    """The service, listening but not yet serving; raises ValueError for a bad setting, OSError where it cannot listen.

    Says once, as warnings, what is unsafe or surprising about its surroundings.
    """
    global log_level, log_file
    log_level = LEVELS[settings.log_level]
    log_file = os.path.isfile("/dev/fd/2")  # which takes every write at once
    server = Server(settings)
    Attempt.load(settings.pam_service)
    host, port = server.socket.getsockname()[:2]
    if not server.token and not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        log("WARNING", "no-token", help=f"anyone who reaches {host} can ask; set AUTH_TOKEN")
    name = settings.pam_service.lower()  # as pam_start(3) does
    if not any(os.path.exists(f"{folder}/{name}") for folder in ("/etc/pam.d", "/usr/lib/pam.d")):
        log("WARNING", "no-pam-service", help=f"/etc/pam.d/{name} is missing; PAM uses /etc/pam.d/other instead")
    for path in server.mounts.points:
        log("WARNING", "single-file-mount", help=f"{path} is a mount of its own, which goes stale; mount the directory")
    log("INFO", "start", version=__version__, host=host, port=port, tls=bool(server.tls), token=bool(server.token))
    return server


def notify(server: Server) -> None:
    """Tell systemd, where it waits for that (sd_notify(3)), that the service listens, and where."""
    path = re.sub("^@", "\0", os.environ.pop("NOTIFY_SOCKET", ""))
    if not path:
        return
    host, port = server.socket.getsockname()[:2]
    url = f"http{'s' if server.tls else ''}://{f'[{host}]' if ':' in host else host}:{port}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        try:
            systemd.sendto(f"READY=1\nSTATUS={url}".encode(), path)
        except OSError as error:
            log("WARNING", "notify", error=error.strerror)


def raise_descriptor_limit(settings: Settings) -> None:
    """Room for MAX_CONNECTIONS and what PAM opens, as far as the hard limit goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.max_connections + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )


def usage() -> str:
    lines = [f"usage: {sys.argv[0]} [--help | --version]", "", "Settings, as environment variables:"]
    lines += [f"  {s.name:<16} {s.meaning} (default: {s.default or 'unset'})" for s in SETTINGS]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Run until SIGTERM or SIGINT; the exit status: 0, or 2 for a bad argument or setting."""
    if arguments == ["--version"]:
        print(f"ugos-auth-proxy {__version__}")
        return 0
    if arguments == ["--help"]:
        print(usage())
        return 0
    if arguments:
        print(f"ugos-auth-proxy: unknown argument {arguments[0]!r}\n{usage()}", file=sys.stderr)
        return 2
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    sys.unraisablehook = lambda unraisable: log_bug(unraisable.exc_value or Exception())
    try:
        settings = Settings(os.environ)
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)  # python-pam asks a terminal there for its name, and may fail
        os.environ.pop("AUTH_TOKEN", None)  # PAM modules and their helpers have no use for it
        raise_descriptor_limit(settings)
        server = make_server(settings)
    except ValueError as error:
        print(f"ugos-auth-proxy: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        where = f"HOST {settings.host}, PORT {settings.port}"
        print(f"ugos-auth-proxy: cannot listen on {where}: {error.strerror}", file=sys.stderr)
        return 2
    notify(server)

    def await_signal() -> None:
        log("INFO", "stop", signal=signal.Signals(signal.sigwait(signals)).name)
        server.shutdown()

    _thread.start_new_thread(await_signal, ())
    server.serve_forever(server.SWEEP)
    server.stop()
    os._exit(0)  # without waiting for calls that hang in PAM


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
