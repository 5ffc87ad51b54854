"""GET /user-info: who an account is, and that a fault is never passed on as an answer."""

import resource
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from etc import GROUPS, Etc, right
from service import Response, Service, Start, parallel
from wire import Wire

NOT_FOUND = {"exists": False, "error": "User not found"}


def info(service: Service, username: str) -> Response:
    return service.request("GET", f"/user-info?username={quote(username)}")


def told(service: Service, name: str, **fields: Any) -> dict[str, Any]:
    """What is said of an account that is added now."""
    service.etc.add_user(name, **fields)
    answer = info(service, name)
    assert answer.status == 200
    assert answer.json["exists"] is True
    assert answer.json["username"] == name
    result: dict[str, Any] = answer.json
    return result


def assert_unavailable(response: Response) -> None:
    assert response.status == 503
    assert response.json == {"exists": False, "error": response.json["error"]}
    assert response.json["error"] != "User not found"
    assert int(response.headers["Retry-After"]) > 0


def test_an_account_is_told_whole(service: Service) -> None:
    response = info(service, "jane.doe")
    assert response.status == 200
    assert response.json == {
        "exists": True,
        "username": "jane.doe",
        "uid": 1600,
        "gid": 10,
        "full_name": "Jane Doe",
        "email": "jane@example.org",
        "home": "/home/jane.doe",
        "shell": "/bin/bash",
        "groups": ["admin", "docker", "ughomeusers", "media team", "family"],
        "active": True,
    }


def test_an_ordinary_account_without_a_shell_exists(service: Service) -> None:
    answer = info(service, "MarcEwers").json
    assert answer["shell"] == "/usr/sbin/nologin"
    assert (answer["full_name"], answer["email"]) == ("MarcEwers", "")
    assert answer["groups"] == ["users", "ughomeusers"]


@pytest.mark.parametrize(
    "name", ["no.such.user", "root", "toor", "system", "highuid", "JANE.DOE", "nobody", "+", "1600"]
)
def test_an_account_that_is_not_served_does_not_exist(service: Service, name: str) -> None:
    response = info(service, name)
    assert (response.status, response.json) == (200, NOT_FOUND)


@pytest.mark.parametrize(
    "name", ["sha512.locked", "sha512.expired", "sha512.mustchange", "nopassword", "star"]
)
def test_an_account_that_cannot_log_in_exists(service: Service, name: str) -> None:
    assert info(service, name).json["exists"] is True


@pytest.fixture
def groups_restored(service: Service) -> Iterator[None]:
    yield
    service.etc.replace("group", GROUPS)


@pytest.mark.usefixtures("groups_restored")
def test_the_primary_group_comes_first_then_the_files_order_each_name_once(
    service: Service,
) -> None:
    member = "jane.doe"
    service.etc.replace(
        "group",
        f"z:x:900:{member}\nadmin:x:10:{member}\na:x:800:{member}\nb:x:800:{member}\nm:x:50:{member}\n",
    )
    assert info(service, member).json["groups"] == ["admin", "z", "a", "m"]


@pytest.mark.usefixtures("groups_restored")
def test_a_gid_without_a_name_is_left_out(service: Service) -> None:
    service.etc.replace("group", "docker:x:121:jane.doe\n")
    answer = info(service, "jane.doe").json
    assert (answer["gid"], answer["groups"]) == (10, ["docker"])


@pytest.mark.usefixtures("groups_restored")
def test_a_group_row_that_nss_does_not_read_is_no_fault(service: Service) -> None:
    service.etc.replace(
        "group", "#admin:x:10:jane.doe\n\nshort:x:5\nx:x:nan:jane.doe\ndocker:x:121:jane.doe\n"
    )
    assert info(service, "jane.doe").json["groups"] == ["docker"]


@pytest.mark.usefixtures("groups_restored")
def test_an_account_in_600_groups_is_told_all(service: Service) -> None:
    service.etc.replace(
        "group", "".join(f"g{gid}:x:{gid}:jane.doe\n" for gid in range(3000, 3600)) + GROUPS
    )
    groups = info(service, "jane.doe").json["groups"]
    assert groups[:2] == ["admin", "g3000"]
    assert len(groups) == 605


def test_a_new_membership_is_seen_by_the_next_request(start: Start, etc: Etc) -> None:
    service = start()
    assert info(service, "MarcEwers").json["groups"] == ["users", "ughomeusers"]
    etc.replace("group", GROUPS.replace("docker:x:121:", "docker:x:121:MarcEwers,"))
    assert info(service, "MarcEwers").json["groups"] == ["users", "docker", "ughomeusers"]


@pytest.mark.parametrize(
    ("gecos", "full_name", "email"),
    [
        ("", None, ""),
        (",,,", None, ""),
        (" , Room 1", None, ""),
        ("UGREEN USER", None, ""),
        ("UGREEN USER,,,,u@example.org", None, "u@example.org"),
        ("UGREEN USERS", "UGREEN USERS", ""),
        ("Ann Other,Room,123,456,note", "Ann Other", ""),
        ("&", "Gecos.user", ""),
        ("& van &,x", "Gecos.user van Gecos.user", ""),
        ("Ann,ann@example.org,b@example.org", "Ann", "ann@example.org"),
        ("ann@example.org", "ann@example.org", "ann@example.org"),
        (
            f"Ann,{'a' * 242}@example.org",
            "Ann",
            f"{'a' * 242}@example.org",
        ),  # 254 characters, the most (RFC 5321)
        (f"Ann,{'a' * 243}@example.org", "Ann", ""),
        ("Ann Other <ann@example.org>", "Ann Other <ann@example.org>", "ann@example.org"),
        ("Ann,Mail <ann.o+x@mail.example.org>", "Ann", "ann.o+x@mail.example.org"),
        ("Ann,,,, ann@example.org ", "Ann", "ann@example.org"),
        ("Ann,at home @ Berlin,a@b@c,@x,x@", "Ann", ""),
        ("Ann,see ann@example.org", "Ann", ""),
        ("J\u00fcrgen,\u00fc@example.org", "J\u00fcrgen", ""),
        ("J\udcfcrgen \udcff,j@example.org", "J\ufffdrgen \ufffd", "j@example.org"),
    ],
    ids=ascii,
)
def test_name_and_email_come_from_gecos(
    start: Start, gecos: str, full_name: str, email: str
) -> None:
    answer = told(start(), "gecos.user", gecos=gecos)
    assert (answer["full_name"], answer["email"]) == (full_name or "gecos.user", email)


def test_bytes_that_are_not_utf_8_become_the_replacement_character(service: Service) -> None:
    assert info(service, "juergen").json["full_name"] == "J\ufffdrgen"
    assert told(service, "odd.shell", shell="/bin/\udcff")["shell"] == "/bin/\ufffd"


def test_a_name_beyond_ascii_is_found(service: Service) -> None:
    assert told(service, "j\u00f6rg", gecos="&")["full_name"] == "J\u00f6rg"


@pytest.mark.usefixtures("groups_restored")
def test_a_group_name_that_is_not_utf_8_is_told_with_the_replacement_character(
    service: Service,
) -> None:
    service.etc.replace("group", "admin:x:10:\nb\udcfcro:x:11:jane.doe\n")
    assert info(service, "jane.doe").json["groups"] == ["admin", "b\ufffdro"]


def test_min_uid_and_max_uid_are_both_served(start: Start, etc: Etc) -> None:
    for uid in (499, 500, 2000, 2001):
        etc.add_user(f"uid{uid}", "right-password", uid=uid)
    service = start(MIN_UID=500, MAX_UID=2000)
    exists = [info(service, f"uid{uid}").json["exists"] for uid in (499, 500, 2000, 2001)]
    assert exists == [False, True, True, False]
    valid = [
        service.validate(f"uid{uid}", "right-password").json["valid"]
        for uid in (499, 500, 2000, 2001)
    ]
    assert valid == [False, True, True, False]


def test_uid_0_is_not_served_at_the_lowest_min_uid(start: Start) -> None:
    service = start(MIN_UID=1)
    assert info(service, "toor").json == NOT_FOUND
    assert service.validate("toor", right("toor")).json["valid"] is False
    assert info(service, "system").json["exists"] is True


def test_only_members_of_allowed_groups_exist(start: Start) -> None:
    service = start(ALLOWED_GROUPS="no such group, media team")
    assert info(service, "jane.doe").json["exists"] is True
    assert info(service, "MarcEwers").json == NOT_FOUND
    primary = start(ALLOWED_GROUPS="users")
    assert info(primary, "MarcEwers").json["exists"] is True
    assert info(primary, "jane.doe").json == NOT_FOUND


def test_the_username_is_stripped(service: Service) -> None:
    assert info(service, " jane.doe\n").json["username"] == "jane.doe"
    assert (
        service.request("GET", "/user-info?username=+jane.doe+&other=1").json["username"]
        == "jane.doe"
    )


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?",
        "?user=jane.doe",
        "?username",
        "?username=",
        "?username=%20",
        "?username=jane.doe&username=jane.doe",
        "?username=&username=jane.doe",
        "?username=jane%00doe",
        "?username=jane%1fdoe",
        "?username=jane%C2%85doe",
        "?username=jane%3Adoe",
        "?username=..%2Fjane",
        "?username=jane/doe",
        "?username=" + "u" * 257,
        "?username=%FF",
        "?username=%ED%A0%80",
    ],
    ids=lambda query: query[:40],
)
def test_a_bad_query_is_400(service: Service, query: str) -> None:
    response = service.request("GET", f"/user-info{query}")
    assert response.status == 400
    assert response.json == {"exists": False, "error": response.json["error"]}


def test_a_missing_username_is_named(service: Service) -> None:
    assert "Username" in service.request("GET", "/user-info").json["error"]


def test_head_has_the_headers_of_get_and_no_body(service: Service) -> None:
    got, head = info(service, "jane.doe"), service.request("HEAD", "/user-info?username=jane.doe")
    assert (head.status, head.raw) == (200, b"")
    assert head.headers["Content-Length"] == str(len(got.raw))


@pytest.mark.parametrize("name", ["jane.doe", "no.such.user"])
def test_without_passwd_nothing_is_said_of_anybody(start: Start, etc: Etc, name: str) -> None:
    service = start()
    (etc.path / "passwd").rename(etc.path / "elsewhere")
    assert_unavailable(info(service, name))
    assert "/etc/passwd" in info(service, name).json["error"]
    (etc.path / "elsewhere").rename(etc.path / "passwd")
    assert info(service, name).status == 200


def test_an_empty_passwd_has_not_lost_its_accounts(start: Start, etc: Etc) -> None:
    service = start()
    etc.replace("passwd", "")
    assert_unavailable(info(service, "jane.doe"))


def test_without_group_no_short_list_is_given(start: Start, etc: Etc) -> None:
    service = start()
    (etc.path / "group").unlink()
    assert_unavailable(info(service, "jane.doe"))
    assert info(service, "no.such.user").json == NOT_FOUND


@pytest.mark.parametrize("database", ["passwd", "group"])
def test_what_the_file_has_and_nss_does_not_find_is_a_fault(
    start: Start, etc: Etc, database: str
) -> None:
    """As when the file could not be opened for a moment: NSS then says `none`, without an error."""
    etc.replace(
        "nsswitch.conf", etc.read("nsswitch.conf").replace(f"{database}: files", f"{database}: db")
    )
    service = start()
    assert_unavailable(info(service, "jane.doe"))


def test_without_group_nobody_is_judged_by_allowed_groups(start: Start, etc: Etc) -> None:
    service = start(ALLOWED_GROUPS="media team")
    (etc.path / "group").unlink()
    assert_unavailable(info(service, "jane.doe"))
    response = service.validate("jane.doe", right("jane.doe"))
    assert (response.status, response.json["valid"]) == (503, False)


@pytest.mark.parametrize("filename", ["passwd", "group"])
def test_a_file_that_this_user_may_not_read_is_503(start: Start, etc: Etc, filename: str) -> None:
    service = start(user=65534, groups=[42])
    (etc.path / filename).chmod(0o600)
    assert_unavailable(info(service, "jane.doe"))


@pytest.mark.parametrize("name", ["jane.doe", "no.such.user"])
def test_out_of_descriptors_no_answer_is_made_up(start: Start, name: str) -> None:
    service = start()
    hard = resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE)[1]
    question = f"GET /user-info?username={name} HTTP/1.1\r\nHost: nas\r\n\r\n".encode()
    with Wire(service) as wire:
        whole = wire.send(question).answer().json
        answers = []
        for limit in range(40, 3, -1):  # fewer than it has open, in the end
            resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (limit, hard))
            answers.append(wire.send(question).answer())
    assert answers[0].json == whole
    assert answers[-1].status == 503
    assert all(answer.status == 503 or answer.json == whole for answer in answers)


def test_answers_stay_whole_while_the_files_are_replaced(start: Start, etc: Etc) -> None:
    """The host replaces the files at any moment; an account that is in all versions is always
    found, and whole."""
    service = start()
    expected = info(service, "jane.doe").json
    passwd = etc.read("passwd")

    def replace(_: int) -> None:
        for turn in range(100):
            etc.replace("passwd", "#\n" * (turn % 7) + passwd)
            etc.replace("group", "#\n" * (turn % 5) + GROUPS)

    def ask(_: int) -> list[Any]:
        return [info(service, "jane.doe").json for _ in range(50)]

    _, *answers = parallel(lambda job: (replace if job == 0 else ask)(job), range(4))
    for seen in answers:
        assert seen == [expected] * 50


def test_the_descriptor_limit_is_raised_for_the_connections(start: Start) -> None:
    service = start(before="ulimit -S -n 64;", MAX_CONNECTIONS=300)
    soft, _ = resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE)
    assert soft >= 300


@pytest.mark.parametrize(
    "row", ["#bob:x:1011:100::/:/bin/sh", "+nis:x:1012:100::/:", "huge:x:99999999999:100::/:"]
)
def test_a_row_that_nss_passes_over_is_no_account(start: Start, etc: Etc, row: str) -> None:
    etc.replace("passwd", (etc.path / "passwd").read_text(errors="surrogateescape") + row + "\n")
    answer = info(start(), row.partition(":")[0])
    assert (answer.status, answer.json["exists"]) == (200, False)
