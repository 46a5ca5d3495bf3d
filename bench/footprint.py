"""Memory of fresh pairs of hops, so that no load before has left its mark."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from bench.candidate import Candidate, Pair, Stage, start_pair
from bench.figure import figure
from bench.loadtool import idle_connections
from bench.measure import Say
from bench.process import resident_kib
from bench.result import Row, compare
from bench.spread import Rounds
from bench.target import value
from bench.work import FOOTPRINT, IDLE, PER_CONNECTION
from core.errors import UnreachableError

CONNECTIONS: Final = 1000
PASSES: Final = 3
"""Memory hardly varies: more would only take longer."""
SETTLE_S: Final = 0.5
"""For what a process does just after it answered."""
MAX_IDLE: Final = value(45.0, 36.0)
"""MiB: a sidecar stands beside every pod."""
MAX_PER_CONNECTION: Final = value(32.0, 26.0)
"""KiB."""


@final
@dataclass(frozen=True, slots=True)
class Footprint:
    """One fresh pair."""

    idle_mib: float
    """Resident memory of the larger hop after one request."""
    per_connection_kib: float
    """What an idle connection adds, in each hop."""


def measure_footprints(
    stage: Stage, candidates: Sequence[Candidate], passes: int, say: Say
) -> tuple[list[Row], list[str]]:
    """Measure every candidate ``passes`` times; return the rows and what failed."""
    failures: list[str] = []
    found: dict[str, list[Footprint | None]] = {item.name: [] for item in candidates}
    for number in range(passes):
        for candidate in candidates if number % 2 == 0 else candidates[::-1]:
            try:
                one = _measure(candidate, stage)
            except UnreachableError as error:
                failures.append(f"{candidate.name}, footprint: {error}")
                found[candidate.name].append(None)
                continue
            found[candidate.name].append(one)
            say(
                f"pass {number + 1}/{passes}  footprint  {candidate.name} "
                f"{figure(one.idle_mib)} MiB, {figure(one.per_connection_kib)} KiB a connection "
                "and hop"
            )
    return footprint_rows(found), failures


def footprint_rows(found: dict[str, list[Footprint | None]]) -> list[Row]:
    """Turn the measurements into rows."""
    idle = {name: tuple(one and one.idle_mib for one in all_) for name, all_ in found.items()}
    each: dict[str, Rounds] = {
        name: tuple(one and one.per_connection_kib for one in all_) for name, all_ in found.items()
    }
    per_connection = (PER_CONNECTION, compare(each), (MAX_PER_CONNECTION,))
    return [
        Row(FOOTPRINT, "memory, idle, larger hop", IDLE, compare(idle), (MAX_IDLE,)),
        Row(FOOTPRINT, "memory per idle connection and hop", *per_connection),
    ]


def _measure(candidate: Candidate, stage: Stage) -> Footprint:
    pair = start_pair(candidate, stage)
    try:
        # What a hop does once it has started is done before it is asked for anything.
        time.sleep(SETTLE_S)
        with idle_connections(stage, pair.entry, 1):
            pass
        time.sleep(SETTLE_S)
        idle = _resident(pair)
        with idle_connections(stage, pair.entry, CONNECTIONS):
            time.sleep(SETTLE_S)
            held = _resident(pair)
    finally:
        stage.processes.stop(pair.children)
    added = sum(held) - sum(idle)
    return Footprint(
        idle_mib=max(idle) / 1024,
        per_connection_kib=added / CONNECTIONS / len(idle),
    )


def _resident(pair: Pair) -> list[int]:
    return [resident_kib(child) for child in pair.children]
