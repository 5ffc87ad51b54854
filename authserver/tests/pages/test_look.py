"""Every page, in both themes: axe-core finds nothing, a phone needs no scrolling sideways, no
other host is asked, and the CSP is kept."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from authserver.accounts import addresses, groups, service_users
from authserver.accounts.invitations import link_for
from authserver.accounts.models import Refusal, User
from authserver.accounts.throttle import name_digest
from authserver.oidc import consent
from authserver.oidc.models import SigningKey
from authserver.registry import registries
from authserver.registry.tokens import make_refresh_token
from tests.pages.chromium import DESKTOP, PHONE, Window
from tests.relying_party import RelyingParty
from tests.server import Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.once
THEMES = ("light", "dark")

FOR_ANYBODY = (
    "/account/login/",
    "/account/password/reset/",
    "/account/password/set/00000000-0000-0000-0000-000000000000/over/",
    "/no/such/page",
    "/o2/authorize/?client_id=unknown",
    "INVITATION",
)
FOR_USERS = (
    "/",
    "/account/",
    "/account/password/",
    "/account/service-users/",
    "/account/registries/",
    "/account/sessions/",
    "/device/",
    "/device/?user_code=WRONG-CODE",
    "/o2/logout/",
    "/admin/",
    "CONSENT",
    "LACKING",
    "DEVICE",
)
FOR_ADMINISTRATORS = (
    "/",
    "/admin/",
    "/admin/accounts/",
    "/admin/accounts/domain/add/",
    "/admin/accounts/emailalias/add/",
    "/admin/accounts/group/add/",
    "/admin/accounts/permission/add/",
    "/admin/accounts/refusal/",
    "/admin/accounts/serviceuser/add/",
    "/admin/accounts/session/",
    "/admin/accounts/user/",
    "/admin/accounts/user/?q=nobody",
    "/admin/accounts/user/add/",
    "/admin/accounts/user/USER/change/",
    "/admin/accounts/user/USER/delete/",
    "/admin/audit/event/",
    "/admin/oidc/application/",
    "/admin/oidc/application/add/",
    "/admin/oidc/application/1/change/",
    "/admin/oidc/grant/",
    "/admin/oidc/signingkey/KEY/change/",
    "/admin/oidc/token/",
    "/admin/registry/dockerregistry/REGISTRY/change/",
    "/admin/registry/dockerrepo/add/",
)


@pytest.fixture(scope="module")
def places(server: Server) -> dict[str, str]:
    """Makes people and what they have; the words in the lists above, and their addresses."""
    maria = server.make_user("maria", fullname="Maria Example")
    server.make_user("ada", fullname="Ada Admin", staff=True)
    server.make_user("nils", fullname="Nils Nas", source=User.NAS, password=None)
    with server.database():
        domain = addresses.create_domain("example.org", "tests")
        alias = addresses.create_alias("maria.example", domain, maria, "tests")
        addresses.set_delivery_mailbox(maria, alias, "tests")
        groups.join(maria, [groups.create_group("family", "tests")], "tests")
        registry = registries.create_registry(
            "tests", name="Family", client_id="registry.example.org", domain=domain,
            user_namespaces=True, allow_unauthenticated_pull=True,
        )  # fmt: skip
        repo = registries.create_repo(registry, "family/*", "tests")
        registries.change_rights(repo, maria, ["pull", "push"], "tests", allowed=True)
        make_refresh_token(registry, maria, None, "docker", "192.0.2.1")
        permission = groups.create_permission("router.admin", "Manage the router", "tests")
        service_users.create_service_user(maria, "", "Thunderbird on the laptop", "tests")
        for _ in range(3):
            Refusal.objects.create(name=name_digest("maria"), network="192.0.2.1")
        invited = link_for(maria)
    photos = RelyingParty(server, "Photos", link="https://photos.example.org/")
    router = RelyingParty(server, "Router")
    television = RelyingParty(
        server, "Television", client_type="public", device_code=True, redirect_uris=[]
    )
    asked = {"client_id": television.client_id, "scope": "openid profile"}
    code = television.http.post("/o2/device_authorization/", data=asked).json()["user_code"]
    with server.database():
        row = router.row()
        row.required_permissions.add(permission)
        consent.give(maria, photos.row(), ["openid"])
        key = SigningKey.objects.get().pk
    return {
        "INVITATION": urlsplit(invited).path,
        "CONSENT": photos.url(scope="openid profile email groups offline_access"),
        "LACKING": router.url(),
        "DEVICE": f"/device/?user_code={code}",
        "USER": str(maria.pk),
        "KEY": key,
        "REGISTRY": str(registry.pk),
    }


def address_of(place: str, places: dict[str, str]) -> str:
    for word, text in places.items():
        place = place.replace(word, text)
    return place


@pytest.fixture(scope="module", params=THEMES)
def windows(
    request: pytest.FixtureRequest, chromium: "Browser", server: Server, places: dict[str, str]
) -> Iterator[dict[str, Window]]:
    """A window for everybody, in one theme: of nobody, of a user, of an administrator."""
    found = {name: Window(chromium, server, request.param) for name in ("", "maria", "ada")}
    for name, window in found.items():
        if name:
            window.sign_in(name)
    yield found
    for window in found.values():
        window.close()


@pytest.mark.parametrize(
    ("who", "place"),
    [
        *(("", place) for place in FOR_ANYBODY),
        *(("maria", place) for place in FOR_USERS),
        *(("ada", place) for place in FOR_ADMINISTRATORS),
    ],
)
def test_nothing_is_wrong_with_a_page(
    windows: dict[str, Window], places: dict[str, str], who: str, place: str
) -> None:
    window = windows[who]
    window.complaints.clear()
    page = window.open(address_of(place, places))
    assert window.heading()
    for size in (PHONE, DESKTOP):
        page.set_viewport_size(size)
        assert window.hidden_width() == 0
    assert window.complaints == []
    assert window.axe() == []  # last: what axe does on the page has violations of its own


def test_every_page_of_a_model_is_among_them_or_like_one(server: Server, places: Any) -> None:
    """The lists of the admin are alike: each opens, for an administrator."""
    browser = server.browser().signed_in("ada", "correct horse battery")
    index = browser.get("/admin/").text
    lists = {part.split('"')[0] for part in index.split('href="')[1:]}
    opened = [path for path in lists if path.startswith("/admin/") and path.count("/") == 4]
    assert len(opened) > 15
    for path in opened:
        assert browser.get(path).status_code == 200, path
