"""The unit and `make install`, on a booted Debian 12 (which UGOS is) and Debian 13.

The commands of README.md and docs/deployment.md are run as they stand there.
"""

import re
import ssl
import time
from collections.abc import Callable, Iterator

import pytest
from machine import BOUND, NEIGHBOUR, Machine
from repository import commands
from terminal import converse

RIGHT, NEXT, WRONG = "right-password", "next-password", "wrong-password"
REFUSED = {"valid": False, "error": "Invalid credentials"}
DROP_INS = "/etc/systemd/system/ugos-auth-proxy.service.d"
EVERY_FILE = (
    "find / -xdev -not -path '/var/log/*' -not -path '/run/*' -not -path '/tmp/*' "
    "-printf '%p %y %m %u\\n' | sort"
)
SHORTEST = """
sudo mkdir -p /opt/ugos-auth-proxy
sudo cp main.py /opt/ugos-auth-proxy/
sudo cp ugos-auth-proxy.service /etc/systemd/system/
sudo systemctl daemon-reload
sudo systemctl enable --now ugos-auth-proxy
sudo systemctl status ugos-auth-proxy
"""
DEPLOYMENT = "docs/deployment.md"
INSTALL = commands("systemd")
TOKEN = commands("systemd", 1)
CERTIFICATE = commands("authentik on another machine", 3).replace("192.168.1.10", NEIGHBOUR)
BY_HAND = commands("By hand", page=DEPLOYMENT)
CHECK_LOGIN = commands("systemd", 2), commands("authentik on another machine", 4)


# for what the release makes no difference to
fresh_on_debian_12 = pytest.mark.parametrize("machine", ["bookworm"], indirect=True)
on_debian_12 = pytest.mark.parametrize("kept", ["bookworm"], indirect=True)


def boot(suite: str) -> Machine:
    booted = Machine(suite)
    booted.do(f"useradd --uid 1000 --gid users anna; echo anna:{RIGHT} | chpasswd")
    return booted


@pytest.fixture(params=["bookworm", "trixie"])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A machine as it comes, with one account, anna."""
    booted = boot(request.param)
    try:
        yield booted
    finally:
        booted.close()


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def kept(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A machine with the service and anna, for many tests."""
    booted = boot(request.param)
    try:
        booted.do(INSTALL)
        yield booted
    finally:
        booted.close()


@pytest.fixture
def installed(kept: Machine) -> Machine:
    """That machine, as README's commands for the installation leave it."""
    kept.do(
        f"systemctl stop ugos-auth-proxy; rm -rf /etc/ugos-auth-proxy {DROP_INS};"
        "systemctl daemon-reload; systemctl reset-failed; systemctl start ugos-auth-proxy"
    )
    return kept


def answers_right(machine: Machine, **options: str) -> bool:
    verdicts = [machine.login("anna", password, **options).json for password in (RIGHT, WRONG)]
    return verdicts == [{"valid": True, "username": "anna"}, REFUSED]


def pid(machine: Machine) -> int:
    return int(machine.show("MainPID"))


def until(event: Callable[[], bool]) -> None:
    """Look again and again until `event` is true."""
    deadline = time.monotonic() + BOUND
    while not event():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def set_token(machine: Machine) -> str:
    """Run README's commands for a token; the token."""
    machine.do(TOKEN)
    return machine.do("cat /etc/ugos-auth-proxy/token")


def test_make_install_leaves_a_ready_service_that_starts_at_boot(machine: Machine) -> None:
    said = machine.do(INSTALL)
    assert said.endswith("ugos-auth-proxy is ready at http://127.0.0.1:8080")
    assert machine.do("systemctl is-enabled ugos-auth-proxy") == "enabled"
    assert answers_right(machine)
    assert machine.do(f"readlink /proc/{pid(machine)}/exe").startswith("/usr/bin/python3")
    assert "/opt/ugos-auth-proxy/venv/lib/" in machine.do(
        "/opt/ugos-auth-proxy/venv/bin/python3 -c 'import pam; print(pam.__file__)'"
    )
    assert "no-pam-service" not in machine.do("journalctl --unit=ugos-auth-proxy --output=cat")


def test_every_change_of_an_account_counts_at_the_next_login(installed: Machine) -> None:
    assert answers_right(installed)
    installed.do(f"echo anna:{NEXT} | chpasswd")
    assert installed.login("anna", RIGHT).json == REFUSED
    assert installed.login("anna", NEXT).json["valid"] is True
    installed.do(f"printf '{RIGHT}\\n{RIGHT}\\n' | passwd anna")
    assert answers_right(installed)
    installed.do("usermod --lock anna")
    assert installed.login("anna", RIGHT).json == REFUSED
    installed.do(f"usermod --unlock anna; useradd --gid users ben; echo ben:{NEXT} | chpasswd")
    assert installed.login("ben", NEXT).json["valid"] is True
    installed.do("groupadd family; usermod --append --groups family ben")
    assert "family" in installed.ask("/user-info?username=ben").json["groups"]
    installed.do("chage --expiredate 2020-01-01 ben")
    assert installed.login("ben", NEXT).json == {"valid": False, "error": "Account expired"}


def test_the_service_has_no_right_but_to_read_shadow(installed: Machine) -> None:
    status = installed.do(f"cat /proc/{pid(installed)}/status")
    values = dict(re.findall(r"^(\w+):\s*(.*?)\s*$", status, re.MULTILINE))
    assert {values[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {
        "0" * 16
    }
    assert (values["NoNewPrivs"], values["Seccomp"]) == ("1", "2")
    assert "0" not in values["Uid"].split()
    assert "42" in values["Groups"].split()
    assert re.search(
        r"^Max core file size +0 +0 ",
        installed.do(f"cat /proc/{pid(installed)}/limits"),
        re.MULTILINE,
    )
    inside = (
        f"nsenter --target={pid(installed)} --mount findmnt --noheadings --output=OPTIONS --target"
    )
    for folder in ("/etc", "/usr", "/opt"):
        assert installed.do(f"{inside} {folder}").startswith("ro,")
    assert installed.do(f"{inside} /root").startswith("ro,")


def test_the_security_score_is_at_most_1_4_and_verify_finds_nothing(installed: Machine) -> None:
    unit = "/etc/systemd/system/ugos-auth-proxy.service"
    said = installed.do(f"systemd-analyze security --no-pager --offline=yes --threshold=14 {unit}")
    print(installed.suite, said.splitlines()[-1])
    assert re.search(r"Overall exposure level for ugos-auth-proxy.service: (0\.\d|1\.[0-4]) ", said)
    assert installed.do(f"systemd-analyze verify {unit}") == ""
    assert installed.run(
        "systemd-analyze security --offline=yes --threshold=10 " + unit
    ).status  # it can fail


def test_a_start_is_over_only_when_the_service_answers(installed: Machine) -> None:
    asked = "curl --silent --show-error http://127.0.0.1:8080/health"
    for _ in range(8):  # as quickly as someone who tries settings can be
        installed.do(f"systemctl restart ugos-auth-proxy; {asked}")
    assert installed.show("StatusText") == "http://127.0.0.1:8080"
    assert installed.show("Type") == "notify"


def test_a_service_that_is_killed_comes_back(installed: Machine) -> None:
    killed, cursor = pid(installed), installed.cursor()
    restarts = int(installed.show("NRestarts"))
    installed.do(f"kill -KILL {killed}")
    installed.await_log(r"^Started ugos-auth-proxy", cursor)
    assert pid(installed) != killed
    assert int(installed.show("NRestarts")) == restarts + 1
    assert answers_right(installed)


@on_debian_12
def test_a_service_that_cannot_start_is_given_up(installed: Machine) -> None:
    installed.write("/etc/ugos-auth-proxy/settings", "PORT=none\n")
    installed.write(f"{DROP_INS}/quick.conf", "[Service]\nRestartSec=10ms\n")
    installed.do("systemctl daemon-reload")
    cursor = installed.cursor()
    assert installed.run("systemctl restart ugos-auth-proxy").status
    installed.await_log(r"Start request repeated too quickly", cursor)
    assert installed.show("ActiveState") == "failed"
    said = installed.run("make install")
    assert said.status
    assert "ugos-auth-proxy: PORT: must be" in said.text
    installed.do(f"rm -r /etc/ugos-auth-proxy/settings {DROP_INS}; make install")
    assert answers_right(installed)


def test_stop_is_quick_and_clean(installed: Machine) -> None:
    began = time.monotonic()
    installed.do("systemctl stop ugos-auth-proxy")
    assert time.monotonic() - began < 3
    assert (installed.show("Result"), installed.show("ExecMainStatus")) == ("success", "0")
    with pytest.raises(ConnectionRefusedError):
        installed.ask("/health")


def test_without_a_token_only_this_machine_can_ask_whatever_host_says(installed: Machine) -> None:
    installed.write("/etc/ugos-auth-proxy/settings", "HOST=0.0.0.0\n")
    installed.do("systemctl restart ugos-auth-proxy")
    assert answers_right(installed)
    with pytest.raises(ConnectionRefusedError):
        installed.ask("/health", address=NEIGHBOUR)


def test_with_a_token_it_listens_everywhere_and_asks_for_it(installed: Machine) -> None:
    token = set_token(installed)
    assert answers_right(installed, address=NEIGHBOUR, token=token)
    assert installed.login("anna", RIGHT, address=NEIGHBOUR).status == 401
    assert installed.login("anna", RIGHT).status == 401
    assert installed.show("StatusText") == "http://0.0.0.0:8080"
    assert installed.do("stat --format '%a %U' /etc/ugos-auth-proxy/token") == "600 root"
    environment = installed.do(
        f"tr '\\0' '\\n' < /proc/{pid(installed)}/environ; systemctl show ugos-auth-proxy"
    )
    assert token not in environment + installed.do("journalctl --output=cat")
    installed.do("rm /etc/ugos-auth-proxy/token; systemctl restart ugos-auth-proxy")
    assert answers_right(installed)
    with pytest.raises(ConnectionRefusedError):
        installed.ask("/health", address=NEIGHBOUR)


@on_debian_12
@pytest.mark.parametrize("token", ["", "short"])
def test_a_token_that_is_none_stops_the_start(installed: Machine, token: str) -> None:
    installed.write("/etc/ugos-auth-proxy/token", token)
    assert installed.run("systemctl restart ugos-auth-proxy").status
    assert "AUTH_TOKEN_FILE: must be at least 16" in installed.do(
        "journalctl --unit=ugos-auth-proxy --output=cat"
    )
    with pytest.raises(ConnectionRefusedError):
        installed.ask("/health")


def certificate(machine: Machine, key: str = "key.pem", cert: str = "cert.pem") -> str:
    """Make the pair of files anew as README does it; the certificate's text."""
    lines = CERTIFICATE.split("printf")[0]
    machine.do(lines.replace("/key.pem", f"/{key}").replace("/cert.pem", f"/{cert}"))
    return machine.do(f"cat /etc/ugos-auth-proxy/{cert}")


def handshake(machine: Machine) -> tuple[ssl.SSLSocket, str]:
    """A connection to the service by TLS, and the certificate that it shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = context.wrap_socket(machine.connect(NEIGHBOUR))
    shown = connection.getpeercert(binary_form=True)
    assert shown
    return connection, ssl.DER_cert_to_PEM_cert(shown).strip()


def ready_on(connection: ssl.SSLSocket) -> bool:
    """Whether /ready says so on an open connection."""
    connection.sendall(b"GET /ready HTTP/1.1\r\nHost: nas\r\n\r\n")
    return b'{"status": "ready"}' in connection.recv(4096)


def test_readmes_certificate_is_for_the_address_of_the_machine(installed: Machine) -> None:
    token = set_token(installed)
    installed.do(CERTIFICATE)
    asked = f"curl --silent --cacert /etc/ugos-auth-proxy/cert.pem https://{NEIGHBOUR}:8080"
    assert "ready" in installed.do(f"{asked}/ready")
    assert "true" in installed.do(
        f"{asked}/user-info?username=anna --header 'Authorization: Bearer {token}'"
    )
    assert installed.do("make install").endswith("ugos-auth-proxy is ready at https://0.0.0.0:8080")
    answers = ("Username: ", "anna"), ("Password: ", RIGHT)
    session = converse(installed.command(CHECK_LOGIN[1]), answers)
    assert session.status == 0, session.shown


def test_readmes_check_of_a_login_sends_the_token(installed: Machine) -> None:
    token = set_token(installed)
    for password, status in ((RIGHT, 0), (WRONG, 1)):
        answers = ("Username: ", "anna"), ("Password: ", password)
        session = converse(installed.command(CHECK_LOGIN[0]), answers)
        assert session.status == status, session.shown
        assert not {token, password} & set(session.shown.split())


def test_a_reload_takes_up_a_renewed_certificate_and_token(installed: Machine) -> None:
    token = set_token(installed)
    installed.do(CERTIFICATE)
    before, old = pid(installed), installed.do("cat /etc/ugos-auth-proxy/cert.pem")
    open_one, shown = handshake(installed)
    assert shown == old
    assert ready_on(open_one)

    new = certificate(installed)
    assert handshake(installed)[1] == old != new
    installed.do("sudo systemctl reload ugos-auth-proxy")
    until(lambda: handshake(installed)[1] == new)
    assert ready_on(open_one)  # it goes on, and no login was lost
    assert pid(installed) == before

    installed.do("echo the-next-token-0123456789 > /etc/ugos-auth-proxy/token")
    installed.do("sudo systemctl reload ugos-auth-proxy")
    asked = f"curl --silent --insecure https://{NEIGHBOUR}:8080/user-info?username=anna"
    until(
        lambda: (
            "true"
            in installed.do(f"{asked} --header 'Authorization: Bearer the-next-token-0123456789'")
        )
    )
    assert "missing or wrong" in installed.do(f"{asked} --header 'Authorization: Bearer {token}'")


@on_debian_12
def test_a_reload_with_a_key_that_does_not_fit_leaves_the_old(installed: Machine) -> None:
    set_token(installed)
    installed.do(CERTIFICATE)
    old = installed.do("cat /etc/ugos-auth-proxy/cert.pem")
    certificate(installed, key="key-of-another.pem")
    cursor = installed.cursor()
    installed.do("sudo systemctl reload ugos-auth-proxy")
    installed.await_log(r"level=ERROR .*TLS_CERT", cursor)
    connection, shown = handshake(installed)
    assert shown == old
    assert ready_on(connection)


@on_debian_12
def test_only_root_and_the_service_read_the_copies_of_the_secrets(installed: Machine) -> None:
    token = set_token(installed)
    copy = "/run/ugos-auth-proxy/token"
    assert installed.do(f"cat {copy}") == token
    owner = installed.do(f"stat --format '%a %U %G' /run/ugos-auth-proxy {copy}")
    assert owner.splitlines() == ["750 root shadow", "640 root shadow"]
    assert installed.run(f"setpriv --reuid=anna --clear-groups cat {copy}").status
    installed.do("systemctl stop ugos-auth-proxy")
    assert installed.run("test -e /run/ugos-auth-proxy").status


def test_a_shadow_file_of_roots_own_is_told_by_install_and_read_with_the_drop_in(
    machine: Machine,
) -> None:
    machine.do("chmod 600 /etc/shadow")
    said = machine.run("make install")
    assert said.status
    assert "not ready: /etc/shadow cannot be read" in said.text
    assert "Troubleshooting in README.md" in said.text
    assert machine.login("anna", RIGHT).status == 503
    machine.do(commands("Permissions", page=DEPLOYMENT))
    assert answers_right(machine)
    for owner, mode in (("root:root", "600"), ("root:root", "400")):
        machine.do(f"chown {owner} /etc/shadow; chmod {mode} /etc/shadow")
        assert answers_right(machine)
    bounding = machine.do(f"grep CapBnd /proc/{pid(machine)}/status")
    assert bounding.endswith("0000000000000004")  # CAP_DAC_READ_SEARCH, capabilities(7)


def test_install_again_updates_and_repairs(machine: Machine) -> None:
    machine.do(INSTALL)
    token = set_token(machine)
    machine.do(
        "systemctl stop ugos-auth-proxy; rm -r /etc/systemd/system/*; systemctl daemon-reload"
    )
    machine.do(
        "rm /etc/pam.d/ugos-auth-proxy; "
        "rm -r /opt/ugos-auth-proxy/venv/lib/python3*/site-packages/pam"
    )
    machine.do("sudo make install")
    assert machine.do("systemctl is-enabled ugos-auth-proxy") == "enabled"
    assert answers_right(machine, token=token, address=NEIGHBOUR)
    before = pid(machine)
    machine.do("make install")
    assert pid(machine) != before
    assert answers_right(machine, token=token)
    machine.do("echo '# newer' >> main.py; make install; grep newer /opt/ugos-auth-proxy/main.py")


def test_uninstall_leaves_nothing(machine: Machine) -> None:
    before = machine.do(EVERY_FILE)
    machine.do("make install; make install")
    assert answers_right(machine)
    assert machine.do(EVERY_FILE) != before
    assert machine.do("sudo make uninstall") == ""
    assert machine.do(EVERY_FILE) == before
    assert machine.show("LoadState") == "not-found"
    assert machine.do("grep -ls ugos-auth-proxy/main.p[y] /proc/[0-9]*/cmdline || true") == ""
    assert machine.do("make uninstall") == ""  # a second time


@fresh_on_debian_12
def test_what_the_admin_wrote_is_kept_and_named(machine: Machine) -> None:
    machine.do(INSTALL)
    set_token(machine)
    machine.do(
        f"echo '# mine' >> /etc/pam.d/ugos-auth-proxy; mkdir {DROP_INS}; "
        f"echo > {DROP_INS}/mine.conf"
    )
    assert "kept /etc/pam.d/ugos-auth-proxy" in machine.do("make install")
    said = machine.do("make uninstall")
    kept = re.findall(r"^kept (\S+),", said, re.MULTILINE)
    assert kept == ["/etc/pam.d/ugos-auth-proxy", DROP_INS, "/etc/ugos-auth-proxy"]
    machine.do("tail -1 /etc/pam.d/ugos-auth-proxy | grep mine; test -s /etc/ugos-auth-proxy/token")
    machine.do("; ".join(re.findall(r"'(sudo rm .*?)'", said)))
    assert machine.do("make uninstall") == ""


@fresh_on_debian_12
def test_install_says_that_it_needs_root(machine: Machine) -> None:
    said = machine.run("chmod -R a+rX /root; setpriv --reuid=anna --clear-groups make install")
    assert said.status
    assert "needs root" in said.text
    assert machine.run("test -e /opt/ugos-auth-proxy").status


@fresh_on_debian_12
def test_the_commands_by_hand_work(machine: Machine) -> None:
    machine.do("apt-get -qy install --no-download python3-pampy python3-six")
    machine.do(BY_HAND)
    assert answers_right(machine)
    log = machine.do("journalctl --unit=ugos-auth-proxy --output=cat")
    assert "/etc/pam.d/other" not in log


def test_two_copied_files_are_enough_with_debians_python_pam(machine: Machine) -> None:
    machine.do("apt-get -qy install --no-download python3-pampy python3-six")
    machine.do(SHORTEST)
    assert machine.do("systemctl is-enabled ugos-auth-proxy") == "enabled"
    assert answers_right(machine)
    with pytest.raises(ConnectionRefusedError):
        machine.ask("/health", address=NEIGHBOUR)
    assert "PAM uses /etc/pam.d/other" in machine.do(
        "journalctl --unit=ugos-auth-proxy --output=cat"
    )


def test_without_python_pam_the_journal_says_what_to_install(machine: Machine) -> None:
    cursor = machine.cursor()
    assert machine.run(SHORTEST).status
    hint = machine.await_log("python-pam is missing", cursor)
    command = re.findall(r"`(apt install .*?)`", hint)[0].replace(
        "apt install", "apt-get -qy --no-download install"
    )
    machine.do(f"{command}; systemctl restart ugos-auth-proxy")
    assert answers_right(machine)
