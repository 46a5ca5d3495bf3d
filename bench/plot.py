"""The report as a picture: ratios to the baseline as dots with their spread, sizes as bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Final, final

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from bench.figure import figure
from bench.result import Report, Row
from bench.spread import Rounds, Spread, spread
from bench.table import candidates_of
from bench.work import BASELINE, P50, P99, Basis

COLORS: Final = {
    "pillion": "#c8324a",
    "pillion-h1": "#e39a5b",
    "haproxy": "#5b6b7b",
    "haproxy-h2": "#7d64a8",
    "nginx": "#2a7f62",
}
"""By candidate; pillion's stands out."""
OTHER_COLOR: Final = "#3f7fb5"
INK: Final = "#22282e"
PALE: Final = "#e3e7eb"
DPI: Final = 144
WIDTH_IN: Final = 13.0
LINE_IN: Final = 0.44
"""Height of a line of a panel, in inches."""
FRAME_IN: Final = 1.0
"""Height of a panel's title and axis, in inches."""
SIZES_IN: Final = 3.0
"""Height of the panels with bars, in inches."""
SLOT: Final = 0.26
"""Distance of two candidates on one line, as a share of the line."""
SMALL: Final = 8.5
"""Points."""
TITLE_COLUMNS: Final = 18
"""Characters of a bar panel's title on one line."""


@final
@dataclass(frozen=True, slots=True)
class Line:
    """One line of a panel: every candidate's ratio to the baseline."""

    label: str
    spreads: dict[str, Spread]
    limit: float | None = None
    """Where the target lies."""


@final
@dataclass(frozen=True, slots=True)
class Bars:
    """A panel of sizes, one bar a candidate."""

    title: str
    unit: str
    sizes: dict[str, Spread]
    limit: float | None


def draw(report: Report, file: Path) -> bool:
    """Write the picture to ``file``; False when there is nothing to draw."""
    rates, costs, delays = rate_lines(report), cost_lines(report), delay_lines(report)
    sizes = size_panels(report)
    heights = [
        _height(max(len(rates), len(costs))),
        max(_height(len(delays)), SIZES_IN if sizes else 0.0),
    ]
    if not any(heights):
        return False
    picture = Figure(
        figsize=(WIDTH_IN, sum(heights) + 0.9),
        layout=ConstrainedLayoutEngine(wspace=0.06, hspace=0.06),
    )
    FigureCanvasAgg(picture)
    grid = picture.add_gridspec(2, 2, height_ratios=[max(height, 0.01) for height in heights])
    if rates:
        _draw_ratios(picture.add_subplot(grid[0, 0]), "Rate, higher is better", rates)
    if costs:
        axes = picture.add_subplot(grid[0, 1])
        _draw_ratios(axes, "CPU time per operation, lower is better", costs)
        if rates:
            axes.set_yticklabels([])
    if delays:
        _draw_ratios(picture.add_subplot(grid[1, 0]), "Latency, lower is better", delays)
    if sizes:
        inner = grid[1, 1 if delays else slice(None)].subgridspec(1, len(sizes))
        for column, panel in enumerate(sizes):
            _draw_bars(picture.add_subplot(inner[0, column]), panel)
    _legend(picture, candidates_of(report))
    picture.suptitle(_title(report), fontsize=12, color=INK, x=0.01, ha="left")
    picture.savefig(file, dpi=DPI, facecolor="white")
    return True


def rate_lines(report: Report) -> list[Line]:
    """Return the rates' ratios, one line a work."""
    return _lines([row for row in report.rows if row.cost_unit], is_cost=False)


def cost_lines(report: Report) -> list[Line]:
    """Return the ratios of CPU time per operation, one line a work."""
    return _lines([row for row in report.rows if row.cost_unit], is_cost=True)


def delay_lines(report: Report) -> list[Line]:
    """Return the latencies' ratios, one line a work and quantile."""
    return _lines([row for row in report.rows if row.metric in {P50, P99}], is_cost=False)


def size_panels(report: Report) -> list[Bars]:
    """Return the sizes: what is neither a rate nor a latency."""
    rows = [row for row in report.rows if not row.cost_unit and row.metric not in {P50, P99}]
    return [
        Bars(row.title, row.metric.unit, sizes, _limit(row, Basis.VALUE))
        for row in rows
        if (sizes := _spreads({result.candidate: result.values for result in row.results}))
    ]


def _lines(rows: Sequence[Row], *, is_cost: bool) -> list[Line]:
    found = []
    for row in rows:
        ratios = {
            result.candidate: result.cost_ratios if is_cost else result.ratios
            for result in row.results
            if result.candidate != BASELINE
        }
        if spreads := _spreads(ratios):
            limit = _limit(row, Basis.WORK_PER_CPU if is_cost else Basis.RATIO)
            if is_cost and limit:
                limit = 1 / limit
            found.append(Line(row.title, spreads, limit))
    return found


def _spreads(rounds: dict[str, Rounds]) -> dict[str, Spread]:
    return {name: seen for name, values in rounds.items() if (seen := spread(values))}


def _limit(row: Row, basis: Basis) -> float | None:
    return row.target.limit if row.target and row.target.basis is basis else None


def _height(lines: int) -> float:
    return FRAME_IN + LINE_IN * lines if lines else 0.0


def _color(name: str) -> str:
    return COLORS.get(name, OTHER_COLOR)


def _frame(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
    axes.tick_params(axis="both", length=0, labelcolor=INK, labelsize=SMALL)
    axes.set_axisbelow(True)
    for edge in ("top", "right", "left"):
        axes.spines[edge].set_visible(False)
    axes.spines["bottom"].set_color(PALE)


def _draw_ratios(axes: Axes, title: str, lines: Sequence[Line]) -> None:
    _frame(axes, title)
    axes.axvline(1.0, color=_color(BASELINE), linewidth=1.6)
    for place, line in enumerate(lines):
        if place:
            axes.axhline(place - 0.5, color=PALE, linewidth=0.8)
        for slot, (name, seen) in zip(_slots(len(line.spreads)), line.spreads.items(), strict=True):
            _draw_spread(axes, place + slot, seen, _color(name))
        if line.limit is not None:
            axes.plot([line.limit] * 2, [place - 0.4, place + 0.4], color=INK, linewidth=1.8)
    seen_all = [seen for line in lines for seen in line.spreads.values()]
    axes.set_xlim(
        min(0.5, min(seen.minimum for seen in seen_all) * 0.9),
        max(1.4, max(seen.maximum for seen in seen_all) * 1.08),
    )
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_yticks(range(len(lines)), [line.label for line in lines])
    axes.set_xlabel(f"ratio to {BASELINE} in the same round", fontsize=SMALL, color=INK)
    axes.grid(axis="x", color=PALE, linewidth=0.8)


def _draw_spread(axes: Axes, height: float, seen: Spread, color: str) -> None:
    axes.plot([seen.minimum, seen.maximum], [height] * 2, color=color, linewidth=2.4, alpha=0.4)
    axes.plot([seen.median], [height], "o", color=color, markersize=6)
    _note(axes, f"{seen.median:.2f}", (seen.maximum, height), (6, 0), color)


def _draw_bars(axes: Axes, panel: Bars) -> None:
    _frame(axes, fill(f"{panel.title}, {panel.unit}", TITLE_COLUMNS))
    for place, (name, seen) in enumerate(panel.sizes.items()):
        axes.bar(place, seen.median, width=0.62, color=_color(name))
        _note(axes, figure(seen.median), (place, seen.median), (0, 7), _color(name))
    highest = max(seen.median for seen in panel.sizes.values())
    if panel.limit is not None:
        axes.axhline(panel.limit, color=INK, linewidth=1.6)
        highest = max(highest, panel.limit)
    axes.set_xticks(range(len(panel.sizes)), list(panel.sizes))
    axes.set_xlim(-0.6, max(1.6, len(panel.sizes) - 0.4))
    axes.set_ylim(0, highest * 1.12 or 1)
    axes.set_yticks([])


def _note(
    axes: Axes, text: str, at: tuple[float, float], offset: tuple[float, float], color: str
) -> None:
    axes.annotate(
        text,
        at,
        xytext=offset,
        textcoords="offset points",
        ha="left" if offset[0] else "center",
        va="center",
        fontsize=SMALL,
        color=color,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        zorder=5,
    )


def _slots(count: int) -> list[float]:
    """Return where on a line so many candidates go, from its middle."""
    return [(number - (count - 1) / 2) * SLOT for number in range(count)]


def _legend(picture: Figure, names: Sequence[str]) -> None:
    marks = [
        Line2D([], [], color=_color(name), marker="o", linewidth=2.4, label=name)
        if name != BASELINE
        else Line2D([], [], color=_color(name), linewidth=2.4, label=f"{name} = 1")
        for name in names
    ]
    marks.append(Line2D([], [], color=INK, linewidth=1.8, label="must"))
    picture.legend(
        handles=marks, loc="outside lower left", ncols=len(marks), frameon=False, fontsize=9
    )


def _title(report: Report) -> str:
    return (
        f"Bytes and requests over two hops of mutual TLS, {report.taken[:10]}: medians of "
        f"{report.settings.rounds} rounds, smallest to largest"
    )
