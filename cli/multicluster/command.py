"""``pillion multicluster``: link clusters, see what comes of it, export Services.

Manifests go to stdout, talk to stderr. Exit status: 0 good, 1 something is wrong, 2 usage or
configuration.
"""

from __future__ import annotations

import http.client
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import click
import yaml

from cli.multicluster.exporting import WAYS, export_manifest
from cli.multicluster.linking import NAMESPACE, Wanted, link_manifest, unlink_manifests
from cli.multicluster.looking import check, gateways_of, show_check, show_gateways
from cli.multicluster.trust import judge_trust, read_trust
from cli.output import Form, Json, output_option
from control.linked_offline import OfflineClusters
from control.offline import OfflineMesh
from core.clock import SystemClock
from core.errors import ConfigError, UnreachableError
from resources.config_map import DEFAULT_CONFIG
from resources.link import DEFAULT_GATEWAY_PORT

_TIMEOUT_S = 5.0
_MAX_BYTES = 16 << 20

mesh_option = click.option(
    "--mesh",
    "directory",
    required=True,
    envvar="PILLION_MESH",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Our own mesh directory.",
)
_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group("multicluster")
def command() -> None:
    """Link clusters, look at what comes of it, export Services."""


@command.command("link")
@mesh_option
@click.option(
    "--source",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The other cluster's mesh directory, as it is mounted beside our sidecars.",
)
@click.option("--cluster-name", default="", help="What it is called here; default: clusterName.")
@click.option("--gateway", "gateways", multiple=True, help="An address of its gateway; repeatable.")
@click.option("--gateway-port", default=DEFAULT_GATEWAY_PORT, show_default=True)
@click.option("--gateway-identity", default="", help="Whom the gateway has to prove to be.")
@click.option(
    "--federated-by-gateway",
    is_flag=True,
    help="Reach its part of federated Services through the gateway too.",
)
@click.option("--anchors", type=_file, help="The other cluster's roots, as PEM.")
@click.option("--own-anchors", type=_file, help="Our own roots, as PEM.")
@click.option("--namespace", default=NAMESPACE, show_default=True, help="Where the Link goes.")
def link(  # noqa: PLR0913, PLR0917 - one parameter an option
    directory: Path,
    source: Path,
    cluster_name: str,
    gateways: tuple[str, ...],
    gateway_port: int,
    gateway_identity: str,
    federated_by_gateway: bool,  # noqa: FBT001 - click's own
    anchors: Path | None,
    own_anchors: Path | None,
    namespace: str,
) -> None:
    """Print a Link to another cluster; it goes into our own mesh directory."""
    own, far = _load(directory), _load(source)
    name = cluster_name or far.config.cluster_name
    if not cluster_name and name == DEFAULT_CONFIG.cluster_name:
        raise ConfigError(
            f"{source} does not say what its cluster is called", hint="say --cluster-name"
        )
    trust = read_trust(far.config.trust_domain, anchors)
    warning = judge_trust(read_trust(own.config.trust_domain, own_anchors), trust)
    manifest = link_manifest(
        own,
        far,
        Wanted(
            cluster=name,
            source=source,
            namespace=namespace,
            gateways=gateways,
            gateway_port=gateway_port,
            gateway_identity=gateway_identity,
            federates_by_gateway=federated_by_gateway,
            anchors="" if anchors is None else anchors.name,
        ),
    )
    if warning:
        click.echo(f"pillion: warning: {warning}", err=True)
    if trust.domain != own.config.trust_domain:
        what = anchors.name if anchors is not None else f"{trust.domain}.pem"
        click.echo(
            f"pillion: the roots of {trust.domain} have to be in anchors/{what} below "
            "PILLION_IDENTITY_DIR of every sidecar that is to talk to it",
            err=True,
        )
    _print([manifest])


@command.command("unlink")
@click.argument("cluster")
@mesh_option
def unlink(cluster: str, directory: Path) -> None:
    """Print what names the Link to CLUSTER, for `kubectl delete -f -`.

    Nothing else has to go: what was taken in lives in the sidecars alone.
    """
    _print(unlink_manifests(_load(directory), cluster))


@command.command("check")
@mesh_option
@click.option(
    "--anchors",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A sidecar's anchors/, to look at the roots too.",
)
@output_option
def check_links(directory: Path, anchors: Path | None, form: Form) -> None:
    """Show Services of other clusters with their addresses, and what is wrong."""
    data, is_good = check(OfflineClusters(str(directory), SystemClock()), anchors)
    show_check(form, data)
    raise SystemExit(0 if is_good else 1)


@command.command("gateways")
@click.option("--mesh", "directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--admin", default="127.0.0.1:4191", show_default=True, help="A sidecar's.")
@output_option
def gateways(directory: Path | None, admin: str, form: Form) -> None:
    """Show the gateways that a sidecar uses, and whether they live.

    With --mesh the Services behind each are counted.
    """
    services: Counter[str] = Counter()
    if directory is not None:
        clusters = OfflineClusters(str(directory), SystemClock())
        for each in clusters.imports.services:
            services.update(each.gateways)
    rows = gateways_of(_metrics(admin), services)
    show_gateways(form, rows)
    raise SystemExit(0 if all(each.is_alive for each in rows) else 1)


@command.command("export")
@click.argument("service", metavar="NAMESPACE/SERVICE")
@click.option(
    "--as", "way", type=click.Choice(list(WAYS)), required=True, help="none takes it back."
)
@mesh_option
def export(service: str, way: str, directory: Path) -> None:
    """Print a Service's manifest with the labels that export it."""
    namespace, slash, name = service.partition("/")
    if not (slash and namespace and name):
        raise ConfigError(f"{service[:80]!r} is no NAMESPACE/SERVICE")
    _print([export_manifest(directory, namespace, name, way)])


def _load(directory: Path) -> OfflineMesh:
    mesh = OfflineMesh(str(directory), datetime.now(UTC))
    for problem in mesh.problems:
        click.echo(f"pillion: {problem}", err=True)
    return mesh


def _print(manifests: list[Json]) -> None:
    click.echo(yaml.dump_all(manifests, Dumper=yaml.CSafeDumper, sort_keys=False), nl=False)


def _metrics(admin: str) -> str:
    host, _, port = admin.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"{admin[:80]!r} is no HOST:PORT")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read(_MAX_BYTES).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(f"{admin} does not answer: {error}") from error
    finally:
        connection.close()
