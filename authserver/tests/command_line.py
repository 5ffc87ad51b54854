"""The command `authserver` in the tests' own process, on their database."""

import contextlib
import io
import json
import sys
from typing import Any, NamedTuple
from unittest import mock

from authserver.command import main


class Done(NamedTuple):
    """What a command came to."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Terminal(io.StringIO):
    """A stdin at which a person sits."""

    def isatty(self) -> bool:
        return True


def run(*arguments: str, stdin: str = "", terminal: str | None = None) -> Done:
    """Run `authserver ARGUMENTS`; `terminal` is what a person types there."""
    given = io.StringIO(stdin) if terminal is None else Terminal(terminal)
    out, err, status = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", ["authserver", *arguments]),
        mock.patch.object(sys, "stdin", given),
        mock.patch("authserver.log.set_up"),  # logging is that of the tests
        mock.patch("django.core.management.base.connections"),  # they stay open
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
    assert "Traceback" not in err.getvalue()
    return Done(status, out.getvalue(), err.getvalue())


def done(*arguments: str, stdin: str = "") -> Done:
    """Run it; it must succeed."""
    result = run(*arguments, stdin=stdin)
    assert result.status == 0, result
    return result
