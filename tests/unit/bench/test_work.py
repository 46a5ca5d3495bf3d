"""bench.work: what a row shows, from what was counted."""

from __future__ import annotations

import pytest

from bench.loadtool import LoadResult
from bench.work import P50, P99, P999, RATE, RATE_BYTES, WORKS, Metric, cost_of, value_of

BYTES = LoadResult(2.0, 3_000_000, 0, 0, 0.0, 0.0, 0.0)
TRIPS = LoadResult(2.0, 0, 500, 1, 80.5, 190.0, 410.0)


@pytest.mark.parametrize(
    ("metric", "result", "expected"),
    [
        *((RATE_BYTES, BYTES, 1.5), (RATE, TRIPS, 250.0)),
        *((P50, TRIPS, 80.5), (P99, TRIPS, 190.0), (P999, TRIPS, 410.0)),
    ],
)
def test_a_value_is_in_the_metrics_unit(
    metric: Metric, result: LoadResult, expected: float
) -> None:
    """Megabytes or operations a second; microseconds."""
    assert value_of(metric, result) == expected


@pytest.mark.parametrize(("result", "expected"), [(BYTES, 2.0), (TRIPS, 12.0)])
def test_cost_is_nanoseconds_a_byte_or_microseconds_an_operation(
    result: LoadResult, expected: float
) -> None:
    """6 ms of CPU time over 3 MB, or over 500 round trips."""
    assert cost_of(6_000_000, result) == expected


def test_every_work_has_a_key_of_its_own() -> None:
    """Rows are found by it."""
    keys = [work.key for work in WORKS]
    assert len(set(keys)) == len(keys)


def test_targets_speak_of_what_their_work_measures() -> None:
    """Or they would never be judged."""
    assert [
        work.key for work in WORKS for about, _ in work.targets if about not in work.metrics
    ] == []


def test_the_paced_row_has_nine_rounds_at_least() -> None:
    """A median at a tenth of a millisecond needs them."""
    (paced,) = [work for work in WORKS if work.key == "paced"]
    assert paced.least_rounds == 9
