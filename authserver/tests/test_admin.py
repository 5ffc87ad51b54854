"""The admin: who may in, what it changes by which rules, and what it never shows."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from django.apps import apps
from django.contrib import admin
from django.urls import reverse

from authserver.accounts import addresses, groups, service_users
from authserver.accounts.models import (
    Domain,
    Group,
    KnownDevice,
    Permission,
    Refusal,
    ServiceUser,
    Session,
    SetupToken,
    User,
)
from authserver.accounts.throttle import name_digest
from authserver.audit.models import Event
from authserver.domains.keys import make_key
from authserver.domains.models import DomainKey
from authserver.oidc.models import Application, DeviceCode, Grant, SigningKey, Token
from authserver.registry import keys as registry_keys
from authserver.registry import registries
from authserver.registry.models import (
    DockerRegistry,
    RegistryKey,
    RegistryRefreshToken,
    RepoRight,
)
from authserver.registry.tokens import make_refresh_token
from tests.browser import Browser
from tests.processes import keep_secret
from tests.relying_party import RelyingParty
from tests.server import PASSWORD, Server

# Django's own, which nothing here uses or shows
NOT_OURS = {"contenttypes.contenttype", "auth.permission", "auth.group", "admin.logentry"}
USERS = "/admin/accounts/user/"


@pytest.fixture(scope="module")
def ada(server: Server) -> Browser:
    """The browser of an administrator."""
    server.make_user("ada", fullname="Ada Admin", staff=True)
    return server.browser().signed_in("ada", PASSWORD)


def main_form(browser: Browser, path: str) -> int:
    """The number of the form that saves: the one with the most fields."""
    from tests.browser import forms_of

    forms = forms_of(browser.get(path).text)
    return max(range(len(forms)), key=lambda number: len(forms[number][1]))


def save(browser: Browser, path: str, **fields: Any) -> httpx.Response:
    """Open a page of the admin, fill its form in, and save. None leaves a field out."""
    action, found = browser.form(path, main_form(browser, path))
    given = {k: v for k, v in {**found, **fields}.items() if v is not None}
    given.pop("_continue", None)
    given.pop("_addanother", None)
    return browser.post(action, data=given, headers={"Origin": browser.base})


def press(browser: Browser, path: str, tool: str) -> httpx.Response:
    """Press a button of a change page."""
    page = browser.get(path).text
    address = re.search(rf'action="([^"]*/tool/{tool}/)"', page)
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]*)"', page)
    assert address, page
    assert token
    data = {"csrfmiddlewaretoken": token[1]}
    return browser.post(address[1], data=data, headers={"Origin": browser.base})


def change(user: User) -> str:
    return f"{USERS}{user.pk}/change/"


def test_every_model_is_there() -> None:
    from django.contrib.admin.sites import site

    admin.autodiscover()
    missing = {
        model._meta.label_lower for model in apps.get_models() if model not in site._registry
    }
    assert missing == NOT_OURS


# --- Who may in -----------------------------------------------------------------------------------


def test_nobody_but_administrators_may_in(server: Server) -> None:
    server.make_user("mallory")
    browser = server.browser().signed_in("mallory", PASSWORD)
    for path in ("/admin/", USERS, f"{USERS}add/", "/admin/audit/event/"):
        answer = browser.get(path)
        assert answer.status_code == 403
        assert "This is not for you" in answer.text


def test_who_is_not_signed_in_does_so_at_the_one_sign_in(server: Server) -> None:
    browser = server.browser()
    answer = browser.get(USERS)
    assert answer.status_code == 302
    server.make_user("late", staff=True)
    answer = browser.sign_in("late", PASSWORD, answer.headers["Location"])
    assert answer.headers["Location"] == USERS


def test_an_administrator_who_is_none_any_more_is_out_at_once(server: Server) -> None:
    user = server.make_user("former", staff=True)
    browser = server.browser().signed_in("former", PASSWORD)
    assert browser.get("/admin/").status_code == 200
    with server.database():
        User.objects.filter(pk=user.pk).update(is_staff=False)
    assert browser.get("/admin/").status_code == 403


# --- People ---------------------------------------------------------------------------------------


def test_a_person_is_added_with_everything_and_gets_a_link(server: Server, ada: Browser) -> None:
    with server.database():
        domain = Domain.objects.create(name="people.example")
        group = groups.create_group("book club", "tests")
        permission = groups.create_permission("books.read", "Read books", "tests")
    answer = save(
        ada,
        f"{USERS}add/",
        identifier="bea",
        fullname="Bea Book",
        mailprefix="bea",
        domain=str(domain.pk),
        groups=[str(group.pk)],
        permissions=[str(permission.pk)],
    )
    assert answer.status_code == 200
    link = re.search(r"http://[^<]*/account/password/set/[^<]*", answer.text)
    assert link
    with server.database():
        user = User.objects.get(identifier="bea")
        assert str(user.delivery_mailbox) == "bea@people.example"
        assert [*user.groups.all()] == [group]
        assert [*user.permissions.all()] == [permission]
        made = Event.objects.get(kind="user.created", subject="bea")
        assert made.actor == "ada"
    anybody = server.browser()
    answer = anybody.submit(
        link[0].removeprefix(server.base),
        password=keep_secret("a new password"),
        again="a new password",
    )
    assert answer.status_code == 302
    assert anybody.sign_in("bea", "a new password").status_code == 302


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"identifier": "with blank"}, "no blanks"),
        ({"identifier": "ADA"}, "exists already"),
        ({"identifier": "someone", "password": "short"}, "too short"),
        ({"identifier": "someone", "source": "nas", "password": "long enough"}, "is the NAS"),
        ({"identifier": "someone", "mailprefix": "someone"}, "a local part and a domain"),
    ],
)
def test_what_no_rule_lets_pass_is_said_at_the_form(
    server: Server, ada: Browser, fields: dict[str, str], said: str
) -> None:
    answer = save(ada, f"{USERS}add/", **fields)
    assert answer.status_code == 200
    assert said in answer.text
    with server.database():
        assert not User.objects.filter(identifier__in=["with blank", "ADA", "someone"]).exists()


def test_a_taken_name_of_a_service_user_or_address_is_said_too(
    server: Server, ada: Browser
) -> None:
    owner = server.make_user("owner")
    with server.database():
        domain = Domain.objects.create(name="taken.example")
        addresses.create_alias("owner", domain, owner, "tests")
        service_users.create_service_user(owner, "owner-phone", "", "tests")
    answer = save(ada, f"{USERS}add/", identifier="Owner-Phone")
    assert "exists already" in answer.text
    fields = {"identifier": "other", "mailprefix": "OWNER", "domain": str(domain.pk)}
    assert "already an address of owner" in save(ada, f"{USERS}add/", **fields).text


def test_deactivation_ends_what_is_open(server: Server, ada: Browser) -> None:
    user = server.make_user("dan")
    browser = server.browser().signed_in("dan", PASSWORD)
    application = RelyingParty(server, skip_authorization=True)
    tokens = application.tokens(browser, scope="openid offline_access")
    assert save(ada, change(user), is_active=None).status_code == 302
    assert not browser.is_signed_in()
    assert application.userinfo(tokens["access_token"]).status_code == 401
    with server.database():
        assert not Session.objects.filter(user=user).exists()
        assert Event.objects.get(kind="user.deactivated", subject="dan").actor == "ada"


def test_removal_takes_all_that_is_his(server: Server, ada: Browser) -> None:
    user = server.make_user("rex")
    browser = server.browser().signed_in("rex", PASSWORD)
    path = f"{USERS}{user.pk}/delete/"
    answer = ada.submit(path, post="yes")
    assert answer.status_code == 302
    assert not browser.is_signed_in()
    with server.database():
        assert not User.objects.filter(pk=user.pk).exists()
        assert Event.objects.get(kind="user.removed", subject="rex").actor == "ada"


def test_local_becomes_nas_and_back(server: Server, ada: Browser) -> None:
    user = server.make_user("tina")
    browser = server.browser().signed_in("tina", PASSWORD)
    assert save(ada, change(user), source="nas").status_code == 302
    assert not browser.is_signed_in()
    with server.database():
        user.refresh_from_db()
        assert (user.source, user.has_usable_password()) == ("nas", False)
    assert 'tool/invite/"' not in ada.get(change(user)).text
    assert save(ada, change(user), source="local").status_code == 302
    with server.database():
        user.refresh_from_db()
        assert user.source == "local"
    assert server.browser().sign_in("tina", PASSWORD).status_code == 200  # its old one is gone


def test_groups_and_permissions_change_by_rules(server: Server, ada: Browser) -> None:
    user = server.make_user("gus")
    with server.database():
        first, second = (groups.create_group(name, "tests") for name in ("first", "second"))
        groups.join(user, [first], "tests")
    assert save(ada, change(user), groups=[str(second.pk)]).status_code == 302
    with server.database():
        assert [*user.groups.all()] == [second]
        kinds = Event.objects.filter(subject="gus", actor="ada").values_list("kind", flat=True)
        assert {"membership.granted", "membership.revoked"} <= set(kinds)


def test_addresses_and_service_users_change_on_the_page_of_their_user(
    server: Server, ada: Browser
) -> None:
    user = server.make_user("amy")
    with server.database():
        domain = addresses.create_domain("amy.example", "tests")
        alias = addresses.create_alias("amy", domain, user, "tests")
        gone = addresses.create_alias("old", domain, user, "tests")
        service, _ = service_users.create_service_user(user, "amy-tv", "", "tests")
    page = ada.get(change(user)).text
    rows = {
        re.search(rf'name="({name}-\d+)-id" value="{row.pk}"', page)[1]: row  # type: ignore[index]
        for name, row in (("aliases", alias), ("aliases", gone), ("service_users", service))
    }
    fields = {f"{prefix}-DELETE": "on" for prefix, row in rows.items() if row in (gone, service)}
    prefix = next(prefix for prefix, row in rows.items() if row == alias)
    fields |= {f"{prefix}-mailprefix": "amy.new", "delivery_mailbox": str(alias.pk)}
    assert save(ada, change(user), **fields).status_code == 302
    with server.database():
        assert [str(each) for each in user.aliases.all()] == ["amy.new@amy.example"]
        assert not user.service_users.exists()
        user.refresh_from_db()
        assert user.delivery_mailbox == alias
        assert Event.objects.filter(kind="serviceuser.removed", actor="ada").exists()


def test_buttons_sign_out_and_forget_failures(server: Server, ada: Browser) -> None:
    user = server.make_user("ben")
    browser = server.browser().signed_in("ben", PASSWORD)
    assert press(ada, change(user), "sign_out").status_code == 302
    assert not browser.is_signed_in()
    with server.database():
        Refusal.objects.create(name=name_digest("ben"), network="192.0.2.1")
    assert press(ada, change(user), "unlock").status_code == 302
    with server.database():
        assert not Refusal.objects.filter(name=name_digest("ben")).exists()
        assert Event.objects.get(kind="user.unlocked", subject="ben").actor == "ada"


def test_a_button_that_is_none_is_not_found(server: Server, ada: Browser) -> None:
    user = server.make_user("zoe")
    page = ada.get(change(user)).text
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]*)"', page)
    assert token
    for tool in ("delete_model", "get_urls", "nothing"):
        answer = ada.post(
            f"{USERS}{user.pk}/tool/{tool}/",
            data={"csrfmiddlewaretoken": token[1]},
            headers={"Origin": ada.base},
        )
        assert answer.status_code == 404
    assert ada.get(f"{USERS}{user.pk}/tool/sign_out/").status_code == 405


def test_failed_logins_are_shown_by_name_and_forgotten(server: Server, ada: Browser) -> None:
    server.make_user("fay")
    stranger = server.browser("127.0.0.7")
    for _ in range(2):
        stranger.sign_in("fay", "wrong guess")
        stranger.sign_in("a password typed here", "wrong guess")
    page = ada.get("/admin/accounts/refusal/").text
    assert "fay" in page
    assert "127.0.0.7" in page
    assert "a password typed here" not in page
    number = re.search(r'action="(/admin/accounts/refusal/\d+/unlock/)"', page)
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]*)"', page)
    assert number
    assert token
    data = {"csrfmiddlewaretoken": token[1]}
    assert ada.post(number[1], data=data, headers={"Origin": ada.base}).status_code == 302
    with server.database():
        names = Refusal.objects.filter(network="127.0.0.7").values_list("name", flat=True)
        assert len(set(names)) == 1  # of two


def test_a_domain_with_addresses_stays_and_the_page_says_why(server: Server, ada: Browser) -> None:
    user = server.make_user("dot")
    with server.database():
        domain = addresses.create_domain("dot.example", "tests")
        addresses.create_alias("dot", domain, user, "tests")
    path = f"/admin/accounts/domain/{domain.pk}/delete/"
    assert ada.submit(path, post="yes").status_code == 302
    assert "There are addresses in dot.example" in ada.get(path).text


# --- Applications ---------------------------------------------------------------------------------


def test_an_application_is_added_and_its_secret_shown_once(server: Server, ada: Browser) -> None:
    with server.database():
        permission = groups.create_permission("photos.see", "See photos", "tests")
    path = "/admin/oidc/application/"
    answer = save(
        ada,
        f"{path}add/",
        name="Photo album",
        redirect_uris="https://photos.example/cb\r\nhttps://photos.example/cb2",
        required_permissions=[str(permission.pk)],
        authorization_code="on",
    )
    assert answer.status_code == 200
    shown = re.findall(r'<p class="secret">([^<]*)</p>', answer.text)
    assert len(shown) == 2
    keep_secret(shown[1])
    with server.database():
        row = Application.objects.get(name="Photo album")
        assert row.client_id == shown[0]
        assert row.redirect_uri_list == ["https://photos.example/cb", "https://photos.example/cb2"]
        assert [*row.required_permissions.all()] == [permission]
    asked = {"grant_type": "refresh_token", "refresh_token": "none"}
    for secret, status in ((shown[1], 400), ("wrong secret", 401)):
        answer = httpx.post(f"{server.base}/o2/token/", data=asked, auth=(shown[0], secret))
        assert answer.status_code == status
    page = ada.get(f"{path}{row.pk}/change/")
    assert page.status_code == 200
    assert shown[1] not in page.text
    answer = press(ada, f"{path}{row.pk}/change/", "reset_secret")
    again = re.findall(r'<p class="secret">([^<]*)</p>', answer.text)
    assert keep_secret(again[1]) != shown[1]
    answer = httpx.post(f"{server.base}/o2/token/", data=asked, auth=(shown[0], shown[1]))
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("uri", "said"),
    [("http://photos.example/cb", "http"), ("https://photos.example/cb#part", "fragment")],
)
def test_a_redirect_uri_that_can_never_be_right_is_said(
    server: Server, ada: Browser, uri: str, said: str
) -> None:
    answer = save(ada, "/admin/oidc/application/add/", name="Never", redirect_uris=uri)
    assert answer.status_code == 200
    assert said in answer.text
    with server.database():
        assert not Application.objects.filter(name="Never").exists()


def test_an_icon_is_a_picture_and_nothing_else(server: Server, ada: Browser) -> None:
    path = "/admin/oidc/application/add/"
    png = b"\x89PNG\r\n\x1a\n" + b"\0" * 64
    pictures = ((png, 200), (b"<!doctype html><script>", 0), (b"\x89PNG\r\n" + b"\0" * 60_000, 0))
    for number, (content, good) in enumerate(pictures):
        action, fields = ada.form(path, main_form(ada, path))
        name = f"icon {number}"
        answer = ada.post(
            action,
            data={**fields, "name": name, "redirect_uris": "https://icon.example/"},
            files={"picture": ("icon.png", content)},
            headers={"Origin": ada.base},
        )
        with server.database():
            row = Application.objects.filter(name=name).first()
        assert bool(row) == bool(good), answer.text
        if row:
            assert row.icon.startswith("data:image/png;base64,")
            for secret in re.findall(r'<p class="secret">([^<]*)</p>', answer.text):
                keep_secret(secret)


# --- What is never shown --------------------------------------------------------------------------


def test_no_page_shows_or_takes_a_secret(server: Server, ada: Browser) -> None:
    owner = server.make_user("secretive")
    browser = server.browser().signed_in("secretive", PASSWORD)
    application = RelyingParty(server, "Secretive", device_code=True)
    application.tokens(browser, scope="openid offline_access")
    asked = {"client_id": application.client_id, "client_secret": application.secret}
    answer = application.http.post("/o2/device_authorization/", data={**asked, "scope": "openid"})
    keep_secret(answer.json()["device_code"])
    with server.database():
        domain = addresses.create_domain("secret.example", "tests")
        make_key(domain, DomainKey.JWT, "tests")
        service_users.create_service_user(owner, "", "", "tests")
        registry = DockerRegistry.objects.create(name="registry", client_id="r", domain=domain)
        registry_keys.make_key(registry)
        keep_secret(make_refresh_token(registry, owner, None, "docker", "192.0.2.1"))
        SetupToken.objects.create(token=keep_secret("setup-token-of-this-test"))
        secrets = {
            *User.objects.values_list("password", flat=True),
            *ServiceUser.objects.values_list("digest", flat=True),
            *ServiceUser.objects.values_list("crypt", flat=True),
            *Session.objects.values_list("digest", flat=True),
            *Session.objects.values_list("data", flat=True),
            *SetupToken.objects.values_list("token", flat=True),
            *Application.objects.values_list("secret_digest", flat=True),
            *Grant.objects.values_list("code_digest", flat=True),
            *Token.objects.values_list("digest", flat=True),
            *DeviceCode.objects.values_list("digest", flat=True),
            *DeviceCode.objects.values_list("user_code_digest", flat=True),
            *SigningKey.objects.values_list("private_pem", flat=True),
            *DomainKey.objects.values_list("private_key", flat=True),
            *RegistryKey.objects.values_list("private_key", flat=True),
            *RegistryRefreshToken.objects.values_list("digest", flat=True),
            *Refusal.objects.values_list("name", flat=True),
            *KnownDevice.objects.values_list("digest", flat=True),
        }
        pages = [*pages_of_all_models()]
    texts = {part for each in secrets if each for part in (each, each[30:60]) if len(part) > 12}
    assert len(texts) > 20
    assert len(pages) > 60
    for path in pages:
        answer = ada.get(path)
        assert answer.status_code in (200, 302, 403), path
        found = [text for text in texts if text in answer.text]
        assert found == [], path
        for field in ("digest", "private_", "secret_digest", "crypt", "code_digest", "token"):
            assert f'name="{field}' not in answer.text, path


def pages_of_all_models() -> Iterator[str]:
    """The list of each model, and of its first rows the pages to change and delete them."""
    from django.contrib.admin.sites import site

    for model in site._registry:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        yield reverse(f"{name}_changelist")
        if model in (Session, Token, DeviceCode):  # whose rows have no page
            continue
        for row in model._default_manager.all()[:3]:
            yield reverse(f"{name}_change", args=[row.pk])
            yield reverse(f"{name}_delete", args=[row.pk])


def test_no_list_can_be_asked_for_what_it_does_not_show(server: Server, ada: Browser) -> None:
    """Else a secret could be guessed letter by letter: `?private_pem__startswith=`."""
    from django.contrib.admin.sites import site

    asked = 0
    for model, page in site._registry.items():
        if model is Refusal:  # its page is no list of Django's, and reads no query
            continue
        shown = {*page.list_display, *page.list_filter, page.date_hierarchy}
        path = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        for field in model._meta.concrete_fields:
            if field.name in shown or field.is_relation:
                continue
            answer = ada.get(path, params={f"{field.name}__startswith": "a"})
            assert answer.status_code == 400, (path, field.name)
            asked += 1
    assert asked > 40
    assert ada.get(USERS, params={"source__exact": "local"}).status_code == 200
    assert ada.get(USERS, params={"groups__id__exact": "1"}).status_code == 200
    assert ada.get("/admin/audit/event/", params={"subject": "ada"}).status_code == 200


def test_what_is_named_by_a_digest_has_no_page(server: Server, ada: Browser) -> None:
    with server.database():
        digest = Session.objects.first()
        assert digest
    for path in ("accounts/session", "oidc/token", "oidc/devicecode"):
        answer = ada.get(f"/admin/{path}/{digest.pk}/change/")
        assert answer.status_code == 302  # "does not exist"
        assert answer.headers["Location"] == "/admin/"


def test_a_session_is_ended_from_the_list(server: Server, ada: Browser) -> None:
    server.make_user("sid")
    browser = server.browser().signed_in("sid", PASSWORD)
    page = ada.get("/admin/accounts/session/?q=sid").text
    button = re.search(r'formaction="([^"]*)"', page)
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]*)"', page)
    assert button
    assert token
    data = {"csrfmiddlewaretoken": token[1]}
    assert ada.post(button[1], data=data, headers={"Origin": ada.base}).status_code == 302
    assert not browser.is_signed_in()


def test_the_log_is_read_only(server: Server, ada: Browser) -> None:
    with server.database():
        event = Event.objects.first()
        assert event
    page = ada.get(f"/admin/audit/event/{event.pk}/change/")
    assert page.status_code == 200
    assert 'name="_save"' not in page.text
    assert ada.get(f"/admin/audit/event/{event.pk}/delete/").status_code == 403
    assert ada.get("/admin/audit/event/add/").status_code == 403
    assert ada.get("/admin/audit/event/?kind=login").status_code == 200


def test_a_group_and_a_permission_are_made_and_removed(server: Server, ada: Browser) -> None:
    assert (
        save(
            ada, "/admin/accounts/permission/add/", permission_name="tea.make", name="Make tea"
        ).status_code
        == 302
    )
    answer = save(ada, "/admin/accounts/permission/add/", permission_name="openid", name="x")
    assert "standard scope" in answer.text
    with server.database():
        permission = Permission.objects.get(permission_name="tea.make")
    fields = {"name": "kitchen", "permissions": [str(permission.pk)]}
    assert save(ada, "/admin/accounts/group/add/", **fields).status_code == 302
    with server.database():
        group = Group.objects.get(name="kitchen")
        assert [*group.permissions.all()] == [permission]
    assert ada.submit(f"/admin/accounts/group/{group.pk}/delete/", post="yes").status_code == 302
    with server.database():
        assert not Group.objects.filter(name="kitchen").exists()
        assert Event.objects.get(kind="group.removed").actor == "ada"


def test_a_registry_and_rights_in_it_are_made_by_rules(server: Server, ada: Browser) -> None:
    user = server.make_user("pat")
    with server.database():
        domain = addresses.create_domain("registry.example", "tests")
    answer = save(
        ada,
        "/admin/registry/dockerregistry/add/",
        name="Images",
        client_id="images",
        domain=str(domain.pk),
    )
    assert answer.status_code == 302
    with server.database():
        registry = DockerRegistry.objects.get(client_id="images")
        assert registry.keys.count() == 1
    fields = {"registry": str(registry.pk), "name": "family/app"}
    fields |= {"rights-TOTAL_FORMS": "1", "rights-0-user": "Pat", "rights-0-may_pull": "on"}
    assert save(ada, "/admin/registry/dockerrepo/add/", **fields).status_code == 302
    with server.database():
        repo = registry.repos.get()
        right = repo.rights.get()
        assert right.user == user
        assert right.actions == {"pull"}
    path = f"/admin/registry/dockerrepo/{repo.pk}/change/"
    assert save(ada, path, **{"rights-0-may_push": "on"}).status_code == 302
    with server.database():
        assert repo.rights.get().actions == {"pull", "push"}
    answer = save(ada, path, **{"rights-0-user": "nobody at all"})
    assert "There is no user with this name or address." in answer.text
    assert save(ada, path, **{"rights-0-DELETE": "on"}).status_code == 302
    with server.database():
        assert not repo.rights.exists()
        kinds = Event.objects.filter(application="Images", actor="ada")
        assert kinds.filter(kind="registry.right.revoked").exists()


def test_all_rights_of_a_registry_are_edited_on_its_page(server: Server, ada: Browser) -> None:
    zita = server.make_user("zita")
    with server.database():
        domain = addresses.create_domain("rights.example", "tests")
        registry = registries.create_registry(
            "tests", name="Rights", client_id="rights.example", domain=domain
        )
        group = groups.create_group("builders", "tests")
        other = registries.create_registry(
            "tests", name="Elsewhere", client_id="elsewhere", domain=domain
        )
        elsewhere = registries.create_repo(other, "x/*", "tests")
        registries.change_rights(elsewhere, zita, ["pull"], "tests", allowed=True)
    path = f"/admin/registry/dockerregistry/{registry.pk}/change/"

    def rights() -> set[tuple[str, str, frozenset[str]]]:
        with server.database():
            rows = RepoRight.objects.filter(repo__registry=registry)
            return {
                (row.repo.name, str(row.user or row.group or ""), row.actions)
                for row in rows.select_related("repo", "user", "group")
            }

    rows = {
        "form-TOTAL_FORMS": "3",
        "form-0-repository": "family/*",
        "form-0-user": "ZITA",
        "form-0-may_pull": "on",
        "form-0-may_push": "on",
        "form-1-repository": "family/*",
        "form-1-group": str(group.pk),
        "form-1-may_pull": "on",
        "form-2-repository": "public/app",
        "form-2-may_pull": "on",
    }
    assert save(ada, path, **rows).status_code == 302
    assert rights() == {
        ("family/*", "zita", frozenset({"pull", "push"})),
        ("family/*", "builders", frozenset({"pull"})),
        ("public/app", "", frozenset({"pull"})),
    }
    moved = {"form-0-repository": "tools/*", "form-0-may_push": None, "form-2-DELETE": "on"}
    assert save(ada, path, **moved).status_code == 302
    assert rights() == {
        ("tools/*", "zita", frozenset({"pull"})),
        ("family/*", "builders", frozenset({"pull"})),
    }
    for wrong, said in (
        ({"form-0-repository": "Not A Name"}, "in lower case"),
        ({"form-0-user": "zita", "form-0-group": str(group.pk)}, "make two of them"),
    ):
        answer = save(ada, path, **wrong)
        assert answer.status_code == 200
        assert said in answer.text
    with server.database():
        assert elsewhere.rights.get().actions == {"pull"}
        kinds = set(Event.objects.filter(application="Rights", actor="ada").values_list("kind"))
    assert {("registry.right.granted",), ("registry.right.revoked",)} <= kinds
