"""Logins by authentik-policy.py, through the shipped blueprint: main.py and PAM are the real
ones."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from authentik.core.models import OLD, Group, Role, User
from django.contrib.auth.hashers import MD5PasswordHasher
from django.db.models.signals import post_init
from etc import right
from logins import AKADMINS, INVALID, UNREACHABLE, Site, groups, link, user
from secrecy import keep_secret
from service import Service, Start

# --- The first login -----------------------------------------------------------------------------


def test_the_first_login_creates_the_user_as_the_nas_has_it(site: Site, nas: Service) -> None:
    assert site.lets_in("jane.doe", right("jane.doe")) == "jane.doe"
    jane = user("jane.doe")
    assert jane.attributes == {
        "ugos_user": True,
        "ugos_uid": 1600,
        "ugos_gid": 10,
        "ugos_groups": ["admin", "docker", "ughomeusers", "media team", "family"],
        "ugos_home": "/home/jane.doe",
        "auto_provisioned": True,
    }
    assert (jane.name, jane.email, jane.path) == ("Jane Doe", "jane@example.org", "users/ugos")
    assert jane.is_active
    assert not jane.has_usable_password()
    assert groups("jane.doe") == {"UGOS Users", "admins", "family"}
    assert not any(line.startswith("warning") for line in site.log)
    assert [event.context["auth_method"] for event in site.events if event.action == "login"] == [
        "password"
    ]


def test_a_name_is_made_readable_where_the_nas_has_none(site: Site, nas: Service) -> None:
    nas.etc.add_user("max_otto.von-berg", "right-max")
    assert site.lets_in("max_otto.von-berg", "right-max")
    assert user("max_otto.von-berg").name == "Max Otto Von Berg"
    assert site.lets_in("MarcEwers", right("MarcEwers"))
    assert user("MarcEwers").name == "MarcEwers"


def test_an_account_without_an_address_gets_one_of_the_default_domain(
    site: Site, nas: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert site.lets_in("MarcEwers", right("MarcEwers"))
    assert user("MarcEwers").email == "MarcEwers@home.arpa"
    monkeypatch.setenv("DEFAULT_EMAIL_DOMAIN", "example.net")
    assert site.lets_in("des", right("des"))
    assert user("des").email == "des@example.net"


def test_an_address_that_another_user_has_is_not_given_twice(site: Site, nas: Service) -> None:
    User.objects.create_user("other", "JANE@example.org", None)
    assert site.lets_in("jane.doe", right("jane.doe"))
    assert user("jane.doe").email == "jane.doe@home.arpa"
    assert any("jane@example.org" in line for line in site.log)


def test_where_the_fallback_is_taken_too_there_is_no_address(site: Site, nas: Service) -> None:
    User.objects.create_user("other", "JANE@example.org", None)
    User.objects.create_user("another", "Jane.Doe@HOME.arpa", None)
    assert site.lets_in("jane.doe", right("jane.doe"))
    assert user("jane.doe").email == ""


def test_four_first_logins_at_once_make_one_user(site: Site, nas: Service) -> None:
    browsers = [site.browser(f"192.0.2.{number}") for number in range(4)]
    for browser in browsers:
        browser.start("ugos-authentication")
        browser.submit(uid_field="jane.doe")
    keep_secret(right("jane.doe"))
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda browser: browser.submit(password=right("jane.doe")), browsers))
    assert [browser.user for browser in browsers] == ["jane.doe"] * 4
    assert User.objects.filter(username="jane.doe").count() == 1
    assert groups("jane.doe") == {"UGOS Users", "admins", "family"}


def test_a_user_that_another_login_has_just_created_is_taken(site: Site, nas: Service) -> None:
    def be_faster(
        instance: User, **_: Any
    ) -> None:  # after the policy has looked for the user, before it saves it
        if instance.username == "des" and instance.attributes:
            post_init.disconnect(be_faster, sender=User)
            User.objects.bulk_create(
                [User(username="des", password="!", attributes={"ugos_user": True})]
            )

    post_init.connect(be_faster, sender=User)
    try:
        assert site.lets_in("des", right("des")) == "des"
    finally:
        post_init.disconnect(be_faster, sender=User)
    assert "auto_provisioned" not in user("des").attributes
    assert user("des").attributes["ugos_uid"] == 1300


# --- Every login ---------------------------------------------------------------------------------


def test_attributes_and_groups_follow_the_nas_both_ways(site: Site, nas: Service) -> None:
    assert site.lets_in("jane.doe", right("jane.doe"))
    before = nas.etc.read("group")
    nas.etc.replace("group", before.replace(":300:jane.doe", ":300:"))
    assert site.lets_in("jane.doe", right("jane.doe"))
    assert groups("jane.doe") == {"UGOS Users", "admins"}
    assert user("jane.doe").attributes["ugos_groups"] == [
        "admin",
        "docker",
        "ughomeusers",
        "media team",
    ]
    nas.etc.replace("group", before)
    assert site.lets_in("jane.doe", right("jane.doe"))
    assert groups("jane.doe") == {"UGOS Users", "admins", "family"}


def test_other_groups_and_attributes_are_never_touched(site: Site, nas: Service) -> None:
    jane = link("jane.doe", theme="dark")
    Group.objects.create(name="docker")
    Group.objects.create(name="movies").users.add(jane)
    assert site.lets_in("jane.doe", right("jane.doe"))
    assert groups("jane.doe") == {"UGOS Users", "admins", "family", "movies"}
    assert user("jane.doe").attributes["theme"] == "dark"
    assert "auto_provisioned" not in user("jane.doe").attributes


def test_name_and_address_belong_to_authentik_once_created(site: Site, nas: Service) -> None:
    assert site.lets_in("jane.doe", right("jane.doe"))
    User.objects.filter(username="jane.doe").update(
        name="J.", email="j@example.com", path="users/vip"
    )
    assert site.lets_in("jane.doe", right("jane.doe"))
    jane = user("jane.doe")
    assert (jane.name, jane.email, jane.path) == ("J.", "j@example.com", "users/vip")


def test_a_mapped_group_that_does_not_exist_is_skipped_with_a_warning(
    site: Site, nas: Service
) -> None:
    Group.objects.filter(name="admins").delete()
    assert site.lets_in("jane.doe", right("jane.doe"))
    assert groups("jane.doe") == {"UGOS Users", "family"}
    assert any(line.startswith("warning") and "'admins'" in line for line in site.log)
    site.log.clear()
    assert site.lets_in("des", right("des"))
    assert not any("'admins'" in line for line in site.log)  # it is none of des's


def test_a_group_that_is_dropped_from_the_group_map_keeps_its_members(
    site: Site, nas: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The policy cannot know who joined by it: docs/authentik.md says so."""
    assert site.lets_in("jane.doe", right("jane.doe"))
    monkeypatch.setenv("GROUP_MAP", json.dumps({"admin": "admins"}))
    assert site.lets_in("jane.doe", right("jane.doe"))
    assert groups("jane.doe") == {"UGOS Users", "admins", "family"}


def test_the_group_map_is_a_setting(
    site: Site, nas: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    Group.objects.create(name="Media")
    Group.objects.create(name="NAS")
    monkeypatch.setenv(
        "GROUP_MAP", json.dumps({"media team": "Media", "docker": "Media", "video": "family"})
    )
    monkeypatch.setenv("UGOS_USERS_GROUP", "NAS")
    monkeypatch.setenv("USER_PATH", "nas")
    Group.objects.get(name="family").users.add(link("jane.doe"))
    assert site.lets_in("jane.doe", right("jane.doe"))
    assert groups("jane.doe") == {"Media", "NAS"}
    assert site.lets_in("des", right("des"))
    assert user("des").path == "nas"


def parent_of(group: Group, name: str, **fields: Any) -> Group:
    parent = Group.objects.create(name=name, **fields)
    if OLD:
        group.parent = parent
        group.save()
    else:
        group.parents.add(parent)
    return parent


RIGHTS = ["itself", "parent", "grandparent", "role", "role of the parent"]


@pytest.mark.parametrize("which", RIGHTS)
@pytest.mark.parametrize("allowed", [False, True])
def test_a_group_that_gives_rights_is_joined_only_where_that_is_allowed(
    site: Site, nas: Service, monkeypatch: pytest.MonkeyPatch, which: str, allowed: bool
) -> None:
    if allowed:
        monkeypatch.setenv("ALLOW_SUPERUSER_GROUPS", "True")
    admins = Group.objects.get(name="admins")
    if which == "itself":
        Group.objects.filter(name="admins").update(is_superuser=True)
    elif which == "parent":
        parent_of(admins, "above", is_superuser=True)
    elif which == "grandparent":
        parent_of(parent_of(admins, "above"), "highest", is_superuser=True)
    elif which == "role":
        admins.roles.add(Role.objects.create(name="editor"))
    else:
        parent_of(admins, "above").roles.add(Role.objects.create(name="editor"))
    assert site.lets_in("jane.doe", right("jane.doe"))
    assert groups("jane.doe") == {"UGOS Users", "family"} | ({"admins"} if allowed else set())
    assert user("jane.doe").is_superuser is (allowed and "role" not in which)
    assert any("'admins' gives superuser rights" in line for line in site.log) is not allowed


def test_a_group_is_not_joined_where_nothing_tells_whether_it_gives_rights(
    site: Site, nas: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in an authentik to come."""
    monkeypatch.delattr(
        type(Group.objects.all()), "with_children_recursive" if OLD else "with_ancestors"
    )
    Group.objects.get(name="UGOS Users").users.add(link("jane.doe"))
    assert site.lets_in("jane.doe", right("jane.doe")) == "jane.doe"
    assert groups("jane.doe") == {"UGOS Users"}


def test_a_group_that_gives_rights_is_no_matter_to_those_who_would_not_join_it(
    site: Site, nas: Service
) -> None:
    Group.objects.filter(name="admins").update(is_superuser=True)
    Group.objects.get(name="admins").users.add(link("jane.doe"))
    for name in ("jane.doe", "des"):
        assert site.lets_in(name, right(name)) == name
    assert groups("jane.doe") == {"UGOS Users", "admins", "family"}
    assert not any(line.startswith("warning") for line in site.log)


def test_who_left_the_group_on_the_nas_leaves_one_that_gives_rights_too(
    site: Site, nas: Service
) -> None:
    Group.objects.filter(name="admins").update(is_superuser=True)
    Group.objects.get(name="admins").users.add(link("des"))
    assert site.lets_in("des", right("des"))
    assert groups("des") == {"UGOS Users"}


def test_of_two_groups_of_one_name_the_one_that_gives_rights_is_not_joined(
    site: Site, nas: Service
) -> None:
    """Names are unique below one parent only, in 2025.10; in 2026.5 there is one group of a
    name."""
    powerful = Group.objects.create(name="above", is_superuser=True)
    if OLD:
        Group.objects.create(name="family", parent=powerful)
    assert site.lets_in("jane.doe", right("jane.doe"))
    assert not user("jane.doe").is_superuser
    assert "family" in groups("jane.doe")


def test_a_password_that_the_user_has_in_authentik_is_made_unusable(
    site: Site, nas: Service
) -> None:
    jane = link("jane.doe")
    jane.set_password(keep_secret("second-door"))
    jane.save()
    assert site.lets_in("jane.doe", "second-door") is None
    assert user("jane.doe").has_usable_password()  # nothing changes at a refusal
    for _ in range(2):  # the second time there is nothing else to change
        assert site.lets_in("jane.doe", right("jane.doe")) == "jane.doe"
        jane = user("jane.doe")
        assert not jane.has_usable_password()
        jane.set_password("second-door")
        jane.save()


def test_a_password_changed_on_the_nas_counts_at_once(site: Site, nas: Service) -> None:
    assert site.lets_in("des", right("des"))
    nas.etc.set_password("des", "new-password")
    assert site.refusal("des", right("des")) == INVALID
    assert site.lets_in("des", "new-password") == "des"
    nas.etc.lock("des")
    assert site.refusal("des", "new-password") == INVALID


def test_an_account_that_is_removed_on_the_nas_gets_in_no_more(site: Site, nas: Service) -> None:
    assert site.lets_in("des", right("des")) == "des"
    for file in ("passwd", "shadow"):
        rows = [
            row
            for row in nas.etc.read(file).splitlines(keepends=True)
            if not row.startswith("des:")
        ]
        nas.etc.replace(file, "".join(rows))
    assert site.refusal("des", right("des")) == INVALID


def test_a_user_deleted_after_the_name_was_typed_is_not_created_anew(
    site: Site, nas: Service
) -> None:
    link("des")
    browser = site.browser()
    browser.start("ugos-authentication")
    browser.submit(uid_field="des")
    user("des").delete()
    assert browser.submit(password=keep_secret(right("des"))).errors == [INVALID]
    assert browser.user is None
    assert not User.objects.filter(username="des").exists()
    assert any("is refused: the user has been deleted" in line for line in site.log)


# --- Whose password counts -----------------------------------------------------------------------


def test_a_user_that_is_not_the_nas_s_is_never_let_in_by_a_nas_password(
    site: Site, nas: Service
) -> None:
    local = User.objects.create_user("jane.doe", "jane@example.com", keep_secret("local-password"))
    Group.objects.get(name="authentik Admins").users.add(local)
    for password in (right("jane.doe"), "local-password"):
        assert site.refusal("jane.doe", password) == INVALID
    assert user("jane.doe").attributes == {}
    assert user("jane.doe").check_password("local-password")
    assert not [
        line for line in nas.log_lines() if "event=verdict" in line and "result=valid" in line
    ]


@pytest.mark.parametrize("value", [False, None, "true", 1, "yes", [True]])
def test_only_true_links_a_user(site: Site, nas: Service, value: object) -> None:
    link("jane.doe", ugos_user=value)
    assert site.refusal("jane.doe", right("jane.doe")) == INVALID


def test_local_users_log_in_with_their_own_password_where_that_is_allowed(
    site: Site, nas: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALLOW_LOCAL_USERS", "true")
    User.objects.create_user("jane.doe", "jane@example.com", keep_secret("local-password"))
    assert site.refusal("jane.doe", right("jane.doe")) == INVALID
    assert site.lets_in("jane.doe", "local-password") == "jane.doe"
    assert user("jane.doe").attributes == {}
    assert groups("jane.doe") == set()
    assert site.lets_in("MarcEwers", right("MarcEwers")) == "MarcEwers"
    User.objects.filter(username="jane.doe").update(is_active=False)
    assert site.refusal("jane.doe", "local-password") == INVALID
    assert not any("jane.doe" in line and "result=valid" in line for line in nas.log_lines())


def test_a_nas_user_s_authentik_password_does_not_count_even_where_local_ones_do(
    site: Site, nas: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALLOW_LOCAL_USERS", "true")
    jane = link("jane.doe")
    jane.set_password(keep_secret("second-door"))
    jane.save()
    assert site.refusal("jane.doe", "second-door") == INVALID


@pytest.mark.parametrize("name", ["boss", "jane.doe", "des", "nobody.here", "akadmin"])
def test_where_local_users_log_in_every_name_takes_as_long(
    site: Site, nas: Service, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """One password is hashed for each: that of a local user to check it, that of anybody else in
    vain."""
    monkeypatch.setenv("ALLOW_LOCAL_USERS", "true")
    User.objects.create_user("boss", "boss@example.com", keep_secret("local-password"))
    link("jane.doe")
    hashed: list[str] = []
    encode = MD5PasswordHasher.encode

    def count(self: MD5PasswordHasher, password: str, salt: str) -> str:
        hashed.append(password)
        return encode(self, password, salt)

    monkeypatch.setattr(MD5PasswordHasher, "encode", count)
    assert site.refusal(name, "wrong-password") == INVALID
    assert hashed == ["wrong-password"]


def test_a_local_user_s_password_never_reaches_the_nas_which_is_asked_all_the_same(
    site: Site, nas: Service
) -> None:
    """So that a refusal takes as long."""
    User.objects.create_user("boss", "boss@example.com", keep_secret("local-password"))
    assert site.refusal("boss", "local-password") == INVALID
    assert nas.wait_for_log("event=verdict user=boss .*result=invalid")


def test_setting_the_attribute_links_a_user(site: Site, nas: Service) -> None:
    link("jane.doe")
    assert site.lets_in("jane.doe", right("jane.doe")) == "jane.doe"
    assert user("jane.doe").attributes["ugos_uid"] == 1600


def test_an_account_that_was_removed_and_made_anew_is_refused_until_it_is_linked_anew(
    site: Site, nas: Service
) -> None:
    jane = link("jane.doe", ugos_uid=1999)
    assert site.refusal("jane.doe", right("jane.doe")) == INVALID
    assert user("jane.doe").attributes == {"ugos_user": True, "ugos_uid": 1999}
    assert any("uid 1600 is another account than uid 1999" in line for line in site.log)
    jane.attributes = {"ugos_user": True}
    jane.save()
    assert site.lets_in("jane.doe", right("jane.doe")) == "jane.doe"


def test_inactive_users_are_refused(site: Site, nas: Service) -> None:
    link("jane.doe")
    User.objects.update(is_active=False)
    assert site.refusal("jane.doe", right("jane.doe")) == INVALID
    assert not any("result=valid" in line for line in nas.log_lines())


@pytest.mark.parametrize(
    "state", ["there", "deleted", "renamed", "marked", "marked and inactive", "local allowed"]
)
@pytest.mark.parametrize("name", AKADMINS)
def test_akadmin_never_logs_in_whatever_the_nas_says(
    site: Site, nas: Service, monkeypatch: pytest.MonkeyPatch, name: str, state: str
) -> None:
    nas.etc.add_user("akadmin", "right-akadmin")
    nas.etc.add_user("AkAdmin", "right-akadmin")
    admin = site.admin
    if state == "deleted":
        admin.delete()
    elif state == "renamed":
        User.objects.update(username="boss")
    elif state.startswith("marked"):
        User.objects.update(attributes={"ugos_user": True}, is_active="inactive" not in state)
    else:
        monkeypatch.setenv("ALLOW_LOCAL_USERS", "true")
    before = list(User.objects.values())
    for password in ("right-akadmin", "password-of-akadmin"):
        assert site.refusal(name, password) == INVALID
    assert list(User.objects.values()) == before


# --- Which name ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "typed", ["Jane.Doe", "JANE.DOE", " jane.doe ", "jane.doe", "jane.doe@example.com"]
)
def test_identity_is_the_account_and_not_the_spelling(site: Site, nas: Service, typed: str) -> None:
    site.stages["ugos-find-user-stage"].user_fields.append("email")  # type: ignore[attr-defined]
    link("jane.doe")
    assert site.lets_in(typed, right("jane.doe")) == "jane.doe"
    assert User.objects.filter(username__iexact="jane.doe").count() == 1


def test_a_user_that_identification_did_not_find_is_found_by_name(site: Site, nas: Service) -> None:
    site.stages["ugos-find-user-stage"].user_fields[:] = ["email"]  # type: ignore[attr-defined]
    User.objects.create_user("jane.doe", "jane@example.com", keep_secret("local-password"))
    assert site.refusal("jane.doe", right("jane.doe")) == INVALID
    assert not any("result=valid" in line for line in nas.log_lines())
    link("des")
    assert site.lets_in("DES", right("des")) == "des"


def test_a_user_of_nearly_the_same_name_is_not_doubled(site: Site, nas: Service) -> None:
    find: Any = site.stages["ugos-find-user-stage"]
    find.case_insensitive_matching = False
    User.objects.create_user("Jane.Doe", "jane@example.com", None)
    assert site.refusal("jane.doe", right("jane.doe")) == INVALID
    User.objects.filter(username="Jane.Doe").update(attributes={"ugos_user": True})
    assert site.refusal("jane.doe", right("jane.doe")) == INVALID
    assert not User.objects.filter(username="jane.doe").exists()


def test_of_names_that_differ_in_case_the_very_one_is_taken(site: Site, nas: Service) -> None:
    site.stages["ugos-find-user-stage"].user_fields[:] = ["email"]  # type: ignore[attr-defined]
    for name in ("DES", "des", "Des"):
        link(name, ugos_uid=1300)
    assert site.lets_in("des", right("des")) == "des"


@pytest.mark.parametrize(
    "name",
    ["nobody.here", "a:b", "a/b", "x" * 257, "J\u00fcrgen", "jane.d\u00f6e", "root", "system"],
)
def test_unknown_names_are_refused_and_nobody_is_created(
    site: Site, nas: Service, name: str
) -> None:
    before = User.objects.count()
    assert site.refusal(name, "right-jane.doe") == INVALID
    assert User.objects.count() == before


@pytest.mark.parametrize(
    "password", ["", " ", "   ", None, "wrong-password", "right-jane.doe ".upper(), "x" * 5000]
)
def test_a_password_that_is_not_right_is_refused(
    site: Site, nas: Service, password: object
) -> None:
    site.trims_prompts = False
    link("jane.doe")
    assert site.refusal("jane.doe", password)
    assert site.lets_in("jane.doe", right("jane.doe")) == "jane.doe"


@pytest.mark.parametrize("password", ["", " ", None, 5, ["x"]])
def test_the_policy_itself_refuses_what_no_form_would_send(
    site: Site, nas: Service, password: object
) -> None:
    from plan import SESSION_KEY_PLAN

    link("jane.doe")
    browser = site.browser()
    browser.start("ugos-authentication")
    browser.submit(uid_field="jane.doe")
    session = browser.session
    plan = session[SESSION_KEY_PLAN]
    plan.pop()  # as if the form had been passed
    plan.context["prompt_data"] = {"password": password}
    session[SESSION_KEY_PLAN] = plan
    session.save()
    assert (
        browser.submit().message == "The login was refused. Check name and password, and try again."
    )
    assert browser.user is None
    assert any("event=request" in line for line in nas.log_lines()) is (password == " ")


# --- What is said, told and kept -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("des.expired", "Your NAS account has expired."),
        ("des.mustchange", "Your NAS password has expired. Change it in UGOS."),
        ("des.agedout", "Your NAS password has expired. Change it in UGOS."),
        ("des.locked", INVALID),
        ("nopassword", INVALID),
    ],
)
def test_the_user_is_told_what_is_wrong_with_the_account(
    site: Site, nas: Service, name: str, message: str
) -> None:
    assert site.refusal(name, right(name)) == message
    assert not User.objects.filter(username=name).exists()


def test_the_user_is_told_for_how_long_too_many_failed_logins_count(
    site: Site, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = start(MAX_FAILURES=2, FAILURE_WINDOW=240)
    monkeypatch.setenv("UGOS_AUTH_PROXY_URL", f"http://127.0.0.1:{running.port}/")
    assert [site.refusal("des", "wrong-password") for _ in range(2)] == [INVALID] * 2
    assert site.refusal("des", right("des")) == "Too many failed logins. Try again in 4 minutes."


def test_with_the_token_each_browser_is_counted_for_itself(
    site: Site, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = start(AUTH_TOKEN="a-token-that-counts", MAX_FAILURES=2)
    monkeypatch.setenv("UGOS_AUTH_PROXY_URL", f"http://127.0.0.1:{running.port}")
    monkeypatch.setenv("UGOS_AUTH_PROXY_TOKEN", "a-token-that-counts")
    for _ in range(3):
        site.refusal("des", "wrong-password")
    assert site.try_login("des", right("des"))[0] is None
    assert site.try_login("des", right("des"), ip="2001:db8::7")[0] == "des"
    assert running.wait_for_log("event=verdict user=des client=2001:db8::7 result=valid")


def test_a_wrong_token_is_a_fault_of_the_service_and_the_log_names_the_setting(
    site: Site, nas: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UGOS_AUTH_PROXY_TOKEN", keep_secret("another-token-of-some-length"))
    assert site.refusal("des", right("des")) == UNREACHABLE
    assert any("UGOS_AUTH_PROXY_TOKEN" in line for line in site.log)
    assert not site.signals


def test_a_refusal_is_told_to_authentik_and_a_login_is_not(site: Site, nas: Service) -> None:
    site.refusal("des", "wrong-password")
    assert site.signals == [{"username": "des"}]
    assert site.lets_in("des", right("des"))
    assert len(site.signals) == 1


def test_a_receiver_of_the_signal_that_fails_changes_nothing(site: Site, nas: Service) -> None:
    site.faults = {"events"}
    assert site.refusal("des", "wrong-password") == INVALID
    assert site.lets_in("des", right("des")) == "des"


@pytest.mark.parametrize("plan_at_prompt", [False, True])
@pytest.mark.parametrize("plan_keeps_typed", [False, True])
def test_the_proxy_is_asked_once_for_each_attempt(
    site: Site, nas: Service, plan_at_prompt: bool, plan_keeps_typed: bool
) -> None:
    site.plan_at_prompt, site.plan_keeps_typed = plan_at_prompt, plan_keeps_typed
    browser = site.browser()
    browser.start("ugos-authentication")
    browser.submit(uid_field="jane.doe")
    for password in ("wrong-password", "wrong-password", keep_secret(right("jane.doe"))):
        assert browser.user is None
        browser.submit(password=password)
    assert browser.user == "jane.doe"
    assert len([line for line in nas.log_lines() if "event=verdict" in line]) == 3


def test_a_session_without_a_history_is_no_obstacle(site: Site, nas: Service) -> None:
    from plan import SESSION_KEY_HISTORY

    browser = site.browser()
    browser.start("ugos-authentication")
    browser.submit(uid_field="des")
    session = browser.session
    del session[SESSION_KEY_HISTORY]
    session.save()
    browser.submit(password=keep_secret(right("des")))
    assert browser.user == "des"


def test_a_second_factor_is_asked_of_those_who_have_one(site: Site, nas: Service) -> None:
    site.devices["jane.doe"] = "123456"
    user_name, page = site.try_login("jane.doe", right("jane.doe"))
    assert (user_name, page.component) == (None, "ak-stage-authenticator-validate")
    browser = site.browsers[-1]
    assert not site.leaks()  # while the plan is still there
    browser.submit(code="000000")
    assert browser.user is None
    browser.submit(code="123456")
    assert browser.user == "jane.doe"
    assert site.lets_in("des", right("des")) == "des"
