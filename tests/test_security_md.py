"""SECURITY.md names the tests that show what it says."""

import re

from service import ROOT


def test_the_tests_that_security_md_names_exist() -> None:
    named = re.findall(r"`(test_\w+)`", (ROOT / "SECURITY.md").read_text())
    written = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)", file.read_text())
    }
    assert len(named) > 20
    assert set(named) <= written
