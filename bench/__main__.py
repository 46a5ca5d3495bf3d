"""``python -m bench``: measure, show the table, write JSON and plot.

Exit status: 0 measured, whatever came out; 1 something could not be run; 2 usage, or a part of
the bench itself is missing.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from bench.candidate import Candidate, Carried, Stage
from bench.certificate import make_credentials
from bench.clusters import main as clusters
from bench.facts import machine, versions
from bench.footprint import PASSES, measure_footprints
from bench.greeter import measure_first_bytes
from bench.haproxy import Haproxy
from bench.loadtool import start_backend
from bench.measure import rows_of, run_rounds
from bench.nginx import Nginx
from bench.place import pick_cores, pin_to, reserve_addresses
from bench.plot import draw
from bench.process import Processes, end_by_clean_up
from bench.record import RESULTS, write_json
from bench.result import Report, Settings, to_json
from bench.sidecar import Pillion
from bench.spread import spread
from bench.startup import PASSES as STARTS
from bench.startup import measure_starts
from bench.stunnel import Stunnel
from bench.table import render
from bench.work import FIRST_BYTE, FOOTPRINT, START_UP, WORKS
from core.errors import ConfigError, MeshError

CANDIDATES: Final[tuple[Candidate, ...]] = (
    Haproxy(),
    Haproxy("haproxy-h2", upgrades=True),
    Haproxy("haproxy-splice", splices=True),
    Nginx(),
    Stunnel(),
    Pillion(),
    Pillion("pillion-h1", upgrades=False),
)
WORK_KEYS: Final = (*(work.key for work in WORKS), FIRST_BYTE, FOOTPRINT, START_UP)
JUDGED_KEYS: Final = (*(work.key for work in WORKS if work.targets), *WORK_KEYS[len(WORKS) :])
"""Rows that have a target."""
WARM_SECONDS: Final = 0.4
BRIEF: Final = Settings(rounds=5, seconds=0.6, warm_seconds=WARM_SECONDS)
FULL: Final = Settings(rounds=7, seconds=1.2, warm_seconds=WARM_SECONDS)
TABLE_WIDTH: Final = 176
"""Columns below which the table would break its lines; a narrower terminal does that itself."""
DESCRIPTORS: Final = 8192
"""Open files a process of the run may need: 1,000 idle connections take a hop 2,000."""


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    subcommand_metavar="[clusters [OPTIONS]]",
)
@click.option("--full", is_flag=True, help="Rows without a target as well, and more of each.")
@click.option(
    "--rounds", type=click.IntRange(1, 50), default=None, show_default="5, of a full run 7"
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 30),
    default=None,
    show_default="0.6, of a full run 1.2",
    help="How long each measurement lasts.",
)
@click.option(
    "--only", multiple=True, type=click.Choice(WORK_KEYS), help="Only this work; repeatable."
)
@click.option(
    "--candidate",
    "names",
    multiple=True,
    type=click.Choice([candidate.name for candidate in CANDIDATES]),
    help="Only this candidate; repeatable.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=RESULTS,
    show_default="bench/results",
    help="Where JSON and plot go, named by date.",
)
@click.pass_context
def main(
    context: click.Context,
    *,
    full: bool,
    rounds: int | None,
    seconds: float | None,
    only: tuple[str, ...],
    names: tuple[str, ...],
    output: Path,
) -> None:
    """Measure pillion beside haproxy, nginx and stunnel on this machine, on loopback."""
    end_by_clean_up()
    if context.invoked_subcommand is not None:
        return
    talk = Console(stderr=True)
    usual = FULL if full else BRIEF
    settings = Settings(rounds or usual.rounds, seconds or usual.seconds, WARM_SECONDS)
    chosen = [candidate for candidate in CANDIDATES if not names or candidate.name in names]
    try:
        report = run(chosen, only or (WORK_KEYS if full else JUDGED_KEYS), settings, talk)
    except MeshError as error:
        talk.print(f"bench: {error}", style="bold red", markup=False)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    Console(width=max(Console().width, TABLE_WIDTH)).print(render(report))
    for file in write(report, output):
        talk.print(f"wrote {file}", markup=False, highlight=False, soft_wrap=True)
    sys.exit(1 if report.failures else 0)


def run(
    candidates: Sequence[Candidate], keys: Sequence[str], settings: Settings, talk: Console
) -> Report:
    """Measure what is named by ``keys``. Raises ConfigError when no candidate can be run."""
    lacking = {candidate.name: candidate.missing() for candidate in candidates}
    absent = tuple(reason for reason in lacking.values() if reason)
    present = [candidate for candidate in candidates if not lacking[candidate.name]]
    if not present:
        raise ConfigError(list(absent))
    usable = os.sched_getaffinity(0)
    cores = pick_cores(usable)
    _raise_descriptors()
    pin_to(cores.load)

    def say(line: str) -> None:
        talk.print(line, markup=False, highlight=False, soft_wrap=True)

    if cores.are_shared:
        say("one core only: the load takes time from the hops; figures say little")
    works = [work for work in WORKS if work.key in keys]
    with (
        tempfile.TemporaryDirectory(prefix="pillion-bench-") as temporary,
        Processes(Path(temporary)) as processes,
    ):
        directory = Path(temporary)
        stage = Stage(
            directory, cores, make_credentials(directory), processes, reserve_addresses(1)[0]
        )
        start_backend(stage)
        findings = run_rounds(stage, present, works, settings, say)
        rows = rows_of(works, findings)
        present = [each for each in present if Carried.OPAQUE in each.carries]
        if FIRST_BYTE in keys:
            more, failures = measure_first_bytes(stage, present, settings.rounds, say)
            rows += more
            findings.failures += failures
        if FOOTPRINT in keys:
            more, failures = measure_footprints(stage, present, min(settings.rounds, PASSES), say)
            rows += more
            findings.failures += failures
        if START_UP in keys:
            more, failures = measure_starts(stage, present, max(settings.rounds, STARTS), say)
            rows += more
            findings.failures += failures
    return Report(
        taken=datetime.now(UTC).isoformat(timespec="seconds"),
        settings=settings,
        versions=versions(),
        machine=machine(len(usable)),
        tls=findings.tls,
        rows=tuple(rows),
        steal_percent=spread([each.steal for each in findings.disturbances]),
        others_percent=spread([each.others for each in findings.disturbances]),
        errors=findings.errors,
        failures=tuple(findings.failures),
        absent=absent,
    )


def write(report: Report, output: Path) -> list[Path]:
    """Write JSON and plot, named by date and time, into ``output``; return the files."""
    taken = datetime.fromisoformat(report.taken)
    data = output / f"{taken:%Y-%m-%d-%H%M%S}.json"
    write_json(data, to_json(report))
    picture = data.with_suffix(".png")
    return [data, picture] if draw(report, picture) else [data]


def _raise_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS:
        raise ConfigError(
            f"a process may open {hard} files, want {DESCRIPTORS}", hint="ulimit -Hn 8192, as root"
        )
    if soft < DESCRIPTORS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))


main.add_command(clusters)

if __name__ == "__main__":
    main()
