"""What a run found, and its JSON: a stable schema for whoever compares runs later."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final, final

from bench.probe import Tls
from bench.spread import Rounds, Spread, paired_ratios, spread
from bench.target import BASELINE, OWN, Basis, Judgement, Target
from bench.work import Metric

SCHEMA: Final = 2
"""Raised when a key changes its meaning or goes away; new keys do not raise it."""


@final
@dataclass(frozen=True, slots=True)
class Result:
    """One candidate in one row."""

    candidate: str
    values: Rounds
    ratios: Rounds
    """To the baseline, round by round; all None without one."""
    costs: Rounds = ()
    """CPU time per operation, both hops together; empty where the row has none."""
    cost_ratios: Rounds = ()


@final
@dataclass(frozen=True, slots=True)
class Row:
    """One metric of one work, for every candidate."""

    work: str
    title: str
    metric: Metric
    results: tuple[Result, ...]
    targets: tuple[Target, ...] = ()
    cost_unit: str = ""

    def of(self, candidate: str) -> Result | None:
        """Return a candidate's result."""
        return next((result for result in self.results if result.candidate == candidate), None)

    @property
    def judgements(self) -> list[Judgement]:
        """Return the targets that can be judged: what they speak of was measured."""
        found = (self._judged(target) for target in self.targets)
        return [judgement for judgement in found if judgement is not None]

    def _judged(self, target: Target) -> Judgement | None:
        subject = self._figures(target.subject, target.basis)
        is_higher_better = self.metric.is_higher_better or target.basis is Basis.WORK_PER_CPU
        if target.basis is Basis.VALUE:
            seen = spread(subject)
            return seen and Judgement(target, is_higher_better, seen, "", seen)
        measured = spread(_ratios(subject, self._figures(target.to, target.basis)))
        if measured is None:
            return None
        names = target.peers or [each.candidate for each in self.results]
        medians = {
            name: seen.median
            for name in names
            if name not in OWN and (seen := spread(self._figures(name, target.basis)))
        }
        choose = max if is_higher_better else min
        best = choose(medians, key=lambda name: medians[name], default="")
        beside_best = spread(_ratios(subject, self._figures(best, target.basis)))
        return Judgement(target, is_higher_better, measured, best, beside_best)

    def _figures(self, candidate: str, basis: Basis) -> Rounds:
        result = self.of(candidate)
        if result is None:
            return ()
        if basis is not Basis.WORK_PER_CPU:
            return result.values
        return tuple(1 / cost if cost else None for cost in result.costs)


@final
@dataclass(frozen=True, slots=True)
class Settings:
    """How a run was made."""

    rounds: int
    seconds: float
    warm_seconds: float


@final
@dataclass(frozen=True, slots=True)
class Report:
    """A whole run."""

    taken: str
    """When, in UTC (ISO 8601)."""
    settings: Settings
    versions: dict[str, str]
    machine: dict[str, str | int]
    tls: dict[str, Tls]
    """By candidate; a second entry, ``<candidate> resuming``, where sessions are resumed."""
    rows: tuple[Row, ...]
    steal_percent: Spread | None
    """Of the hops' core, over all measurements: time that other machines took."""
    others_percent: Spread | None
    """The same for other processes of this machine."""
    errors: dict[str, int]
    """By candidate: connections that were lost while it was measured."""
    failures: tuple[str, ...]
    """What could not be run, for a person."""
    absent: tuple[str, ...]
    """Candidates this machine lacks, for a person."""


def compare(
    values: dict[str, Rounds], costs: dict[str, Rounds] | None = None
) -> tuple[Result, ...]:
    """Pair every candidate's rounds with the baseline's."""
    costs = costs or {}
    return tuple(
        Result(
            name,
            rounds,
            _ratios(rounds, values.get(BASELINE)),
            costs.get(name, ()),
            _ratios(costs.get(name, ()), costs.get(BASELINE)),
        )
        for name, rounds in values.items()
    )


def _ratios(values: Rounds, baseline: Rounds | None) -> Rounds:
    if not baseline or not values:
        return (None,) * len(values)
    return paired_ratios(values, baseline)


def shown(metric: Metric, seen: Spread) -> float:
    """Return which of a row's rounds stands for all: the median, or the worst."""
    if not metric.is_worst:
        return seen.median
    return seen.minimum if metric.is_higher_better else seen.maximum


def to_json(report: Report) -> dict[str, object]:
    """Return the report as JSON's own types."""
    return {
        "schema": SCHEMA,
        "taken": report.taken,
        "settings": asdict(report.settings),
        "versions": report.versions,
        "machine": report.machine,
        "tls": {name: asdict(tls) for name, tls in report.tls.items()},
        "rows": [_row_json(row) for row in report.rows],
        "steal_percent": _spread_json(report.steal_percent),
        "others_percent": _spread_json(report.others_percent),
        "errors": report.errors,
        "failures": list(report.failures),
        "absent": list(report.absent),
    }


def _row_json(row: Row) -> dict[str, object]:
    return {
        "work": row.work,
        "metric": row.metric.key,
        "title": row.title,
        "unit": row.metric.unit,
        "is_higher_better": row.metric.is_higher_better,
        "targets": [_judgement_json(judgement) for judgement in row.judgements],
        "results": {result.candidate: _result_json(result, row) for result in row.results},
    }


def _judgement_json(judgement: Judgement) -> dict[str, object]:
    target = judgement.target
    is_value = target.basis is Basis.VALUE
    return {
        "subject": target.subject,
        "basis": target.basis.value,
        "is_higher_better": judgement.is_higher_better,
        "to": None if is_value else target.to,
        "must": target.must,
        "measured": asdict(judgement.measured),
        "best_peer": judgement.best or None,
        "stretch": target.stretch,
        "beside_best_peer": _spread_json(judgement.beside_best) if judgement.best else None,
        "verdict": judgement.verdict.value,
    }


def _result_json(result: Result, row: Row) -> dict[str, object]:
    cost: dict[str, object] | None = None
    if result.costs:
        cost = {
            "unit": row.cost_unit,
            "spread": _spread_json(spread(result.costs)),
            "ratio": _spread_json(spread(result.cost_ratios)),
        }
    return {
        "rounds": list(result.values),
        "spread": _spread_json(spread(result.values)),
        "ratio": _spread_json(spread(result.ratios)),
        "cpu_per_operation": cost,
    }


def _spread_json(found: Spread | None) -> dict[str, float] | None:
    return asdict(found) if found else None
