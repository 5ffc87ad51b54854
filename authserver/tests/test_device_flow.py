"""The device flow (RFC 8628)."""

import datetime
from typing import Any

import pytest
from django.utils import timezone

from tests.browser import Browser
from tests.processes import keep_secret
from tests.relying_party import RelyingParty, sign_out, signed_in
from tests.server import PASSWORD, Serve, Server

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"


@pytest.fixture(scope="module")
def application(server: Server) -> RelyingParty:
    return television(server)


@pytest.fixture(scope="module")
def browser(server: Server) -> Browser:
    return signed_in(server)


def television(server: Server, **values: Any) -> RelyingParty:
    values = {"client_type": "public", "grant_types": ["device-code"], **values}
    return RelyingParty(server, redirect_uris=[], **values)


def begin(application: RelyingParty, scope: str = "openid") -> dict[str, Any]:
    answer = application.post("/o2/device_authorization/", scope=scope)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    keep_secret(found["device_code"])
    return found


def poll(application: RelyingParty, device_code: str) -> Any:
    return application.kept(
        application.post("/o2/token/", grant_type=DEVICE_CODE, device_code=device_code)
    )


def error(application: RelyingParty, device_code: str) -> str:
    answer = poll(application, device_code)
    assert answer.status_code == 400, answer.text
    found: str = answer.json()["error"]
    return found


def decide(browser: Browser, begun: dict[str, Any], allow: str) -> Any:
    path = begun["verification_uri_complete"].removeprefix(browser.base)
    return browser.submit(path, allow=allow)


def change(server: Server, device_code: str, **fields: Any) -> None:
    from authserver.accounts.sessions import digest_of
    from authserver.oidc.models import DeviceCode

    with server.database():
        assert DeviceCode.objects.filter(digest=digest_of(device_code)).update(**fields)


def test_the_device_gets_its_codes(server: Server, application: RelyingParty) -> None:
    answer = application.post("/o2/device_authorization/", scope="openid")
    assert answer.headers["Cache-Control"] == "no-store"
    found = answer.json()
    assert found["verification_uri"] == f"{server.base}/device/"
    assert found["verification_uri_complete"].endswith(f"/device/?user_code={found['user_code']}")
    assert (found["expires_in"], found["interval"]) == (600, 5)
    assert len(found["device_code"]) >= 43


def test_the_user_lets_it_in_with_the_code_as_typed_and_it_gets_tokens_once(
    application: RelyingParty, browser: Browser
) -> None:
    begun = begin(application, "openid profile")
    assert error(application, begun["device_code"]) == "authorization_pending"
    typed = begun["user_code"].lower().replace("-", " ")
    page = browser.submit("/device/", user_code=typed)
    assert page.status_code == 200
    assert application.name in page.text
    assert begun["user_code"] in page.text
    assert "your name" in page.text
    done = decide(browser, begun, "yes")
    assert "connected" in done.text
    answer = poll(application, begun["device_code"])
    assert answer.status_code == 200
    found = answer.json()
    assert found["scope"] == "openid profile"
    claims = application.claims(found["id_token"])
    assert claims["amr"] == ["pwd"]
    assert claims["sid"]
    assert claims["auth_time"]
    assert application.userinfo(found["access_token"]).status_code == 200
    assert error(application, begun["device_code"]) == "invalid_grant"
    assert application.refresh(found["refresh_token"]).status_code == 200


def test_application_and_code_are_always_confirmed(server: Server, browser: Browser) -> None:
    application = television(server, skip_authorization=True)
    for _ in range(2):
        begun = begin(application)
        page = browser.get(begun["verification_uri_complete"])
        assert application.name in page.text
        assert begun["user_code"] in page.text
        assert error(application, begun["device_code"]) == "authorization_pending"
        assert "connected" in decide(browser, begun, "yes").text


def test_a_form_of_another_site_lets_nothing_in(
    application: RelyingParty, browser: Browser
) -> None:
    begun = begin(application)
    form = {"user_code": begun["user_code"], "allow": "yes"}
    assert browser.post("/device/", data=form).status_code == 403
    assert error(application, begun["device_code"]) == "authorization_pending"


def test_the_user_may_refuse(application: RelyingParty, browser: Browser) -> None:
    begun = begin(application)
    assert decide(browser, begun, "no").status_code == 200
    assert error(application, begun["device_code"]) == "access_denied"


def test_a_user_code_works_once(application: RelyingParty, browser: Browser) -> None:
    begun = begin(application)
    decide(browser, begun, "yes")
    again = browser.get(begun["verification_uri_complete"])
    assert "No device waits" in again.text
    assert poll(application, begun["device_code"]).status_code == 200


def test_who_is_not_signed_in_does_so_first(server: Server, application: RelyingParty) -> None:
    server.make_user("viewer")
    begun = begin(application)
    browser = server.browser()
    answer = browser.get(begun["verification_uri_complete"])
    assert answer.headers["Location"].startswith("/account/login/?")
    answer = browser.sign_in("viewer", PASSWORD, answer.headers["Location"])
    assert begun["user_code"] in browser.get(answer.headers["Location"]).text


def test_a_code_lives_for_ten_minutes(
    server: Server, application: RelyingParty, browser: Browser
) -> None:
    waiting, allowed = begin(application), begin(application)
    decide(browser, allowed, "yes")
    for each in (waiting, allowed):
        change(server, each["device_code"], expires_at=timezone.now())
        assert error(application, each["device_code"]) == "expired_token"
    assert "No device waits" in browser.get(waiting["verification_uri_complete"]).text


def test_another_client_cannot_redeem_it(
    server: Server, application: RelyingParty, browser: Browser
) -> None:
    begun = begin(application)
    decide(browser, begun, "yes")
    assert error(television(server), begun["device_code"]) == "invalid_grant"
    assert poll(application, begun["device_code"]).status_code == 200


def test_who_asks_too_often_is_slowed_down(server: Server, application: RelyingParty) -> None:
    begun = begin(application)
    code = begun["device_code"]
    assert error(application, code) == "authorization_pending"
    assert error(application, code) == "slow_down"
    earlier = timezone.now() - datetime.timedelta(seconds=6)
    change(server, code, polled_at=earlier)
    assert error(application, code) == "slow_down"  # the interval is ten seconds by now
    change(server, code, polled_at=timezone.now() - datetime.timedelta(seconds=16))
    assert error(application, code) == "authorization_pending"


def test_unknown_and_missing_codes_are_errors(application: RelyingParty) -> None:
    assert error(application, "x" * 43) == "invalid_grant"
    assert error(application, "a\0b") == "invalid_grant"
    assert error(application, "") == "invalid_request"


def test_only_an_application_with_the_grant_type_may_begin(server: Server) -> None:
    other = RelyingParty(server)
    answer = other.post("/o2/device_authorization/", scope="openid")
    assert answer.json()["error"] == "unauthorized_client"
    confidential = television(server, client_type="confidential")
    answer = confidential.post("/o2/device_authorization/", scope="openid", client_secret="wrong")
    assert answer.status_code == 401
    assert begin(confidential)["user_code"]
    answer = confidential.post("/o2/device_authorization/", scope="unknown")
    assert answer.json()["error"] == "invalid_scope"
    assert confidential.post("/o2/device_authorization/").json()["error"] == "invalid_scope"


def test_codes_are_kept_as_digests(server: Server, application: RelyingParty) -> None:
    from authserver.oidc.models import DeviceCode

    begun = begin(application)
    with server.database():
        kept = str(list(DeviceCode.objects.values()))
    assert begun["device_code"] not in kept
    assert begun["user_code"] not in kept
    assert begun["user_code"].replace("-", "") not in kept


def test_without_offline_access_it_ends_with_the_session_that_let_it_in(
    server: Server, application: RelyingParty
) -> None:
    browser = signed_in(server, "host")
    begun = {scope: begin(application, scope) for scope in ("openid", "openid offline_access")}
    late = {scope: begin(application, scope) for scope in begun}
    found = {}
    for scope, each in begun.items():
        decide(browser, each, "yes")
        found[scope] = poll(application, each["device_code"]).json()
    for each in late.values():
        decide(browser, each, "yes")
    sign_out(browser)
    assert application.refresh(found["openid"]["refresh_token"]).status_code == 400
    lasting = found["openid offline_access"]
    assert application.refresh(lasting["refresh_token"]).status_code == 200
    assert error(application, late["openid"]["device_code"]) == "invalid_grant"
    assert poll(application, late["openid offline_access"]["device_code"]).status_code == 200


@pytest.mark.parametrize("how", ["deactivated", "signed out everywhere"])
def test_a_device_that_was_let_in_gets_nothing_after_the_account_ended(
    server: Server, application: RelyingParty, how: str
) -> None:
    from authserver.accounts import users
    from authserver.accounts.models import User

    name = f"gone-{how[:6]}"
    browser = signed_in(server, name)
    begun = begin(application, "openid offline_access")
    decide(browser, begun, "yes")
    with server.database():
        user = User.objects.get(identifier=name)
        if how == "deactivated":
            User.objects.filter(pk=user.pk).update(is_active=False)
        else:
            users.sign_out(user, "tests")
    assert error(application, begun["device_code"]) == "invalid_grant"


def test_who_lacks_a_required_permission_cannot_let_it_in(server: Server) -> None:
    from authserver.accounts.models import Permission

    application, browser = television(server), signed_in(server)
    with server.database():
        permission = Permission.objects.create(name="Watch", permission_name="tv.watch")
        application.row().required_permissions.add(permission)
    begun = begin(application)
    page = browser.get(begun["verification_uri_complete"])
    assert page.status_code == 403
    assert "Watch" in page.text
    token = browser.form("/device/")[1]["csrfmiddlewaretoken"]
    form = {"user_code": begun["user_code"], "allow": "yes", "csrfmiddlewaretoken": token}
    answer = browser.post("/device/", data=form, headers={"Origin": browser.base})
    assert answer.status_code == 403
    assert error(application, begun["device_code"]) == "authorization_pending"


def test_wrong_user_codes_are_counted_for_each_user(serve: Serve) -> None:
    server = serve(MAX_FAILURES=3)
    application = television(server)
    guesser, other = signed_in(server, "guesser"), signed_in(server, "other")
    begun = begin(application)
    for number in range(3):
        wrong = f"BBBB-BBB{'BCD'[number]}"
        path = f"/device/?user_code={wrong}"
        page = guesser.get(path) if number % 2 else guesser.submit("/device/", user_code=wrong)
        assert page.status_code == 200
        assert "No device waits" in page.text
    page = guesser.get(begun["verification_uri_complete"])
    assert page.status_code == 429
    assert int(page.headers["Retry-After"]) > 0
    assert "Try again in" in page.text
    assert "connected" in decide(other, begun, "yes").text
