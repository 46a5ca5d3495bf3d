"""``pillion identity rotate``: another root, or another issuer, without anybody noticing.

Exit status 1 when a step is not to be done now; what is in its way is said.
"""

from __future__ import annotations

import os
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from cli.authority import authority_option
from cli.output import Form, Json, output_option, write
from core.clock import SystemClock, utc_text
from identity.authority import load_authority
from identity.expiry import AUTHORITY_WARNING_S
from identity.rotate import Rotator
from identity.rotation import Phase, Rotation, Step

_PHASES = {
    Phase.IDLE: "one root issues, and no rotation is under way",
    Phase.STARTED: "a new root is made and not in the bundle yet",
    Phase.TRUSTED: "both roots are in the bundle, and leaves come from the old one",
    Phase.SWITCHED: "leaves come from the new root, and both are trusted",
}
_NEXT = {
    Step.START: "`start` makes a new root and issuer and adds the root to the bundle",
    Step.SWITCH: "`switch`, once every workload has the new root among its anchors",
    Step.FINISH: "`finish` takes the old root out of the bundle",
}


class _Steps(click.Group):
    """Lists the steps in the order in which they are taken."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the subcommands as they were added."""
        return list(self.commands)


@click.group(cls=_Steps)
def rotate() -> None:
    """Exchange the root in three steps, or the issuer in one.

    A root is trusted before anything is issued under it, and for as long as anything that was is
    in use. Between the steps the bundle in the authority's anchors/ has to reach every workload.
    """


@rotate.command()
@authority_option
@output_option
def status(*, directory: Path, form: Form) -> None:
    """Show how far a rotation has come, what comes next, and what is in its way."""
    now = _now()
    rotation = Rotator(load_authority(directory)).read(now)
    write(
        form,
        _data(rotation, now),
        table=lambda: _table(rotation, now),
        short=lambda: _short(rotation),
    )
    if rotation.broken_lines:
        click.echo(
            f"{rotation.broken_lines} lines of the ledger cannot be read; a line that was cut "
            "short belongs to a leaf that was never given out",
            err=True,
        )


@rotate.command()
@authority_option
def start(*, directory: Path) -> None:
    """Make a new root and issuer, and add the root to the bundle. Nothing issues from it yet."""
    rotation = Rotator(load_authority(directory)).start(_now())
    for root in rotation.roots:
        if root.is_new:
            click.echo(f"new root {root.fingerprint[:16]} is in {directory / 'anchors'}", err=True)
    _say_next(rotation)


@rotate.command()
@authority_option
def switch(*, directory: Path) -> None:
    """Let leaves come from the new root; those of the old one stay good until their end."""
    rotation = Rotator(load_authority(directory)).switch(_now())
    click.echo("leaves come from the new root; a running issuer takes it up by itself", err=True)
    click.echo(f"what it replaced is in {directory / 'retired'}", err=True)
    if (directory / "root.key").exists():
        click.echo(
            f"{directory / 'root.key'} is needed only to make another issuer: keep it elsewhere",
            err=True,
        )
    _say_next(rotation)


@rotate.command()
@authority_option
def finish(*, directory: Path) -> None:
    """Take the old root out of the bundle, once nothing that was issued under it is in use."""
    rotation = Rotator(load_authority(directory)).finish(_now())
    roots = ", ".join(root.fingerprint[:16] for root in rotation.roots)
    click.echo(f"trusted from now on: {roots}", err=True)
    click.echo(
        f"let the bundle reach every workload; then destroy the keys in {directory / 'retired'}",
        err=True,
    )


@rotate.command()
@authority_option
@click.option(
    "--root-key",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="The root's key.  [default: root.key in the authority's directory]",
)
def issuer(*, directory: Path, root_key: Path | None) -> None:
    """Make another issuer under the present root, and issue from it at once.

    One step is enough: the root is trusted already, and each leaf comes with its issuer.
    """
    now = _now()
    rotation = Rotator(load_authority(directory)).replace_issuer(root_key, now)
    for each in rotation.issuers:
        if each.is_current:
            click.echo(f"leaves come from the new issuer {each.fingerprint[:16]}", err=True)
    for root in rotation.roots:
        if root.issues and root.not_after - now < AUTHORITY_WARNING_S:
            click.echo(
                f"its root {root.fingerprint[:16]} ends at {utc_text(root.not_after)}, and it with "
                "it: rotate the root as well",
                err=True,
            )


def _now() -> float:
    return SystemClock().now().timestamp()


def _say_next(rotation: Rotation) -> None:
    click.echo(f"next: {_NEXT[rotation.next_step]}", err=True)
    for obstacle in rotation.obstacles(rotation.next_step):
        click.echo(f"not yet: {obstacle}", err=True)


def _short(rotation: Rotation) -> str:
    obstacles = rotation.obstacles(rotation.next_step)
    return f"{rotation.phase.value} {rotation.next_step.value} {'blocked' if obstacles else 'free'}"


def _data(rotation: Rotation, now: float) -> Json:
    return {
        "trustDomain": rotation.trust_domain,
        "phase": rotation.phase.value,
        "nextStep": rotation.next_step.value,
        "obstacles": list(rotation.obstacles(rotation.next_step)),
        "roots": [
            {
                "fingerprint": root.fingerprint,
                "subject": root.subject,
                "notAfter": utc_text(root.not_after),
                "daysLeft": round((root.not_after - now) / 86_400, 3),
                "trusted": root.is_trusted,
                "old": root.is_old,
                "new": root.is_new,
                "issues": root.issues,
            }
            for root in rotation.roots
        ],
        "issuers": [
            {
                "fingerprint": each.fingerprint,
                "current": each.is_current,
                "roots": sorted(each.roots),
                "leaves": each.leaves,
                "until": utc_text(each.until) if each.until else None,
            }
            for each in rotation.issuers
        ],
        "brokenLedgerLines": rotation.broken_lines,
    }


def _table(rotation: Rotation, now: float) -> str:
    roots = Table(box=None, pad_edge=False)
    for title in ("ROOT", "SUBJECT", "VALID UNTIL", "DAYS LEFT", "ROLE"):
        roots.add_column(title, justify="right" if title == "DAYS LEFT" else "left")
    for root in rotation.roots:
        roots.add_row(
            root.fingerprint[:16],
            root.subject,
            utc_text(root.not_after),
            f"{(root.not_after - now) / 86_400:.1f}",
            root.role,
        )
    issuers = Table(box=None, pad_edge=False)
    for title in ("ISSUER", "UNDER", "LEAVES IN USE", "UNTIL", "ROLE"):
        issuers.add_column(title, justify="right" if title == "LEAVES IN USE" else "left")
    for each in rotation.issuers:
        issuers.add_row(
            each.fingerprint[:16],
            ", ".join(sorted(name[:16] for name in each.roots)) or "unknown",
            str(each.leaves),
            utc_text(each.until) if each.until else "",
            "issues" if each.is_current else "",
        )
    console = Console(width=None if os.isatty(1) else 200, color_system=None, markup=False)
    with console.capture() as captured:
        console.print(
            f"{rotation.trust_domain}: {_PHASES[rotation.phase]}", soft_wrap=True, highlight=False
        )
        console.print(f"next: {_NEXT[rotation.next_step]}", soft_wrap=True, highlight=False)
        for obstacle in rotation.obstacles(rotation.next_step):
            console.print(f"not yet: {obstacle}", soft_wrap=True, highlight=False)
        console.print()
        console.print(roots)
        console.print()
        console.print(issuers)
    return captured.get().rstrip("\n")
