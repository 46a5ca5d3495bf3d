"""bench.result: targets, and the JSON that later runs are compared by."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.result import Result, Row, compare, to_json
from bench.work import P50, PER_CONNECTION, RATE, Basis, Metric, Target
from tests.support.bench_report import mk_report


def mk_row(metric: Metric, target: Target | None, *results: Result) -> Row:
    """Return a row of the given results."""
    return Row("work", "a work", metric, results, target)


@pytest.mark.parametrize(
    ("metric", "target", "pillion", "expected"),
    [
        (RATE, Target(Basis.RATIO, 0.9), 9.0, True),
        (RATE, Target(Basis.RATIO, 0.9), 8.9, False),
        (P50, Target(Basis.RATIO, 1.2), 12.0, True),
        (P50, Target(Basis.RATIO, 1.2), 12.1, False),
        (PER_CONNECTION, Target(Basis.VALUE, 34.0), 34.0, True),
        (PER_CONNECTION, Target(Basis.VALUE, 34.0), 34.1, False),
        (RATE, None, 9.0, None),
        (RATE, Target(Basis.RATIO, 0.9), None, None),
    ],
)
def test_a_target_holds_at_its_limit_and_not_beyond(
    metric: Metric, target: Target | None, pillion: float | None, expected: bool | None
) -> None:
    """At least where more is better, at most elsewhere; unknown without a target or a figure."""
    results = compare({"haproxy": (10.0,), "pillion": (pillion,)})
    assert mk_row(metric, target, *results).holds is expected


def test_a_target_is_unknown_without_pillion() -> None:
    """A peer is never held to it."""
    results = compare({"haproxy": (10.0,), "nginx": (1.0,)})
    assert mk_row(RATE, Target(Basis.RATIO, 0.9), *results).holds is None


def test_a_target_is_judged_by_the_median_of_the_pairs() -> None:
    """One bad round of five does not decide."""
    results = compare({"haproxy": (10.0,) * 3, "pillion": (9.5, 1.0, 9.1)})
    assert mk_row(RATE, Target(Basis.RATIO, 0.9), *results).holds is True


def test_without_the_baseline_there_are_values_but_no_ratios() -> None:
    """The rest of the run is still worth reading."""
    (only,) = compare({"nginx": (3.0, 4.0)}, {"nginx": (1.0, 2.0)})
    assert only == Result("nginx", (3.0, 4.0), (None, None), (1.0, 2.0), (None, None))


def test_the_json_says_per_row_what_every_candidate_did() -> None:
    """Rounds, their spread, the paired ratio and CPU time per operation."""
    data: Any = json.loads(json.dumps(to_json(mk_report(pillion=0.5))))
    row = data["rows"][0]
    assert (row["work"], row["metric"], row["unit"]) == ("down-1", "rate", "MB/s")
    assert row["target"] == {"basis": "ratio", "limit": 0.9}
    assert row["holds"] is False
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
    assert data["schema"] == 1
    assert set(data) == {
        *("schema", "taken", "settings", "versions", "machine", "tls", "rows"),
        *("steal_percent", "others_percent", "errors", "failures", "absent"),
    }
    assert set(data["rows"][0]) == {
        *("work", "metric", "title", "unit", "is_higher_better", "target", "holds", "results"),
    }
