"""``pillion demo``: the mesh at work on this machine, in network namespaces or on loopback."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.demo.captured import CapturedStage
from cli.demo.clusters import ClustersStory
from cli.demo.loopback import LoopbackRig
from cli.demo.pods import Rig
from cli.demo.runtime import find_runtime, own_runtime
from cli.demo.story import Scenario, Story
from cli.demo.talk import Talk
from cli.demo.uncaptured import UncapturedStage
from cli.output import Form, Json, output_option, write
from core.errors import ConfigError
from redirect.options import PROXY_UID

_PROGRAMS: Final = {
    "curl": "curl",
    "redis-cli": "redis-tools",
    "redis-server": "redis-server",
    "setpriv": "util-linux",
}
"""Program → the Debian package that brings it."""
_ROOT_PROGRAMS: Final = {
    "ip": "iproute2",
    "iptables-nft-restore": "iptables",
    "nsenter": "util-linux",
    "tcpdump": "tcpdump",
    "unshare": "util-linux",
}
"""What pods of network namespaces need besides."""
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command()
@click.option(
    "--mode",
    type=click.Choice(["auto", "redirect", "explicit"]),
    default="auto",
    show_default=True,
    help="redirect: network namespaces with capture rules, as root. explicit: loopback addresses, "
    "without privileges. auto: redirect for root.",
)
@output_option
def command(*, mode: str, form: Form) -> None:
    """Build a mesh on this machine and show it working."""
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    is_captured = mode == "redirect" or (mode == "auto" and os.geteuid() == 0)
    look_around(is_captured=is_captured)
    talk = Talk()
    play = _play_captured if is_captured else _play_uncaptured
    try:
        with _interruptible(), _place() as place:
            scenarios = play(place, talk)
    except KeyboardInterrupt:
        talk.say("interrupted: everything that was started is ended and removed")
        sys.exit(1)
    good = sum(scenario.ok for scenario in scenarios)
    report(form, scenarios)
    talk.say(
        f"{good} of {len(scenarios)} scenarios as they should be; "
        "everything that was started is ended and removed"
    )
    sys.exit(0 if good == len(scenarios) else 1)


def _play_captured(place: Path, talk: Talk) -> list[Scenario]:
    with Rig() as rig, _clearing_up_in_peace():
        with talk.step(f"find a Python that uid {PROXY_UID} can run") as step:
            runtime = find_runtime(PROXY_UID, place)
            step.note = runtime.note or runtime.interpreter
        with talk.step("make three pods of network namespaces"):
            stage = CapturedStage(rig, runtime, place)
        return [
            *Story(stage, runtime, talk).tell(),
            *ClustersStory(rig, runtime, place, talk).tell(),
        ]


def _play_uncaptured(place: Path, talk: Talk) -> list[Scenario]:
    with LoopbackRig() as rig, _clearing_up_in_peace():
        runtime = own_runtime()
        with talk.step("find three addresses on loopback") as step:
            stage = UncapturedStage(rig, runtime, place)
            step.note = "no capture rules: the sidecars hold their pods' ports, and speak SOCKS"
        return Story(stage, runtime, talk).tell()


def look_around(*, is_captured: bool) -> None:
    """Raise ConfigError naming everything that is missing."""
    problems = []
    is_refused = is_captured and os.geteuid() != 0
    if is_refused:
        problems.append(
            f"with capture the demo runs as root, and this is uid {os.geteuid()}: its pods are "
            "network namespaces with rules, and its sidecars run under a user of their own"
        )
    programs = {**_PROGRAMS, **(_ROOT_PROGRAMS if is_captured else {})}
    missing = {program: each for program, each in programs.items() if not shutil.which(program)}
    problems += [f"{program} is not installed" for program in missing]
    if not problems:
        return
    packages = " ".join(sorted(set(missing.values())))
    hints = ["run it with sudo, or with --mode explicit"] if is_refused else []
    hints += [f"apt-get install {packages}"] if packages else []
    raise ConfigError(problems, hint=", ".join(hints))


@contextmanager
def _interruptible() -> Iterator[None]:
    """Turn a signal to end into KeyboardInterrupt, once: clearing up is not interrupted."""

    def interrupt(_: int, __: FrameType | None) -> NoReturn:
        _ignore_signals()
        raise KeyboardInterrupt

    before = {each: signal.signal(each, interrupt) for each in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _clearing_up_in_peace() -> Iterator[None]:
    """From its end on, take no signal to end: what follows is over in seconds."""
    try:
        yield
    finally:
        _ignore_signals()


def _ignore_signals() -> None:
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)


@contextmanager
def _place() -> Iterator[Path]:
    """Make a directory that every user may enter, and remove it with all that is in it."""
    # Not TMPDIR, which may lie where only root may go.
    path = Path(tempfile.mkdtemp(prefix="pillion-demo-", dir="/tmp"))
    try:
        path.chmod(0o755)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def report(form: Form, scenarios: list[Scenario]) -> None:
    """Print what was shown, in the form that was asked for."""
    write(form, _plain(scenarios), table=lambda: _table(scenarios), short=lambda: _short(scenarios))


def _plain(scenarios: list[Scenario]) -> Json:
    return {
        "scenarios": [
            {
                "name": scenario.name,
                "ok": scenario.ok,
                "path": scenario.path,
                "client_identity": scenario.client_identity or None,
                "latency_ms": None
                if scenario.latency_ms is None
                else round(scenario.latency_ms, 3),
            }
            for scenario in scenarios
        ]
    }


def _table(scenarios: list[Scenario]) -> str:
    out = StringIO()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("", "SCENARIO", "PATH", "LATENCY", "CLIENT, AS ITS SERVER'S SIDECAR SAW IT"):
        table.add_column(heading, no_wrap=True)
    for scenario in scenarios:
        latency = "-" if scenario.latency_ms is None else f"{scenario.latency_ms:.1f} ms"
        mark = "[green]√[/]" if scenario.ok else "[bold red]×[/]"
        client = scenario.client_identity or "no identity"
        table.add_row(mark, scenario.name, scenario.path, latency, client)
        for line in scenario.seen:
            table.add_row("", "", "", "", f"[dim]{escape(line)}[/]")
    Console(file=out, force_terminal=sys.stdout.isatty(), highlight=False, width=400).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _short(scenarios: list[Scenario]) -> str:
    return "\n".join(f"{'ok' if each.ok else 'failed'} {each.name}" for each in scenarios)
