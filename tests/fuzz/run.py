"""Fuzz the targets, each for FUZZ_SECONDS: `run.py`; or run one of them on an input again: `run.py
TARGET FILE`.

Coverage of main.py guides atheris from one input to the next, beginning with those in `seeds`. The
exit status is 1 where an input breaks what its target asserts; that input is then a file in
`findings`.
"""

import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FINDINGS = HERE / "findings"
sys.path.insert(0, str(Path(os.environ.get("UGOS_MAIN", ROOT / "main.py")).parent))
atheris: Any = importlib.import_module("atheris")  # by name: make lint has not installed it
with atheris.instrument_imports(include=["main", "targets", "urllib.parse"]):
    import targets

    import main


def found() -> dict[Path, int]:
    """The files of `FINDINGS`, each with when it was written: what is found again is written
    again."""
    return {path: path.stat().st_mtime_ns for path in FINDINGS.iterdir()}


def fuzz(name: str, seconds: str) -> bool:
    """Whether nothing was found."""
    print(f"--- {name}: {seconds} seconds", flush=True)
    FINDINGS.mkdir(exist_ok=True)
    before = found()
    options = (
        f"-seed=1 -max_len=4096 -max_total_time={seconds} "
        "-timeout=60 -report_slow_units=60 -print_final_stats=1"
    )
    with tempfile.TemporaryDirectory() as corpus:
        folders = [
            f"-dict=seeds/{name}.dict",
            f"-artifact_prefix={FINDINGS}/",
            corpus,
            f"seeds/{name}",
        ]
        ran = subprocess.run(
            [sys.executable, __file__, name, *options.split(), *folders], cwd=HERE, check=False
        )
    for path in sorted(path for path, time in found().items() if before.get(path) != time):
        program, script, again = (
            os.path.relpath(each) for each in (sys.executable, __file__, path)
        )
        print(f"FOUND: {again}\nRun it again: {program} {script} {name} {again}", flush=True)
    return ran.returncode == 0


if sys.argv[1:]:
    for limit, value in targets.LIMITS.items():
        setattr(main, limit, value)
    atheris.Setup(sys.argv, targets.TARGETS[sys.argv.pop(1)])
    atheris.Fuzz()
else:
    clean = [fuzz(name, os.environ.get("FUZZ_SECONDS") or "60") for name in targets.TARGETS]
    sys.exit(0 if all(clean) else 1)
