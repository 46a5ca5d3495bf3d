"""``python -m bench clusters``: the way to another cluster beside the way to a neighbour.

A client in one cluster asks the same application in its own cluster, directly in another, and
through that one's gateway, at the same pace and with several delays between the clusters. Needs
root (network namespaces). Exit status: 0 measured, whatever came out; 1 something could not be
run; 2 usage, or a part of the bench is missing.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from bench.facts import machine, versions
from bench.measure import Disturbance
from bench.place import pick_cores, pin_to, take_precedence
from bench.process import Processes
from bench.scene import Scene
from bench.spread import spread
from bench.ways import NO_DELAY, WAYS, Report, Sample, Settings, to_json
from bench.ways_plot import draw
from bench.ways_table import WIDTH, render
from cli.demo.pods import Rig
from cli.demo.runtime import find_runtime
from core.errors import ConfigError, MeshError
from redirect.options import PROXY_UID

RESULTS: Final = Path(__file__).parent / "results"
WARM_SECONDS: Final = 0.5
"""Before each measurement at most; a shorter one has as long a warm-up as itself."""
CONNECTIONS: Final = 32
"""More than the requests that are under way at the slowest: rate times delay, some 8."""


@click.command("clusters")
@click.option("--rounds", type=click.IntRange(1, 50), default=9, show_default=True)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 30),
    default=1.2,
    show_default=True,
    help="How long each measurement lasts.",
)
@click.option(
    "--rate",
    type=click.IntRange(1, 5000),
    default=300,
    show_default=True,
    help="Requests a second, the same for every way.",
)
@click.option(
    "--delay",
    "delays_ms",
    type=click.FloatRange(0, 1000),
    multiple=True,
    default=(5.0, 25.0),
    show_default=True,
    help="Milliseconds more for a round trip between the clusters, beside none; repeatable.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=RESULTS,
    show_default="bench/results",
    help="Where JSON and plot go, named by date.",
)
def main(
    rounds: int, seconds: float, rate: int, delays_ms: tuple[float, ...], output: Path
) -> None:
    """Measure ways into other clusters, beside the one to a neighbour. Needs root."""
    talk = Console(stderr=True)
    delays = tuple(sorted({NO_DELAY, *delays_ms}))
    settings = Settings(
        *(rounds, seconds, min(seconds, WARM_SECONDS), rate, CONNECTIONS, delays), take_precedence()
    )
    try:
        report = run(settings, talk)
    except MeshError as error:
        talk.print(f"bench: {error}", style="bold red", markup=False)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    Console(width=max(Console().width, WIDTH)).print(render(report))
    for file in write(report, output):
        talk.print(f"wrote {file}", markup=False, highlight=False, soft_wrap=True)


def run(settings: Settings, talk: Console) -> Report:
    """Measure every way with every delay. Raises MeshError."""
    usable = os.sched_getaffinity(0)
    cores = pick_cores(usable)
    pin_to(cores.load)
    cells: dict[tuple[float, str], list[Sample]] = {
        (delay, way): [] for delay in settings.delays_ms for way in WAYS
    }
    seen: list[Disturbance] = []
    with (
        tempfile.TemporaryDirectory(prefix="pillion-bench-", dir="/tmp") as name,
        Rig() as rig,
        Processes(Path(name)) as processes,
    ):
        place = Path(name)
        place.chmod(0o755)
        scene = Scene(rig, find_runtime(PROXY_UID, place), place, processes, cores)
        scene.start(settings.delays_ms)
        for number in range(settings.rounds):
            order = list(cells)
            if number % 2:
                order.reverse()
            for delay, way in order:
                scene.delay(delay)
                sample, disturbed = scene.measure(way, settings)
                cells[delay, way].append(sample)
                seen.append(disturbed)
            talk.print(_progress(number, settings, cells), markup=False, highlight=False)
    return Report(
        taken=datetime.now(UTC).isoformat(timespec="seconds"),
        settings=settings,
        versions=versions(),
        machine=machine(len(usable)),
        cells=cells,
        steal_percent=spread([each.steal for each in seen]),
        others_percent=spread([each.others for each in seen]),
    )


def write(report: Report, output: Path) -> list[Path]:
    """Write JSON and plot, named by date and time, into ``output``; return the files."""
    output.mkdir(parents=True, exist_ok=True)
    taken = datetime.fromisoformat(report.taken)
    data = output / f"clusters-{taken:%Y-%m-%d-%H%M%S}.json"
    data.write_text(json.dumps(to_json(report), indent=1, ensure_ascii=False) + "\n")
    picture = data.with_suffix(".png")
    draw(report, picture)
    return [data, picture]


def _progress(number: int, settings: Settings, cells: dict[tuple[float, str], list[Sample]]) -> str:
    said = [
        f"{delay:g} ms: " + " ".join(f"{way} {cells[delay, way][-1].p50_ms:.2f}" for way in WAYS)
        for delay in settings.delays_ms
    ]
    return f"round {number + 1}/{settings.rounds}  p50 in ms  " + "  ".join(said)
