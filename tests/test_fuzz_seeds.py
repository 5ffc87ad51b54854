"""The inputs that `make fuzz` begins with, each held against what its target asserts."""

from pathlib import Path

import pytest
import targets

import main

SEEDS = sorted(Path(__file__).parent.glob("fuzz/seeds/*/*"))


def test_every_target_has_seeds() -> None:
    assert {seed.parent.name for seed in SEEDS} == set(targets.TARGETS)


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"{seed.parent.name}/{seed.name}")
def test_a_seed_breaks_nothing(seed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, value in targets.LIMITS.items():
        monkeypatch.setattr(main, limit, value)
    targets.TARGETS[seed.parent.name](seed.read_bytes())
