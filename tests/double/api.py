"""What authentik-sync.py asks of authentik's API, as schema.yml has it, and as the API itself
answered when it was run: core/users, core/authenticated_sessions and core/tokens.

Served over HTTP on loopback.
"""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from authentik.core.models import OLD, User
from django.db import close_old_connections, connections
from objects import Token

if TYPE_CHECKING:
    from flow import Authentik

PREFIX = "/api/v3/core/"
MAX_PAGE_SIZE = 100
DENIED = "You do not have permission to perform this action."


class Refusal(Exception):  # noqa: N818 - an answer like the others
    """An answer that is not what was asked for."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


class Request(NamedTuple):
    """A request as it came in; `path` without its query."""

    method: str
    path: str
    query: dict[str, str]
    key: str
    content: Any


class Api:
    """The answers. `spoil` may give another one instead: bytes to send as they are, or None."""

    def __init__(self, authentik: "Authentik") -> None:
        self.authentik = authentik
        self.url = ""
        self.asked: list[Request] = []
        self.spoil: Callable[[Request], bytes | None] = lambda _: None
        self.lock = threading.Lock()

    @property
    def changes(self) -> list[Request]:
        return [each for each in self.asked if each.method != "GET"]

    def answer(self, request: Request) -> tuple[int, Any]:
        """Status and content; None for no body."""
        kind, _, key = request.path.removeprefix(PREFIX).rstrip("/").partition("/")
        kinds = {"users": self.users, "authenticated_sessions": self.sessions}
        kinds["tokens"] = self.tokens
        if not request.path.startswith(PREFIX) or kind not in kinds or "/" in key:
            return 404, {"detail": "Not found."}
        try:
            return kinds[kind](request, unquote(key), self.authenticate(request))
        except Refusal as refusal:
            return refusal.status, {"detail": refusal.detail}

    def authenticate(self, request: Request) -> User:
        """api/authentication.py: an inactive user's token is as good as none."""
        if not request.key:
            raise Refusal(403, "Authentication credentials were not provided.")
        token = next(
            (
                each
                for each in self.authentik.store.all(Token)
                if (each.key, each.intent) == (request.key, "api")
            ),
            None,
        )
        user = token and User.objects.filter(pk=token.user, is_active=True).first()
        if not user:
            raise Refusal(403, "Token invalid/expired")
        return user

    def users(self, request: Request, key: str, asking: User) -> tuple[int, Any]:
        need(asking, "view_user")
        if not key:
            found = User.objects.order_by("pk")
            if "attributes" in request.query:
                wanted = json.loads(request.query["attributes"])
                found = found.filter(**{f"attributes__{name}": wanted[name] for name in wanted})
            return page([show(user) for user in found], request)
        user = User.objects.filter(pk=key).first() if key.isascii() and key.isdigit() else None
        if user is None:
            raise Refusal(404, "Not found.")
        if request.method == "GET":
            return 200, show(user)
        if request.method != "PATCH":
            raise Refusal(405, f'Method "{request.method}" not allowed.')
        need(asking, "change_user")
        fits = {"is_active": bool, "attributes": dict}
        for name, value in request.content.items():
            if not isinstance(value, fits[name]):
                raise Refusal(400, name)
            setattr(user, name, value)
        user.save()
        if not user.is_active:  # providers/oauth2/signals.py, at every save
            grants = self.authentik.grants
            self.authentik.grants = {key: pk for key, pk in grants.items() if pk != user.pk}
        return 200, show(user)

    def sessions(self, request: Request, key: str, asking: User) -> tuple[int, Any]:
        """Their rows stay when a user is deactivated, and are good again when he is activated."""
        rows = {browser.uuid: browser for browser in self.authentik.opened if browser.owner}
        if not has(asking, "view_authenticatedsession"):  # one's own
            rows = {uuid: row for uuid, row in rows.items() if row.owner == asking.pk}
        name = request.query.get("user__username")
        if not key:
            shown = [
                {"uuid": uuid, "user": row.owner}
                for uuid, row in rows.items()
                if name is None or User.objects.get(pk=row.owner).username == name
            ]
            return page(shown, request)
        if key not in rows:
            raise Refusal(404, "Not found.")
        if rows[key].owner != asking.pk:
            need(asking, "delete_authenticatedsession")
        rows[key].end()
        return 204, None

    def tokens(self, request: Request, key: str, asking: User) -> tuple[int, Any]:
        rows = self.authentik.store.all(Token)
        # core/api/tokens.py: 2025.10 shows those of others to superusers only
        if not (asking.is_superuser if OLD else has(asking, "view_token")):
            rows = [row for row in rows if row.user == asking.pk]
        name = request.query.get("user__username")
        if not key:
            shown = [
                {"identifier": row.identifier, "intent": row.intent, "user": row.user}
                for row in rows
                if name is None or User.objects.get(pk=row.user).username == name
            ]
            return page(shown, request)
        found = next((row for row in rows if row.identifier == key), None)
        if found is None:
            raise Refusal(404, "Not found.")
        if found.user != asking.pk:
            need(asking, "delete_token")
        self.authentik.store.rows.remove(found)
        return 204, None


def has(user: User, permission: str) -> bool:
    granted = {name for role in user.all_roles() for name in role.permissions}
    return user.is_superuser or f"authentik_core.{permission}" in granted


def need(user: User, permission: str) -> None:
    if not has(user, permission):
        raise Refusal(403, DENIED)


def show(user: User) -> dict[str, object]:
    fields = ("pk", "username", "name", "is_active", "email", "attributes", "path", "type")
    return {name: getattr(user, name) for name in fields}


def page(rows: list[dict[str, Any]], request: Request) -> tuple[int, Any]:
    """api/pagination.py: the number of the next page, 0 after the last."""
    size = min(int(request.query.get("page_size", "20")), MAX_PAGE_SIZE)
    number, last = int(request.query.get("page", "1")), max(1, -(-len(rows) // size))
    if not 1 <= number <= last:
        raise Refusal(404, "Invalid page.")
    pagination = {"next": number + 1 if number < last else 0, "count": len(rows)}
    pagination |= {"current": number, "total_pages": last}
    return 200, {"pagination": pagination, "results": rows[(number - 1) * size : number * size]}


class ApiServer:
    """The API on a port of its own, for as long as the context lasts."""

    def __init__(self, authentik: "Authentik") -> None:
        self.api = api = Api(authentik)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                url = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(url.query).items()}
                key = self.headers.get("Authorization", "").removeprefix("Bearer ")
                body = self.rfile.read(length)
                content = json.loads(body) if body else None
                request = Request(self.command, url.path, query, key, content)
                with api.lock:
                    api.asked.append(request)
                    spoiled = api.spoil(request)
                    status, content = (0, None) if spoiled is not None else api.answer(request)
                    close_old_connections()
                    connections.close_all()
                if spoiled is not None:
                    self.close_connection = True
                    self.wfile.write(spoiled)
                    return
                body = b"" if content is None else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_PATCH = do_DELETE = answer  # noqa: N815 - http.server's names

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        api.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Api:
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self.api

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
