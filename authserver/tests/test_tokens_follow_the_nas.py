"""Tokens of NAS users count only while the NAS says so, at every use of every endpoint."""

import datetime
from typing import Any

import pytest

from tests.nas import PASSWORD, Nas
from tests.relying_party import RelyingParty
from tests.server import Serve, Server


@pytest.fixture
def server(serve: Serve, nas: Nas) -> Server:
    nas.add_user("jane")
    return serve(**nas.settings)


def moved(server: Server, **by: int) -> None:
    """Let the NAS's last answer, and its last failure, be earlier."""
    from authserver.accounts.models import NasStanding

    earlier = datetime.timedelta(**by)
    with server.database():
        for row in NasStanding.objects.all():
            row.answered_at = row.answered_at and row.answered_at - earlier
            row.failed_at = row.failed_at and row.failed_at - earlier
            row.save()


class Open:
    """What an application holds of jane: tokens, a code, and a device that was let in."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.browser = server.browser().signed_in("jane", PASSWORD)
        self.application = RelyingParty(server, skip_authorization=True)
        self.tokens = self.application.tokens(self.browser, scope="openid offline_access")
        self.code = self.application.code(self.browser)

    def answers(self) -> dict[str, Any]:
        """What each use of them is answered."""
        access, refresh = self.tokens["access_token"], self.tokens["refresh_token"]
        return {
            "userinfo": self.application.userinfo(access),
            "introspection": self.application.post("/o2/introspect/", token=access),
            "of refresh": self.application.post("/o2/introspect/", token=refresh),
            "refresh": self.application.refresh(refresh),
            "code": self.application.exchange(self.code),
        }

    def refused(self) -> bool:
        found = self.answers()
        assert found["userinfo"].status_code == 401
        assert found["introspection"].json() == {"active": False}
        assert found["of refresh"].json() == {"active": False}
        assert found["refresh"].json()["error"] == "invalid_grant"
        assert found["code"].json()["error"] == "invalid_grant"
        return True


def test_they_end_when_the_account_is_gone_there(server: Server, nas: Nas) -> None:
    opened = Open(server)
    account = nas.etc.accounts["jane"]
    nas.remove_user("jane")
    assert opened.application.is_alive(opened.tokens["access_token"])  # asked less than 60 s ago
    moved(server, seconds=61)
    assert opened.refused()
    nas.add_user("jane", uid=account.uid)
    moved(server, seconds=61)
    assert opened.refused()  # ended, not suspended


@pytest.mark.parametrize("change", [{"uid": 2999}, {"locked": True}])
def test_they_end_when_the_account_is_locked_or_has_another_uid(
    server: Server, nas: Nas, change: dict[str, object]
) -> None:
    opened = Open(server)
    nas.change("jane", **change)
    moved(server, seconds=61)
    assert opened.refused()


def test_while_it_cannot_be_reached_the_last_answer_counts_and_then_it_is_503(
    server: Server, nas: Nas
) -> None:
    opened = Open(server)
    nas.stop()
    moved(server, seconds=61)
    access = opened.tokens["access_token"]
    assert opened.application.userinfo(access).status_code == 200
    moved(server, seconds=900)
    for name, answer in opened.answers().items():
        assert answer.status_code == 503, name
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.json()["error"] == "temporarily_unavailable"
    signed_out = opened.browser.get(opened.application.url())
    assert signed_out.headers["Location"].startswith("/account/login/")
    # nothing was ended or used up for that
    nas.start()
    moved(server, seconds=11)
    assert {name: a.status_code for name, a in opened.answers().items()} == {
        **dict.fromkeys(("userinfo", "introspection", "of refresh", "refresh", "code"), 200)
    }
    assert opened.browser.get(opened.application.url(prompt="none")).status_code == 302


def test_a_device_that_waits_is_told_to_come_back(server: Server, nas: Nas) -> None:
    browser = server.browser().signed_in("jane", PASSWORD)
    television = RelyingParty(
        server, client_type="public", grant_types=["device-code"], redirect_uris=[]
    )
    begun = television.post("/o2/device_authorization/", scope="openid").json()
    browser.submit(begun["verification_uri_complete"].removeprefix(server.base), allow="yes")
    nas.stop()
    moved(server, seconds=1000)
    poll = {
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "device_code": begun["device_code"],
    }
    assert television.post("/o2/token/", **poll).status_code == 503
    nas.start()
    moved(server, seconds=11)
    assert television.post("/o2/token/", **poll).status_code == 200
