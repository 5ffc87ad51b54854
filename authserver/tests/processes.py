"""Running programs: their output is read as it comes, and what must not be in it is looked for."""

import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

BOUND = 60.0  # seconds after which a wait for an event counts as failed
# of clients: the server ends a connection that is idle for 5 seconds, and one that is used again in
# that moment gets no answer
LIMITS = httpx.Limits(keepalive_expiry=1.0)
# what must not be in any line that any program of ours writes; tests may add to it
SECRETS: set[str] = set()
LOGGED: list[str] = []


def keep_secret(value: str) -> str:
    """`value`, from now on looked for in every log; too short ones would be found by chance."""
    if len(value) >= 6:
        SECRETS.add(value)
    return value


def leaks() -> list[str]:
    """The logged lines in which a secret stands, or the trace of a bug."""
    forms = {form for each in SECRETS for form in (each, json.dumps(each)[1:-1])}
    found = re.compile("|".join(map(re.escape, [*sorted(forms), "Traceback"])))
    return [line for line in LOGGED if found.search(line)]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Program:
    """A running program; `lines` is what it has written to stdout and stderr so far."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path | None = None
    ) -> None:
        self.lines: list[str] = []
        self.ended = False  # its output
        self.written = threading.Condition()
        self.process = subprocess.Popen(
            command,
            env={"PATH": os.environ["PATH"], **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            text=True,
            errors="backslashreplace",
        )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            with self.written:
                self.lines.append(line.rstrip("\n"))
                LOGGED.append(self.lines[-1])
                self.written.notify_all()
        with self.written:
            self.ended = True
            self.written.notify_all()

    def find(self, pattern: str, after: int = 0) -> str | None:
        return next((line for line in self.lines[after:] if re.search(pattern, line)), None)

    def wait_for_line(self, pattern: str, after: int = 0) -> str:
        """The first line that matches, from the line number `after` on; waits for it."""
        with self.written:
            self.written.wait_for(lambda: self.ended or self.find(pattern, after), BOUND)
            line = self.find(pattern, after)
        assert line, f"no line matches {pattern!r} in:\n" + "\n".join(self.lines[after:])
        return line

    def events(self, name: str, after: int = 0) -> list[dict[str, Any]]:
        """The JSON lines whose event is `name`."""
        found = [json.loads(line) for line in self.lines[after:] if line.startswith("{")]
        return [line for line in found if line["event"] == name]

    def count_of(self, event: str, at_least: int) -> int:
        """How many lines there are of an event, once there are `at_least` so many: a line may come
        after the answer that it is about."""
        with self.written:
            self.written.wait_for(lambda: self.ended or len(self.events(event)) >= at_least, BOUND)
            return len(self.events(event))

    def stop(self) -> int:
        """End it by SIGTERM; its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            status = self.process.wait(BOUND)
        finally:
            self.process.kill()
            self.reader.join(5)
        return status
