"""``pillion check``: groups of checks, each with what was seen and what helps."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import click

from cli.admin_address import reachable
from cli.check.finding import Check, Finding, Result, bad, good
from cli.check.host import capture_checks, machine_checks, port_checks
from cli.check.identity import AuthorityChecks, WorkloadChecks, issuer_check
from cli.check.mesh import MeshChecks
from cli.check.report import as_data, as_short, as_table, worst
from cli.check.sidecar import SidecarChecks
from cli.check.subject import ADMIN, Subject
from cli.completion import complete_pod
from cli.output import Form, output_option, write
from control.offline import OfflineMesh
from core.clock import SystemClock
from core.errors import ConfigError
from discovery.model import Address
from identity.authority import DEFAULT_TRUST_DOMAIN
from proxy.config import (
    CAPTURE,
    IDENTITY_DIR,
    IDENTITY_SOCKET,
    MESH_DIR,
    PREFIX,
    Config,
    is_ours,
    read_config,
)
from proxy.setting import ADDRESS, WORKLOAD, Setting
from redirect.options import INBOUND_PORT, OUTBOUND_PORT

Groups = Iterator[tuple[str, Iterable[Check]]]


def _who(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, str] | None:
    try:
        return None if value is None else WORKLOAD.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _address(_: click.Context, __: click.Parameter, value: str | None) -> Address | None:
    try:
        return None if value is None else ADDRESS.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@click.option(
    "--mesh", type=click.Path(path_type=Path), help="The mesh directory.  [PILLION_MESH_DIR]"
)
@click.option(
    "--as",
    "who",
    metavar="NAMESPACE/POD",
    callback=_who,
    shell_complete=complete_pod,
    help="Our pod in it.  [PILLION_POD]",
)
@click.option("--authority", type=click.Path(path_type=Path), help="The authority's directory.")
@click.option(
    "--socket", type=click.Path(path_type=Path), help="The issuer's.  [PILLION_IDENTITY_SOCKET]"
)
@click.option(
    "--identity-dir",
    type=click.Path(path_type=Path),
    help="The workload's key and anchors.  [PILLION_IDENTITY_DIR]",
)
@click.option(
    "--admin",
    metavar="IP:PORT",
    callback=_address,
    help="The sidecar's admin port.  [PILLION_ADMIN_LISTEN_ADDR]",
)
@click.option(
    "--capture",
    type=click.Choice(["redirect", "explicit"]),
    help="How connections come to the sidecar; explicit: not by rules.  [PILLION_CAPTURE]",
)
@click.option("--pre", is_flag=True, help="Check what a sidecar needs that is still to be started.")
@output_option
@click.pass_context
def command(  # noqa: PLR0913  options by name
    context: click.Context,
    *,
    mesh: Path | None,
    who: tuple[str, str] | None,
    authority: Path | None,
    socket: Path | None,
    identity_dir: Path | None,
    admin: Address | None,
    capture: str | None,
    pre: bool,
    form: Form,
) -> None:
    """Check what a mesh on this machine needs: directory, identities, capture, sidecar, machine.

    What is neither named nor set in the environment is not checked. Exit status 0 with nothing
    worse than warnings, 1 with an error, 2 for a mistake in the arguments.
    """
    environment = os.environ
    config, problems = _read(environment)
    mesh = mesh or _path(environment, MESH_DIR)
    who = who or ((config.pod_namespace, config.pod_name) if config else None)
    capture = capture or environment.get(f"{PREFIX}{CAPTURE.name}", "")
    is_explicit = capture == "explicit"
    own_ip = _own_ip(config, mesh, who) if is_explicit else ""
    subject = Subject(
        now=SystemClock().now().timestamp(),
        is_before=pre,
        mesh=mesh,
        who=who,
        authority=authority,
        socket=socket or _path(environment, IDENTITY_SOCKET),
        identity_dir=identity_dir or _path(environment, IDENTITY_DIR),
        inbound_port=config.inbound_listen.port if config else INBOUND_PORT,
        outbound_port=config.outbound_listen.port if config else OUTBOUND_PORT,
        admin=admin or (reachable(config.admin_listen if config else ADMIN, own_ip)),
        is_explicit=is_explicit,
        own_ip=own_ip,
        problems=problems,
    )
    found = [
        (name, [(check, check.run()) for check in checks]) for name, checks in _groups(subject)
    ]
    write(form, as_data(found), table=lambda: as_table(found), short=lambda: as_short(found))
    if worst(found) is Result.BAD:
        context.exit(1)


def _groups(subject: Subject) -> Groups:
    """Yield each group, once what is before it has been looked at."""
    trust_domain = DEFAULT_TRUST_DOMAIN
    if subject.problems is not None:
        yield "settings", [_settings_check(subject.problems)]
    if subject.mesh is not None:
        mesh = MeshChecks(subject.mesh, subject.who, subject.now)
        yield "mesh", mesh
        trust_domain = mesh.trust_domain
    identity: list[Check] = []
    if subject.authority is not None:
        identity += AuthorityChecks(subject.authority, subject.now)
    if subject.socket is not None:
        identity.append(issuer_check(subject.socket))
    if subject.identity_dir is not None:
        identity += WorkloadChecks(subject.identity_dir, trust_domain, subject.now)
    if identity:
        yield "identity", identity
    if not subject.is_explicit:
        yield "capture", capture_checks(subject)
    yield "ports", port_checks(subject)
    if not subject.is_before:
        yield "sidecar", SidecarChecks(subject.admin)
    yield "machine", machine_checks()


def _own_ip(config: Config | None, mesh: Path | None, who: tuple[str, str] | None) -> str:
    """Return the address that our sidecar holds without capture rules; empty: unknown."""
    if config is not None and config.pod_ips:
        return config.pod_ips[0]
    if mesh is None or who is None or not mesh.is_dir():
        return ""
    workload = OfflineMesh(str(mesh), SystemClock().now()).workload(*who)
    return workload.pod.ips[0] if workload is not None and workload.pod.ips else ""


def _settings_check(problems: Sequence[str]) -> Check:
    def look() -> Finding:
        if problems:
            return bad(*problems, remedy="correct what each line names; docs/configuration.md")
        return good()

    return Check("settings", "the sidecar's settings in the environment can be used", look)


def _read(environment: Mapping[str, str]) -> tuple[Config | None, tuple[str, ...] | None]:
    """Return the settings, or what is wrong with them; neither where there are none."""
    if not any(is_ours(name, text) for name, text in environment.items()):
        return None, None
    try:
        return read_config(environment), ()
    except ConfigError as error:
        return None, tuple(error.problems)


def _path(environment: Mapping[str, str], setting: Setting[Path]) -> Path | None:
    text = environment.get(f"{PREFIX}{setting.name}", "")
    return Path(text) if text else None
