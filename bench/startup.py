"""From starting a hop to its first answer, beside what its interpreter needs to import alone.

Every start is a cold process, and the yardstick, ``python -c 'import asyncio, ssl, uvloop'`` by
the interpreter that pillion's hops run on, is started in turn with them. A listening socket takes
connections into its backlog before anybody accepts them: a hop counts as started when a byte has
come back through it, handshake included.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from bench.candidate import Candidate, Stage, plan_hops, start_hop
from bench.figure import figure
from bench.measure import Say
from bench.probe import InboundClient
from bench.result import Row, compare
from bench.sidecar import environment
from bench.target import ratio
from bench.work import START, START_UP
from core.errors import UnreachableError

PASSES: Final = 7
"""A start is short and varies: more than of other rows."""
YARDSTICK: Final = "python"
IMPORTS: Final = "import asyncio, ssl, uvloop"
TIMEOUT_S: Final = 15.0
MAX_START: Final = ratio(3.0, 2.0, to=YARDSTICK, peers=(YARDSTICK,))


def measure_starts(
    stage: Stage, candidates: Sequence[Candidate], passes: int, say: Say
) -> tuple[list[Row], list[str]]:
    """Start every candidate ``passes`` times; return the rows and what failed."""
    failures: list[str] = []
    starts: list[tuple[str, Callable[[], float]]] = [
        (each.name, partial(_first_answer_s, each, stage)) for each in candidates
    ]
    starts.append((YARDSTICK, partial(_imports_s, stage)))
    found: dict[str, list[float | None]] = {name: [] for name, _ in starts}
    for number in range(passes):
        for name, start in starts if number % 2 == 0 else starts[::-1]:
            try:
                taken = start() * 1000
            except UnreachableError as error:
                failures.append(f"{name}, start: {error}")
                found[name].append(None)
                continue
            found[name].append(taken)
        shown = "  ".join(f"{name} {figure(all_[-1] or 0)}" for name, all_ in found.items())
        say(f"pass {number + 1}/{passes}  start to first answer  (ms)  {shown}")
    return [start_row(found)], failures


def start_row(found: dict[str, list[float | None]]) -> Row:
    """Turn the measurements, in ms, into the row."""
    values = {name: tuple(all_) for name, all_ in found.items()}
    title = "start to first answer, inbound hop"
    return Row(START_UP, title, START, compare(values), (MAX_START,))


def _first_answer_s(candidate: Candidate, stage: Stage) -> float:
    hop, _ = plan_hops(stage, resumes=False)
    greeting = candidate.greeting(stage.backend)
    client = InboundClient(hop.inner, greeting, stage.credentials, is_known=True)
    began = time.monotonic()
    child = start_hop(candidate, stage, hop)
    try:
        if client.echo() is None:
            raise UnreachableError(f"{child.name}: no echo through it: {child.tail()}")
        return time.monotonic() - began
    finally:
        stage.processes.stop([child])


def _imports_s(stage: Stage) -> float:
    began = time.monotonic()
    command = [sys.executable, "-P", "-c", IMPORTS]
    child = stage.processes.start(YARDSTICK, command, stage.cores.hops, environment())
    try:
        ended = select.poll()
        handle = os.pidfd_open(child.process.pid)
        try:
            ended.register(handle, select.POLLIN)
            seen = ended.poll(TIMEOUT_S * 1000)
        finally:
            os.close(handle)
        taken = time.monotonic() - began
        if not seen or child.process.wait() != 0:
            raise UnreachableError(f"{YARDSTICK} -c {IMPORTS!r}: {child.tail() or 'no end'}")
        return taken
    finally:
        stage.processes.stop([child])
