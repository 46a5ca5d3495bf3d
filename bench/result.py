"""What a run found, and its JSON: a stable schema for whoever compares runs later."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final, final

from bench.probe import Tls
from bench.spread import Rounds, Spread, paired_ratios, spread
from bench.work import BASELINE, SUBJECT, Basis, Metric, Target

SCHEMA: Final = 1
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
    target: Target | None = None
    cost_unit: str = ""

    def of(self, candidate: str) -> Result | None:
        """Return a candidate's result."""
        return next((result for result in self.results if result.candidate == candidate), None)

    @property
    def holds(self) -> bool | None:
        """Whether the subject reaches the target; None where either is missing."""
        subject = self.of(SUBJECT)
        if self.target is None or subject is None:
            return None
        if self.target.basis is Basis.WORK_PER_CPU:
            cost = spread(subject.cost_ratios)
            return None if cost is None else 1 / cost.median >= self.target.limit
        seen = spread(subject.ratios if self.target.basis is Basis.RATIO else subject.values)
        if seen is None:
            return None
        if self.metric.is_higher_better:
            return seen.median >= self.target.limit
        return seen.median <= self.target.limit


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
    if baseline is None:
        return (None,) * len(values)
    return paired_ratios(values, baseline)


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
    target = row.target
    return {
        "work": row.work,
        "metric": row.metric.key,
        "title": row.title,
        "unit": row.metric.unit,
        "is_higher_better": row.metric.is_higher_better,
        "target": {"basis": target.basis.value, "limit": target.limit} if target else None,
        "holds": row.holds,
        "results": {result.candidate: _result_json(result, row) for result in row.results},
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
