"""A real server: `authserver serve` in a process of its own, with a database of its own."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import dj_database_url
import httpx
from django.db import connections
from django.test import override_settings

from authserver.accounts import users
from authserver.accounts.models import User
from tests.browser import Browser
from tests.databases import AUTHSERVER, drop_database, new_database
from tests.processes import BOUND, Program, free_port, keep_secret

if TYPE_CHECKING:
    from pytest_django.plugin import DjangoDbBlocker

# that of the tests' own process: links that a rule makes there are good at a server
SECRET_KEY = keep_secret(os.environ["SECRET_KEY"])
PASSWORD = keep_secret("correct horse battery")
DEFAULTS = {
    "SECRET_KEY": SECRET_KEY,
    "APPCONFIG_DIR": "/nonexistent",
    "LOG_LEVEL": "DEBUG",
    "REFUSAL_SECONDS": "0",
}


class Server(Program):
    """A running `authserver serve`, ready to answer at `base`. Settings are given by their names.

    `folder` is its DATA_DIR. With `DATABASE_URL` it shares another server's database.
    """

    blocker: ClassVar["DjangoDbBlocker"]  # pytest-django's; databases are a fixture's, it says

    def __init__(self, folder: Path, *, ready: bool = True, **settings: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        given = {name: str(value) for name, value in settings.items()}
        self.folder, self.own_database = folder, "DATABASE_URL" not in given
        port = given.setdefault("PORT", str(free_port()))
        given.setdefault("BASE_URL", f"http://localhost:{port}")
        if self.own_database:
            given["DATABASE_URL"] = new_database(folder)
        self.environment = {**DEFAULTS, "DATA_DIR": str(folder), **given}
        self.base = self.environment["BASE_URL"]
        self.address = f"http://127.0.0.1:{port}"  # where it listens, whatever BASE_URL says
        super().__init__([AUTHSERVER, "serve"], self.environment)
        if ready:
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + BOUND
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.get(self.address + "/health/", timeout=BOUND).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)  # nothing tells from outside when a port is open
        self.stop()
        raise AssertionError("\n".join(["it does not answer:", *self.lines]))

    def stop(self) -> int:
        status = super().stop()
        if self.own_database:
            drop_database(self.environment["DATABASE_URL"])
        return status

    def run(
        self, *arguments: str, stdin: str = "", **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the command `authserver` with the server's settings, on its database."""
        return subprocess.run(
            [AUTHSERVER, *arguments],
            env={"PATH": os.environ["PATH"], **self.environment, **more},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    def browser(self, address: str = "", **headers: str) -> Browser:
        """A new browser, whose connections come from `address` (127.0.0.0/8)."""
        return Browser(self.base, self.address, address, headers)

    @contextmanager
    def database(self) -> Iterator[None]:
        """Within, models and rules of this process work on the server's database, as BASE_URL."""
        settings = {**connections.settings["default"]}
        settings |= dj_database_url.parse(self.environment["DATABASE_URL"])
        settings["OPTIONS"] = {k: v for k, v in settings["OPTIONS"].items() if k != "pool"}
        before = connections["default"]
        mine = type(before)(settings, "default")
        mine.inc_thread_sharing()
        connections["default"] = mine
        try:
            with self.blocker.unblock(), override_settings(BASE_URL=self.base):
                yield
        finally:
            mine.close()
            connections["default"] = before

    def make_user(self, identifier: str, password: str | None = PASSWORD, **fields: Any) -> User:
        """A user of this server; `fields` are those of `users.create_user`."""
        with self.database():
            keep_secret(password or "")
            fullname = fields.pop("fullname", identifier.title())
            return users.create_user(identifier, fullname, "tests", password=password, **fields)


Serve = Callable[..., Server]  # the fixture `serve`
