"""Run the program given as the first argument under `coverage run`, which traces only threads of
`threading`.

The service starts its threads by `_thread`. From Python 3.12 on, coverage may see them anyway
(sys.monitoring).
"""

import _thread
import runpy
import sys
import threading
from collections.abc import Callable
from typing import Any

start_new_thread = _thread.start_new_thread


def start_traced(function: Callable[..., object], args: tuple[Any, ...]) -> int:
    def traced() -> None:
        sys.settrace(threading.gettrace())
        function(*args)

    return start_new_thread(traced, ())


_thread.start_new_thread = start_traced  # type: ignore[assignment]
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
