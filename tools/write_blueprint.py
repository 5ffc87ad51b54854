"""Writes authentik-policy.py into authentik/authentik-blueprint.yaml; with --check, exits 1 where
the two differ."""

import sys
from pathlib import Path
from textwrap import indent

TOP = Path(__file__).parents[1]
POLICY, BLUEPRINT = TOP / "authentik-policy.py", TOP / "authentik/authentik-blueprint.yaml"
START = "      expression: |  # authentik-policy.py; `make blueprint` writes it here\n"
END = "  - model: "


def with_policy(blueprint: str, policy: str) -> str:
    """The blueprint's text with the policy's in its place: the literal block after START."""
    before, rest = blueprint.split(START)
    return before + START + indent(policy, " " * 8) + rest[rest.index(END) :]


def main() -> int:
    """Writes the blueprint, or checks it. Returns the exit status."""
    present = BLUEPRINT.read_text()
    wanted = with_policy(present, POLICY.read_text())
    if sys.argv[1:] == ["--check"]:
        if present != wanted:
            print(
                f"{BLUEPRINT.name} does not hold {POLICY.name} as it is: run 'make blueprint'",
                file=sys.stderr,
            )
        return int(present != wanted)
    BLUEPRINT.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
