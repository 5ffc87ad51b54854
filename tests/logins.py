"""Logins through the shipped blueprint, in the double of authentik; what was typed is looked for
everywhere after."""

import json
import re
from pathlib import Path

import settings
from authentik.core.models import Group, User
from flow import DENIED, DONE, Authentik, Browser
from plan import Page
from secrecy import SECRETS, keep_secret
from service import ROOT

POLICY = (ROOT / "authentik-policy.py").read_text()
BLUEPRINT = (ROOT / "authentik/authentik-blueprint.yaml").read_text()
UGOS, DEFAULT = "ugos-authentication", "default-authentication-flow"
INVALID = "Invalid credentials"
UNREACHABLE = "The NAS cannot be reached. Try again later."

# spellings of authentik's first administrator: case, white space, marks, full width, Turkish i,
# invisible characters
AKADMINS = ["akadmin", "AkAdmin", "AKADMIN", " akadmin ", "aka\u0301dmin", "akadm\u0131n"]
AKADMINS += [
    "\uff41\uff4b\uff41\uff44\uff4d\uff49\uff4e",
    "ak\u00adadmin",
    "ak\u200badmin",
    "AKADM\u0130N",
]


class Site(Authentik):
    """An authentik with the blueprint imported, and the logins that were tried at it."""

    def __init__(self, folder: Path) -> None:
        settings.setup(folder)
        settings.reset()
        super().__init__()
        self.admin = User.objects.create_user(
            "akadmin", "root@example.com", keep_secret("password-of-akadmin")
        )
        Group.objects.create(name="authentik Admins", is_superuser=True).users.add(self.admin)
        self.import_blueprint(BLUEPRINT)
        self.browsers: list[Browser] = []

    def browser(self, ip: str = "192.0.2.7") -> Browser:
        self.browsers.append(super().browser(ip))
        return self.browsers[-1]

    def try_login(
        self, name: str, password: object, slug: str = UGOS, ip: str = "192.0.2.7"
    ) -> tuple[str | None, Page]:
        """Types a name and a password; who is logged in then, and the last page."""
        browser = self.browser(ip)
        if isinstance(password, str):
            keep_secret(password)
        browser.start(slug)
        page = browser.submit(uid_field=name)
        if page.component not in {DONE, DENIED}:
            page = browser.submit(password=password)
        return browser.user, page

    def lets_in(self, name: str, password: str, slug: str = UGOS) -> str | None:
        return self.try_login(name, password, slug)[0]

    def refusal(self, name: str, password: object) -> str:
        """What the form says to a login that must be refused, and must leave nobody logged in."""
        user, page = self.try_login(name, password)
        assert user is None
        assert page.component == "ak-stage-prompt", page
        return " ".join(page.errors)

    def leaks(self) -> list[str]:
        """The sessions, events, signals and log lines that hold a password or a token."""
        kept = [str(browser.session.raw) for browser in self.browsers]
        kept += (
            [str(event) for event in self.events]
            + [str(signal) for signal in self.signals]
            + self.log
        )
        forms = {form for secret in SECRETS for form in (secret, json.dumps(secret)[1:-1])}
        found = re.compile("|".join(map(re.escape, sorted(forms))))
        return [each for each in kept if found.search(each)]


def user(name: str) -> User:
    return User.objects.get(username=name)


def groups(name: str) -> set[str]:
    return set(Group.objects.filter(users__username=name).values_list("name", flat=True))


def link(name: str, **attributes: object) -> User:
    """A user of that name that an administrator has linked to the NAS."""
    linked = User.objects.create_user(name, f"{name}@example.com", None)
    linked.attributes = {"ugos_user": True, **attributes}
    linked.save()
    return linked
