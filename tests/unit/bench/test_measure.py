"""bench.measure: from samples to rows."""

from __future__ import annotations

from dataclasses import replace

from bench.footprint import Footprint, footprint_rows
from bench.measure import Disturbance, Findings, disturbance, rows_of
from bench.process import CoreTime
from bench.work import LONGEST_PAUSE, WORKS
from tests.support.bench_report import mk_sample

TRIPS = next(work for work in WORKS if work.key == "trips-64")


def test_a_work_becomes_a_row_for_each_metric_and_only_the_first_has_cost() -> None:
    """Rate, p50 and p99 of round trips, each with the targets that speak of it."""
    findings = Findings()
    findings.samples["trips-64", "haproxy"] = [mk_sample(operations=100, cost=3.0)]
    findings.samples["trips-64", "pillion"] = [mk_sample(operations=90, cost=4.5)]
    rate, p50, p99 = rows_of([TRIPS], findings)
    assert [row.metric.key for row in (rate, p50, p99)] == ["rate", "p50", "p99"]
    assert [len(row.targets) for row in (rate, p50, p99)] == [1, 0, 1]
    pillion = rate.of("pillion")
    assert pillion is not None
    assert (pillion.ratios, pillion.costs, pillion.cost_ratios) == ((0.9,), (4.5,), (1.5,))
    assert p50.title == f"{TRIPS.title}, p50"


def test_a_failed_round_takes_its_pair_with_it() -> None:
    """The others still count."""
    findings = Findings()
    findings.samples["trips-64", "haproxy"] = [None, mk_sample(operations=100)]
    findings.samples["trips-64", "pillion"] = [mk_sample(operations=90), mk_sample(operations=50)]
    pillion = rows_of([TRIPS], findings)[0].of("pillion")
    assert pillion is not None
    assert (pillion.values, pillion.ratios) == ((90.0, 50.0), (None, 0.5))


def test_pauses_are_told_where_there_is_a_collector() -> None:
    """Haproxy has none."""
    findings = Findings()
    paced = next(work for work in WORKS if work.key == "paced")
    for name, pause in (("haproxy", None), ("pillion", 120.0)):
        sample = replace(mk_sample(operations=100), pause_us=pause)
        findings.samples["paced", name] = [sample, None]
    row = rows_of([paced], findings)[-1]
    assert row.metric is LONGEST_PAUSE
    assert [result.values for result in row.results] == [(None, None), (120.0, None)]


def test_works_nobody_could_run_have_no_row() -> None:
    """What was not measured is not shown."""
    assert rows_of([TRIPS], Findings()) == []


def test_lost_connections_are_summed_by_candidate() -> None:
    """Over all works and rounds."""
    findings = Findings()
    findings.samples["down-1", "nginx"] = [mk_sample(size=1, errors=2), None]
    findings.samples["up-1", "nginx"] = [mk_sample(size=1, errors=3)]
    findings.samples["up-1", "haproxy"] = [mk_sample(size=1)]
    assert findings.errors == {"nginx": 5, "haproxy": 0}


def test_a_footprint_that_failed_leaves_a_gap() -> None:
    """Zero is a value, None is not."""
    idle, each = footprint_rows({"haproxy": [Footprint(15.0, 0.0), None]})
    assert [row.results[0].values for row in (idle, each)] == [(15.0, None), (0.0, None)]


def test_what_neither_idled_nor_was_stolen_nor_was_ours_went_to_others() -> None:
    """Of 1,000 ns: 100 stolen, 200 idle, 600 ours."""
    before = CoreTime(passed=5_000, idle=1_000, stolen=10)
    after = CoreTime(passed=6_000, idle=1_200, stolen=110)
    assert disturbance(before, after, 600) == Disturbance(steal=10.0, others=10.0)


def test_ticks_too_coarse_for_the_difference_mean_nobody_else() -> None:
    """Never less than nothing, and no division by zero."""
    nothing = CoreTime(passed=0, idle=0, stolen=0)
    assert disturbance(nothing, nothing, 600) == Disturbance(steal=0.0, others=0.0)
