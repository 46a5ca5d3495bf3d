"""bench.result: targets, and the JSON that later runs are compared by."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.result import Result, Row, compare, shown, to_json
from bench.spread import Rounds, Spread
from bench.target import Target, Verdict, per_cpu, ratio, value
from bench.work import LONGEST_PAUSE, P50, PER_CONNECTION, RATE, Metric
from tests.support.bench_report import mk_report


def mk_row(metric: Metric, target: Target | None, *results: Result) -> Row:
    """Return a row of the given results."""
    return Row("work", "a work", metric, results, (target,) if target else ())


MISSES, HOLDS, STRETCH = Verdict.MISSES, Verdict.HOLDS, Verdict.STRETCH


@pytest.mark.parametrize(
    ("metric", "target", "pillion", "expected"),
    [
        (RATE, ratio(0.9, 1.0), 8.9, [MISSES]),
        (RATE, ratio(0.9, 1.0), 9.0, [HOLDS]),
        (RATE, ratio(0.9, 1.0), 11.9, [HOLDS]),
        (RATE, ratio(0.9, 1.0), 12.0, [STRETCH]),
        (P50, ratio(1.2, 1.0), 12.1, [MISSES]),
        (P50, ratio(1.2, 1.0), 12.0, [HOLDS]),
        (P50, ratio(1.2, 1.0), 10.0, [STRETCH]),
        (PER_CONNECTION, value(34.0, 26.0), 34.1, [MISSES]),
        (PER_CONNECTION, value(34.0, 26.0), 34.0, [HOLDS]),
        (PER_CONNECTION, value(34.0, 26.0), 26.0, [STRETCH]),
        (PER_CONNECTION, value(34.0), 1.0, [HOLDS]),
        (RATE, None, 9.0, []),
        (RATE, ratio(0.9, 1.0), None, []),
    ],
)
def test_a_target_holds_at_its_limit_and_not_beyond(
    metric: Metric, target: Target | None, pillion: float | None, expected: list[Verdict]
) -> None:
    """At least where more is better, at most elsewhere; not judged without target or figure.

    The further limit is beside the best peer: nginx, wherever it is best.
    """
    results = compare({"haproxy": (10.0,), "nginx": (12.0,), "pillion": (pillion,)})
    row = mk_row(metric, target, *results)
    assert [judgement.verdict for judgement in row.judgements] == expected


def test_a_target_is_not_judged_without_pillion() -> None:
    """A peer is never held to it."""
    results = compare({"haproxy": (10.0,), "nginx": (1.0,)})
    assert mk_row(RATE, ratio(0.9, 1.0), *results).judgements == []


def test_a_target_is_judged_by_the_median_of_the_pairs() -> None:
    """One bad round of three does not decide."""
    results = compare({"haproxy": (10.0,) * 3, "pillion": (9.5, 1.0, 9.1)})
    (judgement,) = mk_row(RATE, ratio(0.9, 1.0), *results).judgements
    assert judgement.verdict is HOLDS
    assert judgement.measured.median == pytest.approx(0.91)


def test_work_per_cpu_is_the_inverse_of_cost_beside_whom_the_target_names() -> None:
    """A row can have several: here one beside each of haproxy's two ways, one of pillion-h1."""
    names = ("haproxy", "haproxy-h2", "nginx", "pillion", "pillion-h1")
    same: dict[str, Rounds] = dict.fromkeys(names, (1.0,))
    spent = (8.0, 4.0, 5.0, 2.0, 6.0)
    costs: dict[str, Rounds] = {name: (cost,) for name, cost in zip(names, spent, strict=True)}
    targets = (
        per_cpu(2.0, 2.1, to="haproxy-h2", peers=("haproxy-h2",)),
        per_cpu(4.1, 1.0, peers=("haproxy", "nginx")),
        per_cpu(1.0, 0.8, peers=("haproxy", "nginx"), subject="pillion-h1"),
    )
    row = Row("work", "a work", RATE, compare(same, costs), targets)
    told = [(round(each.measured.median, 3), each.best, each.verdict) for each in row.judgements]
    assert told == [
        (2.0, "haproxy-h2", HOLDS),
        (4.0, "nginx", MISSES),
        (1.333, "nginx", STRETCH),
    ]


def test_a_peer_whose_rounds_all_failed_is_not_the_best() -> None:
    """Nor is one that is not there."""
    results = compare({"haproxy": (10.0,), "nginx": (None,), "pillion": (9.0,)})
    (judgement,) = mk_row(RATE, ratio(0.9, 1.0), *results).judgements
    assert judgement.best == "haproxy"


def test_a_pause_is_told_by_its_worst_round() -> None:
    """The longest of all is what is asked for."""
    assert shown(LONGEST_PAUSE, Spread(5.0, 1.0, 90.0)) == 90.0
    assert shown(P50, Spread(5.0, 1.0, 90.0)) == 5.0


def test_without_the_baseline_there_are_values_but_no_ratios() -> None:
    """The rest of the run is still worth reading."""
    (only,) = compare({"nginx": (3.0, 4.0)}, {"nginx": (1.0, 2.0)})
    assert only == Result("nginx", (3.0, 4.0), (None, None), (1.0, 2.0), (None, None))


def test_the_json_says_per_row_what_every_candidate_did() -> None:
    """Rounds, their spread, the paired ratio and CPU time per operation."""
    data: Any = json.loads(json.dumps(to_json(mk_report(pillion=0.5))))
    row = data["rows"][0]
    assert (row["work"], row["metric"], row["unit"]) == ("down-1", "rate", "MB/s")
    assert row["targets"] == [
        {
            "subject": "pillion",
            "basis": "ratio",
            "is_higher_better": True,
            "to": "haproxy",
            "must": 0.95,
            "measured": {"median": 0.5, "minimum": 0.5, "maximum": 0.5},
            "best_peer": "nginx",
            "stretch": 1.05,
            "beside_best_peer": {"median": 0.4, "minimum": 0.4, "maximum": 0.4},
            "verdict": "misses",
        }
    ]
    assert row["results"]["pillion"] == {
        "rounds": [200.0, 200.0],
        "spread": {"median": 200.0, "minimum": 200.0, "maximum": 200.0},
        "ratio": {"median": 0.5, "minimum": 0.5, "maximum": 0.5},
        "cpu_per_operation": {
            "unit": "ns/byte",
            "spread": {"median": 2.0, "minimum": 2.0, "maximum": 2.0},
            "ratio": {"median": 1.0, "minimum": 1.0, "maximum": 1.0},
        },
    }


def test_the_json_has_exactly_the_keys_of_its_schema() -> None:
    """A key that comes or goes is a decision: the schema's number says so."""
    data: Any = to_json(mk_report())
    assert data["schema"] == 2
    assert set(data) == {
        *("schema", "taken", "settings", "versions", "machine", "tls", "rows"),
        *("steal_percent", "others_percent", "errors", "failures", "absent"),
    }
    assert set(data["rows"][0]) == {
        *("work", "metric", "title", "unit", "is_higher_better", "targets", "results"),
    }
