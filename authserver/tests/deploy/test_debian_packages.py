"""The Debian packages: built on Debian 12 and 13, installed on a fresh one of each, and upgraded,
removed, purged and installed again there."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.machine import BUILDER, FRESH, SOURCE, Machine
from tests.deploy.nas import ROOT, until
from tests.processes import keep_secret

PASSWORD = keep_secret("password of the administrator")
HEALTH = "curl --silent --fail http://127.0.0.1:8000/health/"
DEBS = "/root/debs"
SUITES = {"bookworm": "deb12", "trixie": "deb13"}
CLIENT = "--jwtkey /root/authclient.key -u http://localhost:8000/checkpassword/"
# what is left of them; the repository and the packages lie below /root, the logs of apt in /var/log
LEFT = """find / -xdev \\( -path /root -o -path /var/log -o -path /tmp \\) -prune -o \\
    \\( -name '*authserver*' -o -name '*authclient*' -o -name '*checkpassword*' \\
    -o -path /etc/appconfig \\) -print"""
QUERY = """
import json, sqlite3, sys
print(json.dumps(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone()))
"""
# what the next version has beside its number: a table more
MIGRATION = """
from django.db import migrations

class Migration(migrations.Migration):
    dependencies = [("accounts", "{last}")]
    operations = [migrations.RunSQL("CREATE TABLE next_version (id integer)")]
"""


def build(builder: Machine, folder: Path) -> None:
    """`make deb` in a machine; the packages come into the folder."""
    builder.do("make deb")
    folder.mkdir()
    for path in builder.path(f"{SOURCE}/authserver/build/deb").glob("*.deb"):
        shutil.copy(path, folder)


def next_version(builder: Machine) -> None:
    """Make version 0.1.1 of the sources in a machine, which has a migration more."""
    builder.do("""
        sed -i 's/"0\\.1\\.0"/"0.1.1"/' pyproject.toml authserver/__init__.py
        { sed 's/(0\\.1\\.0)/(0.1.1)/' debian/changelog; echo; cat debian/changelog; } > new
        mv new debian/changelog""")
    migrations = builder.path(f"{SOURCE}/authserver/authserver/accounts/migrations")
    last = max(path.stem for path in migrations.glob("[0-9]*.py"))
    (migrations / "9999_next_version.py").write_text(MIGRATION.format(last=last))


@pytest.fixture(scope="module", params=SUITES)
def suite(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def packages(suite: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders `now` and `next` with the packages of this version and of the one after it."""
    folder = tmp_path_factory.mktemp("debs")
    builder = Machine(suite, BUILDER)
    try:
        build(builder, folder / "now")
        said = builder.run("lintian --allow-root --fail-on error build/deb/*.changes")
        (folder / "lintian").write_text(f"{said.returncode}\n{said.stdout}")
        next_version(builder)
        build(builder, folder / "next")
    finally:
        builder.close()
    return folder


@pytest.fixture(scope="module")
def machine(suite: str, packages: Path) -> Iterator[Machine]:
    """A fresh machine with the packages in DEBS; nothing is installed on it yet."""
    booted = Machine(suite, FRESH)
    try:
        shutil.copytree(packages, booted.path(DEBS))
        yield booted
    finally:
        booted.close()


def apt(machine: Machine, *arguments: str) -> str:
    return machine.do(f"DEBIAN_FRONTEND=noninteractive apt-get -qy {' '.join(arguments)}")


def install(machine: Machine, version: str = "now") -> str:
    said = apt(machine, "install", "--no-install-recommends", f"{DEBS}/{version}/*.deb")
    until(lambda: machine.run(HEALTH).returncode == 0)
    return said


def show(machine: Machine, name: str) -> str:
    """A property of the service, as systemd has it; times in UTC, as a database writes them."""
    show = f"systemctl show --value --timestamp=us+utc --property={name} authserver"
    return re.sub(r"^\w{3} ([0-9-]+ [0-9:.]+) UTC$", r"\1", machine.do(show))


def query(machine: Machine, sql: str) -> Any:
    """The first row of a query of the database."""
    return json.loads(machine.do(f"python3 - /var/lib/authserver/db.sqlite3 '{sql}'", QUERY))


def test_lintian_finds_no_error(packages: Path) -> None:
    status, _, said = (packages / "lintian").read_text().partition("\n")
    assert status == "0", said


def test_each_package_is_for_the_release_that_it_was_built_on(suite: str, packages: Path) -> None:
    names = sorted(path.name.rpartition("_")[0] for path in (packages / "now").iterdir())
    assert names == [f"auth{what}_0.1.0+{SUITES[suite]}" for what in ("client", "server")]


def test_it_is_not_installed_over_make_install(machine: Machine) -> None:
    machine.do("mkdir -p /opt/authserver/venv")
    done = machine.run(f"apt-get -qy install --no-install-recommends {DEBS}/now/authserver_*.deb")
    assert done.returncode != 0
    assert "sudo make uninstall" in done.stdout
    machine.do("rm -r /opt/authserver; dpkg --purge authserver")


def test_apt_installs_them_and_the_service_runs(machine: Machine) -> None:
    install(machine)
    assert json.loads(machine.do(HEALTH)) == {"status": "healthy"}
    assert machine.do("systemctl is-enabled authserver") == "enabled"
    pid = show(machine, "MainPID")
    assert machine.do(f"stat -c %U /proc/{pid}") == "authserver"
    assert machine.do("stat -c '%a %U' /var/lib/authserver") == "700 authserver"
    assert machine.do("find /var/lib/authserver -type f -perm /077") == ""
    assert machine.do("stat -c '%a %U %G' /etc/appconfig/authserver/env") == "750 root authserver"
    assert machine.do("authserver --version") == "authserver 0.1.0"
    assert machine.do("find /usr/lib/authserver /usr/lib/python3 -path '*/bin/pip*'") == ""


def test_man_pages_and_bashs_completion_come_with_them(machine: Machine) -> None:
    for page, word in (("man8/authserver.8", "oauth2"), ("man1/checkpassword.1", "authext")):
        machine.do(f"zcat /usr/share/man/{page}.gz | grep -q {word}")
    completion = "/usr/share/bash-completion/completions/authserver"
    assert machine.do(f"bash -c '. {completion}; complete -p authserver'").endswith("authserver")


def test_the_unit_is_the_one_that_is_shipped(machine: Machine) -> None:
    shipped = (ROOT / "authserver/authserver.service").read_text()
    unit = machine.do("cat $(systemctl show --value --property=FragmentPath authserver)")
    assert unit == shipped.replace("/opt/authserver/venv", "/usr/lib/authserver").strip()


def test_its_libraries_load_and_nothing_of_debian_is_among_them(machine: Machine) -> None:
    code = "import bcrypt, cryptography, httptools, jwt, psycopg; print(jwt.__file__)"
    said = machine.do(f'/usr/lib/authserver/bin/python -I -c "{code}"')
    assert said.startswith("/usr/lib/authserver/lib/")
    assert machine.run("cd /; /usr/bin/python3 -c 'import django'").returncode != 0


def test_modules_are_compiled_once_and_not_at_each_start(machine: Machine) -> None:
    package = "/usr/lib/authserver/lib/python3.*/site-packages/authserver"
    sources = machine.do(f"find {package} -name '*.py' | wc -l")
    assert int(sources) > 50
    assert machine.do(f"find {package} -name '*.pyc' | wc -l") == sources


def test_commands_run_as_its_user(machine: Machine) -> None:
    machine.do('authserver user create admin "Full Name" --staff --password-stdin', PASSWORD)
    assert machine.do("find /var/lib/authserver ! -user authserver") == ""
    rows = json.loads(machine.do("authserver user list -f json"))
    assert [row["identifier"] for row in rows] == ["admin"]


def test_the_client_asks_it_with_debians_own_libraries(machine: Machine) -> None:
    machine.do("authserver domain create --create-key jwt localhost")
    key = CLIENT.replace("/checkpassword/", "/getkey/")
    machine.do(f"checkpassword -m init {key} && checkpassword -m check {key}")
    login = f"checkpassword -m authext {CLIENT}"
    machine.do(login, f"admin\n{PASSWORD}\n")
    assert machine.run(login, "admin\nwrong password\n").returncode == 1
    machine.do("authserver permissions create --name Photos photos")
    assert machine.run(f"{login} -s photos", f"admin\n{PASSWORD}\n").returncode == 1
    machine.do("authserver permissions grant user admin photos")
    machine.do(f"{login} -s photos", f"admin\n{PASSWORD}\n")
    said = machine.do(
        f"tr '\\n' '\\0' > three; checkpassword {CLIENT} printenv USER 3< three; rm three",
        f"admin\n{PASSWORD}\n0\n",
    )
    assert said == "admin"
    machine.do("systemctl stop authserver")
    assert machine.run(login, f"admin\n{PASSWORD}\n").returncode == 2
    machine.do("systemctl start authserver")
    assert machine.do("python3 -c 'import jwt; print(jwt.__file__)'").startswith("/usr/lib/python3")


def test_an_upgrade_migrates_while_the_service_is_stopped_and_keeps_the_data(
    machine: Machine,
) -> None:
    machine.do("authserver group create kept; echo 8 > /etc/appconfig/authserver/env/SESSION_HOURS")
    before = show(machine, "MainPID")
    install(machine, "next")
    assert machine.do("authserver --version") == "authserver 0.1.1"
    assert show(machine, "MainPID") != before
    name, applied = query(
        machine, "SELECT name, applied FROM django_migrations ORDER BY id DESC LIMIT 1"
    )
    assert name == "9999_next_version"
    assert show(machine, "InactiveEnterTimestamp") < applied < show(machine, "ActiveEnterTimestamp")
    assert query(machine, "SELECT count(*) FROM next_version") == [0]
    assert "kept" in machine.do("authserver group list")
    assert machine.do("cat /etc/appconfig/authserver/env/SESSION_HOURS") == "8"
    machine.do(f"checkpassword -m authext {CLIENT}", f"admin\n{PASSWORD}\n")


def test_without_its_migrations_it_is_not_started(machine: Machine) -> None:
    setting = "/etc/appconfig/authserver/env/PORT"
    machine.do(f"echo eighty > {setting}")
    done = machine.run(f"dpkg --install {DEBS}/next/authserver_*.deb")
    assert done.returncode != 0
    assert "authserver: PORT: " in done.stdout
    assert machine.do("systemctl show --value --property=ActiveState authserver") == "inactive"
    machine.do(f"rm {setting}; dpkg --configure --pending")
    until(lambda: machine.run(HEALTH).returncode == 0)


def test_removal_leaves_settings_and_data_for_the_next_installation(machine: Machine) -> None:
    apt(machine, "remove", "authserver", "authclient")
    assert machine.run(HEALTH).returncode != 0
    assert machine.run("command -v authserver checkpassword").returncode != 0
    assert machine.run("test -e /usr/lib/authserver").returncode == 1
    install(machine, "next")
    assert machine.do("cat /etc/appconfig/authserver/env/SESSION_HOURS") == "8"
    assert "kept" in machine.do("authserver group list")


def test_purging_leaves_nothing_but_the_data_and_who_owns_it(machine: Machine) -> None:
    said = apt(machine, "purge", "authserver", "authclient")
    assert "kept /var/lib/authserver" in said
    left = machine.do(LEFT).splitlines()
    assert left == ["/var/lib/authserver"]
    assert machine.do("stat -c '%a %U' /var/lib/authserver") == "700 authserver"
    assert machine.do("systemctl list-units --all --plain --no-legend 'authserver*'") == ""


def test_after_purging_it_can_be_installed_again_with_the_data_that_was_kept(
    machine: Machine,
) -> None:
    install(machine, "next")
    assert "kept" in machine.do("authserver group list")
    apt(machine, "purge", "authserver", "authclient")
    machine.do("rm -r /var/lib/authserver; userdel authserver")
    install(machine, "next")
    assert "kept" not in machine.do("authserver group list")
