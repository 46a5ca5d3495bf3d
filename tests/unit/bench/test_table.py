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


def targets_of(report: Report, title: str) -> list[str]:
    """Return the lines below the head of the targets that begin with ``title`` and a gap."""
    lines = shown(report)
    heads = [number for number, line in enumerate(lines) if line.strip().startswith("target  ")]
    if not heads:
        return []
    return [line.strip() for line in lines[heads[0] :] if line.strip().startswith(f"{title}  ")]


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


@pytest.mark.parametrize(
    ("pillion", "verdict"), [(1.5, "stretch"), (1.1, "holds"), (0.5, "misses")]
)
def test_a_target_stands_beside_what_was_measured(pillion: float, verdict: str) -> None:
    """The ratio to haproxy with what must be, that to the best peer with what would be better."""
    (line,) = targets_of(mk_report(pillion=pillion), "throughput down, 8 connections")
    cells = line.split()
    assert cells[-1] == verdict
    assert " ".join(cells[4:7]) == "pillion / haproxy"
    assert cells[7] == f"{pillion:.2f}"
    assert "≥ 1.05" in line
    assert f"{pillion / 1.25:.2f} (" in line
    assert "≥ 1.20" in line


def test_a_target_in_a_unit_shows_the_unit() -> None:
    """Memory is judged by itself, not beside a peer."""
    (line,) = targets_of(mk_report(), "memory per idle connection and hop")
    assert line.split()[-5:] == ["≤", "32.0", "≤", "26.0", "holds"]
    assert "pillion, KiB" in line


def test_a_row_has_a_line_for_each_of_its_targets() -> None:
    """The one beside haproxy-h2 is not judged in a report without it."""
    lines = targets_of(mk_report(), "HTTP/1, 64 connections")
    assert ["pillion / haproxy per CPU s" in line for line in lines] == [True]


def test_without_pillion_the_peers_are_compared_and_no_verdict_is_given() -> None:
    """The column's head says who is compared with whom."""
    report = mk_report(pillion=None)
    assert candidates_of(report)[:2] == ["haproxy", "nginx"]
    assert "nginx / haproxy" in "\n".join(shown(report))
    assert targets_of(report, "throughput down, 8 connections") == []


def test_what_disturbed_the_run_is_said_below_the_table() -> None:
    """Steal, other processes if they took much, and what could not be run."""
    text = "\n".join(shown(mk_report(failures=("nginx: gone",))))
    assert "other machines took up to 12 % of the hops' core" in text
    assert "other processes" not in text
    assert "failed: nginx: gone" in text
