"""The report as a picture: ratios to the baseline and to targets as dots, sizes as bars."""

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
from bench.result import Report, Row, shown
from bench.spread import Rounds, Spread, spread
from bench.table import candidates_of
from bench.target import BASELINE, SUBJECT, Basis, Judgement
from bench.work import P50, P99, P999

COLORS: Final = {
    "pillion": "#c8324a",
    "pillion-h1": "#e39a5b",
    "haproxy": "#5b6b7b",
    "haproxy-h2": "#7d64a8",
    "haproxy-splice": "#a3a9b0",
    "nginx": "#2a7f62",
    "stunnel": "#3f7fb5",
}
"""By candidate; pillion's stands out."""
OTHER_COLOR: Final = "#8a8f3a"
INK: Final = "#22282e"
PALE: Final = "#e3e7eb"
DPI: Final = 144
WIDTH_IN: Final = 13.0
LINE_IN: Final = 0.5
"""Height of a line of a panel, in inches."""
FRAME_IN: Final = 1.0
"""Height of a panel's title and axis, in inches."""
SIZES_IN: Final = 2.6
"""Height of the panels with bars, in inches."""
SLOT: Final = 0.26
"""Distance of two candidates on one line at most, as a share of the line."""
USED: Final = 0.88
"""How much of a line all candidates take at most."""
LARGEST: Final = 3.0
"""The largest ratio that is drawn where it lies; beyond, at the edge."""
MARGINS: Final = (0.5, 2.5)
"""Shares of a target that are drawn where they lie; beyond, at the edge."""
_DELAYS: Final = frozenset((P50, P99, P999))
SMALL: Final = 8.5
"""Points."""
TITLE_COLUMNS: Final = 24
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
class Margin:
    """A target: how many times as good as needed; 1 is just reached."""

    label: str
    must: Spread
    stretch: float | None
    """The median beside what would put us ahead of the best peer."""


@final
@dataclass(frozen=True, slots=True)
class Bars:
    """A panel of sizes, one bar a candidate."""

    title: str
    unit: str
    sizes: dict[str, float]
    limit: float | None


def draw(report: Report, file: Path) -> bool:
    """Write the picture to ``file``; False when there is nothing to draw."""
    rates, costs, delays = rate_lines(report), cost_lines(report), delay_lines(report)
    margins, sizes = margin_lines(report), size_panels(report)
    heights = [
        _height(max(len(rates), len(costs))),
        _height(max(len(delays), len(margins))),
        SIZES_IN if sizes else 0.0,
    ]
    if not any(heights):
        return False
    picture = Figure(
        figsize=(WIDTH_IN, sum(heights) + 0.9),
        layout=ConstrainedLayoutEngine(wspace=0.06, hspace=0.06),
    )
    FigureCanvasAgg(picture)
    grid = picture.add_gridspec(3, 2, height_ratios=[max(height, 0.01) for height in heights])
    if rates:
        _draw_ratios(picture.add_subplot(grid[0, 0]), "Rate, higher is better", rates)
    if costs:
        axes = picture.add_subplot(grid[0, 1])
        _draw_ratios(axes, "CPU time per operation, lower is better", costs)
    if delays:
        _draw_ratios(picture.add_subplot(grid[1, 0]), "Latency, lower is better", delays)
    if margins:
        _draw_margins(picture.add_subplot(grid[1, 1]), margins)
    if sizes:
        inner = grid[2, :].subgridspec(1, len(sizes))
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
    return _lines([row for row in report.rows if row.metric in _DELAYS], is_cost=False)


def size_panels(report: Report) -> list[Bars]:
    """Return the sizes: what is neither a rate nor a latency."""
    rows = [row for row in report.rows if not row.cost_unit and row.metric not in _DELAYS]
    return [
        Bars(row.title, row.metric.unit, sizes, _limit(row, Basis.VALUE))
        for row in rows
        if (sizes := _sizes(row))
    ]


def _sizes(row: Row) -> dict[str, float]:
    spreads = _spreads({result.candidate: result.values for result in row.results})
    return {name: shown(row.metric, seen) for name, seen in spreads.items()}


def margin_lines(report: Report) -> list[Margin]:
    """Return every target that could be judged."""
    return [_margin(row, each) for row in report.rows for each in row.judgements]


def _margin(row: Row, judgement: Judgement) -> Margin:
    target, is_more = judgement.target, judgement.is_higher_better

    def share(seen: float, limit: float) -> float:
        return seen / limit if is_more else limit / max(seen, 1e-9)

    # A share of "at most" is the smaller the larger the figure: the ends change places.
    shares = sorted(
        share(seen, target.must)
        for seen in (judgement.measured.minimum, judgement.measured.maximum)
    )
    median = share(judgement.measured.median, target.must)
    beside = judgement.beside_best
    whom = "" if target.to == BASELINE else f" / {target.to}"
    if target.subject != SUBJECT:
        whom = f" ({target.subject})"
    return Margin(
        f"{row.title}{whom}",
        Spread(median, *shares),
        share(beside.median, target.stretch) if beside and target.stretch else None,
    )


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
    fitting = (
        each.must
        for each in row.targets
        if each.basis is basis and (each.subject, each.to) == (SUBJECT, BASELINE)
    )
    return next(fitting, None)


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
        min(0.45, min(seen.minimum for seen in seen_all) * 0.9),
        min(LARGEST, max(1.4, *(seen.maximum for seen in seen_all))) * 1.08,
    )
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_yticks(range(len(lines)), [line.label for line in lines])
    axes.set_xlabel(f"ratio to {BASELINE} in the same round", fontsize=SMALL, color=INK)
    axes.grid(axis="x", color=PALE, linewidth=0.8)


def _draw_spread(axes: Axes, height: float, seen: Spread, color: str) -> None:
    low, at, high = (min(each, LARGEST) for each in (seen.minimum, seen.median, seen.maximum))
    axes.plot([low, high], [height] * 2, color=color, linewidth=2.4, alpha=0.4)
    axes.plot([at], [height], "o", color=color, markersize=6)
    _note(axes, f"{seen.median:.2f}", (high, height), (6, 0), color)


def _draw_margins(axes: Axes, lines: Sequence[Margin]) -> None:
    _frame(axes, "Targets: times as good as needed")
    low, high = MARGINS
    axes.axvline(1.0, color=INK, linewidth=1.6)

    def place_of(share: float) -> float:
        return min(max(share, low), high)

    for place, line in enumerate(lines):
        reached = line.must.median >= 1.0
        color = "#2a7f62" if reached else "#c8324a"
        ends = [place_of(line.must.minimum), place_of(line.must.maximum)]
        axes.plot(ends, [place] * 2, color=color, linewidth=2.4, alpha=0.4)
        axes.plot([place_of(line.must.median)], [place], "o", color=color, markersize=6)
        if line.stretch is not None:
            at = place_of(line.stretch)
            axes.plot([at], [place], "D", color=INK, markersize=5, markerfacecolor="white")
        _note(axes, f"{line.must.median:.2f}", (ends[1], place), (6, 0), color)
    axes.set_xlim(low, high * 1.1)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_yticks(range(len(lines)), [line.label for line in lines])
    axes.set_xlabel("● of what must be, ◇ of what would be ahead of the best peer", fontsize=SMALL)
    axes.grid(axis="x", color=PALE, linewidth=0.8)


def _draw_bars(axes: Axes, panel: Bars) -> None:
    _frame(axes, fill(f"{panel.title}, {panel.unit}", TITLE_COLUMNS))
    for place, (name, seen) in enumerate(panel.sizes.items()):
        axes.bar(place, seen, width=0.62, color=_color(name))
        _note(axes, figure(seen), (place, seen), (0, 7), _color(name))
    highest = max(panel.sizes.values())
    if panel.limit is not None:
        axes.axhline(panel.limit, color=INK, linewidth=1.6)
        highest = max(highest, panel.limit)
    axes.set_xticks([])
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
    step = min(SLOT, USED / count)
    return [(number - (count - 1) / 2) * step for number in range(count)]


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
