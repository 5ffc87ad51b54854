"""ugos-auth-proxy: NAS logins over HTTP.

POST /validate   {"username", "password"}: asks PAM, now, whether the password is right
GET  /user-info  ?username=U: who the account is, from passwd and group
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
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from functools import lru_cache, partial
from typing import Any, ClassVar, NamedTuple
from urllib.parse import parse_qs

try:
    import pam
except ImportError:
    sys.exit(
        "ugos-auth-proxy: python-pam is missing: "
        "run `apt install python3-pampy python3-six`, or `pip install python-pam`"
    )

__version__ = "0.2.0"


class Error(Exception):
    """An answer that is no yes, raised where the fault is seen: the HTTP `status` (503: a fault of the service, worth
    another try), the `text` for the client, further `headers`, and the `reason` that the log gives instead."""

    def __init__(
        self, status: int, text: str, headers: dict[str, str] | None = None, reason: str = ""
    ) -> None:
        self.status, self.text, self.reason = status, text, reason or text
        self.headers = headers or ({"Retry-After": "2"} if status == 503 else {})


# --- Logging -----------------------------------------------------------------------------------

LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}
BARE = re.compile(
    r"[!#-<>-\[\]-~]+"
)  # visible ASCII without the quote, the equals sign and the backslash
log_level, log_file, log_lock = LEVELS["INFO"], False, threading.Lock()
log_lost, log_gap = (
    0,
    "",
)  # how many lines could not be written, and what ends one that was written in part


def quoted(value: object) -> str:
    """`value` as one log token: quoted where needed, every character that is not printable escaped."""
    text = str(value)
    if len(text) > 400:  # a line stays below PIPE_BUF (4096, pipe(7)), so lines never mix
        text = text[:400] + "..."
    if BARE.fullmatch(text):
        return text
    text = text.replace("\\", r"\\").replace('"', r"\"")
    return (
        '"'
        + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
        + '"'
    )


@lru_cache(1)
def timestamps(second: int) -> tuple[str, str]:
    """A time as the log and as HTTP (RFC 9110, 5.6.7) write it; kept, as many are needed in one second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second)), formatdate(second, usegmt=True)


def log(level: str, event: str, **values: object) -> None:
    """Write one `key=value` line to stderr. One that cannot be written is dropped, and the next says how many were."""
    global log_lost, log_gap
    if LEVELS[level] < log_level:
        return
    pairs = {"time": timestamps(int(time.time()))[0], "level": level, "event": event, **values}
    line, written = " ".join(f"{key}={quoted(value)}" for key, value in pairs.items()), 0
    with log_lock:
        data = f"{log_gap}{line}{f' lost={log_lost}' if log_lost else ''}\n".encode(
            "utf-8", "backslashreplace"
        )
        with contextlib.suppress(
            OSError
        ):  # a pipe that nobody empties gets no more until somebody does
            if log_file or select.select((), (2,), (), 0 if log_lost else 0.1)[1]:
                written = os.write(2, data)
        if written:
            log_gap = "" if written == len(data) else "\n"
        log_lost = 0 if written == len(data) else log_lost + 1


def log_bug(error: BaseException) -> None:
    """Log where an unexpected exception came from, without its message: that may hold what a user typed."""
    trace, at = error.__traceback__, []
    while trace:
        at.append(f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}")
        trace = trace.tb_next
    log("ERROR", "bug", error=type(error).__name__, at=" ".join(at[-8:]))


# --- Settings ----------------------------------------------------------------------------------


def number(low: float, high: float, text: str, cast: Callable[[str], float] = int) -> float:
    """A plain decimal number from `low` to `high`; a whole one unless `cast` is float."""
    form, kind = (
        (r"[0-9]+", "a whole number") if cast is int else (r"[0-9]+(\.[0-9]+)?", "a number")
    )
    if not re.fullmatch(form, text, re.ASCII) or len(text) > 12 or not low <= cast(text) <= high:
        raise ValueError(f"must be {kind} from {low} to {high}")
    return cast(text)


def matching(form: str, what: str, text: str) -> str:
    if not re.fullmatch(form, text):
        raise ValueError(f"must be {what}")  # without the text: it may be a secret
    return text


read_token = partial(matching, r"[!-~]{16,4096}", "at least 16 visible ASCII characters")


def read_token_file(path: str) -> str:
    try:
        with open(path, encoding="latin-1", newline="") as file:
            return read_token(re.sub(r"\r?\n\Z", "", file.read(8192)))
    except OSError as error:
        raise ValueError(f"{path!r} cannot be read: {error.strerror}") from None


def read_groups(text: str) -> frozenset[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise ValueError("must be group names with commas between")
    return frozenset(names)


class Setting(NamedTuple):
    """One environment variable: `cast` reads its text and raises ValueError; no default means unset."""

    name: str
    cast: Callable[[str], Any]
    default: str
    meaning: str


SETTINGS = (
    Setting("HOST", str, "0.0.0.0", "address to bind; an IPv6 address works"),  # noqa: S104
    Setting("PORT", partial(number, 1, 65535), "8080", "port to listen on, 1 to 65535"),
    Setting(
        "AUTH_TOKEN",
        read_token,
        "",
        "shared secret that callers must send, at least 16 visible ASCII characters",
    ),
    Setting("AUTH_TOKEN_FILE", read_token_file, "", "file that holds the secret instead"),
    Setting("TLS_CERT", str, "", "PEM file with the certificate chain; TLS 1.2 and later"),
    Setting("TLS_KEY", str, "", "PEM file with its key, without a passphrase"),
    Setting(
        "PAM_SERVICE",
        partial(matching, r"[\w-][\w.-]{0,63}", "a name"),
        "ugos-auth-proxy",
        "name in /etc/pam.d",
    ),
    Setting("MIN_UID", partial(number, 1, 2**32 - 2), "1000", "lowest uid that is served"),
    Setting("MAX_UID", partial(number, 1, 2**32 - 2), "60000", "highest uid that is served"),
    Setting(
        "ALLOWED_GROUPS",
        read_groups,
        "",
        "group names with commas between: only their members are served",
    ),
    Setting(
        "FAIL_DELAY",
        partial(number, 0, 3, cast=float),
        "1.0",
        "seconds that a refusal takes at least, 0 to 3",
    ),
    Setting(
        "MAX_FAILURES",
        partial(number, 0, 10_000),
        "10",
        "refusals of a username and client until 429; 0: never",
    ),
    Setting(
        "FAILURE_WINDOW",
        partial(number, 1, 86_400),
        "300",
        "seconds over which refusals are counted",
    ),
    Setting("MAX_CONNECTIONS", partial(number, 1, 65_536), "256", "open connections"),
    Setting(
        "REQUEST_TIMEOUT",
        partial(number, 0.1, 3600, cast=float),
        "10",
        "seconds for a whole request to arrive",
    ),
    Setting(
        "LOG_LEVEL",
        partial(matching, "|".join(LEVELS), "one of " + ", ".join(LEVELS)),
        "INFO",
        ", ".join(LEVELS),
    ),
)


class Settings:
    """The values of `SETTINGS` by their names in lower case, None where unset; ValueError names a bad variable."""

    def __getattr__(self, name: str) -> Any:  # says to the type checker that there are some
        raise AttributeError(name)

    def __init__(self, environ: Mapping[str, str]) -> None:
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

    def tls(self) -> ssl.SSLContext | None:
        if not self.tls_cert:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:  # the empty passphrase keeps OpenSSL from asking for one on the terminal
            context.load_cert_chain(self.tls_cert, self.tls_key, password="")
        except OSError as error:  # ssl.SSLError is one
            raise ValueError(
                f"TLS_CERT: cannot be loaded with TLS_KEY: {error.strerror or error}"
            ) from None
        return context


# --- PAM ---------------------------------------------------------------------------------------

# The names of the return codes, 0 to 31, without PAM_ (Linux-PAM, security/_pam_types.h).
CODES = """
SUCCESS OPEN_ERR SYMBOL_ERR SERVICE_ERR SYSTEM_ERR BUF_ERR PERM_DENIED AUTH_ERR CRED_INSUFFICIENT AUTHINFO_UNAVAIL
USER_UNKNOWN MAXTRIES NEW_AUTHTOK_REQD ACCT_EXPIRED SESSION_ERR CRED_UNAVAIL CRED_EXPIRED CRED_ERR NO_MODULE_DATA
CONV_ERR AUTHTOK_ERR AUTHTOK_RECOVERY_ERR AUTHTOK_LOCK_BUSY AUTHTOK_DISABLE_AGING TRY_AGAIN IGNORE ABORT AUTHTOK_EXPIRED
MODULE_UNKNOWN BAD_ITEM CONV_AGAIN INCOMPLETE
""".split()
REMEDIES = {
    "AUTHINFO_UNAVAIL": "see that this process may read /etc/shadow, or that the server which PAM asks is there",
    "MODULE_UNKNOWN": "install the module that the rules of PAM_SERVICE name, or take it out of them",
}
ROOM = 2**24 * (1 + len(os.sched_getaffinity(0)))
MEMORY_LIMITS = resource.RLIMIT_AS, resource.RLIMIT_DATA
PAM_FAIL_DELAY = 10  # security/pam_appl.h; python-pam has no name for it


class Verdict(NamedTuple):
    """What a login came to: `error` is "" where it is valid, `reason` is for the log only."""

    error: str
    reason: str


INVALID, EXPIRED = "Invalid credentials", "Password expired"
UNASKED = Verdict(INVALID, "UNASKED")  # until PAM has spoken
# What the codes that are a no come to after the password was found right; before that, all are INVALID.
REFUSALS = dict.fromkeys(
    "PERM_DENIED AUTH_ERR CRED_INSUFFICIENT USER_UNKNOWN MAXTRIES".split(), INVALID
)
REFUSALS |= {
    "ACCT_EXPIRED": "Account expired",
    "NEW_AUTHTOK_REQD": EXPIRED,
    "AUTHTOK_EXPIRED": EXPIRED,
}


def need_memory() -> None:
    """Raise MemoryError without room for what crypt(3) takes: 16 MB for each turn at PAM, with yescrypt. Where it has
    none, pam_unix says that the password is wrong. Asked after a refusal, and under a limit before, as other logins
    may have it for a while."""
    try:
        mmap.mmap(-1, ROOM, mmap.MAP_PRIVATE).close()
    except OSError:
        raise MemoryError from None


class Attempt(pam.pam):
    """One question to PAM, asked once, by python-pam (2.0.2 and 2.1.0), whose calls to libpam these methods replace."""

    libpam: ClassVar[dict[str, Any]]  # what is bound of it

    @classmethod
    def load(cls, service: str) -> None:
        """Load libpam, and map the modules of `service` by a handle that stays open: a fifth of the cost of a login."""
        os.environ.pop(
            "DISPLAY", None
        )  # python-pam makes items of it, and raises where it is not text
        bound = vars(pam.pam())  # type: ignore[no-untyped-call]
        for name in bound.keys() - vars(cls).keys():
            setattr(
                cls, name, bound[name]
            )  # once: python-pam 2.0.2's constructor, which does it, runs ldconfig
        # PyDLL keeps the interpreter lock: for a call this short, letting it go costs more than the call
        libpam = ctypes.PyDLL("libpam.so.0")
        libpam.pam_set_item.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
        # libpam calls this instead of sleeping; abs(3) does nothing with its argument and needs no interpreter
        no_delay = ctypes.cast(ctypes.CDLL(None).abs, ctypes.c_void_p)
        cls.libpam = {**bound, "no_delay": no_delay, "pam_set_item": libpam.pam_set_item}
        no_conversation, handle = (ctypes.c_void_p * 2)(), ctypes.c_void_p()
        libpam.pam_start(service.encode(), b"", ctypes.byref(no_conversation), ctypes.byref(handle))

    def __init__(self, service: str, rhost: str, account_only: bool = False) -> None:
        self.messages: list[str] = []
        self.service, self.rhost = service.encode(), rhost.encode()
        self.account_only, self.account_phase = account_only, False

    def check(self, username: str, password: str) -> Verdict:
        """Whether the password is right and the account may log in; raises Error where PAM does not say."""
        if any(resource.getrlimit(limit)[0] != resource.RLIM_INFINITY for limit in MEMORY_LIMITS):
            need_memory()
        # latin-1 is for the modules' prompts, which python-pam decodes: it takes any byte
        self.authenticate(
            os.fsencode(username), password.encode(), self.service, None, True, "latin-1", False
        )
        name = CODES[self.code] if 0 <= self.code < len(CODES) else str(self.code)
        if name == "SUCCESS" and self.account_phase:
            return Verdict("", "PAM_SUCCESS")
        if name in REFUSALS:
            need_memory()
            return Verdict(REFUSALS[name] if self.account_phase else INVALID, f"PAM_{name}")
        remedy = REMEDIES.get(name, "the log of the system may say why")
        raise Error(503, f"PAM gave no verdict: PAM_{name}; {remedy}", reason=f"PAM_{name}")

    def pam_authenticate(self, handle: Any, flags: int) -> int:
        # some modules refuse to work without a TTY
        items = {
            PAM_FAIL_DELAY: self.libpam["no_delay"],
            pam.PAM_TTY: b"ugos-auth-proxy",
            pam.PAM_RHOST: self.rhost,
        }
        for item, value in items.items():
            if code := self.libpam["pam_set_item"](handle.handle, item, value):
                return int(code)
        if self.account_only:
            return 0
        # python-pam passes no flags, and then `nullok` lets any password in where none is set
        return int(self.libpam["pam_authenticate"](handle, flags | pam.PAM_DISALLOW_NULL_AUTHTOK))

    def pam_acct_mgmt(self, handle: Any, flags: int) -> int:
        self.account_phase = True
        return int(self.libpam["pam_acct_mgmt"](handle, flags | pam.PAM_DISALLOW_NULL_AUTHTOK))


class Call:
    """Something to do in its turn at PAM. `Gate` calls the methods, all but `run` with its lock held."""

    run: Callable[[], Verdict]  # does it, in a thread that may be kept as long as PAM likes
    preferred = False  # which of the two lanes it waits in
    abandon: Callable[[Error], None] | None = None  # set while it runs in the thread that asks
    verdict = UNASKED
    error: BaseException | None = None
    since = 0.0  # when it began to wait, or its turn came

    def __init__(self) -> None:
        self.done = threading.Lock()
        self.done.acquire()

    def admit(self) -> bool:
        """Whether it may run now; if not, it keeps its place."""
        return True

    def settle(self) -> None:
        """Called once, when it has run, hangs, or was given up."""


class Gate:
    """The turns at PAM: at most `limit` calls at once, others wait in order of arrival, in two lanes that take turns.
    A call that waits for `PATIENCE` seconds, or runs for `HANG`, ends with an Error; one that hangs no longer counts
    against the limit, until `MAX_HUNG` hang: then none is started. A call runs in the thread that asks while nobody
    waits. Those that had to wait run in threads kept for them: if each asking thread went on by itself, a processor
    would stand idle (SHA-512, 16 clients on two: 0.65 of libpam's own rate, against 0.86)."""

    PATIENCE, HANG, MAX_HUNG = 4.0, 10.0, 8

    def __init__(self, limit: int) -> None:
        self.limit, self.lock, self.turn = limit, threading.Lock(), True
        self.work_to_do, self.idle = (
            threading.Condition(self.lock),
            0,
        )  # kept threads, and how many wait for work
        self.lanes = collections.deque[Call](), collections.deque[Call]()
        self.running, self.hung = set[Call](), set[Call]()
        for _ in range(limit):
            self.start_thread()

    def ask(self, call: Call, abandon: Callable[[Error], None] | None = None) -> Verdict:
        """The verdict of `call`, run in its turn; raises what it raised, or Error. With `abandon`, it may run in this
        thread; if that hangs, another one calls `abandon`, to answer without waiting, and this one is to end."""
        with self.lock:
            if len(self.hung) >= self.MAX_HUNG:
                raise Error(
                    503,
                    f"PAM hangs: {self.MAX_HUNG} calls have not returned; see the modules of PAM_SERVICE",
                )
            alone, call.since = not any(self.lanes), time.monotonic()
            self.lanes[call.preferred].append(call)
            if abandon and alone and self.take():
                call.abandon = abandon
            else:
                self.wake()
        if call.abandon:
            self.perform(call)
            with self.lock:
                self.wake()
        call.done.acquire()  # `sweep` sees to it that this ends
        if call.error:
            raise call.error
        return call.verdict

    def perform(self, call: Call) -> None:
        try:
            call.verdict = call.run()
        except BaseException as error:  # noqa: BLE001 - `ask` raises it again
            call.error = call.error or error
        with self.lock:
            self.hung.discard(call)  # it came back after all
            if call in self.running:
                self.end(call)

    def end(self, call: Call, error: BaseException | None = None) -> None:
        """Give the one who asked his answer. The lock is held."""
        self.running.discard(call)
        call.error = error or call.error
        try:
            call.settle()
        finally:
            call.done.release()

    def take(self) -> Call | None:
        """Start the call whose turn it is. The lock is held."""
        if len(self.running) >= self.limit or len(self.hung) >= self.MAX_HUNG:
            return None
        for preferred in (self.turn, not self.turn):
            for call in self.lanes[preferred]:
                if call.admit():
                    self.lanes[preferred].remove(call)
                    self.running.add(call)
                    self.turn, call.since = not preferred, time.monotonic()
                    self.wake()  # for the one after it
                    return call
        return None

    def wake(self) -> None:
        """See to it that someone serves the lanes. The lock is held."""
        if len(self.running) < self.limit and any(self.lanes):
            if self.idle:
                self.work_to_do.notify()
            else:  # the others hang, or are about to look for work
                self.start_thread()

    def start_thread(self) -> None:
        try:
            _thread.start_new_thread(self.work, ())
        except RuntimeError:  # the next call or the next sweep tries again
            log("ERROR", "thread", error="no thread to be had")

    def work(self) -> None:
        while True:
            with self.lock:
                while not (call := self.take()):
                    if self.idle == self.limit:
                        return
                    self.idle += 1
                    self.work_to_do.wait()
                    self.idle -= 1
            self.perform(call)

    def sweep(self, now: float) -> None:
        """End the calls that wait or run too long; called now and then by whoever watches the connections."""
        with self.lock:
            for lane in self.lanes:
                while lane and now - lane[0].since >= self.PATIENCE:
                    error = Error(503, "PAM is busy: no turn within 4 seconds", reason="PATIENCE")
                    self.end(lane.popleft(), error)
            for call in [c for c in self.running if now - c.since >= self.HANG]:
                error = Error(
                    503, "PAM hangs: the call has not returned within 10 seconds", reason="HANG"
                )
                self.hung.add(call)
                if call.abandon:
                    call.abandon(error)
                self.end(call, ConnectionAbortedError() if call.abandon else error)
            self.wake()


# --- Accounts ----------------------------------------------------------------------------------

Entry = pwd.struct_passwd
PASSWD, SHADOW, GROUP = ACCOUNT_FILES = "/etc/passwd", "/etc/shadow", "/etc/group"
# the rows that NSS reads: it passes over those that begin with + - #, and over ids above MAX_ID
PASSWD_ROW = rb"(?m)^(?![+#-])%b:[^:\n]*:([0-9]+):([0-9]+):"
GROUP_ROW = rb"(?m)^(?![+#-])[^:\n]+:[^:\n]*:([0-9]+):([^:\n]*)$"
MAX_ID = 2**32 - 1
# what HTML takes for an e-mail address (WHATWG, 4.10.5.1.5)
EMAIL = re.compile(r"[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)*")


def decoded(value: str) -> str:
    """A string from pwd or grp as Unicode; bytes that are not UTF-8 become U+FFFD, whatever the locale."""
    return os.fsencode(value).decode("utf-8", "replace")


def read_file(path: str) -> bytes:
    """The content of an account file; raises Error with the remedy where it cannot be read or is empty."""
    try:
        with open(path, "rb") as file:
            data = file.read(
                1 if path == SHADOW else -1
            )  # that it can be read is all we want of shadow
    except OSError as error:
        why = error.strerror
        if isinstance(error, PermissionError):
            of, groups = os.stat(path), sorted({os.getegid(), *os.getgroups()})
            way, user = f"uid {of.st_uid}", of.st_uid
            if of.st_mode & 0o040 and of.st_gid:
                way, user = f"gid {of.st_gid} as a further group", os.geteuid()
            why = f"it belongs to uid {of.st_uid} and gid {of.st_gid}, mode {of.st_mode & 0o777:o}; this process has "
            why += f"uid {os.geteuid()} and gids {groups}: run it with {way} "
            why += (
                f"(docker-compose.yml: RUN_AS={user}:{of.st_gid} in .env), or CAP_DAC_READ_SEARCH"
            )
        raise Error(503, f"{path} cannot be read: {why}") from None
    if not data.strip():
        raise Error(503, f"{path} is empty")
    return data


class Mounts:
    """Which account files are mounted, and whether the host has replaced one (proc(5), /proc/pid/mountinfo)."""

    def __init__(self) -> None:
        self.table, self.lock = (
            os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC),
            threading.Lock(),
        )
        self.points: dict[str, bool] | None = None  # unknown until they are read

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
                if select.select((), (), (self.table,), 0)[
                    2
                ]:  # the table changed; the kernel says it only once
                    self.points = None
                if self.points != {}:
                    self.points = self.read()
                stale = [path for path, replaced in self.points.items() if replaced]
        except OSError as error:
            raise Error(503, f"/proc/self/mountinfo cannot be read: {error.strerror}") from None
        if stale:
            raise Error(
                503,
                f"the mount of {stale[0]} is stale, it is the old file: mount the directory, and restart",
            )


def lookup(username: str) -> Entry | None:
    """The passwd entry; None only where passwd could be read and has none, else Error: getpwnam(3) hides what fails."""
    name = username.encode()
    for _ in range(3):  # the file may be replaced between the two looks
        try:
            return pwd.getpwnam(os.fsdecode(name))
        except KeyError:
            row = re.search(PASSWD_ROW % re.escape(name), read_file(PASSWD))
            if not row or max(map(int, row.groups())) > MAX_ID:
                return None
    raise Error(503, f"{PASSWD} has accounts that NSS does not find; see that descriptors are left")


def group_names(entry: Entry) -> list[str]:
    """The groups by getgrouplist(3), primary first; Error where they are not all known, as that hides what fails."""
    for _ in range(3):
        names, unnamed = {}, set()
        gids = os.getgrouplist(entry.pw_name, entry.pw_gid)
        for gid in gids:
            try:
                names[decoded(grp.getgrgid(gid).gr_name)] = gid
            except KeyError:
                unnamed.add(gid)
        rows = [
            (int(gid), members)
            for gid, members in re.findall(GROUP_ROW, read_file(GROUP))
            if int(gid) <= MAX_ID
        ]
        expected = {
            gid for gid, members in rows if os.fsencode(entry.pw_name) in members.split(b",")
        }
        if expected <= set(gids) and unnamed.isdisjoint(gid for gid, _ in rows):
            return list(names)
    raise Error(503, f"{GROUP} has groups that NSS does not find; see that descriptors are left")


def not_served(entry: Entry | None, settings: Settings) -> str:
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
    if served := next((entry for entry in pwd.getpwall() if not not_served(entry, settings)), None):
        return served.pw_name
    raise Error(
        503,
        "no account is served: see MIN_UID, MAX_UID and ALLOWED_GROUPS, and whose /etc/passwd this is",
    )


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
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return Client(
        str(ip), str(ip if ip.version == 4 else ipaddress.ip_network((ip, 64), strict=False))
    )


class Table(collections.OrderedDict[object, Any]):
    """A bounded table: the key that was set longest ago goes first."""

    SIZE = 10_000

    def __setitem__(self, key: object, value: object) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > self.SIZE:
            self.popitem(last=False)


class Throttle:
    """How many refusals a login may collect in a sliding window before nobody asks PAM any more: a username and client
    `limit`, whether it exists or not; a served username over all clients 10 * `limit`, after which only clients where
    it has logged in since the start are still asked. One that could be the last allowed waits for those at PAM."""

    def __init__(self, limit: int, window: int) -> None:
        self.limit, self.window = limit, window
        self.served, self.unserved, self.totals = Table(), Table(), Table()  # the times of refusals
        self.places = Table()  # from where which username has logged in since the start
        self.pending = collections.Counter[object]()  # at PAM now, bounded by the gate

    def counts(
        self, username: str, client: Client, served: bool
    ) -> list[tuple[Table, object, int, list[float]]]:
        """What limits this login: each a table, a key, how many refusals it may have, and when the recent ones were."""
        if not self.limit:
            return []
        here = (self.served if served else self.unserved, (username, client.network), self.limit)
        everywhere = (self.totals, username, 10 * self.limit)
        since = time.monotonic() - self.window
        counts = [here, everywhere] if served else [here]
        return [
            (table, key, most, [t for t in table.get(key, ()) if t > since])
            for table, key, most in counts
        ]

    def admit(self, username: str, client: Client, served: bool) -> bool:
        """Whether it may be asked now, and is at PAM until `settle`, or only after those at PAM; Error means never."""
        counts = self.counts(username, client, served)
        for table, key, most, times in counts:
            if table is self.totals and (username, client.network) in self.places:
                continue
            if len(times) >= most:
                seconds = max(1, math.ceil(times[-most] + self.window - time.monotonic()))
                raise Error(
                    429, "Too many failed logins", {"Retry-After": str(seconds)}, "THROTTLED"
                )
            if len(times) + self.pending[key] >= most:
                return False
        for _, key, _, _ in counts:
            self.pending[key] += 1
        return True

    def settle(self, username: str, client: Client, served: bool, verdict: Verdict) -> None:
        """Count what PAM has said of a login that was admitted."""
        for table, key, most, times in self.counts(username, client, served):
            self.pending[key] -= 1
            if not self.pending[key]:
                del self.pending[key]
            if verdict is not UNASKED and verdict.error:
                table[key] = [*times, time.monotonic()][-most:]
        if not verdict.error:
            self.served.pop((username, client.network), None)
            self.places[username, client.network] = True


class Login(Call):
    """A login, waiting for its turn and then for PAM."""

    def __init__(
        self, username: str, password: str, client: Client, entry: Entry | None, server: "Server"
    ) -> None:
        super().__init__()
        self.entry, self.password, self.server = entry, password, server
        self.refusal, self.entered = not_served(entry, server.settings), False
        self.who = (username, client, not self.refusal)
        self.preferred = (
            username,
            client.network,
        ) in server.throttle.places  # it has logged in from there

    def admit(self) -> bool:
        try:
            self.entered = self.server.throttle.admit(*self.who)
        except Error as error:
            self.error = error
        return self.entered or self.error is not None

    def run(self) -> Verdict:
        if (
            self.error or not self.entry or self.refusal
        ):  # throttled or not served: no call, but a turn like the others
            return Verdict(INVALID, self.refusal)
        return Attempt(self.server.settings.pam_service, self.who[1].address).check(
            self.entry.pw_name, self.password
        )

    def settle(self) -> None:
        if self.entered:
            self.server.throttle.settle(*self.who, self.verdict)


def probe(username: str, service: str) -> Verdict:
    """The question of /ready: do both phases of the stack answer, for one served account and one that none is?"""
    Attempt(service, "localhost", account_only=True).check(username, "")
    verdict = Attempt(service, "localhost").check("ugos-auth-proxy-ready", "x")
    if verdict.reason == "PAM_PERM_DENIED":  # what libpam says when no module has said anything
        raise Error(
            503,
            "PAM has no module that checks passwords; see the rules of PAM_SERVICE",
            reason=verdict.reason,
        )
    return verdict


# --- HTTP --------------------------------------------------------------------------------------

MAX_LINE, MAX_HEAD, MAX_BODY = 8192, 32_768, 4096
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
LINE = re.compile(
    rb"([^\0\r\n]*+)(\r\n|\r?\Z)"
)  # a line of a head, as far as it has come (RFC 9112, 2.2)
REQUEST_LINE = re.compile(rf"({TOKEN.pattern}) (/[!-~]*) HTTP/1\.([01])")  # RFC 9112, 3
CLOSE = re.compile(r"(?i)(^|,)[ \t]*close[ \t]*(,|$)")  # among the options of Connection
NOT_IN_NAMES = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff:/]")  # the ranges: Unicode Cc and Cs


class Head:
    """The head of a request, parsed as it arrives, strictly (RFC 9112): what two parsers could read in two ways is 400.
    Header names are lower case, repeated values joined by ", "; `size` is the head's, `length` the body's."""

    def __init__(self) -> None:
        self.method = self.path = self.query = ""
        self.version, self.size, self.length, self.keep_alive = 1, 0, 0, False
        self.headers: dict[str, str] = {}

    def feed(self, data: bytes) -> bool:
        """Parse on in `data`, all that has come since the request began; True when the head is whole. Raises Error."""
        while match := LINE.match(data, self.size):
            line, whole = match[1].decode("latin-1"), match[2] == b"\r\n"
            if not self.method and len(line) > MAX_LINE:
                raise Error(414, f"Request line is too long: at most {MAX_LINE} bytes")
            if self.method and match.end() > MAX_HEAD:
                raise Error(431, f"Request head is too large: at most {MAX_HEAD} bytes")
            if self.method and line:
                self.header(line, whole)
            elif whole and not self.method:
                request = REQUEST_LINE.fullmatch(line)
                if not request:
                    raise Error(400, "Bad request: the request line is not METHOD /target HTTP/1.1")
                self.method, target, version = request.groups()
                self.path, _, self.query = target.partition("?")
                self.version = int(version)
            if not whole:
                return False
            self.size = match.end()
            if not line:
                break
        else:
            raise Error(400, "Bad request: a NUL, or a CR or LF by itself, in the head")
        if self.version == 1 and "host" not in self.headers:
            raise Error(400, "Bad request: no Host header")
        if "transfer-encoding" in self.headers:
            raise Error(501, "Transfer-Encoding is not implemented; send Content-Length")
        self.keep_alive = self.version == 1 and not CLOSE.search(self.headers.get("connection", ""))
        return True

    def header(self, line: str, whole: bool) -> None:
        name, colon, value = line.partition(":")
        if not TOKEN.fullmatch(name) or (whole and not colon):
            raise Error(400, "Bad request: a header line is folded, or not NAME: VALUE")
        name, value = name.lower(), value.strip(" \t")
        if colon and name in self.headers:
            if name in ("host", "content-length"):
                raise Error(400, f"Bad request: two {name.title()} headers")
            value = f"{self.headers[name]}, {value}"
        if whole:
            self.headers[name] = value
            if name == "content-length":
                if not re.fullmatch("[0-9]{1,10}", value):
                    raise Error(400, "Bad request: Content-Length is not 1 to 10 digits")
                self.length = int(value)


def read_username(value: str) -> str:
    """A username as it is judged; raises Error."""
    username = value.strip()
    if not username:
        raise Error(400, "Username is missing")
    if NOT_IN_NAMES.search(username):
        raise Error(
            400, "Username has a control character, an unpaired surrogate, ':' or '/' in it"
        )
    if len(username.encode()) > 256:
        raise Error(400, "Username is too long: at most 256 bytes")
    return username


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a key given twice")
    return fields


def read_credentials(body: bytes) -> tuple[str, str]:
    """Username and password from the JSON body of /validate; raises Error, which never repeats the body."""
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


def render(
    status: int, payload: dict[str, Any], headers: Mapping[str, str], head_only: bool = False
) -> bytes:
    body = json.dumps(payload).encode()
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return (
        f"HTTP/1.1 {status} {http.server.BaseHTTPRequestHandler.responses[status][0]}\r\n"
        f"Date: {timestamps(int(time.time()))[1]}\r\n"
        "Content-Type: application/json; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\n"
        f"X-Content-Type-Options: nosniff\r\n{lines}\r\n"
    ).encode("latin-1") + (b"" if head_only else body)


# The states of a connection; the longest waiting one of the lowest state makes room for a new one.
WAITING, ANSWERING, BUSY, REFUSED = range(4)


class Handler(http.server.BaseHTTPRequestHandler):
    """A connection. It is WAITING for a complete request, BUSY running it, ANSWERING until the peer has the answer.
    `deadline` is when it is cut. Whoever has to leave, to make room or for the stop, is not in `server.connections`."""

    disable_nagle_algorithm = True
    rbufsize = 0  # `receive` keeps what has come
    server: "Server"

    def __init__(self, connected: socket.socket, address: str, server: "Server") -> None:
        self.connection, self.server, self.peer = (
            connected,
            server,
            read_client(address.partition("%")[0]),
        )
        self.state, self.deadline = WAITING, time.monotonic() + server.settings.request_timeout
        self.data = b""  # what has come and is not used yet
        self.served = False  # by a thread, which may have found no memory to begin

    def enter(self, state: int) -> None:
        """Go on to `state`; raises ConnectionAbortedError where it has to leave, though not before a ready answer."""
        now, server = time.monotonic(), self.server
        with server.lock:
            if self in server.connections:
                server.connections.move_to_end(self)
            elif state != ANSWERING:
                raise ConnectionAbortedError
            self.state, self.deadline = state, now + server.settings.request_timeout
            if state == BUSY:
                self.arrived, self.deadline = now, math.inf

    def cut(self) -> None:
        """End both directions; a thread that waits on it wakes. Raw, because in TLS only its thread may speak."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.connection, socket.SHUT_RDWR)

    def handle(self) -> None:
        """Serve its requests, end our direction, and drop what still comes until the peer ends his, or it is cut:
        closing on unread bytes would reset the connection, and the answer might be lost (RFC 9112, 9.6)."""
        if isinstance(self.connection, ssl.SSLSocket):
            self.connection.do_handshake()
        super().handle()
        if isinstance(self.connection, ssl.SSLSocket):
            self.connection.setblocking(False)
            with contextlib.suppress(OSError):
                self.connection.unwrap()  # says close_notify (RFC 8446, 6.1); the peer's is not waited for
            self.connection.setblocking(True)
        self.connection.shutdown(socket.SHUT_WR)  # from here on it is raw
        while self.connection.recv(16_384):
            pass

    def receive(self) -> None:
        """More bytes into `data`; raises ConnectionError at the end of the stream."""
        more = self.connection.recv(
            2048
        )  # a larger buffer would be kept for each connection that drips
        if not more:
            raise ConnectionResetError
        self.data += more

    def handle_one_request(self) -> None:
        """Receive, judge, answer and log one request. Raises OSError without a peer."""
        self.head, self.client, self.username = Head(), self.peer, ""
        try:
            self.answer(200, self.judge(), {})
        except Error as error:
            self.fail(error)
        except MemoryError:
            if self.state == ANSWERING:
                raise
            self.fail(Error(503, "There is not enough memory"))
        except Exception as error:
            fault = (
                Error(503, f"The system fails: {error.strerror}")
                if isinstance(error, OSError)
                else None
            )
            if fault and self.state != BUSY:
                raise  # the peer is gone, or has to go
            log_bug(error)  # it costs its request
            self.fail(fault or Error(500, "Internal server error"))
        if not self.data and not self.close_connection:
            self.receive()
            self.deadline = (
                time.monotonic() + self.server.settings.request_timeout
            )  # it was idle until now

    def fail(self, error: Error) -> None:
        if self.username:  # it is a login
            result = {200: "invalid", 429: "throttled"}.get(error.status, "error")
            self.log(
                "verdict",
                user=self.username,
                client=self.client.address,
                result=result,
                reason=error.reason,
            )
            if error.status in (200, 429):  # a random share keeps refused clients out of step
                until = self.arrived + self.server.settings.fail_delay * (1 + 0.2 * random.random())  # noqa: S311
                time.sleep(max(0.0, until - time.monotonic()))
        _, _, refusal, guarded = ROUTES.get(self.head.path, (None, (), {}, False))
        own = (200, 400, 401, 413, 415, 429, 503) if guarded else (503,)
        beside = refusal if error.status in own else {}
        self.answer(error.status, {**beside, "error": error.text}, error.headers)

    def judge(self) -> dict[str, Any]:
        """The payload of a yes; raises Error for everything else, in the order that the API promises."""
        head = self.head
        while not head.feed(self.data):
            self.receive()
        if head.path not in ROUTES:
            raise Error(404, "Not found")
        endpoint, methods, _, guarded = ROUTES[head.path]
        if head.method not in methods:
            raise Error(405, "Method not allowed", {"Allow": ", ".join(methods)})
        if guarded and self.server.token:
            scheme, _, given = head.headers.get("authorization", "").partition(" ")
            right = hmac.compare_digest(given.strip(" \t").encode("latin-1"), self.server.token)
            if not right or scheme.lower() != "bearer":
                raise Error(
                    401,
                    "Authorization: Bearer TOKEN is missing or wrong",
                    {"WWW-Authenticate": "Bearer"},
                )
            with contextlib.suppress(
                ValueError
            ):  # whoever has the token is believed who the client is
                self.client = read_client(head.headers.get("x-forwarded-for", ""))
        if head.length > MAX_BODY:
            raise Error(413, f"Body is too large: at most {MAX_BODY} bytes")
        kind = head.headers.get("content-type", "").partition(";")[0].strip(" \t")
        if head.path == "/validate" and kind.lower() != "application/json":
            raise Error(415, "Content-Type must be application/json")
        end = head.size + head.length
        if (
            len(self.data) < end
            and head.version
            and head.headers.get("expect", "").lower() == "100-continue"
        ):
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while len(self.data) < end:
            self.receive()
        self.enter(BUSY)
        return endpoint(self)

    def answer(self, status: int, payload: dict[str, Any], headers: Mapping[str, str]) -> None:
        head = self.head
        if self.state == WAITING:
            self.enter(BUSY)
        end = head.size + head.length
        self.close_connection = (
            not head.keep_alive or len(self.data) < end or self not in self.server.connections
        )
        if self.close_connection:
            headers = {**headers, "Connection": "close"}
        data = render(status, payload, headers, self.data.startswith(b"HEAD "))
        self.data = self.data[end:]
        self.log(
            "request",
            client=self.client.address,
            method=head.method or "-",
            path=head.path or "-",
            status=status,
        )
        self.enter(ANSWERING)
        self.wfile.write(data)
        self.enter(WAITING)

    def log(self, event: str, **values: object) -> None:
        log("INFO", event, **values, ms=f"{(time.monotonic() - self.arrived) * 1000:.1f}")

    def validate(self) -> dict[str, Any]:
        head, server = self.head, self.server
        self.username, password = read_credentials(self.data[head.size : head.size + head.length])
        server.mounts.check()
        entry = lookup(self.username)
        if entry:
            self.username = decoded(entry.pw_name)
        verdict = server.gate.ask(
            Login(self.username, password, self.client, entry, server), self.abandon
        )
        if verdict.error:
            raise Error(200, verdict.error, reason=verdict.reason)
        self.log(
            "verdict",
            user=self.username,
            client=self.client.address,
            result="valid",
            reason=verdict.reason,
        )
        return {"valid": True, "username": self.username}

    def abandon(self, error: Error) -> None:
        """Answer in place of the thread that hangs in PAM, without waiting, and cut the connection."""
        self.head.keep_alive = False  # so no other request follows
        self.connection.setblocking(False)
        with contextlib.suppress(OSError):
            self.fail(error)
        self.state = WAITING  # also where the peer was gone: `stop` waits for nothing here
        self.cut()

    def user_info(self) -> dict[str, Any]:
        username = read_query(self.head.query)
        self.server.mounts.check()
        entry = lookup(username)
        if not entry or not_served(entry, self.server.settings):
            raise Error(200, "User not found")
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
        call = Call()
        call.run = partial(
            probe, served_account(self.server.settings), self.server.settings.pam_service
        )
        self.server.gate.ask(call)
        return {"status": "ready"}


# By path: the endpoint, its methods, what stands beside `error` in a refusal, and whether it asks for the token.
ROUTES: dict[
    str, tuple[Callable[[Handler], dict[str, Any]], tuple[str, ...], dict[str, Any], bool]
] = {
    "/validate": (Handler.validate, ("POST",), {"valid": False}, True),
    "/user-info": (Handler.user_info, ("GET", "HEAD"), {"exists": False}, True),
    "/health": (Handler.health, ("GET", "HEAD"), {}, False),
    "/ready": (Handler.ready, ("GET", "HEAD"), {"status": "not ready"}, False),
}


class Server(http.server.ThreadingHTTPServer):
    """The listening socket, the `connections`, the longest waiting first, and those `leaving` after their answer."""

    allow_reuse_port = (
        False  # or another process of this user could share the port, and the passwords
    )
    request_queue_size = 256
    SWEEP = 0.25  # seconds between two looks at the deadlines
    RESERVE = 16  # descriptors that no connection gets: without one, pam_unix finds no account, which is a refusal
    MAX_LEAVING = 64  # of those that were not cut, but have their answer on its way

    def __init__(self, settings: Settings) -> None:
        self.settings, self.tls = settings, settings.tls()
        self.token = (settings.auth_token or settings.auth_token_file or "").encode()
        self.gate = Gate(len(os.sched_getaffinity(0)))
        self.throttle, self.mounts = (
            Throttle(settings.max_failures, settings.failure_window),
            Mounts(),
        )
        self.connections, self.leaving = collections.OrderedDict[Handler, None](), set[Handler]()
        self.lock, self.next_sweep = threading.RLock(), 0.0
        self.spare = open("/dev/null", "rb")  # a descriptor, to give up when none is left
        try:
            self.address_family = socket.getaddrinfo(
                settings.host, settings.port, type=socket.SOCK_STREAM
            )[0][0]
            super().__init__((settings.host, settings.port), Handler)
        except (OSError, UnicodeError) as error:
            raise ValueError(
                f"HOST {settings.host!r}, PORT {settings.port}: cannot listen there: {error}"
            ) from None

    def server_bind(self) -> None:
        super(http.server.HTTPServer, self).server_bind()  # HTTPServer's own asks DNS for its name
        self.socket.settimeout(
            self.SWEEP
        )  # of `handle_request`, and of `accept`: the peer may be gone by then

    def get_request(self) -> tuple[Handler, Any]:  # type: ignore[override]
        try:
            if self.spare.closed:
                self.spare = open("/dev/null", "rb")
            connected, peer = self.socket.accept()
            if (
                0
                <= resource.getrlimit(resource.RLIMIT_NOFILE)[0] - self.RESERVE
                <= connected.fileno()
            ):
                connected.close()
                log("ERROR", "accept", error="the descriptors that are left are for PAM")
                raise BlockingIOError
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                log("ERROR", "accept", error=error.strerror)
                self.spare.close()  # to take the connection and drop it: one that waits for ever is tried for ever
                time.sleep(0.05)
                self.socket.accept()[0].close()
            raise
        if self.tls:
            connected = self.tls.wrap_socket(
                connected, server_side=True, do_handshake_on_connect=False
            )
        return Handler(connected, peer[0], self), peer

    def verify_request(self, request: Handler, client_address: Any) -> bool:  # type: ignore[override]
        """Whether there is room, which the longest waiting connection makes if need be."""
        with self.lock:
            if len(self.connections) >= self.settings.max_connections:
                waiting = (c for c in self.connections if c.state == WAITING)
                leaving = next(waiting, None) or min(self.connections, key=lambda c: c.state)
                if leaving.state == BUSY or (
                    leaving.state == ANSWERING and len(self.leaving) >= self.MAX_LEAVING
                ):
                    self.refuse(request)
                    return False
                self.leave(leaving)
            self.connections[request] = None
        return True

    def leave(self, connection: Handler) -> None:
        """Count it no longer; cut it, unless it has an answer coming. The lock is held."""
        del self.connections[connection]
        self.leaving.add(connection)
        if connection.state == WAITING:
            connection.cut()

    def refuse(self, request: Handler) -> None:
        """Answer 503 without a thread, and close a second later: a request still on its way would reset the answer."""
        log(
            "WARNING",
            "full",
            client=request.peer.address,
            connections=self.settings.max_connections,
        )
        if self.tls:
            return
        answer = render(
            503, {"error": "The service is full"}, {"Retry-After": "2", "Connection": "close"}
        )
        with contextlib.suppress(OSError):
            request.connection.send(answer, socket.MSG_DONTWAIT)
            request.connection.shutdown(socket.SHUT_WR)
            if len(self.leaving) < self.MAX_LEAVING:
                request.state, request.deadline = REFUSED, time.monotonic() + 1
                self.leaving.add(request)

    def process_request(self, request: Handler, client_address: Any) -> None:  # type: ignore[override]
        # not by Thread.start(), which waits for the new thread
        _thread.start_new_thread(self.process_request_thread, (request, client_address))  # type: ignore[arg-type]

    def finish_request(self, request: Handler, client_address: Any) -> None:  # type: ignore[override]
        request.served = True
        super(Handler, request).__init__(
            request.connection, client_address, self
        )  # serves it to its end

    def shutdown_request(self, request: Handler) -> None:  # type: ignore[override]
        with self.lock:
            if request.state == REFUSED and time.monotonic() < request.deadline:
                return
            self.connections.pop(request, None)
            self.leaving.discard(request)
        request.connection.close()

    def handle_error(self, request: Handler, client_address: Any) -> None:  # type: ignore[override]
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            log("DEBUG", "closed", client=request.peer.address, error=type(error).__name__)
        elif isinstance(error, RuntimeError | MemoryError):
            log(
                "ERROR",
                "thread",
                client=request.peer.address,
                error="no thread or memory to be had",
            )
        elif error:
            log_bug(error)

    def sweep(self) -> None:
        """End what is past its time: connections, and calls at the gate. To be called all the time."""
        now = time.monotonic()
        if now < self.next_sweep:
            return
        self.next_sweep = now + self.SWEEP
        self.gate.sweep(now)
        with self.lock:
            for connection in [c for c in (*self.connections, *self.leaving) if c.deadline < now]:
                connection.cut()
                if (
                    connection.state == REFUSED or not connection.served
                ):  # it has no thread to close it
                    self.shutdown_request(connection)

    def stop(self) -> None:
        """Accept no more, cut the connections that wait, and let the others end, for at most 10 seconds."""
        self.server_close()
        with self.lock:
            for connection in list(self.connections):
                self.leave(connection)
        until = time.monotonic() + 10
        while time.monotonic() < until and any(
            c.state in (BUSY, ANSWERING) for c in list(self.leaving)
        ):
            self.sweep()
            time.sleep(0.02)


# --- Start -------------------------------------------------------------------------------------


def make_server(settings: Settings) -> Server:
    """The service, listening but not serving; warns of its surroundings. ValueError: a setting, OSError: the system."""
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
        log(
            "WARNING",
            "no-pam-service",
            help=f"/etc/pam.d/{name} is missing; PAM uses /etc/pam.d/other instead",
        )
    for path in server.mounts.read():
        log(
            "WARNING",
            "single-file-mount",
            help=f"{path} is a mount of its own, which goes stale; mount the directory",
        )
    log(
        "INFO",
        "start",
        version=__version__,
        host=host,
        port=port,
        tls=bool(server.tls),
        token=bool(server.token),
    )
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


def main(arguments: list[str]) -> int:
    """Run until SIGTERM or SIGINT; the exit status: 0, or 2 for a bad argument or setting."""
    table = "\n".join(
        f"  {s.name:<16} {s.meaning} (default: {s.default or 'unset'})" for s in SETTINGS
    )
    usage = (
        f"usage: {sys.argv[0]} [--help | --version]\n\nSettings, as environment variables:\n{table}"
    )
    if arguments in (["--help"], ["--version"]):
        print(usage if arguments == ["--help"] else f"ugos-auth-proxy {__version__}")
        return 0
    if arguments:
        print(f"ugos-auth-proxy: unknown argument {arguments[0]!r}\n{usage}", file=sys.stderr)
        return 2
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    sys.unraisablehook = lambda unraisable: log_bug(unraisable.exc_value or Exception())
    try:
        settings = Settings(os.environ)
        os.dup2(
            os.open("/dev/null", os.O_RDONLY), 0
        )  # python-pam makes items of a terminal there, and may fail
        os.environ.pop("AUTH_TOKEN", None)  # PAM modules and their helpers have no use for it
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = settings.max_connections + 256  # and what PAM opens
        if soft != resource.RLIM_INFINITY and soft < wanted:
            wanted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        server = make_server(settings)
    except (ValueError, OSError) as error:
        print(f"ugos-auth-proxy: {error}", file=sys.stderr)
        return 2
    notify(server)
    while not (caught := signal.sigtimedwait(signals, 0)):
        with contextlib.suppress(MemoryError):
            server.handle_request()
            server.sweep()
    log("INFO", "stop", signal=signal.Signals(caught.si_signo).name)
    server.stop()
    os._exit(0)  # without waiting for calls that hang in PAM


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
