"""The ways between clusters for a terminal."""

from __future__ import annotations

from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bench.figure import figure
from bench.spread import paired_ratios, spread
from bench.table import DISTURBANCE_WORTH_SAYING, NOTHING, ratio_text
from bench.ways import (
    BARE,
    DIRECT,
    GATEWAY,
    LOCAL,
    WAYS,
    Report,
    added_ms,
    beyond_delay,
    bytes_a_request,
    p50s,
    verdicts,
)

WIDTH: Final = 122
"""Columns below which the table would break its lines."""
KEPT_PACE: Final = 0.95
"""The share of the requests that others answered for a cell to mean anything."""


def render(report: Report) -> RenderableType:
    """Return the table, a line for each requirement, and what has to be said with it."""
    return Group(_table(report), *_verdicts(report), *_notes(report))


def _table(report: Report) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("delay", "way"):
        table.add_column(heading, no_wrap=True)
    for heading in ("p50, ms", "p99, ms", "/ local", "/ direct", "CPU, µs", "bytes by gateway"):
        table.add_column(heading, justify="right", no_wrap=True)
    for delay in report.settings.delays_ms:
        for way in WAYS:
            table.add_row(*_row(report, delay, way), end_section=way == WAYS[-1])
    return table


def _row(report: Report, delay: float, way: str) -> list[str]:
    cells = report.cells
    p50 = p50s(cells, delay, way)
    p99 = spread([each.p99_ms for each in cells[delay, way]])
    cpu = spread([each.cpu_total_us for each in cells[delay, way]])
    row = [
        f"{delay:g} ms",
        way,
        ratio_text(spread(p50)),
        figure(p99.median) if p99 else NOTHING,
    ]
    if way == BARE:
        return [*row, NOTHING, NOTHING, NOTHING, NOTHING]
    pairs = paired_ratios(beyond_delay(cells, delay, way), p50s(cells, delay, LOCAL))
    over_local = NOTHING if way == LOCAL else ratio_text(spread(pairs))
    pairs = paired_ratios(p50, p50s(cells, delay, DIRECT))
    over_direct = ratio_text(spread(pairs)) if way == GATEWAY else NOTHING
    carried = bytes_a_request(cells, delay, way)
    shown = f"{cpu.median:.0f}" if cpu else NOTHING
    return [*row, over_local, over_direct, shown, f"{carried:.0f}"]


def _verdicts(report: Report) -> list[Text]:
    return [
        Text.assemble(
            ("holds  ", "green") if each.holds else ("FAILS  ", "bold red"),
            f"{each.claim}: {each.seen}",
        )
        for each in verdicts(report.cells)
    ]


def _notes(report: Report) -> list[Text]:
    settings = report.settings
    notes = [
        Text(
            f"rounds: {settings.rounds}, of {settings.seconds:g} s at {settings.rate} requests a "
            "second; medians, ratios paired by round, with the smallest and the largest in "
            "parentheses; / local: p50 less what the delay added; CPU: a request, all sidecars "
            "and the gateway; bytes: a request",
            style="dim",
        )
    ]
    for delay in settings.delays_ms[1:]:
        added = spread(added_ms(report.cells, delay))
        if added:
            notes.append(
                Text(
                    f"the cable of {delay:g} ms added {added.median:.3f} ms to a round trip "
                    f"({added.minimum:.3f}-{added.maximum:.3f})",
                    style="dim",
                )
            )
    # What is due is the same in every cell.
    most = max(each.requests for rounds in report.cells.values() for each in rounds)
    notes += [
        Text(f"{way} with {delay:g} ms did not keep the pace in every round", style="yellow")
        for (delay, way), rounds in report.cells.items()
        if any(each.requests < most * KEPT_PACE for each in rounds)
    ]
    takers = (("machines", report.steal_percent), ("processes", report.others_percent))
    notes += [
        Text(
            f"other {taker} took up to {taken.maximum:.0f} % of the client's sidecar's core "
            f"(median {taken.median:.0f} %): believe CPU before times",
            style="yellow",
        )
        for taker, taken in takers
        if taken and taken.maximum >= DISTURBANCE_WORTH_SAYING
    ]
    return notes
