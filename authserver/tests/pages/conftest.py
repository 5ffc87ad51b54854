"""A browser for the tests of pages."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.pages.chromium import Window
    from tests.server import Server


@pytest.fixture(scope="session")
def chromium() -> Iterator["Browser"]:
    from tests.pages.chromium import ARGUMENTS, AXE, PROGRAM

    if not PROGRAM.exists():
        pytest.skip("Chromium is not installed: apt install chromium")
    if not AXE.exists():
        pytest.skip("axe-core is not there: apt install npm, then make .venv/node.stamp")
    with pytest.MonkeyPatch.context() as environment:
        # Playwright runs an event loop in this thread, in which Django would refuse its models
        environment.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "yes")
        with sync_playwright() as playwright:
            running = playwright.chromium.launch(executable_path=PROGRAM, args=ARGUMENTS)
            yield running
            running.close()


@pytest.fixture
def window(chromium: "Browser") -> Iterator[Callable[..., "Window"]]:
    """Opens windows: `window(server, theme="dark")`. In the end nothing may have been wrong."""
    from tests.pages.chromium import Window

    opened: list[Window] = []

    def start(server: "Server", theme: str = "light", **options: Any) -> Window:
        opened.append(Window(chromium, server, theme, **options))
        return opened[-1]

    yield start
    for each in opened:
        each.close()
    assert [complaint for each in opened for complaint in each.complaints] == []
