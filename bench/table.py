"""The report for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bench.figure import figure
from bench.result import Report, Row, shown
from bench.spread import Spread, spread
from bench.target import BASELINE, SUBJECT, Basis, Judgement, Verdict

NOTHING: Final = "-"
_STYLES: Final = {
    Verdict.MISSES: "bold red",
    Verdict.HOLDS: "green",
    Verdict.STRETCH: "bold green",
}
DISTURBANCE_WORTH_SAYING: Final = 5.0
"""Percent of the hops' core."""


def render(report: Report) -> RenderableType:
    """Return the figures, the targets, and what has to be said with them."""
    judged = [(row, judgement) for row in report.rows for judgement in row.judgements]
    return Group(_table(report), *([_targets(judged)] if judged else []), *_notes(report))


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
    for row in report.rows:
        result = row.of(compared)
        cells = [row.title, row.metric.unit, *(_value(row, name) for name in names)]
        if compared and BASELINE in names:
            cells += [
                ratio_text(spread(result.ratios) if result else None),
                ratio_text(spread(result.cost_ratios) if result else None),
            ]
        table.add_row(*cells)
    return table


def _targets(judged: Sequence[tuple[Row, Judgement]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("target", min_width=24)
    table.add_column("of", no_wrap=True)
    for name in ("measured", "must", "beside the best", "stretch"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row, each in judged:
        target, beside = each.target, each.best and each.beside_best
        table.add_row(
            row.title,
            subject_text(each, row.metric.unit),
            ratio_text(each.measured),
            limit_text(each, target.must),
            f"{ratio_text(beside)} {each.best}" if beside else "",
            limit_text(each, target.stretch),
            Text(each.verdict.value, style=_STYLES[each.verdict]),
        )
    return table


def subject_text(judgement: Judgement, unit: str) -> str:
    """Return whom and what a target speaks of."""
    target = judgement.target
    if target.basis is Basis.VALUE:
        return f"{target.subject}, {unit}"
    what = {Basis.RATIO: "", Basis.WORK_PER_CPU: " per CPU s"}[target.basis]
    return f"{target.subject} / {target.to}{what}"


def limit_text(judgement: Judgement, limit: float | None) -> str:
    """Return a limit with its direction; empty without one."""
    if limit is None:
        return ""
    return f"{'≥' if judgement.is_higher_better else '≤'} {figure(limit)}"


def _value(row: Row, candidate: str) -> str:
    result = row.of(candidate)
    seen = spread(result.values) if result else None
    return figure(shown(row.metric, seen)) if seen else NOTHING


def ratio_text(seen: Spread | None) -> str:
    """Return a ratio's median with its smallest and largest."""
    if seen is None:
        return NOTHING
    return f"{seen.median:.2f} ({seen.minimum:.2f}-{seen.maximum:.2f})"


def _notes(report: Report) -> list[Text]:
    notes = [
        Text(
            f"rounds: {report.settings.rounds}, of {report.settings.seconds:g} s; ratios are "
            "paired by round, with the smallest and the largest in parentheses; CPU ratio: CPU "
            "time per operation, both hops; pillion's core is "
            f"{report.versions.get('pillion_core', 'unknown')}",
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
