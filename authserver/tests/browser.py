"""A browser without scripts: cookies, forms with their hidden fields, redirects by hand."""

from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

import httpx

from tests.processes import BOUND, LIMITS, keep_secret


class FormReader(HTMLParser):
    """Collects the forms of a page: their action, and the fields that come filled in."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[tuple[str, dict[str, Any]]] = []
        self.name = ""  # of the select or textarea that is open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append((found.get("action", ""), {}))
        elif tag in ("select", "textarea") and self.forms:
            self.name = found.get("name", "")
        elif tag == "option" and self.name and "selected" in found:
            self.forms[-1][1][self.name] = found.get("value", "")
        elif tag == "input" and self.forms and found.get("name"):
            if found.get("type") in ("checkbox", "radio"):
                if "checked" not in found:
                    return
                found.setdefault("value", "on")
            if found.get("type") == "checkbox" and found["name"] in self.forms[-1][1]:
                before = self.forms[-1][1][found["name"]]  # of several boxes with one name
                before = before if isinstance(before, list) else [before]
                self.forms[-1][1][found["name"]] = [*before, found.get("value", "")]
            elif found.get("type") not in ("submit", "file"):
                self.forms[-1][1][found["name"]] = found.get("value", "")

    def handle_data(self, data: str) -> None:
        if self.name and self.lasttag == "textarea":
            self.forms[-1][1][self.name] = data.removeprefix("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("select", "textarea"):
            self.name = ""


def forms_of(page: str) -> list[tuple[str, dict[str, Any]]]:
    reader = FormReader()
    reader.feed(page)
    return reader.forms


class Direct(httpx.HTTPTransport):
    """To where the server listens, whatever the address says: a proxy in front of it."""

    def __init__(self, listening: str, address: str) -> None:
        self.listening = httpx.URL(listening)
        super().__init__(local_address=address or None, limits=LIMITS)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url.copy_with(
            scheme="http", host=self.listening.host, port=self.listening.port
        )
        return super().handle_request(
            httpx.Request(request.method, url, headers=request.headers, stream=request.stream)
        )


class Browser(httpx.Client):
    """An httpx client of one server, that follows no redirect by itself.

    It sends what a browser sends with a form (`Origin`); `csrf` has the token of its cookie.
    """

    def __init__(self, base: str, listening: str, address: str, headers: dict[str, str]) -> None:
        self.base = base
        super().__init__(
            base_url=base,
            headers={"User-Agent": "tests", **headers},
            timeout=BOUND,
            trust_env=False,
            transport=Direct(listening, address),
        )

    def form(self, path: str, number: int = 0) -> tuple[str, dict[str, Any]]:
        """The form of a page: where it goes, and its fields as they come."""
        page = self.get(path)
        assert page.status_code == 200, (page.status_code, page.headers, page.text)
        action, fields = forms_of(page.text)[number]
        return urljoin(path, action), fields

    def submit(self, path: str, number: int = 0, **fields: Any) -> httpx.Response:
        """Open the page, fill in its form and send it."""
        action, found = self.form(path, number)
        return self.post(action, data={**found, **fields}, headers={"Origin": self.base})

    def sign_in(self, login: str, password: str, path: str = "/account/login/") -> httpx.Response:
        """Send the sign-in form at `path`; 302 where it is right."""
        return self.submit(path, login=login, password=keep_secret(password))

    def signed_in(self, login: str, password: str) -> "Browser":
        """Itself, after a sign-in that must be right."""
        answer = self.sign_in(login, password)
        assert answer.status_code == 302, (answer.status_code, answer.text)
        return self

    def is_signed_in(self) -> bool:
        """Whether a page that needs a user is shown."""
        return self.get("/account/").status_code == 200
