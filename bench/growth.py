"""``python -m bench.growth``: what a decision, request or event costs as a mesh grows.

By the number of policies, routes, endpoints, idle connections, fields and octets. No sockets but
where they are what is measured; processor time on one core, the best of many short turns. JSON
and a plot go to bench/results. Exit status: 0 what must not grow does not, 1 it does.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import NullLocator
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench import axis
from bench.axis import MUST, STRETCH, Axis, Line
from bench.figure import figure
from bench.record import RESULTS, record
from bench.target import Verdict
from cli.version import core_modules, core_speed

DPI: Final = 144
SIZE_IN: Final = (13.0, 7.6)
COLUMNS: Final = 3
COLORS: Final = ("#c8324a", "#5b6b7b", "#2a7f62", "#7d64a8", "#e39a5b", "#3f7fb5")
INK: Final = "#22282e"
PALE: Final = "#e3e7eb"
WIDTH: Final = 120
AXES: Final = {make.__name__: make for make in axis.AXES}


def verdict(line: Line) -> Verdict:
    """Judge a cost that must not grow."""
    if line.growth > MUST:
        return Verdict.MISSES
    return Verdict.STRETCH if line.growth <= STRETCH else Verdict.HOLDS


def render(found: Sequence[Axis], core: str) -> Table:
    """Return the table."""
    title = f"microseconds, core {core}; growth must be at most {MUST:g} times, better {STRETCH:g}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("what", "costs", "growth", "verdict"):
        table.add_column(name, justify="right" if name == "growth" else "left")
    for each in found:
        table.add_row(Text(each.title, style="bold"), "  ".join(f"{n:,}" for n in each.counts))
        for line in each.lines:
            costs = "  ".join(figure(cost) for cost in line.microseconds)
            judged = verdict(line).value if each.is_bounded else ""
            table.add_row(f"  {line.title}", costs, f"{line.growth:.2f}", judged)
    return table


def _short(count: int) -> str:
    for size, unit in ((1_048_576, "Mi"), (1_024, "Ki")):
        if count % size == 0:
            return f"{count // size} {unit}"
    return f"{count:,}"


def draw(found: Sequence[Axis], core: str, file: Path) -> None:
    """Write the picture: what must not grow as times its first cost, the rest in µs."""
    rows = -(-len(found) // COLUMNS)
    layout = ConstrainedLayoutEngine(wspace=0.06, hspace=0.08)
    picture = Figure(figsize=(SIZE_IN[0], SIZE_IN[1] * rows / 2), layout=layout)
    FigureCanvasAgg(picture)
    for place, each in enumerate(found):
        axes = picture.add_subplot(rows, min(COLUMNS, len(found)), place + 1)
        unit = "times the cost of one" if each.is_bounded else "µs"
        axes.set_title(f"{each.title}: {unit}", loc="left", fontsize=10, color=INK)
        for line, color in zip(each.lines, COLORS, strict=False):
            first = line.microseconds[0] if each.is_bounded else 1.0
            costs = [cost / first for cost in line.microseconds]
            axes.plot(each.counts, costs, "o-", color=color, markersize=4, label=line.title)
        axes.set_xscale("log")
        axes.set_xticks(each.counts, [_short(count) for count in each.counts])
        axes.xaxis.set_minor_locator(NullLocator())
        if each.is_bounded:
            axes.axhline(MUST, color=INK, linewidth=1.6)
            axes.axhline(STRETCH, color=INK, linewidth=1.0, linestyle=":")
            axes.set_ylim(0, max(2.0, *(line.growth * 1.1 for line in each.lines)))
        else:
            axes.set_ylim(0, max(max(line.microseconds) for line in each.lines) * 1.15)
        axes.legend(fontsize=8, frameon=False, loc="lower right" if each.is_bounded else "best")
        axes.grid(color=PALE, linewidth=0.8)
        axes.tick_params(length=0, labelsize=8.5, labelcolor=INK)
        for edge in ("top", "right", "left"):
            axes.spines[edge].set_visible(False)
    title = f"What one decision, request or event costs as a mesh grows; core {core}"
    picture.suptitle(title, fontsize=12, color=INK, x=0.01, ha="left")
    picture.savefig(file, dpi=DPI, facecolor="white")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", multiple=True, type=click.Choice([*AXES]), help="Repeatable.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=RESULTS,
    show_default="bench/results",
    help="Where JSON and plot go, named by date.",
)
def main(only: tuple[str, ...], output: Path) -> None:
    """Measure what costs grow with."""
    core = core_speed(core_modules())
    found = [make() for name, make in AXES.items() if not only or name in only]
    Console(width=max(Console().width, WIDTH)).print(render(found, core))
    grown = [
        f"{each.title}: {line.title}"
        for each in found
        for line in each.lines
        if each.is_bounded and verdict(line) is Verdict.MISSES
    ]
    data = {
        "must": MUST,
        "stretch": STRETCH,
        "axes": [asdict(each) for each in found],
        "missed": grown,
    }
    file = record("growth", data, output)
    draw(found, core, file.with_suffix(".png"))
    for written in (file, file.with_suffix(".png")):
        click.echo(f"wrote {written}", err=True)
    sys.exit(1 if grown else 0)


if __name__ == "__main__":
    main()
