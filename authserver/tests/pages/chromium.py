"""Chromium, and windows of it in which nothing may be wrong."""

import json
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize

from tests.server import PASSWORD, Server

PROGRAM = Path("/usr/bin/chromium")
# it runs as root in containers, and is to call nobody but the server
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
AXE = Path(__file__).parents[1] / "programs/node/node_modules/axe-core/axe.min.js"
PHONE = ViewportSize(width=320, height=640)
DESKTOP = ViewportSize(width=1280, height=800)


class Window:
    """A browser of its own at a server; `complaints` is what should not have been.

    That is what Chromium says on its console (the CSP's violations among it), scripts' errors, and
    requests to other hosts than the server's and those of `allowed`.
    """

    def __init__(
        self, chromium: Browser, server: Server, theme: str = "light", **options: Any
    ) -> None:
        self.server, self.allowed = server, [server.base]
        self.complaints: list[str] = []
        self.context: BrowserContext = chromium.new_context(
            base_url=server.base,
            color_scheme="dark" if theme == "dark" else "light",
            viewport=options.pop("viewport", DESKTOP),
            **options,
        )
        self.page: Page = self.context.new_page()
        self.page.on("console", lambda message: self.hear(message.type, message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.see(request.url))

    def hear(self, kind: str, text: str) -> None:
        # a page with an error status is one all the same
        if kind in ("error", "warning") and "the server responded with a status of" not in text:
            self.complaints.append(text)

    def see(self, url: str) -> None:
        if not url.startswith((*self.allowed, "data:")):
            self.complaints.append(f"a request to {url}")

    def open(self, path: str) -> Page:
        self.page.goto(path)
        return self.page

    def sign_in(self, login: str, password: str = PASSWORD, path: str = "/account/login/") -> Page:
        page = self.open(path)
        page.get_by_label("Name or e-mail address").fill(login)
        page.get_by_label("Password", exact=True).fill(password)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_load_state()
        return page

    def click(self, name: str, role: Any = "button") -> None:
        self.page.get_by_role(role, name=name, exact=True).click()
        self.page.wait_for_load_state()

    def heading(self) -> str:
        return self.page.get_by_role("heading", level=1).inner_text()

    def hidden_width(self) -> int:
        """How many pixels of the page stand out of the window to the right."""
        script = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        return int(self.page.evaluate(script))

    def axe(self) -> list[str]:
        """What axe-core finds on the page as it is."""
        self.page.evaluate(AXE.read_text())
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            json.dumps([each["id"], each["help"], [node["html"] for node in each["nodes"]]])
            for each in found["violations"]
        ]

    def close(self) -> None:
        self.context.close()
