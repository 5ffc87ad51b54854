"""Relying parties by other people's libraries: openid-client, oauth4webapi, Authlib."""

import json
import secrets
import shutil
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.browser import Browser
from tests.relying_party import CALLBACK, RelyingParty
from tests.server import PASSWORD, Server

NODE = Path(__file__).with_name("node")
pytestmark = pytest.mark.once


def run_script(script: str, server: Server, party: RelyingParty, browser: Browser) -> Any:
    """What a script of Node.js got from a whole sign-in in `browser`."""
    if not shutil.which("node") or not (NODE / "node_modules").exists():
        pytest.skip("needs Node.js and npm")
    process = subprocess.Popen(
        ["node", script, server.base, party.client_id, party.secret, CALLBACK],
        cwd=NODE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    url = process.stdout.readline().strip()
    if not url:
        pytest.fail(process.communicate()[1])
    answer = browser.get(url)
    if answer.status_code == 200:
        answer = browser.submit(url, allow="yes")
    output, errors = process.communicate(answer.headers["Location"] + "\n", timeout=60)
    assert process.returncode == 0, errors
    return json.loads(output)


@pytest.fixture
def maria(server: Server) -> Browser:
    name = f"maria-{secrets.token_hex(4)}"
    server.make_user(name, fullname="Maria Example")
    browser = server.browser().signed_in(name, PASSWORD)
    browser.headers["X-Name"] = name
    return browser


def test_openid_client_signs_in_refreshes_introspects_and_revokes(
    server: Server, maria: Browser
) -> None:
    party = RelyingParty(server)
    found = run_script("openid_client.mjs", server, party, maria)
    assert found["claims"]["sub"] == found["userinfo"]["sub"] == found["refreshed"]["sub"]
    assert found["userinfo"]["name"] == "Maria Example"
    assert found["claims"]["auth_time"] == found["refreshed"]["auth_time"]
    assert found["active"]["active"] is True
    assert found["ended"] == {"active": False}
    assert found["end"].startswith(f"{server.base}/o2/logout/?")


def test_oauth4webapi_finds_nothing_against_the_standards(server: Server, maria: Browser) -> None:
    party = RelyingParty(server)
    found = run_script("oauth4webapi.mjs", server, party, maria)
    assert found["userinfo"]["preferred_username"] == maria.headers["X-Name"]
    assert found["active"]["client_id"] == party.client_id
    assert found["error"] == "invalid_grant"


def test_authlib_signs_in_and_refreshes(server: Server, maria: Browser) -> None:
    OAuth2Client = import_module("authlib.integrations.httpx_client").OAuth2Client  # noqa: N806
    party = RelyingParty(server)
    metadata = maria.get("/.well-known/openid-configuration").json()
    with OAuth2Client(
        party.client_id,
        party.secret,
        scope="openid profile offline_access",
        redirect_uri=CALLBACK,
        code_challenge_method="S256",
        token_endpoint=metadata["token_endpoint"],
    ) as client:
        verifier = "v" * 43
        url, state = client.create_authorization_url(
            metadata["authorization_endpoint"], code_verifier=verifier
        )
        answer = maria.submit(url, allow="yes")
        callback = answer.headers["Location"]
        token = client.fetch_token(
            authorization_response=callback, state=state, code_verifier=verifier
        )
        again = client.refresh_token(metadata["token_endpoint"])
        assert again["access_token"] != token["access_token"]
        userinfo = client.get(metadata["userinfo_endpoint"]).json()
    assert userinfo["name"] == "Maria Example"
