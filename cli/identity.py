"""``pillion identity``: the authority of a trust domain, and what it gives to workloads."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeVar

import click
from rich.console import Console
from rich.table import Table

from cli.authority import authority_option
from cli.output import Form, output_option, write
from cli.rotate import rotate
from control.bootstrap import write_material
from control.dev_issuer import SWITCH, open_dev_issuer
from control.issuer_client import IssuerClient
from control.issuer_server import IssuerServer
from control.reminder import Reminder
from core.clock import Clock, SystemClock, utc_text
from core.duration import parse_duration
from core.errors import ConfigError
from identity.authority import (
    DEFAULT_CONTROL_NAMESPACE,
    DEFAULT_TRUST_DOMAIN,
    Authority,
    init_authority,
    load_authority,
)
from identity.certify import Certifier
from identity.describe import Described, describe
from identity.files import make_directory, replace
from identity.generation import Generation, build_generation
from identity.material import Material
from identity.name import Identity
from identity.pem import join_pem
from identity.request import Certified

SOCKET_NAME: Final = "issuer.sock"
_LOOK_S: Final = 60.0
"""How often the issuer looks at what is about to end."""

Command = TypeVar("Command", bound=Callable[..., object])


def _duration(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _socket_option(command: Command) -> Command:
    return click.option(
        "--socket",
        "socket_path",
        type=click.Path(path_type=Path),
        default=None,
        help=f"The issuer's socket.  [default: {SOCKET_NAME} in the authority's directory]",
    )(command)


@click.group()
def command() -> None:
    """Identities of a trust domain: make the authority, issue, look, rotate."""


command.add_command(rotate)


@command.command()
@authority_option
@click.option("--trust-domain", default=DEFAULT_TRUST_DOMAIN, show_default=True)
@click.option("--control-namespace", default=DEFAULT_CONTROL_NAMESPACE, show_default=True)
def init(*, directory: Path, trust_domain: str, control_namespace: str) -> None:
    """Make a root (10 years), an issuer (1 year) and a token secret."""
    authority = init_authority(
        directory,
        trust_domain=trust_domain,
        control_namespace=control_namespace,
        now=SystemClock().now().timestamp(),
    )
    click.echo(f"made the authority of {authority.trust_domain} in {directory}", err=True)
    click.echo(
        f"{authority.root_key} is needed only to make another issuer: keep it elsewhere", err=True
    )


@command.command()
@authority_option
@_socket_option
@click.option("--lifetime", default="24h", show_default=True, callback=_duration)
@click.option("--skew", default="20s", show_default=True, callback=_duration)
def serve(*, directory: Path, socket_path: Path | None, lifetime: float, skew: float) -> None:
    """Issue certificates on a Unix socket, to whoever brings a workload's token."""
    authority = load_authority(directory)
    certifier = Certifier(
        authority,
        warn=lambda message: _log("warn", message),
        lifetime=timedelta(seconds=lifetime),
        skew=timedelta(seconds=skew),
    )
    ends = certifier.check(SystemClock().now().timestamp())
    path = socket_path or directory / SOCKET_NAME
    what = f"issuing for {authority.trust_domain} on {path}, until {utc_text(ends)}"
    asyncio.run(_serve(path, certifier, what))


async def _serve(path: Path, certifier: Certifier, what: str) -> None:
    clock, loop = SystemClock(), asyncio.get_running_loop()
    server = IssuerServer(
        path, lambda request: certifier.certify(request, clock.now().timestamp()), _log
    )
    _log("info", what)
    running = asyncio.current_task()
    if running is None:
        raise RuntimeError("no task runs")
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run())
            tasks.create_task(_remind(certifier, clock))
    except asyncio.CancelledError:
        _log("info", "the issuer ends")
    finally:
        server.close()


async def _remind(certifier: Certifier, clock: Clock) -> None:
    """Log what is about to end, and that nothing is issued, when it begins and every day."""
    reminder = Reminder(lambda warning: _log("warn", warning))
    while True:
        now = clock.now().timestamp()
        reminder.remind(certifier.warnings(now), now)
        await asyncio.sleep(_LOOK_S)


@command.command()
@click.argument("who", required=False)
@authority_option
@_socket_option
@click.option("--token", "token_for", metavar="WHO", help="Print WHO's token instead of a leaf.")
@click.option(
    "--expires", default=None, callback=_duration, help="How long the token is good.  [for ever]"
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where key, chain and anchors go; a key that is there is kept.",
)
def issue(
    *,
    who: str | None,
    directory: Path,
    socket_path: Path | None,
    token_for: str | None,
    expires: float | None,
    out: Path | None,
) -> None:
    """Issue a leaf to WHO, or print WHO's token.

    WHO is NAMESPACE/SERVICE-ACCOUNT, or an identity in full. A leaf comes from the running
    issuer; with PILLION_DEV_ISSUER=1 from this process.
    """
    if (who is None) == (token_for is None):
        raise ConfigError("issue takes either WHO with --out, or --token WHO")
    authority = load_authority(directory)
    now = SystemClock().now().timestamp()
    if token_for is not None:
        identity = authority.identity_of(token_for)
        click.echo(authority.create_token(identity, int(now + expires) if expires else 0))
        return
    if out is None or expires is not None:
        raise ConfigError("issue WHO needs --out DIR, and --expires goes with --token")
    identity = authority.identity_of(who or "")
    generation = _issue_leaf(authority, identity, out, socket_path or directory / SOCKET_NAME)
    click.echo(f"{identity}: key, chain and anchors in {out}", err=True)
    click.echo(f"valid until {utc_text(generation.not_after)}", err=True)


def _issue_leaf(authority: Authority, identity: Identity, out: Path, path: Path) -> Generation:
    clock = SystemClock()
    anchors = authority.load_anchors()
    material = Material(out)
    make_directory(material.anchors)
    write_material(out, identity)
    certify: Callable[[bytes, bytes], Awaitable[Certified]]
    if os.environ.get(SWITCH) == "1":
        certify = open_dev_issuer(
            authority.directory, out, identity, environment=os.environ, clock=clock, log=_log
        )
    else:
        certify = IssuerClient(path, identity).certify
    token = authority.create_token(identity).encode()
    certified = asyncio.run(_ask(certify, material.read_csr(), token))
    chain = (certified.leaf, *certified.intermediates)
    generation = build_generation(
        leaf_chain_der=chain,
        key_path=material.key,
        anchors=anchors,
        identity=identity,
        now=clock.now().timestamp(),
    )
    for domain, roots in anchors.roots.items():
        replace(material.anchors / f"{domain}.pem", join_pem(sorted(roots)), mode=0o644)
    replace(material.chain, join_pem(chain), mode=0o644)
    return generation


async def _ask(
    certify: Callable[[bytes, bytes], Awaitable[Certified]], csr: bytes, token: bytes
) -> Certified:
    return await certify(csr, token)


@command.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@output_option
@click.pass_context
def inspect(context: click.Context, *, path: Path, form: Form) -> None:
    """Show the certificates of a file, or of every file below a directory; never a key.

    Exit status 1 when one is not in force or cannot be read.
    """
    now = SystemClock().now().timestamp()
    found, problems = describe(path)
    rows = [_row(each, now) for each in found]
    write(
        form,
        {"certificates": rows, "problems": problems},
        table=lambda: _table(found, now),
        short=lambda: "\n".join(
            f"{', '.join(each.names) or each.subject} {each.state(now)} {each.days_left(now):.1f}d"
            for each in found
        ),
    )
    for problem in problems:
        click.echo(problem, err=True)
    if problems or any(each.state(now) != "valid" for each in found):
        context.exit(1)


def _row(each: Described, now: float) -> dict[str, bool | int | float | str | list[str]]:
    return {
        "file": each.file,
        "position": each.position,
        "subject": each.subject,
        "names": list(each.names),
        "issuer": each.issuer,
        "authority": each.is_authority,
        "serial": each.serial,
        "fingerprint": each.fingerprint,
        "notBefore": utc_text(each.not_before),
        "notAfter": utc_text(each.not_after),
        "daysLeft": round(each.days_left(now), 3),
        "state": each.state(now),
    }


def _table(found: list[Described], now: float) -> str:
    table = Table(box=None, pad_edge=False)
    for title in ("FILE", "SUBJECT AND NAMES", "ISSUER", "VALID UNTIL", "DAYS LEFT", "STATE"):
        table.add_column(title, justify="right" if title == "DAYS LEFT" else "left")
    for each in found:
        who = [each.subject, *each.names]
        table.add_row(
            f"{each.file}:{each.position}",
            "\n".join(text for text in who if text),
            each.issuer,
            utc_text(each.not_after),
            f"{each.days_left(now):.1f}",
            f"{each.state(now)}{', authority' if each.is_authority else ''}",
        )
    console = Console(width=None if os.isatty(1) else 200, color_system=None, markup=False)
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip("\n")


def _log(level: str, message: str) -> None:
    click.echo(f"{utc_text(SystemClock().now().timestamp())} {level}: {message}", err=True)
