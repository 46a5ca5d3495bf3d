"""A mutation fuzzer in plain Python: seeds and corpus, small changes, a fixed time.

A target's ``run`` raises when its invariant breaks and otherwise returns the input's behavior in
a few words; an input whose behavior is new joins the pool, and with ``keep`` the corpus too. The
corpus lies beside this file, one file a target, one input a line, written as Python writes bytes
so that a person can read it. What breaks an invariant is added there, and stays.
"""

from __future__ import annotations

import ast
import random
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

CORPUS: Final = Path(__file__).resolve().parent / "corpus"
_LONGEST: Final = 4_096


@final
@dataclass(frozen=True)
class Target:
    """What is fuzzed: a name, the function under its invariant, where to begin."""

    name: str
    run: Callable[[bytes], str]
    seeds: Sequence[bytes]
    fragments: Sequence[bytes]


@final
class BrokenInvariantError(AssertionError):
    """An input for which the invariant does not hold; it has been added to the corpus."""


def corpus_of(target: Target) -> list[bytes]:
    """Return the inputs kept for a target."""
    path = CORPUS / f"{target.name}.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return [bytes(ast.literal_eval(line)) for line in lines]


def places_of(data: bytes) -> list[int]:
    """Return where an input is cut, as good as random and always the same."""
    chance = random.Random(zlib.crc32(data))
    return [chance.randrange(len(data) + 1) for _ in range(chance.randrange(6))]


def fuzz(target: Target, seconds: float, seed: int, *, keep: bool = False) -> tuple[int, int]:
    """Run a target on its corpus and on mutations; return how many inputs and behaviors.

    Raises:
        BrokenInvariantError: with the input.

    """
    chance = random.Random(seed)
    pool: list[bytes] = []
    known: set[str] = set()
    for data in [*target.seeds, *corpus_of(target)]:
        known.add(_run(target, data))
        pool.append(data)
    runs = len(pool)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        data = mutate(chance, chance.choice(pool), pool, target.fragments)
        behavior = _run(target, data)
        runs += 1
        if behavior not in known:
            known.add(behavior)
            pool.append(data)
            if keep:
                _save(target, data)
    return runs, len(known)


def mutate(
    chance: random.Random, data: bytes, pool: Sequence[bytes], fragments: Sequence[bytes]
) -> bytes:
    """Return ``data`` with one to eight small changes."""
    for _ in range(1 << chance.randrange(4)):
        place = chance.randrange(len(data) + 1)
        width = chance.choice((1, 1, 2, 4, 9, 40))
        match chance.randrange(7):
            case 0:
                data = data[:place] + chance.choice(fragments) + data[place:]
            case 1:
                data = data[:place] + data[place + width :]
            case 2:
                data = data[:place] + chance.choice(fragments) + data[place + width :]
            case 3:
                data = data[: place + width] + data[place:]
            case 4:
                data = data[:place] + chance.randbytes(width) + data[place + width :]
            case 5:
                other = chance.choice(pool)
                data = data[:place] + other[chance.randrange(len(other) + 1) :]
            case _:
                if place < len(data):
                    bit = data[place] ^ (1 << chance.randrange(8))
                    data = data[:place] + bytes([bit]) + data[place + 1 :]
    return data[:_LONGEST]


def _run(target: Target, data: bytes) -> str:
    try:
        return target.run(data)
    except Exception as error:
        _save(target, data)
        raise BrokenInvariantError(f"{target.name} on {data!r}: {error!r}") from error


def _save(target: Target, data: bytes) -> None:
    if data in corpus_of(target):
        return
    CORPUS.mkdir(parents=True, exist_ok=True)
    with (CORPUS / f"{target.name}.txt").open("a") as file:
        file.write(f"{data!r}\n")
