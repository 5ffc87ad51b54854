"""Debian's Apache with a configuration of the test's, on a free port of the loopback address."""

import os
import time
from pathlib import Path

import httpx
import pytest

from tests.processes import BOUND, Program, free_port

MODULES = Path("/usr/lib/apache2/modules")
# what every configuration here uses
BASIC = "mpm_event authn_core authz_core authz_user alias dir env headers"


def need(*modules: str) -> None:
    """Skip where Debian's packages are not installed."""
    for module in modules:
        if not (MODULES / f"mod_{module}.so").exists():
            pytest.skip(f"needs Apache's mod_{module}: see README, Tests")
    if os.geteuid():
        pytest.skip("needs root: Apache changes its user")


class Apache(Program):
    """A running Apache at `url`; `text` is its configuration, `modules` what that needs.

    Its files are in `folder`, which is an `open_folder()`.
    """

    def __init__(self, folder: Path, modules: str, text: str, port: int = 0) -> None:
        need(*modules.split())
        self.port = port or free_port()
        self.url = f"http://localhost:{self.port}"
        (folder / "www").mkdir(exist_ok=True)
        (folder / "www/index.html").write_text("the page behind the sign-in\n")
        lines = [
            f"ServerRoot {folder}",
            "ServerName localhost",
            f"PidFile {folder}/pid",
            f"Listen 127.0.0.1:{self.port}",
            "User www-data",
            "Group www-data",
            "ErrorLog /dev/stderr",
            "LogLevel info",
            f"DocumentRoot {folder}/www",
            "DirectoryIndex index.html",
            *(
                f"LoadModule {name}_module {MODULES}/mod_{name}.so"
                for name in [*BASIC.split(), *modules.split()]
            ),
            text.replace("@URL@", self.url),
        ]
        (folder / "apache.conf").write_text("\n".join(lines) + "\n")
        command = ["/usr/sbin/apache2", "-f", str(folder / "apache.conf"), "-DFOREGROUND"]
        super().__init__(command, {}, folder)
        deadline = time.monotonic() + BOUND
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                httpx.get(f"http://127.0.0.1:{self.port}/", trust_env=False)
                return
            except httpx.TransportError:
                time.sleep(0.05)  # nothing tells from outside when a port is open
        self.stop()
        raise AssertionError("\n".join(self.lines))
