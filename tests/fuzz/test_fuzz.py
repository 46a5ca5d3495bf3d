"""Every target for a moment; ``PILLION_FUZZ_SECONDS`` gives each more."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.fuzz import engine
from tests.fuzz.engine import BrokenInvariantError, Target, fuzz
from tests.fuzz.targets import TARGETS

SECONDS = float(os.environ.get("PILLION_FUZZ_SECONDS", "1"))


@pytest.mark.parametrize("name", TARGETS)
def test_the_invariant_holds(name: str) -> None:
    """On the seeds, on the corpus, and on as many mutations as the time allows."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    runs, behaviors = fuzz(TARGETS[name], SECONDS, seed)
    assert runs > len(TARGETS[name].seeds)
    assert behaviors > 1


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_says_its_invariant_first(name: str) -> None:
    """In the first line of its file."""
    path = Path(__file__).parent / f"fuzz_{name}.py"
    assert path.read_text().startswith('"""')
    assert len(path.read_text().splitlines()[0]) > 40


def test_a_broken_invariant_is_found_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fuzzer itself can fail."""

    def run(data: bytes) -> str:
        assert b"\0" not in data, "a NUL"
        return str(len(data) % 3)

    monkeypatch.setattr(engine, "CORPUS", tmp_path)
    target = Target("broken", run, [b"abc"], [b"\0"])
    with pytest.raises(BrokenInvariantError, match="a NUL"):
        fuzz(target, 10, 1)
    (kept,) = engine.corpus_of(target)
    assert b"\0" in kept
