"""bench.plot: what is drawn, and that it is a picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bench.plot import cost_lines, delay_lines, draw, rate_lines, size_panels
from bench.result import Report
from bench.spread import Spread
from bench.work import FOOTPRINT
from tests.support.bench_report import mk_report

PNG = b"\x89PNG\r\n\x1a\n"


def only(report: Report, *works: str) -> Report:
    """Return the report with the rows of these works alone."""
    return replace(report, rows=tuple(row for row in report.rows if row.work in works))


def test_ratios_are_drawn_for_everyone_but_the_baseline() -> None:
    """The baseline is the line at 1; a target stands where it has to be reached."""
    first = rate_lines(mk_report(pillion=0.5))[0]
    assert first.label == "throughput down, 1 connection"
    assert first.spreads == {"nginx": Spread(1.25, 1.25, 1.25), "pillion": Spread(0.5, 0.5, 0.5)}
    assert first.limit == 0.9


def test_rates_and_costs_stand_side_by_side_line_by_line() -> None:
    """The right panel has no labels of its own."""
    report = mk_report()
    assert [line.label for line in rate_lines(report)] == [
        line.label for line in cost_lines(report)
    ]
    limits = {line.limit for line in cost_lines(report)}
    assert limits == {None, 1 / 0.75, 0.5}, "HTTP and plaintext, all else by its rate"


def test_latencies_and_sizes_have_panels_of_their_own() -> None:
    """Their units do not mix with rates."""
    delays = {line.label for line in delay_lines(mk_report())}
    assert "round trips, 64 B, 64 connections, p99" in delays
    assert "HTTP/1, 1 connection, p50" in delays
    assert len(delays) == 8
    assert [(panel.unit, panel.limit) for panel in size_panels(mk_report())] == [
        ("MiB", 45.0),
        ("KiB", 34.0),
        ("ms", None),
    ]


def test_a_report_becomes_a_png(tmp_path: Path) -> None:
    """Whole, and every part of it alone."""
    whole = mk_report()
    parts = [whole, only(whole, "down-1"), only(whole, "trips-1"), only(whole, FOOTPRINT)]
    for number, report in enumerate(parts):
        file = tmp_path / f"{number}.png"
        assert draw(report, file)
        assert file.read_bytes().startswith(PNG)


def test_nothing_is_drawn_of_nothing(tmp_path: Path) -> None:
    """No file is left behind."""
    assert not draw(only(mk_report()), tmp_path / "none.png")
    assert list(tmp_path.iterdir()) == []
