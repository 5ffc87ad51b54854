"""Fuzz the targets, each for FUZZ_SECONDS (60): `run.py`.

`run.py TARGET FILE` gives one of them an input again. Coverage guides atheris from one input to the
next. The exit status is 1 where an input breaks what its target asserts; that input is then a file
in `findings`.
"""

import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import django

HERE = Path(__file__).resolve().parent
FINDINGS = HERE / "findings"
sys.path.insert(0, str(HERE.parents[1]))
os.environ |= {
    "DJANGO_SETTINGS_MODULE": "authserver.settings",
    "APPCONFIG_DIR": "/nonexistent",
    "SECRET_KEY": "k" * 32,
    "CHECKPASSWORD_TOKEN": "t" * 16,
}
django.setup()
atheris: Any = importlib.import_module("atheris")  # by name: make lint has not installed it
with atheris.instrument_imports(include=["authserver.checkpassword", "authclient", "tests.fuzz"]):
    from tests.fuzz import targets


def fuzz(name: str, seconds: str) -> bool:
    """Whether nothing was found."""
    print(f"--- {name}: {seconds} seconds", flush=True)
    FINDINGS.mkdir(exist_ok=True)
    options = f"-seed=1 -max_len=2048 -max_total_time={seconds} -timeout=60 -print_final_stats=1"
    words = [f"-dict={HERE / 'words.dict'}", f"-artifact_prefix={FINDINGS}/{name}-"]
    command = [sys.executable, __file__, name, *options.split(), *words]
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(targets.SEEDS[name]):
            Path(corpus, str(number)).write_bytes(seed)
        return subprocess.run([*command, corpus], check=False).returncode == 0


if __name__ == "__main__":
    if sys.argv[1:]:
        atheris.Setup(sys.argv, targets.TARGETS[sys.argv.pop(1)])
        atheris.Fuzz()
    else:
        seconds = os.environ.get("FUZZ_SECONDS", "60")
        sys.exit(sum(not fuzz(name, seconds) for name in targets.TARGETS) > 0)
