"""bench.plot: what is drawn, and that it is a picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.plot import cost_lines, delay_lines, draw, margin_lines, rate_lines, size_panels
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
    assert first.limit == 0.95


def test_rates_and_costs_stand_side_by_side_line_by_line() -> None:
    """The right panel has no labels of its own."""
    report = mk_report()
    assert [line.label for line in rate_lines(report)] == [
        line.label for line in cost_lines(report)
    ]
    limits = {line.label: line.limit for line in cost_lines(report)}
    assert limits["new connections, full handshakes"] == 1 / 0.85
    assert limits["HTTP/1, 64 connections"] == 1 / 1.6, "beside haproxy's HTTP/1, the axis"
    assert limits["plaintext down, 8 connections"] == 0.5
    assert limits["throughput down, 1 connection"] is None, "judged by its rate"


def test_latencies_and_sizes_have_panels_of_their_own() -> None:
    """Their units do not mix with rates."""
    delays = {line.label for line in delay_lines(mk_report())}
    assert "round trips, 64 B, 64 connections, p99" in delays
    assert "HTTP/1, 1 connection, p50" in delays
    assert len(delays) == 11
    assert [(panel.unit, panel.limit) for panel in size_panels(mk_report())] == [
        ("MiB", 45.0),
        ("KiB", 32.0),
        ("ms", None),
    ]


def test_margins_are_shares_of_what_is_needed_whichever_way_is_better() -> None:
    """Twice what must be, or half of what may be, is 2."""
    lines = {line.label: line for line in margin_lines(mk_report(pillion=1.9))}
    down = lines["throughput down, 1 connection"]
    assert [down.must.minimum, down.must.median] == pytest.approx([2.0, 2.0])
    assert down.stretch == pytest.approx(1.9 / 1.25 / 1.05)
    idle = lines["memory, idle, larger hop"]
    assert [idle.must.median, idle.stretch] == pytest.approx([45 / 33, 36 / 33])
    assert lines["start to first answer, inbound hop / python"].must.median == 1.0


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
