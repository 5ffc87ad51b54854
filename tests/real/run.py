"""The blueprints and authentik-sync.py in authentik itself: `make test-authentik` runs this with
authentik's own Python, in its tree, on a database that has been migrated; docs/real-authentik.md
says how to get there.

authentik is served over its whole stack of middleware by wsgiref, on loopback. The NAS is a stub
that answers as the contract says. What is in the database goes: give it one of its own.
"""

import http.client
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlencode, urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import django
import jwt
from authentik.root.setup import setup

import authentik

setup()
django.setup()

from authentik.blueprints.v1.importer import Importer  # noqa: E402
from authentik.core.models import (  # noqa: E402
    Application,
    AuthenticatedSession,
    Group,
    Session,
    Token,
    User,
)
from authentik.flows.models import Flow, FlowStageBinding  # noqa: E402
from authentik.providers.oauth2.models import (  # noqa: E402
    AccessToken,
    AuthorizationCode,
    OAuth2Provider,
    RefreshToken,
)
from authentik.root.middleware import SIGNING_HASH  # noqa: E402
from authentik.stages.identification.models import IdentificationStage  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.test import Client  # noqa: E402
from django.utils.timezone import now  # noqa: E402

TOP = Path(__file__).resolve().parents[2]
SYNC = TOP / "authentik-sync.py"
BLUEPRINT = TOP / "authentik/authentik-blueprint.yaml"
SYNC_BLUEPRINT = TOP / "authentik/authentik-blueprint-sync.yaml"
DEFAULTS = [
    "flow-default-authentication-flow",
    "flow-password-change",
    "flow-oobe",
    "flow-default-invalidation-flow",
    "flow-default-provider-authorization-implicit-consent",
    "flow-default-provider-invalidation",
    "default-brand",
]
CALLBACK = "https://app.example.com/callback"
# authentik 2025.10 shows the tokens of others to superusers only, whatever a role may
TOKENS_THAT_STAY = 2 if authentik.VERSION.startswith("2025.10") else 0

cases: list[tuple[str, bool]] = []


def check(what: str, holds: object) -> None:
    cases.append((what, bool(holds)))
    if not holds:
        print("WRONG:", what)


# --- The NAS, and authentik as a server --------------------------------------------------------


class Nas(http.server.BaseHTTPRequestHandler):
    """ugos-auth-proxy: `accounts` has the uid of each name and whether it is active."""

    accounts: ClassVar[dict[str, tuple[int, bool]]] = {}
    ready = True

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        name = parse_qs(url.query).get("username", [""])[0]
        if url.path == "/ready":
            status, answer = (200, {"status": "ready"}) if self.ready else (503, {"error": "no"})
        elif name in self.accounts:
            uid, active = self.accounts[name]
            status, answer = 200, {"exists": True, "username": name, "uid": uid, "active": active}
        else:
            status, answer = 200, {"exists": False, "error": "User not found"}
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Quiet(WSGIRequestHandler):
    asked: ClassVar[list[str]] = []

    def log_message(self, *_: object) -> None:
        self.asked.append(f"{self.command} {self.path}")


class Threaded(ThreadingMixIn, WSGIServer):
    daemon_threads = True


@contextmanager
def serving(server: http.server.HTTPServer) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


# --- What is in authentik ----------------------------------------------------------------------


def apply(path: Path) -> None:
    importer = Importer.from_string(path.read_text())
    valid, logs = importer.validate()
    assert valid, (path, [str(each) for each in logs])
    assert importer.apply(), path


def reset() -> None:
    """Only what the blueprints make, and `akadmin`."""
    for model in (AccessToken, RefreshToken, AuthorizationCode, AuthenticatedSession, Session):
        manager = model.objects
        getattr(manager, "including_expired", manager.all)().delete()
    Token.objects.including_expired().exclude(identifier="ugos-auth-proxy-sync").delete() if (
        hasattr(Token.objects, "including_expired")
    ) else Token.objects.exclude(identifier="ugos-auth-proxy-sync").delete()
    keep = ["akadmin", "ugos-auth-proxy-sync", "AnonymousUser"]
    User.objects.exclude(username__in=keep).exclude(username__startswith="ak-outpost").delete()
    admin, _ = User.objects.get_or_create(username="akadmin", defaults={"name": "akadmin"})
    admin.set_password("password-of-akadmin")
    admin.attributes, admin.is_active = {"ugos_user": True}, True  # by mistake
    admin.save()
    Nas.accounts, Nas.ready = {}, True


def add_user(name: str, uid: int | None = 1000, **attributes: object) -> User:
    """A user that the NAS has too, as uid; None: it has not."""
    known = {"ugos_user": True, "ugos_uid": 1000, "theme": "dark", **attributes}
    user = User.objects.create_user(name, f"{name}@example.com", None)
    user.attributes = {key: value for key, value in known.items() if value is not None}
    user.save()
    if uid is not None:
        Nas.accounts[name] = (uid, True)
    return user


def provider() -> OAuth2Provider:
    found = OAuth2Provider.objects.filter(name="app").first()
    if found:
        return found
    flow = Flow.objects.get(slug="default-provider-authorization-implicit-consent")
    made = OAuth2Provider(name="app", authorization_flow=flow, client_type="public")
    if hasattr(made, "grant_types"):
        made.grant_types = ["authorization_code", "refresh_token"]
    from authentik.providers.oauth2.models import RedirectURI, RedirectURIMatchingMode

    made.redirect_uris = [RedirectURI(RedirectURIMatchingMode.STRICT, CALLBACK)]
    made.save()
    Application.objects.create(name="app", slug="app", provider=made)
    return made


class Open:
    """All that a user can have open: a session, tokens of both kinds, and an application's."""

    def __init__(self, user: User, url: str) -> None:
        self.user, self.url = user, url
        self.browser = Client()
        self.browser.force_login(user, backend="authentik.core.auth.InbuiltBackend")
        key = self.browser.session.session_key
        payload = {"sid": key, "iss": "authentik", "sub": user.uid, "authenticated": True}
        cookie = jwt.encode(payload, SIGNING_HASH)  # as root/middleware.py makes it
        self.browser.cookies["authentik_session"] = cookie
        self.session = AuthenticatedSession.objects.filter(user=user).first()
        name = user.username
        self.api = Token.objects.create(identifier=f"api-{user.pk}", intent="api", user=user)
        Token.objects.create(identifier=f"app-{user.pk}", intent="app_password", user=user)
        soon = {"expires": now() + timedelta(hours=1), "auth_time": now(), "provider": provider()}
        scope = {"_scope": "openid offline_access", "user": user}
        for kind, session in (("bound", self.session), ("free", None)):
            token = {"session": session, **soon, **scope}
            RefreshToken.objects.create(token=f"{kind}-{name}", _id_token=ID_TOKEN, **token)
            AccessToken.objects.create(token=f"access-{kind}-{name}", _id_token=ID_TOKEN, **token)
            AuthorizationCode.objects.create(code=f"code-{kind}-{name}", **token)  # of a minute

    def session_status(self) -> int:
        try:
            return self.browser.get("/api/v3/core/users/me/").status_code
        except AssertionError:  # authentik 2025.10 ends the session so
            return 500

    def token_status(self) -> int:
        return ask(self.url, "GET", "/api/v3/core/users/me/", self.api.key)

    def refresh_status(self, kind: str) -> int:
        return self.grant(grant_type="refresh_token", refresh_token=f"{kind}-{self.user.username}")

    def code_status(self) -> int:
        code = f"code-bound-{self.user.username}"
        return self.grant(grant_type="authorization_code", code=code, redirect_uri=CALLBACK)

    def grant(self, **fields: str) -> int:
        body = urlencode({"client_id": provider().client_id, **fields})
        form = "application/x-www-form-urlencoded"
        return ask(self.url, "POST", "/application/o/token/", "", body, form)

    def rows(self) -> dict[str, int]:
        kinds = (AuthenticatedSession, Token, AccessToken, RefreshToken, AuthorizationCode)
        return {kind.__name__: kind.objects.filter(user=self.user).count() for kind in kinds}


ID_TOKEN = json.dumps({"iss": "x", "sub": "x", "aud": "x", "exp": 0, "iat": 0})


def ask(
    url: str, method: str, path: str, key: str = "", body: str = "", kind: str = "application/json"
) -> int:
    """The status of the answer."""
    headers = {"Content-Type": kind} if body else {}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    connection.request(method, path, body or None, headers)
    status = connection.getresponse().status
    connection.close()
    return status


# --- Runs --------------------------------------------------------------------------------------


# The program, but for one constant: a busy machine may need longer for an answer than a NAS may.
PATIENT = """
import runpy, sys
sys.argv = sys.argv[1:]
program = runpy.run_path(sys.argv[0])
program["main"].__globals__["QUESTION_SECONDS"] = 60
sys.exit(program["main"](sys.argv[1:]))
"""


class Runs:
    def __init__(self, nas: str, authentik: str) -> None:
        self.environ = {"UGOS_AUTH_PROXY_URL": nas, "AUTHENTIK_URL": authentik}
        self.environ["AUTHENTIK_TOKEN"] = Token.objects.get(identifier="ugos-auth-proxy-sync").key
        self.environ["LOG_LEVEL"] = "DEBUG"

    def __call__(self, *arguments: str, **environ: str) -> tuple[int, str]:
        """One pass: its exit status, and its log."""
        done = subprocess.run(
            [sys.executable, "-c", PATIENT, SYNC, "--once", *arguments],
            env={"PATH": os.environ["PATH"], **self.environ, **environ},
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        return done.returncode, done.stderr


def told(name: str) -> tuple[bool, object]:
    user = User.objects.get(username=name)
    return user.is_active, user.attributes.get("ugos_locked")


def locks_and_unlocks(run: Runs, url: str) -> None:
    reset()
    names = ["alice", "gone", "other-uid", "inactive", "deactivated", "local", "Ünï cödé+&"]
    for name in names:
        add_user(name)
    for number in range(9):
        add_user(f"more-{number}")
    del Nas.accounts["gone"], Nas.accounts["local"], Nas.accounts["deactivated"]
    Nas.accounts["other-uid"] = (1001, True)
    Nas.accounts["inactive"] = (1000, False)
    User.objects.filter(username="deactivated").update(is_active=False)
    User.objects.filter(username="local").update(attributes={"ugos_user": "true"})
    opened = {
        name: Open(User.objects.get(username=name), url) for name in names if name != "deactivated"
    }
    for name, each in opened.items():
        check(f"{name}: open before", each.session_status() == each.token_status() == 200)
        check(f"{name}: refreshes before", each.refresh_status("bound") == 200)
    status, log = run()
    check(f"the first pass ends well: {log}", status == 0)
    check("its line", " event=pass users=15 locked=3 unlocked=0 ms=" in log)
    for name in ("gone", "other-uid", "inactive"):
        check(f"{name}: locked", told(name) == (False, True))
        theme = User.objects.get(username=name).attributes.get("theme")
        check(f"{name}: attributes kept", theme == "dark")
        left = opened[name].rows()
        left["AuthorizationCode"] -= 1  # the one without a session, which authentik never makes
        left["Token"] -= TOKENS_THAT_STAY
        check(f"{name}: nothing left: {left}", not any(left.values()))
        check(f"{name}: session ended", opened[name].session_status() in (403, 401))
        check(f"{name}: token ended", opened[name].token_status() == 403)
        for kind in ("bound", "free"):
            check(f"{name}: no refresh, {kind}", opened[name].refresh_status(kind) == 400)
        check(f"{name}: no code of the session", opened[name].code_status() == 400)
    for name in ("alice", "local", "Ünï cödé+&"):
        check(f"{name}: untouched", told(name) == (True, None))
        check(f"{name}: still open", opened[name].session_status() == 200)
        check(f"{name}: token still works", opened[name].token_status() == 200)
    check("akadmin untouched", told("akadmin") == (True, None))
    check("deactivated untouched", told("deactivated") == (False, None))
    Quiet.asked.clear()
    status, log = run()
    check("the second pass changes nothing", status == 0 and "locked=0 unlocked=0" in log)
    changes = [each for each in Quiet.asked if not each.startswith("GET")]
    check(f"and sends no change: {changes}", not changes)

    Nas.accounts |= dict.fromkeys(["gone", "other-uid", "inactive", "deactivated"], (1000, True))
    status, log = run()
    check(f"they come back: {log}", status == 0 and "locked=0 unlocked=3" in log)
    for name in ("gone", "other-uid", "inactive"):
        check(f"{name}: unlocked", told(name) == (True, None))
        check(f"{name}: its old session is not", opened[name].session_status() in (403, 401))
        back = opened[name].token_status() == 200
        check(f"{name}: nor its token, but in 2025.10", back == bool(TOKENS_THAT_STAY))
    check("deactivated stays so", told("deactivated") == (False, None))


def sessions_of_an_idle_browser(run: Runs, url: str) -> None:
    """Deactivation alone leaves the row: without a request in between, the session lives again."""
    reset()
    for name in ("alice", "bob"):
        add_user(name)
    alice = Open(User.objects.get(username="alice"), url)
    user = alice.user
    user.is_active = False
    user.save()
    left = alice.rows()
    user.is_active = True
    user.save()
    check(f"deactivation leaves the session: {left}", left["AuthenticatedSession"] == 1)
    check("and activation gives it back", alice.session_status() == 200)
    check("deactivation deletes the applications'", not left["AccessToken"] + left["RefreshToken"])
    Nas.accounts["alice"] = (1000, False)
    run()
    Nas.accounts["alice"] = (1000, True)
    run()
    check("a lock does not", told("alice") == (True, None) and alice.session_status() != 200)


def the_brake(run: Runs) -> None:
    reset()
    for number in range(6):
        add_user(f"user-{number}")
    accounts = dict(Nas.accounts)
    Nas.accounts.clear()
    status, log = run()
    check("all gone: the brake", status == 1 and "--force" in log and "level=ERROR" in log)
    Nas.accounts |= dict(list(accounts.items())[:2])
    status, log = run()
    check("4 of 6 gone: the brake", status == 1 and "4 of 6 users" in log)
    check(
        "nobody is locked", not User.objects.filter(is_active=False, username__startswith="user-")
    )
    status, log = run("--force")
    check("--force lets it through", status == 0 and "locked=4" in log)
    Nas.accounts |= accounts
    status, log = run()
    check("no brake for the way back", status == 0 and "unlocked=4" in log)


def faults(run: Runs, url: str) -> None:
    reset()
    add_user("alice")
    add_user("bob", uid=None)
    before = list(User.objects.order_by("pk").values())
    status, log = run(AUTHENTIK_TOKEN="a-token-that-is-not-one")
    check(f"a wrong token: {log}", status == 1 and "status 403" in log)
    Nas.ready = False
    check("not ready", run()[0] == 1)
    Nas.ready = True
    check("authentik gone", run(AUTHENTIK_URL="http://127.0.0.1:9")[0] == 1)
    check("another path", run(AUTHENTIK_URL=url + "/nothing")[0] == 1)
    check("nothing was changed", before == list(User.objects.order_by("pk").values()))
    stranger = User.objects.create_user("stranger", "stranger@example.com", None)
    token = Token.objects.create(identifier="of-a-stranger", intent="api", user=stranger)
    status, log = run(AUTHENTIK_TOKEN=token.key)
    check(f"without the role: {log}", status == 1 and "status 403" in log)
    check("nobody is locked", told("bob") == (True, None))
    check("with the role", run()[0] == 0 and told("bob") == (False, True))


def the_right_is_small(run: Runs, url: str) -> None:
    reset()
    key = run.environ["AUTHENTIK_TOKEN"]
    admins, _ = Group.objects.get_or_create(name="authentik Admins")
    admins.is_superuser = True
    admins.save()
    akadmin, me = (User.objects.get(username=each) for each in ("akadmin", "ugos-auth-proxy-sync"))
    token = Token.objects.create(identifier="of-akadmin", intent="api", user=akadmin)
    tried: list[tuple[str, str, Any]] = [
        ("GET", "/api/v3/core/groups/", None),
        ("GET", "/api/v3/core/applications/all/", None),
        ("GET", "/api/v3/providers/oauth2/", None),
        ("GET", "/api/v3/events/events/", None),
        ("GET", f"/api/v3/core/tokens/{token.identifier}/view_key/", None),
        ("POST", f"/api/v3/core/tokens/{token.identifier}/set_key/", {"key": "x" * 60}),
        ("POST", f"/api/v3/core/users/{akadmin.pk}/set_password/", {"password": "x" * 20}),
        ("POST", f"/api/v3/core/users/{akadmin.pk}/impersonate/", {"reason": "x"}),
        ("POST", f"/api/v3/core/users/{akadmin.pk}/recovery/", {}),
        ("POST", f"/api/v3/core/groups/{admins.pk}/add_user/", {"pk": me.pk}),
        ("POST", "/api/v3/core/users/", {"username": "new", "name": "new"}),
        ("DELETE", f"/api/v3/core/users/{akadmin.pk}/", None),
        ("PATCH", f"/api/v3/core/users/{me.pk}/", {"groups": [str(admins.pk)]}),
    ]
    for method, path, content in tried:
        body = "" if content is None else json.dumps(content)
        status = ask(url, method, path, key, body)
        print(f"  with the token: {method} {path.split('/v3')[1]}: {status}")
    superuser = User.objects.get(pk=me.pk).is_superuser
    print("  it has made itself a superuser:", superuser)
    admins.users.remove(me)
    Group.objects.get(name="ugos-auth-proxy-sync").users.set([me])


def many(run: Runs, count: int) -> None:
    reset()
    users = [
        User(
            username=f"many-{number}",
            name=f"many-{number}",
            attributes={"ugos_user": True, "ugos_uid": 1000},
            password="!",
        )
        for number in range(count)
    ]
    User.objects.bulk_create(users)
    Nas.accounts = {user.username: (1000, True) for user in users}
    Nas.accounts["many-17"] = (1000, False)
    began = time.monotonic()
    status, log = run()
    print(f"  a pass over {count} users: {time.monotonic() - began:.1f} s")
    check(f"{count} users", status == 0 and f"users={count} locked=1 unlocked=0" in log)
    check("the one", told("many-17") == (False, True))


def blueprints() -> None:
    for path in (BLUEPRINT, SYNC_BLUEPRINT):
        for _ in range(2):
            apply(path)
    find = IdentificationStage.objects.get(name="ugos-find-user-stage")
    find.user_fields, find.pretend_user_exists = ["email"], False
    find.save()
    second = FlowStageBinding.objects.filter(stage__name="ugos-second-factor-stage")
    second.update(order=55, evaluate_on_plan=True)
    apply(BLUEPRINT)
    find.refresh_from_db()
    check("an import lets unknown names go on", find.pretend_user_exists)
    check("and leaves the user fields", find.user_fields == ["email"])
    bindings = [(each.order, each.evaluate_on_plan) for each in second]
    check(f"the second factor stays alone: {bindings}", bindings == [(55, False)])
    find.user_fields = ["username"]
    find.save()
    second.update(order=50)
    made = User.objects.get(username="ugos-auth-proxy-sync")
    permissions = set(made.get_all_permissions())
    check(
        f"the role is small: {permissions}",
        permissions
        == {
            f"authentik_core.{each}"
            for each in (
                "view_user",
                "change_user",
                "view_token",
                "delete_token",
                "view_authenticatedsession",
                "delete_authenticatedsession",
            )
        },
    )


def main() -> int:
    for name in DEFAULTS:
        apply(Path("blueprints/default") / f"{name}.yaml")
    blueprints()
    server = make_server("127.0.0.1", 0, get_wsgi_application(), Threaded, Quiet)
    nas = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Nas)
    with serving(nas) as nas_url, serving(server) as url:
        run = Runs(nas_url, url)
        for scenario in (
            lambda: locks_and_unlocks(run, url),
            lambda: sessions_of_an_idle_browser(run, url),
            lambda: the_brake(run),
            lambda: faults(run, url),
            lambda: the_right_is_small(run, url),
            lambda: many(run, 250),
        ):
            scenario()
        if len(sys.argv) > 1:
            many(run, int(sys.argv[1]))
        reset()
    wrong = sum(not holds for _, holds in cases)
    print(f"{len(cases)} cases, {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
