"""The unit and `make install`, on a booted Debian 12 (which UGOS is) and Debian 13."""

import json
import re
from collections.abc import Iterator

import pytest

from tests.deploy.machine import Machine
from tests.deploy.nas import block, until
from tests.processes import keep_secret

PASSWORD = keep_secret("password of the administrator")
HEALTH = "curl --silent --fail http://127.0.0.1:8000/health/"


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A machine on which `make install` was run, as README says."""
    booted = Machine(request.param)
    try:
        said = booted.do(block("systemd"))
        assert said.endswith("authserver answers at http://localhost:8000")
        yield booted
    finally:
        booted.close()


def test_it_runs_now_and_at_each_boot(machine: Machine) -> None:
    assert json.loads(machine.do(HEALTH)) == {"status": "healthy"}
    assert machine.do("systemctl is-enabled authserver") == "enabled"
    assert machine.do("systemctl is-active authserver") == "active"


def test_it_may_do_little(machine: Machine) -> None:
    said = machine.do("systemd-analyze security --no-pager authserver")
    found = re.search(r"Overall exposure level for authserver.service: ([0-9.]+)", said)
    assert found
    assert float(found[1]) <= 1.4
    pid = machine.do("systemctl show --value --property=MainPID authserver")
    status = machine.do(f"cat /proc/{pid}/status")
    assert re.search(r"(?m)^CapEff:\s+0+$", status)
    assert machine.do(f"stat -c %U /proc/{pid}") == "authserver"
    assert machine.do("stat -c '%a %U' /var/lib/authserver") == "700 authserver"
    assert machine.do("stat -c '%a %U' /var/lib/authserver/secret_key") == "600 authserver"


def test_commands_run_as_its_user_so_that_it_can_go_on_writing(machine: Machine) -> None:
    machine.do('authserver user create admin "Full Name" --staff --password-stdin', PASSWORD)
    assert machine.do("find /var/lib/authserver ! -user authserver") == ""
    assert "admin" in machine.do("authserver user list")
    done = machine.run("setpriv --reuid=nobody --clear-groups authserver user list")
    assert done.returncode != 0
    assert "sudo" in done.stdout


def test_settings_are_files_and_a_bad_one_is_named(machine: Machine) -> None:
    machine.do(block("systemd", 1))
    until(lambda: machine.run(HEALTH).returncode == 0)
    rows = {row["name"]: row for row in json.loads(machine.do("authserver settings -f json"))}
    assert rows["BASE_URL"]["value"] == "https://login.example.org"
    folder = "/etc/appconfig/authserver/env"
    machine.do(f"echo eighty > {folder}/PORT")
    done = machine.run("authserver user list")
    assert done.returncode == 2
    assert done.stdout.startswith("authserver: PORT: ")
    machine.do(f"rm {folder}/*; systemctl restart authserver")
    until(lambda: machine.run(HEALTH).returncode == 0)


def test_it_stops_cleanly_and_comes_back_after_a_crash(machine: Machine) -> None:
    pid = machine.do("systemctl show --value --property=MainPID authserver")
    machine.do(f"kill -KILL {pid}")
    until(lambda: machine.run(HEALTH).returncode == 0)
    machine.do("systemctl stop authserver")
    assert machine.do("systemctl show --value --property=Result authserver") == "success"
    machine.do("systemctl start authserver")
    until(lambda: machine.run(HEALTH).returncode == 0)


def test_installing_again_keeps_what_is_there(machine: Machine) -> None:
    machine.do("authserver group create kept; authserver backup /var/lib/authserver/backup.gz")
    machine.do("make install")
    assert "kept" in machine.do("authserver group list")
    assert json.loads(machine.do(HEALTH)) == {"status": "healthy"}


def test_uninstalling_leaves_data_and_settings(machine: Machine) -> None:
    said = machine.do("make uninstall")
    assert "kept /var/lib/authserver" in said
    assert machine.run("test -e /opt/authserver -o -e /usr/local/bin/authserver").returncode == 1
    assert machine.run(HEALTH).returncode != 0
    machine.do("make install")
    assert "kept" in machine.do("authserver group list")


def test_make_run_serves_on_a_fresh_machine(machine: Machine) -> None:
    machine.do("PORT=8001 setsid make run >/tmp/run.log 2>&1 </dev/null &")
    health = HEALTH.replace("8000", "8001")
    until(lambda: machine.run(health).returncode == 0)
    assert "/setup/?token=" in machine.do("cat /tmp/run.log")
    assert machine.do("stat -c %a data/secret_key") == "600"
