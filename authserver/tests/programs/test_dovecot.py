"""Dovecot's checkpassword driver with the installed client: who gets his mail, and who does not."""

import contextlib
import imaplib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from authserver.accounts.addresses import create_alias, create_domain, set_delivery_mailbox
from authserver.accounts.service_users import create_service_user
from authserver.accounts.users import set_active
from tests.nas import PASSWORD as NAS_PASSWORD
from tests.nas import Account, Nas
from tests.processes import BOUND, Program, free_port, keep_secret
from tests.programs.installed import TOKEN, client_of, open_folder
from tests.server import PASSWORD, Server

pytestmark = pytest.mark.once
DOVECOT, DOVEADM = "/usr/sbin/dovecot", "/usr/bin/doveadm"
NO_USER, TEMPORARY, NO = 67, 75, 77  # doveadm's exit status: those of sysexits.h

CONFIGURATION = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = /dev/stderr
protocols = imap
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_failure_delay = 0
mail_location = maildir:~/Maildir
first_valid_uid = 1
service anvil {{
  chroot =
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
passdb {{
  driver = checkpassword
  args = {command}
}}
userdb {{
  driver = prefetch
}}
userdb {{
  driver = checkpassword
  args = {command}
}}
"""


class Place:
    """A Dovecot whose users are a server's, and a NAS's behind that."""

    def __init__(self, folder: Path, nas: Nas) -> None:
        self.server = Server(
            folder / "server",
            CHECKPASSWORD_TOKEN=TOKEN,
            MAX_FAILURES=0,
            NAS_RECHECK=1,
            NAS_GRACE=0,
            **nas.settings,
        )
        self.folder = folder
        command, options = client_of(folder, self.server)
        mail = folder / "mail"
        mail.mkdir()
        shutil.chown(mail, "nobody", "nogroup")
        # Dovecot itself would put the typed name in place of %u
        options += f" --userdb-uid nobody --userdb-gid nogroup --userdb-home {mail}/%%u"
        self.port, self.configuration = free_port(), folder / "dovecot.conf"
        text = CONFIGURATION.format(
            folder=folder, port=self.port, command=f"{command} -m checkpassword {options}"
        )
        self.configuration.write_text(text)
        self.dovecot = Program([DOVECOT, "-F", "-c", str(self.configuration)], {}, folder)
        self.dovecot.wait_for_line("starting up")

    def login(self, name: str, password: str) -> str:
        """What IMAP says to a login: `OK`, or the text of its refusal."""
        with imaplib.IMAP4("127.0.0.1", self.port, timeout=BOUND) as imap:
            try:
                imap.login(name, password)
            except imap.error as error:
                return str(error)
            assert imap.select("INBOX")[0] == "OK"
            return "OK"

    def look_up(self, name: str) -> tuple[int, dict[str, str]]:
        """`doveadm user`: its exit status, and the fields that it shows."""
        done = self.doveadm("user", name)
        fields = (line.partition("\t")[::2] for line in done.stdout.splitlines())
        return done.returncode, {
            name: value for name, value in fields if value not in ("", "value")
        }

    def doveadm(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [DOVEADM, "-c", self.configuration, *arguments],
            capture_output=True,
            text=True,
            timeout=BOUND,
            check=False,
        )


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    if not Path(DOVECOT).exists() or not Path("/usr/lib/dovecot/imap").exists():
        pytest.skip("needs Debian's dovecot-imapd: see README, Tests")
    if os.geteuid():
        pytest.skip("needs root: Dovecot changes its user")
    with contextlib.ExitStack() as stack:
        folder = open_folder()
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        nas = Nas(folder / "nas")
        stack.callback(nas.stop)
        nas.etc.accounts["nina"] = Account(uid=1005)
        nas.etc.write()
        made = Place(folder, nas)
        stack.callback(made.server.stop)
        stack.callback(made.dovecot.stop)
        yield made


def home(place: Place, name: str) -> dict[str, str]:
    return {"uid": "65534", "gid": "65534", "home": f"{place.folder}/mail/{name}"}


def test_a_local_user_gets_his_mail_by_the_name_of_his_mailbox(place: Place) -> None:
    maria = place.server.make_user("maria")
    with place.server.database():
        domain = create_domain("mail.example", "tests")
        set_delivery_mailbox(maria, create_alias("m", domain, maria, by="tests"), by="tests")
    assert place.login("maria", PASSWORD) == "OK"
    assert place.login("M@mail.example", PASSWORD) == "OK"
    assert [path.name for path in (place.folder / "mail").glob("m*")] == ["m@mail.example"]
    assert "AUTHENTICATIONFAILED" in place.login("maria", "wrong password")
    status, fields = place.look_up("maria")
    assert status == 0
    assert fields.items() >= home(place, "m@mail.example").items()


def test_a_service_user_gets_its_owner_s_mail(place: Place) -> None:
    owner = place.server.make_user("owner")
    with place.server.database():
        _, password = create_service_user(owner, "phone", "", by="tests")
    assert place.login("phone", keep_secret(password)) == "OK"
    assert (place.folder / "mail/owner/Maildir").is_dir()
    assert "AUTHENTICATIONFAILED" in place.login("phone", PASSWORD)
    assert place.look_up("phone")[1].items() >= home(place, "owner").items()


def test_an_account_of_the_nas_gets_its_mail(place: Place) -> None:
    assert place.login("nina", NAS_PASSWORD) == "OK"
    assert "AUTHENTICATIONFAILED" in place.login("nina", "wrong password")
    assert place.look_up("nina")[1].items() >= home(place, "nina").items()


def test_who_does_not_exist_or_is_locked_out_has_no_mail(place: Place) -> None:
    gone = place.server.make_user("gone")
    with place.server.database():
        set_active(gone, False, by="tests")
    for name in ("nobody", "gone"):
        assert "AUTHENTICATIONFAILED" in place.login(name, PASSWORD)
        assert place.look_up(name)[0] == NO_USER
        tried = place.doveadm("auth", "test", name, PASSWORD)
        assert tried.returncode == NO
        assert "temp_fail" not in tried.stdout
    assert not [path for path in (place.folder / "mail").iterdir() if path.name == "gone"]


def test_while_the_server_is_down_it_is_a_temporary_failure(place: Place) -> None:
    place.server.make_user("late")
    assert place.login("late", PASSWORD) == "OK"
    place.server.process.terminate()
    place.server.process.wait(BOUND)
    for password in (PASSWORD, "wrong password"):
        refusal = place.login("late", password)
        assert "UNAVAILABLE" in refusal
        assert "AUTHENTICATIONFAILED" not in refusal
        assert "code=temp_fail" in place.doveadm("auth", "test", "late", password).stdout
    status, fields = place.look_up("late")
    assert (status, fields) == (TEMPORARY, {})
