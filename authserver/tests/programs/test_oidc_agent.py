"""A program without a browser: oidc-agent signs in by the device flow, and refreshes."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.processes import BOUND, Program, keep_secret
from tests.relying_party import RelyingParty
from tests.server import PASSWORD, Server

pytestmark = pytest.mark.once


def test_oidc_agent_gets_tokens_for_a_device(server: Server, tmp_path: Path) -> None:
    if not shutil.which("oidc-agent"):
        pytest.skip("needs Debian's oidc-agent-cli")
    server.make_user("device-user")
    browser = server.browser().signed_in("device-user", PASSWORD)
    party = RelyingParty(
        server, redirect_uris=[], client_type="public", grant_types=["device-code"]
    )
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "USER": "tests"}
    environment["OIDC_CONFIG_DIR"] = str(tmp_path)
    started = subprocess.run(
        ["oidc-agent"], env=environment, capture_output=True, text=True, check=True
    )
    for name, value in re.findall(r"(OIDC\w+)=([^;]*);", started.stdout):
        environment[name] = value
    try:
        options = (
            f"--iss={server.base} --client-id={party.client_id} --client-secret= --flow=device "
            "--prompt=none --confirm-default --pw-cmd=true"
        )
        generator = Program(
            ["oidc-gen", "device", *options.split(), "--scope=openid profile offline_access"],
            environment,
        )
        code = generator.wait_for_line("enter the code").rpartition(" ")[2]
        done = browser.submit(f"/device/?user_code={code}", allow="yes")
        assert "is connected" in done.text
        generator.wait_for_line("Everything setup correctly")
        generator.stop()
        for _ in range(2):
            token = subprocess.run(
                ["oidc-token", "device", "--time=7200"],  # more than it has left: it refreshes
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip()
            keep_secret(token)
            answer = httpx.get(
                f"{server.base}/o2/userinfo/",
                headers={"Authorization": f"Bearer {token}"},
                timeout=BOUND,
                trust_env=False,
            )
            assert answer.json()["preferred_username"] == "device-user"
    finally:
        subprocess.run(["oidc-agent", "-k"], env=environment, capture_output=True, check=False)
