"""README's walk-through of an application, with its commands and its block for Apache."""

import os
import shlex
import subprocess

import httpx

from authserver.accounts.models import Group
from tests.databases import AUTHSERVER
from tests.deploy.nas import block
from tests.processes import BOUND, free_port, keep_secret
from tests.programs.apache import Apache
from tests.programs.installed import open_folder
from tests.server import PASSWORD, Server

HEADING = "An application: Apache"


def run(server: Server, line: str) -> subprocess.CompletedProcess[str]:
    """A line of README, with authserver's settings."""
    command = shlex.split(line)
    assert command[0] == "authserver"
    done = subprocess.run(
        [AUTHSERVER, *command[1:]],
        env={"PATH": os.environ["PATH"], **server.environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def test_apache_lets_those_in_who_hold_what_the_application_requires(server: Server) -> None:
    jane = server.make_user("jane")
    port = free_port()
    url = f"http://localhost:{port}"
    line = block(HEADING).replace("https://wiki.example.org", url)
    made = run(server, line.strip() + " --allow-http")  # Apache speaks no https here
    text = block(HEADING, language="apache")
    for old, new in (
        ("https://login.example.org", server.base),
        ("https://wiki.example.org", url),
        ("CLIENT_ID", made.stderr.split()[-1]),
        ("CLIENT_SECRET", keep_secret(made.stdout.strip())),
    ):
        assert old in text
        text = text.replace(old, new)
    folder = open_folder()
    modules = "authz_host auth_openidc"
    apache = Apache(
        folder, modules, f"{text}\nOIDCCookieSameSite On\n", int(url.rpartition(":")[2])
    )
    try:
        assert "behind the sign-in" in visit(server, apache).text
        for line in block(HEADING, 1).strip().splitlines():
            run(server, line)
        refused = visit(server, apache)
        assert refused.status_code == 403
        assert "Read the wiki" in refused.text
        with server.database():
            jane.groups.add(Group.objects.get(name="family"))
        assert "behind the sign-in" in visit(server, apache).text
    finally:
        apache.stop()


def visit(server: Server, apache: Apache) -> httpx.Response:
    """What jane's browser ends at: the application's page, or authserver's."""
    browser = server.browser().signed_in("jane", PASSWORD)
    with httpx.Client(timeout=BOUND, trust_env=False) as application:
        asked = application.get(apache.url + "/")
        answer = browser.get(asked.headers["Location"])
        if answer.status_code != 302:
            return answer
        return application.get(answer.headers["Location"], follow_redirects=True)
