"""Applications: which can be made, changed and removed; the rules that commands and pages share."""

from typing import Any

import pytest
from django.core.exceptions import ValidationError

from authserver.accounts.models import Permission
from authserver.accounts.sessions import digest_of
from authserver.accounts.users import create_user
from authserver.audit.models import Event
from authserver.oidc import applications
from authserver.oidc.applications import ApplicationExists, create_application, edit_application
from authserver.oidc.models import Application

pytestmark = pytest.mark.django_db
URI = "https://app.example.org/cb"


def make(name: str = "Photos", **values: Any) -> Application:
    values.setdefault("redirect_uris", [URI])
    return create_application(name, "tests", **values)[0]


def test_a_secret_has_256_random_bits_and_is_not_kept() -> None:
    application, secret = create_application("Photos", "tests", redirect_uris=[URI])
    assert len(secret) == 43  # base64url of 32 bytes
    assert application.secret_digest == digest_of(secret)
    assert applications.is_secret(application, secret)
    assert not applications.is_secret(application, secret + "x")
    assert not applications.is_secret(application, "")
    assert secret not in str(list(Event.objects.values()))


def test_a_public_application_has_none_and_takes_none() -> None:
    application, secret = create_application(
        "App", "tests", client_type="public", redirect_uris=["com.example.app:/cb"]
    )
    assert secret == ""
    assert not applications.is_secret(application, "")
    with pytest.raises(ValidationError):
        applications.reset_secret(application, "tests")


@pytest.mark.parametrize(
    "values",
    [
        {"redirect_uris": ["https://app.example.org/cb#x"]},
        {"redirect_uris": ["http://app.home/cb"]},
        {"redirect_uris": ["https:///cb"]},
        {"redirect_uris": [URI, "https://"]},
        {"redirect_uris": [URI + " https://evil.example/"]},
        {"redirect_uris": [URI + "\nhttps://evil.example/#x"]},
        {"redirect_uris": [""]},
        {"post_logout_redirect_uris": ["http://app.home/out"]},
        {"client_type": "public", "allow_http": True},
        {"client_type": "public", "skip_pkce": True},
        {"client_type": "public", "resource_server": True},
        {"client_type": "public", "grant_types": ["client-credentials"]},
        {"client_type": "open"},
        {"grant_types": []},
        {"grant_types": ["implicit"]},
        {"grant_types": ["password"]},
        {"link": "javascript:alert(1)"},
        {"icon": "https://evil.example/icon.png"},
    ],
)
def test_what_can_never_be_right_is_refused_when_it_is_made(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make(**values)
    assert not Application.objects.exists()


@pytest.mark.parametrize("name", ["", " ", " Photos", "Pho\ntos", "x" * 201])
def test_a_name_is_visible(name: str) -> None:
    with pytest.raises(ValidationError):
        make(name)


def test_one_that_exists_is_said_to_be_the_same_or_another() -> None:
    make("Photos")
    with pytest.raises(ApplicationExists) as same:
        make("Photos")
    assert same.value.same
    with pytest.raises(ApplicationExists) as other:
        make("Photos", skip_authorization=True)
    assert not other.value.same


def test_changes_are_named_and_checked() -> None:
    application = make()
    assert edit_application(application, "tests", redirect_uris=[URI]) == []
    assert edit_application(application, "tests", allow_http=True) == ["allow_http"]
    assert edit_application(application, "tests", redirect_uris=["http://app.home/cb"])
    application.refresh_from_db()
    assert application.redirect_uri_list == ["http://app.home/cb"]
    with pytest.raises(ValidationError):
        edit_application(application, "tests", allow_http=False)
    changed = edit_application(
        Application.objects.get(), "tests", client_type="public", allow_http=False,
        redirect_uris=[URI],
    )  # fmt: skip
    assert "client_type" in changed
    assert Application.objects.get().secret_digest == ""


def test_it_is_found_by_client_id_or_name() -> None:
    application = make("Photos")
    assert applications.find_application(application.client_id) == application
    assert applications.find_application("Photos") == application
    assert applications.find_application("unknown") is None


def test_usable_are_those_whose_required_permissions_one_holds() -> None:
    free, closed = make("free"), make("closed")
    make("machine", grant_types=["client-credentials"], redirect_uris=[])
    permission = Permission.objects.create(name="x", permission_name="x")
    another = Permission.objects.create(name="y", permission_name="y")
    applications.require(closed, [permission, another], "tests")
    user = create_user("maria", "Maria", "tests")
    assert list(applications.usable_by(user)) == [free]
    user.permissions.add(permission)
    assert list(applications.usable_by(user)) == [free]
    user.permissions.add(another)
    assert set(applications.usable_by(user)) == {free, closed}


def test_permissions_are_given_required_and_taken_back_once() -> None:
    application = make()
    permission = Permission.objects.create(name="x", permission_name="x")
    assert applications.give(application, [permission], "tests") == ["x"]
    assert applications.give(application, [permission], "tests") == []
    assert applications.take(application, [permission], "tests") == ["x"]
    assert applications.take(application, [permission], "tests") == []
    assert applications.require(application, [permission], "tests") == ["x"]
    assert applications.drop(application, [permission], "tests") == ["x"]
    kinds = Event.objects.filter(application="Photos").values_list("kind", flat=True)
    assert {
        "application.created",
        "application.permissions.added",
        "application.permissions.removed",
        "application.required_permissions.added",
        "application.required_permissions.removed",
    } == set(kinds)


def test_removing_one_ends_what_it_held() -> None:
    import datetime

    from django.utils import timezone

    from authserver.oidc import tokens
    from authserver.oidc.models import Grant

    application = make()
    user = create_user("maria", "Maria", "tests")
    now = timezone.now()
    grant = Grant.objects.create(
        application=application,
        user=user,
        offline=True,
        scope="openid",
        expires_at=now + datetime.timedelta(days=1),
    )
    answer = tokens.issue(grant, ["openid"], now, refresh=True)
    assert tokens.find(answer["access_token"])
    applications.remove_application(application, "tests")
    assert tokens.find(answer["access_token"]) is None
    assert tokens.find(answer["refresh_token"]) is None


def test_a_domain_that_an_application_has_is_not_removed() -> None:
    from authserver.accounts import addresses
    from authserver.accounts.models import Domain

    domain = Domain.objects.create(name="home.example")
    application = make(domain=domain)
    with pytest.raises(ValidationError, match="used by Photos"):
        addresses.remove_domain(domain, "tests")
    edit_application(application, "tests", domain=None)
    addresses.remove_domain(domain, "tests")
    assert not Domain.objects.exists()
