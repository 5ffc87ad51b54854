"""A program at a terminal: what a person who types sees, and what is typed at its prompts."""

import fcntl
import os
import pty
import select
import subprocess
import termios
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

BOUND = 60.0  # seconds after which a wait for a prompt or for the end counts as failed


class Session(NamedTuple):
    """What a program came to; `shown` is all that stood on the terminal."""

    status: int
    shown: str


def converse(
    command: Iterable[object],
    answers: Iterable[tuple[str, str]],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Session:
    """Run a command at a terminal of its own: after each prompt of `answers` its line is typed."""
    ours, its = pty.openpty()
    process = subprocess.Popen(
        list(map(str, command)),
        stdin=its,
        stdout=its,
        stderr=its,
        env=env,
        cwd=cwd,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(its)
    shown, seen, left = "", 0, list(answers)
    deadline = time.monotonic() + BOUND
    try:
        while True:
            if left and (at := shown.find(left[0][0], seen)) >= 0:
                seen = at + len(left[0][0])
                os.write(ours, f"{left.pop(0)[1]}\n".encode())
            ready = select.select([ours], [], [], max(0.0, deadline - time.monotonic()))[0]
            assert ready, f"neither a prompt that was waited for nor the end came:\n{shown}"
            try:
                shown += os.read(ours, 4096).decode()
            except OSError:  # EIO: the program has ended
                break
        status = process.wait(max(0.1, deadline - time.monotonic()))
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert not left, f"it did not ask for {left[0][0]!r}:\n{shown}"
    return Session(status, shown.replace("\r\n", "\n"))
