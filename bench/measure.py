"""The rounds: every work on every candidate, back to back, the order turned on odd rounds.

All candidates stay up for the whole run, so that a moment in which the machine is slow meets
all of them; ratios are then taken within a round.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Final, final

from bench.candidate import Candidate, Carried, Pair, Stage, start_pair
from bench.figure import figure
from bench.loadtool import Lines, LoadResult, run_load, start_backend
from bench.place import reserve_addresses
from bench.probe import Tls, objections, probe, probe_plaintext
from bench.process import CoreTime, core_time, cpu_ns
from bench.result import Row, Settings, compare
from bench.spread import Rounds
from bench.work import LONGEST_PAUSE, Metric, Work, cost_of, value_of
from core.errors import UnreachableError

TELL_TIMEOUT_S: Final = 5.0
"""For a hop's word on its pauses."""
Say = Callable[[str], None]
"""Takes one line for the person who waits."""


@final
@dataclass(frozen=True, slots=True)
class Disturbance:
    """What the hops' core did for others during a measurement, in percent of its time."""

    steal: float
    """Taken by other machines."""
    others: float
    """Taken by other processes; the kernel's work for the network counts among them."""


@final
@dataclass(frozen=True, slots=True)
class Sample:
    """One work on one candidate in one round."""

    result: LoadResult
    cost: float
    """CPU time per operation, both hops together, in the work's cost unit."""
    disturbance: Disturbance
    pause_us: float | None = None
    """The longest pause of a hop's garbage collector; None where there is none to tell of."""


@final
@dataclass(slots=True)
class Findings:
    """What the rounds have brought so far."""

    samples: dict[tuple[str, str], list[Sample | None]] = field(default_factory=dict)
    """By work and candidate, one entry a round."""
    tls: dict[str, Tls] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def disturbances(self) -> list[Disturbance]:
        """Those of every measurement."""
        return [
            sample.disturbance for samples in self.samples.values() for sample in samples if sample
        ]

    @property
    def errors(self) -> dict[str, int]:
        """Connections lost, by candidate."""
        lost: dict[str, int] = {}
        for (_, candidate), samples in self.samples.items():
            count = sum(sample.result.errors for sample in samples if sample)
            lost[candidate] = lost.get(candidate, 0) + count
        return lost


def run_rounds(
    stage: Stage,
    candidates: Sequence[Candidate],
    works: Sequence[Work],
    settings: Settings,
    say: Say,
) -> Findings:
    """Measure every work in every round; what fails is noted and left out of its pair."""
    findings = Findings()
    stages = {each.carried: stage for each in works}
    if Carried.HTTP2 in stages:
        stages[Carried.HTTP2] = replace(stage, backend=reserve_addresses(1)[0])
        start_backend(stages[Carried.HTTP2], Carried.HTTP2)
    pairs = {
        (resumes, carried): _start_all(
            stages[carried], candidates, findings, resumes=resumes, carried=carried
        )
        for resumes, carried in dict.fromkeys((work.resumes, work.carried) for work in works)
    }
    rounds = {work.key: max(settings.rounds, work.least_rounds) for work in works}
    for number in range(max(rounds.values(), default=0)):
        for work in works:
            if number >= rounds[work.key]:
                continue
            running = list(pairs[work.resumes, work.carried].items())
            if number % 2:
                running.reverse()
            said = []
            for name, pair in running:
                sample = _measure(stage, pair, work, settings, findings)
                findings.samples.setdefault((work.key, name), []).append(sample)
                shown = figure(value_of(work.metrics[0], sample.result)) if sample else "failed"
                said.append(f"{name} {shown}")
            say(
                f"round {number + 1}/{rounds[work.key]}  {work.title}  "
                f"({work.metrics[0].unit})  {'  '.join(said)}"
            )
    stage.processes.stop(
        [child for group in pairs.values() for p in group.values() for child in p.children]
    )
    return findings


def _start_all(
    stage: Stage,
    candidates: Sequence[Candidate],
    findings: Findings,
    *,
    resumes: bool,
    carried: Carried,
) -> dict[str, Pair]:
    started = {}
    for candidate in candidates:
        if carried not in candidate.carries:
            continue
        label = f"{candidate.name} resuming" if resumes else candidate.name
        if carried is not Carried.OPAQUE:
            label += f", {carried.value}"
        try:
            pair = start_pair(
                candidate,
                stage,
                resumes=resumes,
                is_declared=carried in (Carried.OPAQUE, Carried.PLAIN),
                carried=carried,
            )
            if carried is Carried.PLAIN:
                probe_plaintext(pair)
                started[candidate.name] = pair
                continue
            tls = probe(pair, stage.credentials)
        except UnreachableError as error:
            findings.failures.append(f"{label}: {error}")
            continue
        findings.tls[label] = tls
        against = objections(tls, resumes=resumes)
        if against:
            findings.failures.append(f"{label}: {', '.join(against)}")
            stage.processes.stop(pair.children)
            continue
        started[candidate.name] = pair
    return started


def _measure(
    stage: Stage, pair: Pair, work: Work, settings: Settings, findings: Findings
) -> Sample | None:
    before: list[tuple[int, CoreTime]] = []
    looks_at_pauses = pair.tells_pauses and LONGEST_PAUSE in work.metrics

    def look() -> tuple[int, CoreTime]:
        return cpu_ns(pair.children), core_time(stage.cores.hops)

    def begin() -> None:
        if looks_at_pauses:
            longest_pause_us(pair)
        before.append(look())

    try:
        result = run_load(
            *(stage, work.load, pair.entry, settings.warm_seconds, settings.seconds),
            at_window=begin,
        )
        used_after, core_after = look()
        pause_us = longest_pause_us(pair) if looks_at_pauses else None
    except UnreachableError as error:
        findings.failures.append(f"{pair.inbound.name}, {work.title}: {error}")
        return None
    used_before, core_before = before[0]
    used = used_after - used_before
    around = disturbance(core_before, core_after, used)
    return Sample(result, cost_of(used, result), around, pause_us)


def longest_pause_us(pair: Pair) -> float:
    """Return the longest pause of either hop's garbage collector since the last time.

    Raises UnreachableError when a hop does not tell within TELL_TIMEOUT_S.
    """
    longest = 0.0
    for child in pair.children:
        os.kill(child.process.pid, signal.SIGUSR1)
        with closing(Lines(child)) as lines:
            longest = max(longest, float(lines.next(TELL_TIMEOUT_S)["longest_pause_us"]))
    return longest


def disturbance(before: CoreTime, after: CoreTime, used: int) -> Disturbance:
    """Return what a core did for others, when the hops used ``used`` ns of it."""
    passed = max(1, after.passed - before.passed)
    stolen = after.stolen - before.stolen
    # The kernel counts a core in ticks and a process in ns: the rest may come out below zero.
    others = max(0, passed - (after.idle - before.idle) - stolen - used)
    return Disturbance(100 * stolen / passed, 100 * others / passed)


def rows_of(works: Sequence[Work], findings: Findings) -> list[Row]:
    """Turn the samples into rows, one for each metric of each work."""
    return [
        _row(work, metric, findings)
        for work in works
        for metric in work.metrics
        if any(key == work.key for key, _ in findings.samples)
    ]


def _row(work: Work, metric: Metric, findings: Findings) -> Row:
    is_first = metric is work.metrics[0]
    samples = {name: made for (key, name), made in findings.samples.items() if key == work.key}
    values = {name: _values(metric, made) for name, made in samples.items()}
    costs = {name: tuple(s.cost if s else None for s in made) for name, made in samples.items()}
    return Row(
        work=work.key,
        title=f"{work.title}, {metric.title}" if metric.title else work.title,
        metric=metric,
        results=compare(values, costs if is_first else None),
        targets=tuple(target for about, target in work.targets if about is metric),
        cost_unit=work.cost_unit if is_first else "",
    )


def _values(metric: Metric, samples: list[Sample | None]) -> Rounds:
    if metric is LONGEST_PAUSE:
        return tuple(sample and sample.pause_us for sample in samples)
    return tuple(value_of(metric, sample.result) if sample else None for sample in samples)
