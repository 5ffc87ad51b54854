"""Apache's mod_authnz_external with the installed client: passwords and groups."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from authserver.accounts.models import Permission
from authserver.accounts.service_users import create_service_user
from tests.nas import PASSWORD as NAS_PASSWORD
from tests.nas import Account, Nas
from tests.processes import BOUND, keep_secret
from tests.programs.apache import Apache, need
from tests.programs.installed import TOKEN, client_of, open_folder
from tests.server import PASSWORD, Server

pytestmark = pytest.mark.once
MODULES = "auth_basic authz_groupfile authnz_external"

CONFIGURATION = """
DefineExternalAuth pipe pipe "{command} -m authext {options}"
DefineExternalAuth environment environment "{command} -m authext {options}"
DefineExternalAuth photos pipe "{command} -m authext -s photos {options}"
DefineExternalGroup groups pipe "{command} -m authextgroup {options}"
DefineExternalGroup groups-environment environment "{command} -m authextgroup {options}"
<Location />
  AuthType Basic
  AuthName "the family"
  AuthBasicProvider external
  AuthExternal pipe
  Require valid-user
</Location>
<Location /environment>
  AuthExternal environment
</Location>
<Location /photos>
  AuthExternal photos
</Location>
<Location /one>
  AuthExternal pipe
  GroupExternal groups
  Require external-group photos
</Location>
<Location /several>
  AuthExternal environment
  GroupExternal groups-environment
  Require external-group calendar photos
</Location>
<Location /none>
  AuthExternal pipe
  GroupExternal groups
  Require external-group calendar music
</Location>
"""
PLACES = ("", "environment/", "photos/", "one/", "several/", "none/")


class Place:
    """An Apache whose users are a server's, and a NAS's behind that."""

    def __init__(self, folder: Path, nas: Nas) -> None:
        self.server = Server(
            folder / "server",
            CHECKPASSWORD_TOKEN=TOKEN,
            MAX_FAILURES=0,
            NAS_RECHECK=1,
            NAS_GRACE=0,
            **nas.settings,
        )
        command, options = client_of(folder, self.server)
        text = CONFIGURATION.format(command=command, options=options)
        for name in PLACES:
            (folder / "www" / name).mkdir(parents=True, exist_ok=True)
            (folder / "www" / name / "index.html").write_text("in\n")
        self.apache = Apache(folder, MODULES, text)

    def statuses(self, name: str, password: str) -> list[int]:
        """What each of `PLACES` answers."""
        with httpx.Client(timeout=BOUND, trust_env=False, auth=(name, password)) as http:
            return [http.get(f"{self.apache.url}/{place}").status_code for place in PLACES]


@contextlib.contextmanager
def begun() -> Iterator[Place]:
    """A place with the account `nina` on its NAS."""
    need(*MODULES.split())
    with contextlib.ExitStack() as stack:
        folder = open_folder()
        stack.callback(shutil.rmtree, folder)
        nas = Nas(folder / "nas")
        stack.callback(nas.stop)
        nas.etc.accounts["nina"] = Account(uid=1005)
        nas.etc.write()
        made = Place(folder, nas)
        stack.callback(made.server.stop)
        stack.callback(made.apache.stop)
        yield made


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with begun() as made:
        yield made


ALL, NO_GROUP, NOBODY = [200, 200, 200, 200, 200, 401], [200, 200, 401, 401, 401, 401], [401] * 6


def test_a_local_user_comes_in_where_his_permissions_let_him(place: Place) -> None:
    maria = place.server.make_user("maria")
    assert place.statuses("maria", PASSWORD) == NO_GROUP
    with place.server.database():
        permission, _ = Permission.objects.get_or_create(
            permission_name="photos", defaults={"name": "Photos"}
        )
        maria.permissions.add(permission)
    assert place.statuses("maria", PASSWORD) == ALL
    assert place.statuses("maria", "wrong password") == NOBODY
    assert place.statuses("nobody", PASSWORD) == NOBODY


def test_a_service_user_comes_in_with_its_owner_s_permissions(place: Place) -> None:
    owner = place.server.make_user("owner")
    with place.server.database():
        permission, _ = Permission.objects.get_or_create(
            permission_name="photos", defaults={"name": "Photos"}
        )
        owner.permissions.add(permission)
        _, password = create_service_user(owner, "scanner", "", "tests")
    assert place.statuses("scanner", keep_secret(password)) == ALL
    assert place.statuses("scanner", PASSWORD) == NOBODY


def test_an_account_of_the_nas_comes_in_with_its_password(place: Place) -> None:
    assert place.statuses("nina", NAS_PASSWORD) == NO_GROUP
    assert place.statuses("nina", "wrong password") == NOBODY


def test_while_the_server_is_down_nobody_comes_in() -> None:
    with begun() as place:
        assert place.statuses("nina", NAS_PASSWORD)[0] == 200
        place.server.stop()
        assert place.statuses("nina", NAS_PASSWORD) == NOBODY
