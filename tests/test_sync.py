"""authentik-sync.py between the double of authentik and the real main.py and PAM: what is open in
authentik ends with the account on the NAS."""

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from api import Api, ApiServer, Request
from authentik.core.models import OLD, Group, Role, User
from etc import right
from flow import Browser
from logins import AKADMINS, Site, link, user
from objects import Token
from secrecy import TOKEN, keep_secret
from service import BOUND, Service, Start
from syncing import SYNC_BLUEPRINT, Passes, give_token, service_account, state

Shadow = Callable[..., None]
NAMES = ("des", "jane.doe", "MarcEwers", "sha512", "yescrypt")


@pytest.fixture
def api(site: Site) -> Iterator[Api]:
    with ApiServer(site) as server:
        yield server


@pytest.fixture
def run(site: Site, nas: Service, api: Api) -> Passes:
    return Passes(
        {
            "UGOS_AUTH_PROXY_URL": f"http://127.0.0.1:{nas.port}",
            "UGOS_AUTH_PROXY_TOKEN": TOKEN,
            "AUTHENTIK_URL": api.url,
            "AUTHENTIK_TOKEN": service_account(site),
        }
    )


@pytest.fixture
def shadow(nas: Service) -> Shadow:
    """Runs one of Debian's shadow tools on the NAS's files."""

    def run_tool(tool: str, *arguments: str) -> None:
        path = shutil.which(tool, path="/usr/sbin:/sbin")
        if path is None:
            pytest.skip(f"needs {tool} of Debian's package passwd")
        prefix = ["--prefix", str(nas.etc.path.parent)]
        subprocess.run([path, *prefix, *arguments], check=True, capture_output=True)

    return run_tool


@pytest.fixture
def browsers(site: Site, nas: Service) -> dict[str, Browser]:
    """A browser of each of NAMES that has logged in."""
    found = {}
    for name in NAMES:
        assert site.lets_in(name, right(name)) == name
        found[name] = site.browsers[-1]
    return found


def remove(nas: Service, name: str) -> None:
    for file in ("passwd", "shadow"):
        rows = nas.etc.read(file).splitlines(keepends=True)
        nas.etc.replace(file, "".join(row for row in rows if not row.startswith(f"{name}:")))


CHANGES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "locked": (("usermod", "-L", "jane.doe"), ("usermod", "-U", "jane.doe")),
    "expired": (("usermod", "-e", "2020-01-01", "jane.doe"), ("usermod", "-e", "", "jane.doe")),
    "with another uid": (
        ("usermod", "-u", "1999", "jane.doe"),
        ("usermod", "-u", "1600", "jane.doe"),
    ),
}


@pytest.mark.parametrize("how", CHANGES)
def test_an_account_that_is_changed_is_locked_at_the_next_pass_and_comes_back(
    site: Site, browsers: dict[str, Browser], run: Passes, shadow: Shadow, how: str
) -> None:
    attributes = user("jane.doe").attributes
    assert run().counts == (5, 0, 0)
    away, back = CHANGES[how]
    shadow(*away)
    done = run()
    assert (done.status, done.counts) == (0, (5, 1, 0))
    assert " event=lock user=jane.doe reason=" in done.log
    assert state("jane.doe") == (False, True)
    assert browsers["jane.doe"].user is None
    assert {name for name in NAMES if browsers[name].user} == set(NAMES) - {"jane.doe"}
    assert run().counts == (5, 0, 0)
    shadow(*back)
    done = run()
    assert (done.status, done.counts) == (0, (5, 0, 1))
    assert " event=unlock user=jane.doe" in done.log
    assert state("jane.doe") == (True, None)
    assert user("jane.doe").attributes == attributes
    assert browsers["jane.doe"].user is None  # that session is over
    assert site.lets_in("jane.doe", right("jane.doe")) == "jane.doe"


def test_an_account_that_is_removed_is_locked_at_the_next_pass(
    browsers: dict[str, Browser], run: Passes, shadow: Shadow, nas: Service
) -> None:
    shadow("userdel", "jane.doe")
    assert "jane.doe:" not in nas.etc.read("passwd")
    assert run().counts == (5, 1, 0)
    assert state("jane.doe") == (False, True)
    assert browsers["jane.doe"].user is None


def test_a_password_that_must_be_changed_is_no_lock(site: Site, run: Passes, nas: Service) -> None:
    for name in ("des.mustchange", "des.agedout"):
        link(name)
    assert run().counts == (2, 0, 0)


def test_sessions_and_tokens_of_the_locked_user_go_and_nobody_elses(
    site: Site, browsers: dict[str, Browser], run: Passes, nas: Service
) -> None:
    kept = [give_token(site, user(name)) for name in ("des", "akadmin")]
    for intent in ("api", "app_password", "recovery"):
        give_token(site, user("jane.doe"), intent)
    site.grants = {"of-jane": user("jane.doe").pk, "of-des": user("des").pk}
    nas.etc.lock("jane.doe")
    assert run().counts == (5, 1, 0)
    left = [row.identifier for row in site.store.all(Token) if row.user != user("jane.doe").pk]
    assert left == ["ugos-auth-proxy-sync", *(row.identifier for row in kept)]
    # in 2025.10 they are good again when he is unlocked: docs/authentik-sync.md says so
    of_jane = [row for row in site.store.all(Token) if row.user == user("jane.doe").pk]
    assert len(of_jane) == (3 if OLD else 0)
    assert site.grants == {"of-des": user("des").pk}
    assert browsers["jane.doe"].owner is None
    assert browsers["des"].user == "des"


def test_a_session_that_was_made_while_the_user_was_locked_does_not_come_back_with_him(
    site: Site, browsers: dict[str, Browser], run: Passes, nas: Service
) -> None:
    """A login that was between password and second factor when the user was locked."""
    nas.etc.lock("jane.doe")
    run()
    browser = site.browser()
    browser.start("ugos-authentication", user("jane.doe"))
    assert browser.owner == user("jane.doe").pk
    nas.etc.set_hash("jane.doe", lambda hashed: hashed.lstrip("!"))
    assert run().counts == (5, 0, 1)
    assert browser.user is None


def test_a_mark_that_an_administrator_takes_away_while_sessions_are_deleted_counts(
    site: Site, browsers: dict[str, Browser], run: Passes, nas: Service, api: Api
) -> None:
    """Taking it away keeps the user out: docs/authentik-sync.md says so."""
    nas.etc.lock("jane.doe")
    run()
    site.browser().start("ugos-authentication", user("jane.doe"))
    nas.etc.set_hash("jane.doe", lambda hashed: hashed.lstrip("!"))

    def spoil(request: Request) -> None:
        if request.method == "DELETE":
            jane = user("jane.doe")
            jane.attributes.pop("ugos_locked", None)
            jane.save()

    api.spoil = spoil
    done = run()
    assert (done.status, done.counts) == (1, (5, 0, 0))
    assert "the user has been changed meanwhile" in done.log
    assert state("jane.doe") == (False, None)


def test_hundreds_of_sessions_and_tokens_go(
    site: Site, browsers: dict[str, Browser], run: Passes, nas: Service
) -> None:
    jane = user("jane.doe")
    for number in range(250):
        site.store.rows.append(Token(identifier=f"token-{number}", user=jane.pk))
    nas.etc.lock("jane.doe")
    assert run().counts == (5, 1, 0)
    left = [row for row in site.store.all(Token) if row.user == jane.pk]
    assert len(left) == (250 if OLD else 0)  # 2025.10 shows them to superusers only


def test_what_a_lock_has_left_behind_is_swept_by_the_next(
    site: Site, browsers: dict[str, Browser], run: Passes, nas: Service, api: Api
) -> None:
    jane = give_token(site, user("jane.doe"))
    api.spoil = lambda request: b"" if request.method == "DELETE" else None
    nas.etc.lock("jane.doe")
    done = run()
    assert (done.status, done.counts) == (1, (5, 1, 0))
    assert state("jane.doe") == (False, True)
    assert browsers["jane.doe"].owner is not None
    api.spoil = lambda _: None
    assert run().counts == (5, 0, 0)
    assert browsers["jane.doe"].owner is None
    assert (jane in site.store.rows) is OLD


# --- Whom it never touches -----------------------------------------------------------------------


def test_users_that_are_not_the_nas_s_are_never_touched(
    site: Site, browsers: dict[str, Browser], run: Passes, nas: Service, api: Api
) -> None:
    for name, attributes in {
        "local": {},
        "text": {"ugos_user": "true"},
        "one": {"ugos_user": 1},
        "false": {"ugos_user": False},
        "marked": {"ugos_locked": True},
    }.items():
        made = User.objects.create_user(name, f"{name}@example.com", None)
        User.objects.filter(pk=made.pk).update(attributes=attributes)
    User.objects.filter(username="marked").update(is_active=False)
    before = list(User.objects.order_by("pk").values())
    assert run().counts == (5, 0, 0)
    assert list(User.objects.order_by("pk").values()) == before
    assert not api.changes
    asked = {
        line.split("username=")[1].split()[0] for line in nas.log_lines() if "username=" in line
    }
    assert not asked & {"local", "text", "one", "false", "marked"}


def test_whom_an_administrator_has_deactivated_stays_so(
    browsers: dict[str, Browser], run: Passes, nas: Service
) -> None:
    User.objects.filter(username="jane.doe").update(is_active=False)
    for _ in range(2):
        assert run().counts == (5, 0, 0)
        assert state("jane.doe") == (False, None)
        nas.etc.lock("jane.doe")
    nas.etc.set_hash("jane.doe", lambda hashed: hashed.lstrip("!"))
    assert run().counts == (5, 0, 0)
    assert state("jane.doe") == (False, None)


@pytest.mark.parametrize("name", AKADMINS)
def test_akadmin_is_never_touched_however_it_is_spelled(
    site: Site, run: Passes, api: Api, name: str
) -> None:
    User.objects.filter(username="akadmin").update(username=name)
    marks = {"ugos_user": True, "ugos_uid": 1, "ugos_locked": True}
    for active in (True, False):
        User.objects.filter(username=name).update(is_active=active, attributes=marks)
        assert run().counts == (0, 0, 0)
        assert state(name) == (active, True)
    assert not api.changes


def test_a_user_whom_an_administrator_has_activated_against_the_nas_is_locked_again(
    browsers: dict[str, Browser], run: Passes, nas: Service
) -> None:
    nas.etc.lock("jane.doe")
    run()
    User.objects.filter(username="jane.doe").update(is_active=True)
    assert run().counts == (5, 1, 0)
    assert state("jane.doe") == (False, True)


def test_a_mark_that_was_left_on_an_active_user_goes_and_his_sessions_stay(
    browsers: dict[str, Browser], run: Passes
) -> None:
    """Else the next deactivation by an administrator would be undone."""
    jane = user("jane.doe")
    jane.attributes["ugos_locked"] = True
    jane.save()
    assert run().counts == (5, 0, 1)
    assert state("jane.doe") == (True, None)
    assert browsers["jane.doe"].user == "jane.doe"


@pytest.mark.parametrize("locked", [False, True])
def test_who_is_changed_between_both_looks_at_him_is_left_alone(
    browsers: dict[str, Browser], run: Passes, nas: Service, api: Api, locked: bool
) -> None:
    nas.etc.lock("jane.doe")
    if locked:
        run()
        nas.etc.set_hash("jane.doe", lambda hashed: hashed.lstrip("!"))
    jane = user("jane.doe")
    change = {"attributes": {**jane.attributes, "ugos_user": False}}
    api.asked.clear()

    def spoil(request: Request) -> None:
        if request.path.endswith(f"/users/{jane.pk}/"):
            User.objects.filter(pk=jane.pk).update(**change)

    api.spoil = spoil
    done = run()
    assert (done.status, done.counts) == (1, (5, 0, 0))
    assert 'event=skipped user=jane.doe reason="the user has been changed meanwhile"' in done.log
    assert not api.changes


# --- The brake -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("linked", "gone", "goes_on"),
    [(1, 1, True), (2, 1, True), (2, 2, False), (3, 3, False), (4, 3, True), (9, 3, True)]
    + [(9, 4, False), (11, 4, False), (12, 4, True), (13, 5, False), (15, 5, True)],
)
def test_the_brake(
    site: Site, run: Passes, nas: Service, api: Api, linked: int, gone: int, goes_on: bool
) -> None:
    for number in range(linked):
        link(f"user-{number}")
        if number >= gone:
            nas.etc.add_user(f"user-{number}")
            nas.etc.set_password(f"user-{number}", "right-of-a-user")
    done = run()
    if not goes_on:
        assert done.status == 1
        assert not api.changes
        assert User.objects.filter(is_active=False).count() == 0
        assert " level=ERROR " in done.log
        assert "--force" in done.log
        done = run("--once", "--force")
    assert (done.status, done.counts) == (0, (linked, gone, 0))


def test_an_empty_passwd_locks_nobody(
    browsers: dict[str, Browser], run: Passes, nas: Service, api: Api
) -> None:
    for text in ("", "root:x:0:0:root:/root:/bin/bash\n"):
        nas.etc.replace("passwd", text)
        assert run().status == 1
    assert not api.changes


def test_the_brake_counts_those_who_could_be_locked(
    browsers: dict[str, Browser], run: Passes, nas: Service
) -> None:
    for name in ("des", "jane.doe", "sha512"):
        nas.etc.lock(name)
    assert run().counts == (5, 3, 0)
    for name in ("MarcEwers", "yescrypt"):
        remove(nas, name)
    assert run().status == 1
    assert state("MarcEwers") == (True, None)


def test_the_way_back_has_no_brake(browsers: dict[str, Browser], run: Passes, nas: Service) -> None:
    before, shadow = nas.etc.read("passwd"), nas.etc.read("shadow")
    for name in NAMES:
        remove(nas, name)
    assert run("--force").counts == (5, 5, 0)
    nas.etc.replace("passwd", before)
    nas.etc.replace("shadow", shadow)
    assert run().counts == (5, 0, 5)


# --- The right to do so --------------------------------------------------------------------------


def test_the_blueprint_makes_a_service_account_with_a_small_role(site: Site, run: Passes) -> None:
    made = user("ugos-auth-proxy-sync")
    assert (made.type, made.path) == ("service_account", "goauthentik.io/service-accounts")
    assert not made.has_usable_password()
    assert not made.is_superuser
    assert [role.name for role in made.all_roles()] == ["ugos-auth-proxy-sync"]
    assert sorted(made.all_roles()[0].permissions) == [
        "authentik_core.change_user",
        "authentik_core.delete_authenticatedsession",
        "authentik_core.delete_token",
        "authentik_core.view_authenticatedsession",
        "authentik_core.view_token",
        "authentik_core.view_user",
    ]
    again = site.import_blueprint(SYNC_BLUEPRINT)
    assert (again.created, again.changed) == (0, 0)


@pytest.mark.parametrize("missing", ["view_user", "change_user"])
def test_without_a_right_it_changes_nothing_and_says_so(
    browsers: dict[str, Browser], run: Passes, nas: Service, missing: str
) -> None:
    role = Role.objects.get(name="ugos-auth-proxy-sync")
    role.permissions.remove(f"authentik_core.{missing}")
    role.save()
    nas.etc.lock("jane.doe")
    done = run()
    assert done.status == 1
    assert "authentik: status 403 for /api/v3/core/users/" in done.log
    assert state("jane.doe") == (True, None)


def test_it_is_not_in_the_other_blueprint(site: Site) -> None:
    assert not User.objects.filter(username="ugos-auth-proxy-sync").exists()
    assert not Group.objects.filter(name="ugos-auth-proxy-sync").exists()


# --- As a service --------------------------------------------------------------------------------


def test_it_looks_again_and_again_and_ends_when_it_is_told_to(
    browsers: dict[str, Browser], run: Passes, nas: Service
) -> None:
    process = subprocess.Popen(
        run.command(), env=run.environ(INTERVAL="10"), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr
    try:
        lines = iter(process.stderr.readline, "")
        assert "event=start" in next(lines)
        assert "event=pass users=5 locked=0 unlocked=0" in next(lines)
        nas.etc.lock("jane.doe")
        assert "event=lock user=jane.doe" in next(lines)
        assert "level=INFO event=pass users=5 locked=1 unlocked=0" in next(lines)
        process.send_signal(signal.SIGTERM)
        assert process.wait(BOUND) == 0
        assert not list(lines)
    finally:
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_between_two_users(
    site: Site,
    browsers: dict[str, Browser],
    run: Passes,
    nas: Service,
    api: Api,
    number: signal.Signals,
) -> None:
    for name in ("des", "jane.doe", "MarcEwers"):
        give_token(site, user(name))
        nas.etc.lock(name)
    process = subprocess.Popen(run.command(), env=run.environ(), stderr=subprocess.PIPE, text=True)

    def spoil(request: Request) -> None:
        if request.method == "PATCH":
            process.send_signal(number)

    api.spoil = spoil
    assert process.stderr
    log = process.stderr.read()
    assert process.wait(BOUND) == 0
    assert log.count("event=lock ") == 1
    locked = User.objects.get(is_active=False)
    assert OLD or not [row for row in site.store.all(Token) if row.user == locked.pk]
    assert len([each for each in api.changes if each.method == "PATCH"]) == 1


def test_the_tokens_may_be_in_files(run: Passes, tmp_path: Path) -> None:
    for name in ("UGOS_AUTH_PROXY_TOKEN", "AUTHENTIK_TOKEN"):
        file = tmp_path / name
        file.write_text(run.env.pop(name) + "\n")
        run.env[f"{name}_FILE"] = str(file)
    assert run().status == 0


def test_with_tls_it_trusts_the_certificate_that_is_named_and_no_other(
    run: Passes, start: Start, tmp_path: Path
) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    options = ["-subj", "/CN=nas", "-addext", "subjectAltName=IP:127.0.0.1"]
    options += ["-out", str(cert), "-keyout", str(key)]
    subprocess.run([*command.split(), *options], check=True, capture_output=True)
    nas = start(AUTH_TOKEN=TOKEN, TLS_CERT=cert, TLS_KEY=key)
    url = f"https://127.0.0.1:{nas.port}"
    assert run(UGOS_AUTH_PROXY_URL=url, UGOS_AUTH_PROXY_CA=str(cert)).status == 0
    done = run(UGOS_AUTH_PROXY_URL=url)
    assert done.status == 1
    assert "ugos-auth-proxy: SSLCertVerificationError" in done.log


def test_the_log_holds_no_token(run: Passes) -> None:
    link("des")
    for name in ("UGOS_AUTH_PROXY_TOKEN", "AUTHENTIK_TOKEN"):
        wrong = keep_secret(f"wrong-token-of-{name}")
        assert run(**{name: wrong}).status == 1  # the session looks for it in every log
