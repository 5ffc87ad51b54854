"""What no log line may hold, looked for in all that the services of a session wrote."""

import json
import re

WRONG = "wrong-guess"
TOKEN = "a-token-of-the-tests"

LOGGED: list[str] = []  # every line that any service of this process wrote to stderr
LEAKED: list[str] = []  # what the workers of pytest-xdist found in theirs
SECRETS: set[str] = {TOKEN, WRONG}  # what must not be in any of them; tests may add to it


def keep_secret(value: str) -> str:
    """`value`, from now on looked for in every log; too short ones would be found by chance."""
    if len(value) >= 6:
        SECRETS.add(value)
    return value


def leak() -> re.Pattern[str]:
    """What may not be in any line: the secrets so far, a request body, the trace of a bug."""
    secrets = {
        form
        for s in SECRETS
        for form in (s, json.dumps(s)[1:-1], s.encode("unicode_escape").decode())
    }
    return re.compile(
        "|".join(
            map(
                re.escape,
                (*sorted(secrets), '"password"', '\\"password', "Traceback", " event=bug "),
            )
        )
    )


def leaks() -> list[str]:
    """The lines of the session in which there is one."""
    found = leak()
    lines = [line for line in LOGGED if found.search(line)]
    return LEAKED + [line.encode("utf-8", "backslashreplace").decode() for line in lines]
