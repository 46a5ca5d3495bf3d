"""The ways between clusters as a picture: times beyond the delay, CPU, and the gateway's bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bench.plot import DPI, INK, PALE, SMALL
from bench.spread import Rounds
from bench.ways import (
    DIRECT,
    DIRECT_LIMIT,
    GATEWAY,
    GATEWAY_LIMIT,
    LOCAL,
    MESHED,
    NO_DELAY,
    Report,
    added_ms,
    beyond_delay,
    bytes_a_request,
    p50s,
)

COLORS: Final = {LOCAL: "#5b6b7b", DIRECT: "#c8324a", GATEWAY: "#3f7fb5"}
BAR: Final = 0.26
"""Width of a bar, as a share of its group."""
LOW: Final = 0.1
"""A bar lower than this share of the highest has its number above it."""
SIZE_IN: Final = (13.0, 8.0)

Values = Callable[[float, str], Sequence[float]]
"""The rounds of a delay and way."""


def draw(report: Report, file: Path) -> None:
    """Write the picture to ``file`` (PNG)."""
    picture = Figure(figsize=SIZE_IN, layout=ConstrainedLayoutEngine(wspace=0.06, hspace=0.08))
    FigureCanvasAgg(picture)
    (whole, less), (cpu, carried) = picture.subplots(2, 2)
    cells = report.cells

    def beyond(delay: float, way: str) -> list[float]:
        return _there(beyond_delay(cells, delay, way))

    _groups(
        *(whole, report, "p50, ms"),
        lambda delay, way: _there(p50s(cells, delay, way)),
        "{:.2f}",
    )
    _groups(less, report, "p50 less what the delay added, ms", beyond, "{:.2f}")
    for place, delay in enumerate(report.settings.delays_ms):
        _limit(less, place, DIRECT, DIRECT_LIMIT * median(beyond(delay, LOCAL)))
    _limit(less, 0, GATEWAY, GATEWAY_LIMIT * median(beyond(NO_DELAY, DIRECT)))
    _groups(
        *(cpu, report, "CPU time a request, all sidecars and the gateway, µs"),
        lambda delay, way: [each.cpu_total_us for each in cells[delay, way]],
        "{:.0f}",
    )
    _groups(
        *(carried, report, "Bytes through the gateway a request"),
        lambda delay, way: [bytes_a_request(cells, delay, way)],
        "{:.0f}",
    )
    marks = [Patch(color=COLORS[way], label=way) for way in MESHED]
    dots = Line2D([], [], color=INK, marker="o", markersize=3, linestyle="", label="a round")
    most = Line2D([], [], color=INK, linewidth=1.8, label="at most, by the rounds' medians")
    picture.legend(handles=[*marks, dots, most], loc="outside lower center", ncols=5, frameon=False)
    picture.suptitle(_title(report), fontsize=11, color=INK, x=0.01, ha="left")
    picture.savefig(file, dpi=DPI, facecolor="white")


def _there(rounds: Rounds) -> list[float]:
    return [each for each in rounds if each is not None]


def _groups(axes: Axes, report: Report, title: str, values: Values, shown: str) -> None:
    """Draw a group of bars for each delay: medians, with every round as a dot."""
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
    groups = [
        (place, way, values(delay, way))
        for place, delay in enumerate(report.settings.delays_ms)
        for way in MESHED
    ]
    highest = max(max(seen) for _, _, seen in groups)
    for place, way, seen in groups:
        x, height = _x(place, way), median(seen)
        axes.bar(x, height, width=BAR * 0.92, color=COLORS[way])
        if len(seen) > 1:
            axes.plot([x] * len(seen), seen, "o", color=INK, markersize=2.5, alpha=0.6)
        fits = height > highest * LOW
        axes.annotate(
            shown.format(height),
            (x, 0 if fits else max(seen)),
            (0, 4),
            textcoords="offset points",
            ha="center",
            fontsize=SMALL,
            color="white" if fits else COLORS[way],
        )
    axes.set_ylim(0, highest * 1.12 or 1)
    axes.set_xticks(range(len(report.settings.delays_ms)), _labels(report))
    axes.tick_params(axis="both", length=0, labelcolor=INK, labelsize=SMALL)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color=PALE, linewidth=0.8)
    for edge in ("top", "right", "left"):
        axes.spines[edge].set_visible(False)
    axes.spines["bottom"].set_color(PALE)


def _limit(axes: Axes, place: int, way: str, height: float) -> None:
    x = _x(place, way)
    axes.plot([x - BAR / 2, x + BAR / 2], [height] * 2, color=INK, linewidth=1.8)
    low, high = axes.get_ylim()
    axes.set_ylim(low, max(high, height * 1.08))


def _x(place: int, way: str) -> float:
    return place + (MESHED.index(way) - 1) * BAR


def _labels(report: Report) -> list[str]:
    delays = report.settings.delays_ms
    added = [median(_there(added_ms(report.cells, delay))) for delay in delays]
    return [
        "no delay" if delay == NO_DELAY else f"{delay:g} ms (added {more:.2f})"
        for delay, more in zip(delays, added, strict=True)
    ]


def _title(report: Report) -> str:
    said, settings = report.versions, report.settings
    return (
        f"HTTP/1.1 GETs between two clusters, {settings.rate} a second in an open loop; "
        f"rounds of {settings.seconds:g} s: {settings.rounds}\n"
        f"pillion {said['pillion']} {said['commit']}, core {said['pillion_core']}, "
        f"Python {said['python']}; {report.machine['cpu']}, kernel {report.machine['kernel']}"
    )
