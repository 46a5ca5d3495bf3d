"""The report for a terminal."""

from __future__ import annotations

from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bench.figure import figure
from bench.result import Report, Result, Row
from bench.spread import Spread, spread
from bench.work import BASELINE, SUBJECT, Basis, Target

NOTHING: Final = "-"
DISTURBANCE_WORTH_SAYING: Final = 5.0
"""Percent of the hops' core."""


def render(report: Report) -> RenderableType:
    """Return the table and what has to be said with it."""
    return Group(_table(report), *_notes(report))


def candidates_of(report: Report) -> list[str]:
    """Return every candidate that has a result, in the order of the first row that has it."""
    return list(dict.fromkeys(result.candidate for row in report.rows for result in row.results))


def _table(report: Report) -> Table:
    names = candidates_of(report)
    compared = SUBJECT if SUBJECT in names else next((n for n in names if n != BASELINE), "")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("work", min_width=24)
    table.add_column("unit", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    if compared and BASELINE in names:
        table.add_column(f"{compared} / {BASELINE}", justify="right", no_wrap=True)
        table.add_column("CPU ratio", justify="right", no_wrap=True)
    table.add_column("must", justify="right", no_wrap=True)
    table.add_column("holds", no_wrap=True)
    for row in report.rows:
        result = row.of(compared)
        cells = [row.title, row.metric.unit, *(_value(row.of(name)) for name in names)]
        if compared and BASELINE in names:
            cells += [
                ratio_text(spread(result.ratios) if result else None),
                ratio_text(spread(result.cost_ratios) if result else None),
            ]
        table.add_row(*cells, target_text(row), _verdict(row))
    return table


def _value(result: Result | None) -> str:
    seen = spread(result.values) if result else None
    return figure(seen.median) if seen else NOTHING


def ratio_text(seen: Spread | None) -> str:
    """Return a ratio's median with its smallest and largest."""
    if seen is None:
        return NOTHING
    return f"{seen.median:.2f} ({seen.minimum:.2f}-{seen.maximum:.2f})"


def target_text(row: Row) -> str:
    """Return what the row must reach; empty without a target."""
    if row.target is None:
        return ""
    if row.target.basis is Basis.WORK_PER_CPU:
        return f"CPU ≤ {1 / row.target.limit:.2f}"
    sign = "≥" if row.metric.is_higher_better else "≤"
    return f"{sign} {_limit(row.target, row.metric.unit)}"


def _limit(target: Target, unit: str) -> str:
    return f"{target.limit:.2f}" if target.basis is Basis.RATIO else f"{target.limit:g} {unit}"


def _verdict(row: Row) -> Text:
    if row.holds is None:
        return Text("")
    return Text("yes", style="green") if row.holds else Text("no", style="bold red")


def _notes(report: Report) -> list[Text]:
    notes = [
        Text(
            f"rounds: {report.settings.rounds}, of {report.settings.seconds:g} s; ratios are "
            "paired by round, with the smallest and the largest in parentheses; CPU ratio: CPU "
            "time per operation, both hops",
            style="dim",
        )
    ]
    takers = (("machines", report.steal_percent), ("processes", report.others_percent))
    notes += [
        Text(
            f"other {taker} took up to {taken.maximum:.0f} % of the hops' core "
            f"(median {taken.median:.0f} %): believe CPU ratios before rates",
            style="yellow",
        )
        for taker, taken in takers
        if taken and taken.maximum >= DISTURBANCE_WORTH_SAYING
    ]
    notes += [
        Text(f"{name}: {count} connections lost", style="yellow")
        for name, count in report.errors.items()
        if count
    ]
    notes += [Text(f"not measured: {absence}", style="yellow") for absence in report.absent]
    notes += [Text(f"failed: {failure}", style="bold red") for failure in report.failures]
    return notes
