"""`make install SYNC=1`, on a booted machine: the commands of docs/authentik-sync.md."""

import re
from pathlib import Path

import pytest
from machine import Machine
from repository import commands
from stub_authentik import TOKEN
from test_systemd import INSTALL, boot

PAGE = "docs/authentik-sync.md"
STUB = Path(__file__).with_name("stub_authentik.py").read_text()
PASTE = "sudo install -m 600 /dev/stdin /etc/ugos-auth-proxy/authentik-token"
SWITCH_ON = commands("Switch it on", 1, PAGE)
FORCE = commands("When it does nothing", 1, PAGE)
REMOVE = commands("Remove", 0, PAGE)


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_a_lock_on_the_machine_counts_in_authentik_and_an_unlock_too(suite: str) -> None:
    assert PASTE in SWITCH_ON
    machine = boot(suite)
    try:
        switch_on(machine)
        lock_and_unlock(machine)
        has_no_right(machine)
        machine.do(SWITCH_ON.splitlines()[3])  # the update
        assert machine.do("systemctl is-active ugos-authentik-sync") == "active"
        assert "locked=0 unlocked=0" in machine.do(
            FORCE.replace("set -a;", "set -a; LOG_LEVEL=DEBUG;")
        )
        machine.do(REMOVE)
        assert machine.run("systemctl is-active ugos-authentik-sync").status
        assert machine.do("systemctl is-active ugos-auth-proxy") == "active"
        machine.do("make install SYNC=1; make uninstall")
        assert (
            machine.do(
                "find / -xdev -name '*authentik-sync*' -not -path '/root/*' "
                "-not -path '/var/log/*' -not -path '/tmp/*'"
            )
            == ""
        )
    finally:
        machine.close()


def switch_on(machine: Machine) -> None:
    machine.do(INSTALL)
    machine.do(commands("systemd", 1))
    machine.write("/opt/stub.py", STUB)
    machine.do("systemd-run --unit=stub python3 /opt/stub.py anna")
    machine.do("until curl --silent http://127.0.0.1:9000/; do sleep 0.1; done")
    said = machine.run("make install SYNC=1")  # without token and settings
    assert said.status
    assert "ugos-authentik-sync.service does not start: see docs/authentik-sync.md" in said.text
    typed = SWITCH_ON.replace(PASTE, f"echo {TOKEN} | {PASTE}")
    machine.do(typed.replace("http://127.0.0.1:9000", "'http://127.0.0.1:9000\nINTERVAL=10'"))
    assert machine.do("systemctl is-enabled ugos-authentik-sync") == "enabled"


def lock_and_unlock(machine: Machine) -> None:
    cursor = machine.cursor()
    machine.do("usermod --lock anna")
    machine.await_log("event=lock user=anna ", cursor)
    machine.await_log("level=INFO event=pass users=1 locked=1 unlocked=0 ", cursor)
    machine.do("usermod --unlock anna")
    machine.await_log("event=unlock user=anna", cursor)
    changes = machine.do("journalctl --unit=stub --output=cat | grep /7/")
    assert re.findall(r"PATCH users/7/ (\w+)", changes) == ["False", "True"]


def has_no_right(machine: Machine) -> None:
    pid = machine.do("systemctl show --value --property=MainPID ugos-authentik-sync")
    status = machine.do(f"cat /proc/{pid}/status")
    values = dict(re.findall(r"^(\w+):\s*(.*?)\s*$", status, re.MULTILINE))
    names = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    assert {values[name] for name in names} == {"0" * 16}
    assert (values["NoNewPrivs"], values["Seccomp"]) == ("1", "2")
    assert "0" not in values["Uid"].split()
    assert "42" not in values["Groups"].split()
    assert TOKEN not in machine.do(f"tr '\\0' ' ' < /proc/{pid}/cmdline; cat /proc/{pid}/environ")
    assert TOKEN not in machine.do("journalctl --output=cat")
    unit = "/etc/systemd/system/ugos-authentik-sync.service"
    machine.do(f"systemd-analyze security --no-pager --offline=yes --threshold=14 {unit}")
    assert machine.do(f"systemd-analyze verify {unit}") == ""
