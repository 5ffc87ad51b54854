"""Apache in front of an application: mod_auth_openidc signs in, mod_oauth2 asks about tokens."""

import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from authserver.accounts.models import Group
from authserver.accounts.users import set_active
from tests.processes import BOUND, free_port
from tests.programs.apache import Apache
from tests.programs.installed import open_folder
from tests.relying_party import RelyingParty
from tests.server import PASSWORD, Server

pytestmark = pytest.mark.once
Start = Callable[..., Apache]

OPENIDC = """
OIDCProviderMetadataURL {server.base}/.well-known/openid-configuration
OIDCClientID {client_id}
OIDCClientSecret {secret}
OIDCRedirectURI {callback}
OIDCCryptoPassphrase a-passphrase-of-the-test
OIDCScope "openid profile groups"
OIDCPKCEMethod S256
OIDCRemoteUserClaim preferred_username
OIDCCookieSameSite On
<Location />
  AuthType openid-connect
  Require claim groups:family
</Location>
Header always set X-Remote-User "expr=%{{REMOTE_USER}}"
"""

OAUTH2 = """
<Location />
  AuthType oauth2
  OAuth2TokenVerify introspect {server.base}/o2/introspect/ introspect.auth=client_secret_basic&client_id={party.client_id}&client_secret={party.secret}&introspect.ssl_verify=false&expiry=1
  Require valid-user
</Location>
"""  # noqa: E501


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[Apache] = []
    folder = open_folder()

    def start(*arguments: Any) -> Apache:
        running.append(Apache(folder, *arguments))
        return running[-1]

    yield start
    for apache in running:
        apache.stop()
    shutil.rmtree(folder)


def test_mod_auth_openidc_lets_the_family_in(server: Server, start: Start) -> None:
    maria = server.make_user("apache-maria")
    server.make_user("apache-paul")
    with server.database():
        maria.groups.add(Group.objects.get_or_create(name="family")[0])
    port = free_port()
    callback = f"http://localhost:{port}/callback"
    party = RelyingParty(server, redirect_uris=[callback], allow_http=True, skip_authorization=True)
    text = OPENIDC.format(
        server=server, client_id=party.client_id, secret=party.secret, callback=callback
    )
    apache = start("authz_host auth_openidc", text, port)
    for name, status in (("apache-maria", 200), ("apache-paul", 401)):
        browser = server.browser().signed_in(name, PASSWORD)
        application = httpx.Client(timeout=BOUND, trust_env=False)
        asked = application.get(apache.url + "/")
        answer = browser.get(asked.headers["Location"])
        back = application.get(answer.headers["Location"], follow_redirects=True)
        assert back.status_code == status, back.text
        if status == 200:
            assert "behind the sign-in" in back.text
            assert back.headers["X-Remote-User"] == name


def test_mod_oauth2_believes_a_token_as_long_as_it_counts(server: Server, start: Start) -> None:
    user = server.make_user("resource-owner")
    browser = server.browser().signed_in("resource-owner", PASSWORD)
    resource = RelyingParty(server, redirect_uris=[], resource_server=True, grant_types=[])
    token = RelyingParty(server).tokens(browser)["access_token"]
    apache = start("oauth2", OAUTH2.format(server=server, party=resource))

    def get(bearer: str) -> int:
        header = {"Authorization": f"Bearer {bearer}"}
        return httpx.get(apache.url + "/", headers=header, trust_env=False).status_code

    assert get(token) == 200
    assert get("made-up") == 401
    with server.database():
        set_active(user, False, "tests")
    deadline = time.monotonic() + BOUND
    while get(token) != 401:  # it keeps an answer for a second
        assert time.monotonic() < deadline
