"""ugos-authentik-sync: what is open in authentik ends with the account on the NAS.

Every INTERVAL seconds it asks ugos-auth-proxy about each user of authentik that has the attribute
`ugos_user: true`. Whose account is gone, inactive, or another one than `ugos_uid` says is locked:
`is_active: false` and the attribute `ugos_locked: true`, no session and no token left. Who carries
that attribute and is active on the NAS again is unlocked.

What is in doubt about a user leaves this user as he is; what is in doubt about all ends the pass.
"""

import http.client
import json
import os
import re
import signal
import socket
import ssl
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar
from urllib.parse import SplitResult, quote, urlencode, urlsplit

__version__ = "0.2.0"


class PassError(Exception):
    """The pass ends: what it has not changed yet, it does not change.

    `wait` is how many seconds authentik wants to be left alone, None where it does not say so.
    """

    def __init__(self, reason: str, wait: int | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class DoubtError(Exception):
    """Nothing can be said about one user, who stays as he is."""


# --- Logging -----------------------------------------------------------------------------------

LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}
BARE = re.compile(r"[!#-<>-\[\]-~]+")  # visible ASCII without quote, equals sign and backslash
log_level = LEVELS["INFO"]


def quoted(value: object) -> str:
    """`value` as one log token: quoted where needed, what cannot be printed escaped."""
    text = str(value)[:400]
    if BARE.fullmatch(text):
        return text
    text = text.replace("\\", r"\\").replace('"', r"\"")
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return '"' + "".join(escaped) + '"'


def log(level: str, event: str, **values: object) -> None:
    """Write one `key=value` line to stderr."""
    if LEVELS[level] < log_level:
        return
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    pairs = {"time": now, "level": level, "event": event, **values}
    line = " ".join(f"{key}={quoted(value)}" for key, value in pairs.items()) + "\n"
    try:
        os.write(2, line.encode("utf-8", "backslashreplace"))
    except OSError:
        pass  # nobody reads it


# --- Settings ----------------------------------------------------------------------------------


def read_number(low: int, high: int, text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text) or not low <= int(text) <= high:
        raise ValueError(f"must be a whole number from {low} to {high}")
    return int(text)


def read_url(text: str) -> SplitResult:
    """An http or https URL; no user info, as the token goes in the place of it."""
    try:
        url = urlsplit(text)
        sound = url.scheme in {"http", "https"} and url.hostname and url.port != 0
    except ValueError:  # the port is no number
        sound = False
    if not sound or "@" in text or not re.fullmatch("[!-~]+", text) or url.query or url.fragment:
        raise ValueError("must be http://HOST:PORT or https://HOST:PORT, without user or query")
    return url


def read_token(text: str) -> str:
    if not re.fullmatch("[!-~]{16,4096}", text):
        raise ValueError("must be at least 16 visible ASCII characters")
    return text


def read_token_file(path: str) -> str:
    try:
        with open(path, encoding="latin-1", newline="") as file:
            return read_token(re.sub(r"\r?\n\Z", "", file.read(8192)))
    except OSError as error:
        raise ValueError(f"{path!r} cannot be read: {error.strerror}") from None


def read_certificates(path: str) -> ssl.SSLContext:
    """What trusts the certificates in the file, and no others."""
    try:
        return ssl.create_default_context(cafile=path)
    except OSError as error:  # ssl.SSLError is one
        raise ValueError(f"{path!r} cannot be loaded: {error.strerror or error}") from None


def read_level(text: str) -> int:
    if text not in LEVELS:
        raise ValueError("must be one of " + ", ".join(LEVELS))
    return LEVELS[text]


class Setting(NamedTuple):
    """One environment variable: `read` makes a value of its text, or raises ValueError."""

    name: str
    read: Callable[[str], Any]
    default: str
    meaning: str


SETTINGS = (
    Setting("UGOS_AUTH_PROXY_URL", read_url, "http://127.0.0.1:8080", "where ugos-auth-proxy is"),
    Setting("UGOS_AUTH_PROXY_TOKEN", read_token, "", "its AUTH_TOKEN"),
    Setting("UGOS_AUTH_PROXY_TOKEN_FILE", read_token_file, "", "file that holds it instead"),
    Setting("UGOS_AUTH_PROXY_CA", read_certificates, "", "PEM file with the certificate to trust"),
    Setting("AUTHENTIK_URL", read_url, "", "where authentik is; must be set"),
    Setting("AUTHENTIK_TOKEN", read_token, "", "the API token of ugos-auth-proxy-sync there"),
    Setting("AUTHENTIK_TOKEN_FILE", read_token_file, "", "file that holds it instead"),
    Setting("AUTHENTIK_CA", read_certificates, "", "PEM file with the certificate to trust"),
    Setting("INTERVAL", partial(read_number, 10, 86_400), "60", "seconds from pass to pass"),
    Setting("LOG_LEVEL", read_level, "INFO", ", ".join(LEVELS)),
)


class Settings:
    """The values of `SETTINGS` by their names in lower case, None where unset."""

    def __getattr__(self, name: str) -> Any:  # says to the type checker that there are some
        raise AttributeError(name)

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Raises ValueError, which names the variable."""
        for name, read, default, _ in SETTINGS:
            text = environ.get(name) or default
            try:
                setattr(self, name.lower(), read(text) if text else None)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        for name in ("UGOS_AUTH_PROXY_TOKEN", "AUTHENTIK_TOKEN"):
            if environ.get(name) and environ.get(f"{name}_FILE"):
                raise ValueError(f"{name} and {name}_FILE: set only one of them")
        if not self.authentik_url:
            raise ValueError("AUTHENTIK_URL: must be set")
        self.proxy_token = self.ugos_auth_proxy_token or self.ugos_auth_proxy_token_file
        self.api_token = self.authentik_token or self.authentik_token_file
        if not self.api_token:
            raise ValueError("AUTHENTIK_TOKEN: it or AUTHENTIK_TOKEN_FILE must be set")


# --- Questions ---------------------------------------------------------------------------------

QUESTION_SECONDS = 5
ANSWER_BYTES = 2**23  # a page of 100 users, whose attributes may hold what their owner likes
STALE = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)


class Answer(NamedTuple):
    """A status, its Retry-After in seconds, and the JSON object; {} where the body is none."""

    status: int
    retry_after: int | None
    content: dict[str, Any]


class Connection(http.client.HTTPConnection):
    """A connection that another thread can cut, whatever it is waiting for."""

    def __init__(self, url: SplitResult, context: ssl.SSLContext | None) -> None:
        self.default_port = 443 if context else 80
        # while it connects it cannot be cut: it gives up by itself, after whoever asks
        super().__init__(url.hostname or "", url.port, timeout=2 * QUESTION_SECONDS)
        self.context, self.lock = context, threading.Lock()
        self.kept: socket.socket | None = None
        self.was_cut = False

    def connect(self) -> None:
        connected = socket.create_connection((self.host, self.port), self.timeout)
        with self.lock:
            if self.was_cut:
                connected.close()
                raise ConnectionAbortedError
            if self.kept:
                self.kept.close()
            self.kept = connected.dup()  # TLS takes the first over
        if self.context:
            connected = self.context.wrap_socket(connected, server_hostname=self.host)
        self.sock = connected

    def cut(self) -> None:
        with self.lock:
            self.was_cut = True
            if self.kept:
                try:
                    self.kept.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # it has ended already
                self.kept.close()
                self.kept = None


class Service:
    """ugos-auth-proxy or authentik: `name` is for the log, `until` when its pass must be over."""

    def __init__(
        self, name: str, url: SplitResult, token: str | None, trusted: ssl.SSLContext | None
    ) -> None:
        self.name, self.url, self.until = name, url, 0.0
        self.context = (trusted or ssl.create_default_context()) if url.scheme == "https" else None
        self.headers = {"User-Agent": f"ugos-authentik-sync/{__version__}"}
        self.headers |= {"Accept": "application/json", "Accept-Encoding": "identity"}
        if token:
            self.headers["Authorization"] = f"Bearer {token}"
        self.connection: Connection | None = None

    def ask(self, method: str, path: str, content: object = None) -> Answer:
        """One question. Raises PassError where there is no whole answer, or it is 401 or 403."""
        headers, body = dict(self.headers), None
        if content is not None:
            headers["Content-Type"], body = "application/json", json.dumps(content).encode()
        answer = None
        while not answer:
            reused = self.connection is not None
            try:
                answer = self.exchange(method, path, body, headers)
            except STALE as error:
                if not reused:  # else it may have been closed while it was idle
                    raise self.stop(type(error).__name__) from None
        if answer.status in {401, 403}:
            raise self.stop(f"status {answer.status} for {path.partition('?')[0]}: see its token")
        return answer

    def stop(self, reason: str, wait: int | None = None) -> PassError:
        self.close()
        return PassError(f"{self.name}: {reason}", wait)

    def close(self) -> None:
        if self.connection:
            self.connection.cut()
            self.connection.close()
            self.connection = None

    def exchange(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> Answer:
        """Raises PassError, or one of STALE.

        The thread is there because a time-out of sockets starts again at every byte, and name
        resolution has none.
        """
        seconds = min(QUESTION_SECONDS, self.until - time.monotonic())
        if seconds <= 0:
            raise self.stop("the pass has taken too long")
        connection = self.connection = self.connection or Connection(self.url, self.context)
        told: list[tuple[int, str, bytes] | Exception] = []

        def run() -> None:
            try:
                connection.request(method, self.url.path.rstrip("/") + path, body, headers)
                response = connection.getresponse()
                head = response.status, response.getheader("Retry-After", "")
                told.append((*head, response.read(ANSWER_BYTES + 1)))
            except Exception as error:  # noqa: BLE001 - a connection that is cut raises anything
                told.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(seconds)
        if not told:
            raise self.stop(f"no whole answer within {QUESTION_SECONDS} seconds")
        if isinstance(told[0], Exception):
            self.close()
            if isinstance(told[0], STALE):
                raise told[0]
            raise self.stop(type(told[0]).__name__)  # its text may hold what was sent
        status, retry_after, data = told[0]
        if len(data) > ANSWER_BYTES:
            raise self.stop(f"an answer of more than {ANSWER_BYTES} bytes")
        seconds_to_wait = int(retry_after) if re.fullmatch("[0-9]{1,6}", retry_after) else None
        return Answer(status, seconds_to_wait, read_object(data))


def read_object(data: bytes) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


# --- The NAS -----------------------------------------------------------------------------------


class User(NamedTuple):
    """A user of authentik, as far as it matters here; `uid` is "" where none is known."""

    pk: int
    username: str
    uid: str
    is_active: bool
    is_linked: bool  # carries ugos_user: true
    is_locked: bool  # carries ugos_locked: true


def need_ready(proxy: Service) -> None:
    """Raises PassError unless a login could succeed now."""
    answer = proxy.ask("GET", "/ready")
    if answer.status != 200 or answer.content.get("status") != "ready":
        error = answer.content.get("error", "")
        raise PassError(f"{proxy.name}: not ready, status {answer.status}: {error}")


def reason_to_lock(proxy: Service, user: User) -> str:
    """Why the user is to be locked; "" where the account is active.

    Raises DoubtError, or PassError.
    """
    answer = proxy.ask("GET", "/user-info?" + urlencode({"username": user.username}))
    if answer.status != 200:
        raise DoubtError(f"/user-info answers {answer.status}")
    account = answer.content
    uid, active = account.get("uid"), account.get("active")
    if account.get("exists") is False and uid is None and active is None:
        return "the account is gone"
    if not (
        account.get("exists") is True
        and account.get("username") == user.username
        and type(uid) is int
        and isinstance(active, bool)
    ):
        raise DoubtError("/user-info does not tell whether the account is active")
    if not re.fullmatch("[0-9]*", user.uid):
        raise DoubtError(f"ugos_uid is {user.uid}, which is no uid")
    if user.uid not in {"", str(uid)}:
        return f"uid {uid} is another account than uid {user.uid} was"
    return "" if active else "the account is locked or has expired"


# --- authentik ---------------------------------------------------------------------------------

USERS, SESSIONS, TOKENS = (
    f"/api/v3/core/{kind}/" for kind in ("users", "authenticated_sessions", "tokens")
)
PAGE_SIZE = 100
MAX_USERS = 10_000
MAX_ROUNDS = 10  # pages of sessions, or of tokens, that are deleted of one user in a pass


def is_akadmin(username: str) -> bool:
    """Whether it is the name of authentik's first administrator, in any case and spelling."""
    letters = unicodedata.normalize("NFKD", username).casefold()
    letters = letters.replace("\u0131", "i")  # PostgreSQL takes it for an i
    return "".join(c for c in letters if unicodedata.category(c)[0] not in "CMZ") == "akadmin"


def read_user(row: object) -> tuple[User, dict[str, Any]]:
    """A user of the API, and all his attributes. Raises ValueError."""
    if not isinstance(row, dict):
        raise ValueError
    pk, username, is_active, attributes = (
        row.get(key) for key in ("pk", "username", "is_active", "attributes")
    )
    if not (
        type(pk) is int
        and isinstance(username, str)
        and username
        and isinstance(is_active, bool)
        and isinstance(attributes, dict)
    ):
        raise ValueError
    username.encode()  # half a surrogate pair raises ValueError
    uid = attributes.get("ugos_uid")
    linked = attributes.get("ugos_user") is True and not is_akadmin(username)
    locked = attributes.get("ugos_locked") is True
    return User(
        pk, username, "" if uid is None else str(uid), is_active, linked, locked
    ), attributes


def expect(answer: Answer, service: Service, statuses: Iterable[int]) -> Answer:
    """The answer, if it has one of the statuses. Raises PassError where authentik has a fault of
    its own or wants to be left alone, and DoubtError for any other status."""
    if answer.status == 429:
        raise service.stop("status 429: too many requests", answer.retry_after or 0)
    if answer.status >= 500:
        raise service.stop(f"status {answer.status}")
    if answer.status not in statuses:
        raise DoubtError(f"{service.name} answers {answer.status}")
    return answer


def linked_users(authentik: Service) -> Iterator[User]:
    """All linked users, page by page. Raises PassError where the list is not whole."""
    wanted = {"attributes": json.dumps({"ugos_user": True}), "ordering": "pk"}
    wanted |= {"page_size": str(PAGE_SIZE), "include_groups": "false", "include_roles": "false"}
    page, rows_read = 1, 0
    while page:
        try:
            answer = authentik.ask("GET", USERS + "?" + urlencode({**wanted, "page": page}))
            content = expect(answer, authentik, {200}).content
            rows, following = content["results"], content["pagination"]["next"]
            if not isinstance(rows, list) or following not in ({0, page + 1} if rows else {0}):
                raise ValueError
            users = [read_user(row)[0] for row in rows]
        except DoubtError as doubt:
            raise authentik.stop(f"the list of users: {doubt}") from None
        except (ValueError, LookupError, TypeError):
            raise authentik.stop(f"the list of users: page {page} is malformed") from None
        rows_read += len(rows)
        if rows_read > MAX_USERS:
            raise authentik.stop(f"the list of users: more than {MAX_USERS}")
        yield from (user for user in users if user.is_linked)
        page = following


def find_user(authentik: Service, pk: int) -> tuple[User, dict[str, Any]]:
    """The user as he is now, and all his attributes. Raises DoubtError, or PassError."""
    answer = expect(authentik.ask("GET", f"{USERS}{pk}/"), authentik, {200})
    try:
        return read_user(answer.content)
    except ValueError:
        raise DoubtError("authentik's answer is no user") from None


def change_user(
    authentik: Service, user: User, is_active: bool, attributes: dict[str, Any]
) -> None:
    """Raises DoubtError, or PassError.

    Where the user is not active any more, authentik deletes the access and refresh tokens that
    applications have for him, and takes no API token of his.
    """
    content = {"is_active": is_active, "attributes": attributes}
    answer = expect(authentik.ask("PATCH", f"{USERS}{user.pk}/", content), authentik, {200})
    if answer.content.get("is_active") is not is_active:
        raise DoubtError("authentik has not taken the change")


def delete_all(authentik: Service, path: str, key: str, user: User) -> None:
    """Deletes what the user has of a kind; `key` is what its path ends with.

    Raises DoubtError, or PassError.
    """
    query = urlencode({"user__username": user.username, "page_size": PAGE_SIZE})
    for _ in range(MAX_ROUNDS):
        content = expect(authentik.ask("GET", f"{path}?{query}"), authentik, {200}).content
        rows = content.get("results")
        if rows == []:
            return
        if not isinstance(rows, list) or not all(
            isinstance(row, dict) and row.get("user") == user.pk and isinstance(row.get(key), str)
            for row in rows
        ):
            raise DoubtError(f"the list of {path} is malformed")
        for row in rows:
            deleted = authentik.ask("DELETE", f"{path}{quote(row[key], safe='')}/")
            expect(deleted, authentik, {204, 404})
    raise DoubtError(f"there is no end to the list of {path}")


# --- The pass ----------------------------------------------------------------------------------

PASS_SECONDS = 600


Outcome = TypeVar("Outcome")


class EndedError(Exception):
    """The process is to end: seen between two users."""


STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}


def told_to_end(seconds: float) -> bool:
    """Whether one of STOP_SIGNALS, which are blocked, has come, or comes within so many seconds."""
    return signal.sigtimedwait(STOP_SIGNALS, seconds) is not None


def need_go_on() -> None:
    """Raises EndedError."""
    if told_to_end(0):
        raise EndedError


def need_no_brake(locks: int, open_users: int) -> None:
    """Raises PassError where so many locks at once are likelier an empty passwd than the truth."""
    if locks == open_users >= 2 or (locks > 3 and locks * 3 > open_users):
        raise PassError(
            f"brake: {locks} of {open_users} users would be locked, so nothing was changed; "
            "where that is right, run it once with --force"
        )


class Sync:
    """The two services, and what one pass leaves for the next: `swept` has the primary keys of
    locked users whose sessions and tokens are gone. A new process looks once at each of them."""

    def __init__(self, settings: Settings) -> None:
        self.proxy = Service(
            "ugos-auth-proxy",
            settings.ugos_auth_proxy_url,
            settings.proxy_token,
            settings.ugos_auth_proxy_ca,
        )
        self.authentik = Service(
            "authentik", settings.authentik_url, settings.api_token, settings.authentik_ca
        )
        self.swept: set[int] = set()
        self.locked = self.unlocked = self.doubts = 0  # of this pass

    def run(self, force: bool = False) -> bool:
        """One pass; `force` takes the brake off. Whether nobody was in doubt.

        Everybody is judged before anybody is changed. Raises PassError, EndedError.
        """
        started = time.monotonic()
        self.proxy.until = self.authentik.until = started + PASS_SECONDS
        self.locked = self.unlocked = self.doubts = 0
        users: dict[int, User] = {}
        try:
            need_ready(self.proxy)
            for user in linked_users(self.authentik):
                need_go_on()
                users[user.pk] = user
            self.settle(list(users.values()), force)
        finally:
            self.proxy.close()
            self.authentik.close()
            level = "INFO" if self.locked or self.unlocked else "DEBUG"
            counts = {"users": len(users), "locked": self.locked, "unlocked": self.unlocked}
            log(level, "pass", **counts, ms=f"{(time.monotonic() - started) * 1000:.1f}")
        return not self.doubts

    def settle(self, users: list[User], force: bool) -> None:
        # whom an administrator has deactivated is none of its business
        judged = [user for user in users if user.is_active or user.is_locked]
        reasons = self.each(judged, lambda user: reason_to_lock(self.proxy, user))
        to_lock = [user for user, reason in reasons.items() if reason and user.is_active]
        to_unlock = [user for user, reason in reasons.items() if not reason and user.is_locked]
        locked = [user for user, reason in reasons.items() if reason and not user.is_active]
        if not force:
            need_no_brake(len(to_lock), sum(user.is_active for user in users))
        self.swept &= {user.pk for user in locked}
        self.each(to_lock, self.lock)
        self.each(to_unlock, self.unlock)
        self.each([user for user in locked if user.pk not in self.swept], self.lock)

    def each(self, users: list[User], act: Callable[[User], Outcome]) -> dict[User, Outcome]:
        """What `act` says of each user that it has no doubt about. Raises PassError, EndedError."""
        outcomes: dict[User, Outcome] = {}
        for user in users:
            need_go_on()
            try:
                outcomes[user] = act(user)
            except DoubtError as doubt:
                self.doubts += 1
                log("WARNING", "skipped", user=user.username, reason=doubt)
        return outcomes

    def look_again(self, user: User) -> tuple[dict[str, Any], str]:
        """All attributes of the user, and why he is to be locked, right before he is changed.

        The attributes come last, as the change writes all of them back.
        """
        reason = reason_to_lock(self.proxy, user)
        found, attributes = find_user(self.authentik, user.pk)
        if found != user:
            raise DoubtError("the user has been changed meanwhile")
        return attributes, reason

    def lock(self, user: User) -> None:
        """Locks the user, or, where he is locked already, sees to it that nothing is left open."""
        attributes, reason = self.look_again(user)
        if not reason:
            raise DoubtError("the account is active again")
        if user.is_active:
            change_user(self.authentik, user, False, {**attributes, "ugos_locked": True})
            self.locked += 1
            log("INFO", "lock", user=user.username, reason=reason)
        self.sweep(user)
        self.swept.add(user.pk)

    def unlock(self, user: User) -> None:
        attributes, reason = self.look_again(user)
        if not reason and not user.is_active:
            self.sweep(user)  # of a login that was under way when he was locked
            attributes, reason = self.look_again(user)  # that may have taken long
        if reason:
            raise DoubtError(f"{reason}, once more")
        del attributes["ugos_locked"]
        change_user(self.authentik, user, True, attributes)
        self.unlocked += 1
        log("INFO", "unlock", user=user.username)

    def sweep(self, user: User) -> None:
        delete_all(self.authentik, SESSIONS, "uuid", user)
        delete_all(self.authentik, TOKENS, "identifier", user)


# --- Start -------------------------------------------------------------------------------------

MAX_WAIT = 3600  # seconds that authentik is left alone at most


def log_bug(error: BaseException) -> None:
    """Log where an unexpected exception came from, without its message, which may hold a token."""
    trace, at = error.__traceback__, []
    while trace:
        at.append(f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}")
        trace = trace.tb_next
    log("ERROR", "bug", error=type(error).__name__, at=" ".join(at[-8:]))


def run_passes(sync: Sync, interval: int, once: bool, force: bool) -> int:
    """Passes until told to end, or one. Returns the exit status."""
    wait = interval
    while True:
        started, sound = time.monotonic(), False
        try:
            sound = sync.run(force)
            wait = interval
        except PassError as stop:
            log("ERROR", "stopped", reason=stop)
            wait = interval if stop.wait is None else min(max(2 * wait, stop.wait), MAX_WAIT)
        except EndedError:
            return 1 if once else 0
        except Exception as error:  # noqa: BLE001 - the next pass may do better
            log_bug(error)
        if once:
            return 0 if sound else 1
        if told_to_end(max(0, started + wait - time.monotonic())):
            return 0


def usage() -> str:
    lines = [
        "usage: python3 authentik-sync.py [--once] [--force] | --help | --version",
        "",
        "  --once   one pass; exit status 0 where it said something about everybody, else 1",
        "  --force  one pass without its brake on locking many users at once",
        "",
        "Settings, environment variables:",
        "",
    ]
    for name, _, default, meaning in SETTINGS:
        lines.append(f"  {name:27} {meaning}" + (f" ({default})" if default else ""))
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    global log_level
    if arguments in (["--help"], ["--version"]):
        print(usage() if arguments == ["--help"] else f"ugos-authentik-sync {__version__}")
        return 0
    if set(arguments) - {"--once", "--force"}:
        print(usage(), file=sys.stderr)
        return 2
    try:
        settings = Settings(os.environ)
    except ValueError as error:
        print(f"ugos-authentik-sync: {error}", file=sys.stderr)
        return 2
    log_level = settings.log_level
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    log("INFO", "start", version=__version__, interval=settings.interval)
    return run_passes(Sync(settings), settings.interval, bool(arguments), "--force" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
