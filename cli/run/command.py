"""``pillion run``: start an application with its sidecar, and end them together."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from cli.admin_address import reachable
from cli.completion import complete_pod
from cli.demo.runtime import Runtime, find_runtime
from cli.run.capture import Arrangement, by_proxy, by_redirection, proxy_environment
from cli.run.child import held_signals
from cli.run.issuer import LocalIssuer, bound, state_directory
from cli.run.session import Plan, Session
from control.offline import OfflineMesh
from core.duration import parse_duration
from core.errors import ConfigError
from core.nearest import nearest_name
from discovery.model import Address
from identity.files import make_directory
from identity.name import Identity
from proxy.config import CAPTURE, POD_IPS, PREFIX, Config, read_config
from proxy.setting import WORKLOAD

_MAX_PROBLEMS: Final = 5
_UNPRIVILEGED: Final = (
    "--clear-groups",
    "--no-new-privs",
    "--inh-caps=-all",
    "--bounding-set=-all",
)


def _who(_: click.Context, __: click.Parameter, value: str) -> tuple[str, str]:
    try:
        return WORKLOAD.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _duration(_: click.Context, __: click.Parameter, value: str) -> float:
    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--mesh",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    help="The directory of manifests that is the mesh.",
)
@click.option(
    "--as",
    "who",
    metavar="NAMESPACE/POD",
    callback=_who,
    shell_complete=complete_pod,
    required=True,
    help="Which pod this is.",
)
@click.option(
    "--authority",
    type=click.Path(path_type=Path, file_okay=False),
    help="The authority that issues identities, made when it is not there.  "
    "[default: below /var/lib/pillion or ~/.local/state/pillion, one for each mesh directory]",
)
@click.option(
    "--capture",
    type=click.Choice(["auto", "redirect", "explicit"]),
    default="auto",
    show_default=True,
    help="How connections come to the sidecar: by the rules of `pillion redirect` (as root), or "
    "without privileges, as docs/explicit.md says. auto: what PILLION_CAPTURE says, else redirect "
    "for root.",
)
@click.option(
    "--log",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the sidecar logs.  [default: NAMESPACE.POD.log beside the default authority]",
)
@click.option(
    "--wait",
    default="30s",
    show_default=True,
    callback=_duration,
    help="How long the sidecar may take to be ready.",
)
@click.argument("command_line", nargs=-1, required=True, metavar="COMMAND [ARGUMENT]…")
def command(
    *,
    mesh: Path,
    who: tuple[str, str],
    authority: Path | None,
    capture: str,
    log: Path | None,
    wait: float,
    command_line: tuple[str, ...],
) -> None:
    """Run COMMAND as a pod of a mesh, with its sidecar, without Kubernetes.

    The application starts when the sidecar is ready, gets the signals that this command gets, and
    its exit status is this command's. Settings of the sidecar are taken from the environment.
    """
    identity, manifest_ips, trust_domain = _find_pod(mesh, who)
    ips = _given_ips() or manifest_ips
    if shutil.which(command_line[0]) is None:
        raise ConfigError(f"{command_line[0]} was not found on PATH, or cannot be run")
    arrangement = by_proxy(ips) if _is_explicit(capture) else by_redirection(ips)
    state = state_directory(mesh)
    with _place() as place, held_signals():
        runtime = _runtime(arrangement, place)
        environment = {**os.environ, **runtime.environment}
        path = log or state / f"{who[0]}.{who[1]}.log"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("wb") as log_file:
            issuer = LocalIssuer(
                authority or state / "authority",
                # As ourselves, with the packages that the sidecar's user has too.
                [sys.executable, *runtime.pillion()[1:]],
                environment,
                log_file.fileno(),
            )
            issuer.prepare(trust_domain)
            issuer.keep()
            home = _credentials(place, issuer.token(str(identity)), arrangement.sidecar_uid)
            settings = {
                "PILLION_POD": "/".join(who),
                "PILLION_MESH_DIR": str(mesh.resolve()),
                "PILLION_IDENTITY_DIR": str(home),
                "PILLION_IDENTITY_NAME": str(identity),
                "PILLION_IDENTITY_SOCKET": str(issuer.socket),
                "PILLION_IDENTITY_TOKEN_FILE": str(home / "token"),
                f"{PREFIX}{CAPTURE.name}": "redirect",
                **arrangement.settings,
            }
            config = read_config({**environment, **settings})
            plan = Plan(
                issuer=issuer,
                sidecar=_as_user(runtime.pillion("proxy"), arrangement.sidecar_uid),
                sidecar_environment={**environment, **settings},
                app=command_line,
                app_environment=_app_environment(config, ips),
                admin=reachable(config.admin_listen, ips[0] if config.is_explicit else ""),
                anchors=home / "anchors",
                log=path,
                log_file=log_file.fileno(),
                ready_s=wait,
                drain_s=config.grace_period_s,
            )
            status = Session(plan).tell()
    sys.exit(status)


def _is_explicit(capture: str) -> bool:
    """Whether to do without capture rules: as asked, else as set, else by our privileges."""
    wanted = os.environ.get(f"{PREFIX}{CAPTURE.name}", "") if capture == "auto" else capture
    return wanted == "explicit" or (not wanted and os.geteuid() != 0)


def _given_ips() -> tuple[str, ...]:
    try:
        return POD_IPS.form.parse(os.environ.get(f"{PREFIX}{POD_IPS.name}", ""))
    except ValueError:
        return ()  # the settings are read below, where it is named


def _app_environment(config: Config, ips: tuple[str, ...]) -> Mapping[str, str]:
    if not config.is_explicit:
        return os.environ
    outbound = Address(ips[0], config.outbound_listen.port)
    return {**os.environ, **proxy_environment(outbound)}


def _find_pod(mesh: Path, who: tuple[str, str]) -> tuple[Identity, tuple[str, ...], str]:
    """Return the pod's identity and addresses, and the mesh's trust domain."""
    found = OfflineMesh(str(mesh), datetime.now(UTC))
    for problem in found.problems[:_MAX_PROBLEMS]:
        click.echo(f"pillion: {problem}", err=True)
    if len(found.problems) > _MAX_PROBLEMS:
        click.echo(f"pillion: and {len(found.problems) - _MAX_PROBLEMS} more problems", err=True)
    name = "/".join(who)
    workload = found.workload(*who)
    if workload is None:
        others = [f"{each.pod.meta.namespace}/{each.pod.meta.name}" for each in found.workloads]
        near = nearest_name(name, others)
        raise ConfigError(
            f"{mesh} has no usable manifest of the pod {name}",
            hint=f"did you mean {near}?" if near else "`pillion check --mesh` lists what is wrong",
        )
    if workload.identity is None:
        raise ConfigError(
            f"the pod {name} is not meshed",
            hint="annotate it, or its Namespace, with linkerd.io/inject: enabled",
        )
    if not workload.pod.ips:
        raise ConfigError(f"the manifest of the pod {name} has no address (status.podIPs)")
    return workload.identity, workload.pod.ips, found.config.trust_domain


def _runtime(arrangement: Arrangement, place: Path) -> Runtime:
    """Return what runs this program as the sidecar's user."""
    if arrangement.sidecar_uid is None:
        return Runtime(sys.executable, Path(__file__).resolve().parents[2])
    return find_runtime(arrangement.sidecar_uid, place)


def _credentials(place: Path, token: str, uid: int | None) -> Path:
    """Make the sidecar's identity directory, for its user's eyes only."""
    home = place / "identity"
    make_directory(home / "anchors")
    (home / "token").write_text(token)
    (home / "token").chmod(0o400)
    if uid is not None:
        for path in (home / "token", home / "anchors", home):
            os.chown(path, uid, uid)
    return home


def _as_user(arguments: Sequence[str], uid: int | None) -> list[str]:
    if uid is None:
        return bound(arguments)
    return bound(arguments, f"--reuid={uid}", f"--regid={uid}", *_UNPRIVILEGED)


@contextmanager
def _place() -> Iterator[Path]:
    """Make a directory that the sidecar's user may enter, and remove it with all that is in it."""
    # Not TMPDIR, which may lie where only we may go.
    path = Path(tempfile.mkdtemp(prefix="pillion-run-", dir="/tmp"))
    try:
        path.chmod(0o755)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
