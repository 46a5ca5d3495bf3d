"""bench.table: what a person reads."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from bench.figure import figure
from bench.result import Report
from bench.spread import Spread
from bench.table import candidates_of, ratio_text, render
from tests.support.bench_report import mk_report


def shown(report: Report) -> list[str]:
    """Return the lines of the table on a wide, plain terminal."""
    console = Console(file=StringIO(), width=160)
    console.print(render(report))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue().splitlines()


def line_of(report: Report, title: str) -> str:
    """Return the one line that begins with ``title`` and a gap."""
    (line,) = [line for line in shown(report) if line.strip().startswith(f"{title}  ")]
    return line


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.50"), (9.994, "9.99"), (12.34, "12.3"), (99.94, "99.9"), (23860.4, "23,860")],
)
def test_a_figure_has_about_three_digits(value: float, text: str) -> None:
    """More would be noise."""
    assert figure(value) == text


def test_a_ratio_comes_with_its_spread() -> None:
    """The median alone would claim too much."""
    assert ratio_text(Spread(0.99, 0.85, 1.05)) == "0.99 (0.85-1.05)"
    assert ratio_text(None) == "-"


@pytest.mark.parametrize(("pillion", "verdict"), [(1.0, "yes"), (0.5, "no")])
def test_a_row_says_what_must_be_and_whether_it_holds(pillion: float, verdict: str) -> None:
    """The ratio stands beside its target."""
    cells = line_of(mk_report(pillion=pillion), "throughput down, 8 connections").split()
    assert cells[-3:] == ["≥", "1.00", verdict]
    assert f"{pillion:.2f}" in cells


def test_a_target_in_a_unit_shows_the_unit() -> None:
    """Memory is judged by itself, not beside a peer."""
    assert line_of(mk_report(), "memory per idle connection and hop").split()[-4:] == [
        *("≤", "34", "KiB", "yes"),
    ]


def test_without_pillion_the_peers_are_compared_and_no_verdict_is_given() -> None:
    """The column's head says who is compared with whom."""
    report = mk_report(pillion=None)
    assert candidates_of(report) == ["haproxy", "nginx"]
    assert "nginx / haproxy" in "\n".join(shown(report))
    assert line_of(report, "throughput down, 8 connections").split()[-2:] == ["≥", "1.00"]


def test_what_disturbed_the_run_is_said_below_the_table() -> None:
    """Steal, other processes if they took much, and what could not be run."""
    text = "\n".join(shown(mk_report(failures=("nginx: gone",))))
    assert "other machines took up to 12 % of the hops' core" in text
    assert "other processes" not in text
    assert "failed: nginx: gone" in text
