"""What links come to: clusters, Services with names and addresses, and what is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Final, final

from rich.console import Console
from rich.table import Table

from cli.multicluster.trust import judge_trust, read_trust
from cli.output import Form, Json, write
from control.linked_offline import OfflineClusters
from core.errors import MeshError
from core.record import dataclass

_SAMPLE: Final = re.compile(r"^(\w+)\{([^}]*)\} (\d+)$", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def check(clusters: OfflineClusters, anchors: Path | None) -> tuple[Json, bool]:
    """Return all that is known, and whether nothing is wrong; ``anchors`` is a directory."""
    problems = [str(each) for each in (*clusters.mesh.problems, *clusters.problems)]
    warnings: list[str] = []
    linked: list[Json] = []
    for each in clusters.choice.followed:
        link = each.link
        linked.append(
            {
                "name": link.cluster,
                "source": link.source or None,
                "trustDomain": each.trust_domain,
                "gateways": list(link.gateway_addresses),
                "gatewayIdentity": str(link.gateway_identity or "") or None,
                "exports": len(clusters.known[link.cluster].offers.offers)
                if link.cluster in clusters.known
                else None,
            }
        )
        found = _trust(clusters, each.trust_domain, link.anchors, anchors)
        if found:
            warnings.append(f"{link.cluster}: {found}")
    services: list[Json] = []
    for one in clusters.imports.services:
        ports = clusters.ports(one)
        services.append(
            {
                "namespace": one.namespace,
                "name": one.name,
                "mode": one.mode.value,
                "addresses": list(one.addresses),
                "members": list(one.members),
                "ports": [
                    {
                        "port": port,
                        "endpoints": [
                            {"address": str(end.address), "path": end.path.kind.value}
                            for end in clusters.endpoints(one, port).endpoints
                        ],
                    }
                    for port in ports
                ],
            }
        )
    data: Json = {
        "clusters": linked,
        "services": services,
        "warnings": warnings,
        "problems": problems,
    }
    return data, not problems


def _trust(clusters: OfflineClusters, domain: str, file: str, anchors: Path | None) -> str:
    """Return what has to be said of a link's roots."""
    own = clusters.mesh.config.trust_domain
    if domain == own:
        return (
            f"trust domain {own} is ours: with its root that cluster can issue certificates for "
            "our identities"
        )
    if anchors is None:
        return ""
    try:
        far = read_trust(domain, anchors / (file or f"{domain}.pem"))
        return judge_trust(read_trust(own, anchors / f"{own}.pem"), far)
    except MeshError as error:
        return f"its roots cannot be used: {error}"


def show_check(form: Form, data: Json) -> None:
    """Print what ``check`` returned."""
    write(form, data, table=lambda: _check_table(data), short=lambda: _check_short(data))


def _check_table(data: Json) -> str:
    rows: list[tuple[str, ...]] = []
    for service in _maps(data, "services"):
        ends = [end for port in _maps(service, "ports") for end in _maps(port, "endpoints")]
        rows.append(
            (
                f"{service['namespace']}/{service['name']}",
                str(service["mode"]),
                ",".join(map(str, _list(service, "addresses"))) or "headless",
                ",".join(map(str, _list(service, "members"))),
                str(len(ends)),
            )
        )
    heading = ("SERVICE", "MODE", "ADDRESS", "MEMBERS", "ENDPOINTS")
    lines = [_table(heading, rows)] if rows else ["no Service of another cluster is here"]
    lines += [f"‼ {each}" for each in _list(data, "warnings")]
    lines += [f"× {each}" for each in _list(data, "problems")]
    return "\n".join(lines)


def _check_short(data: Json) -> str:
    names = [f"{each['namespace']}/{each['name']}" for each in _maps(data, "services")]
    return "\n".join([*names, *(f"problem {each}" for each in _list(data, "problems"))])


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayRow:
    """One linked cluster's gateway, as a sidecar sees it."""

    cluster: str
    is_alive: bool
    services: int
    latency_ms: int | None


def gateways_of(page: str, services: Mapping[str, int]) -> list[GatewayRow]:
    """Return the gateways that a sidecar's metrics tell of; ``services`` are by cluster."""
    seen: dict[str, dict[str, int]] = {}
    for name, labels, value in _SAMPLE.findall(page):
        cluster = dict(_LABEL.findall(labels)).get("target_cluster_name")
        if cluster is not None and name.startswith("gateway_"):
            seen.setdefault(cluster, {})[name] = int(value)
    return [
        GatewayRow(
            cluster=cluster,
            is_alive=found.get("gateway_alive") == 1,
            services=services.get(cluster, 0),
            latency_ms=found.get("gateway_latency") if found.get("gateway_alive") else None,
        )
        for cluster, found in sorted(seen.items())
    ]


def show_gateways(form: Form, rows: Sequence[GatewayRow]) -> None:
    """Print gateways, in Linkerd's columns."""
    data: Json = [
        {
            "clusterName": each.cluster,
            "alive": each.is_alive,
            "numberOfServices": each.services,
            "latency": each.latency_ms,
        }
        for each in rows
    ]
    cells = [
        (
            each.cluster,
            str(each.is_alive),
            str(each.services),
            "-" if each.latency_ms is None else f"{each.latency_ms}ms",
        )
        for each in rows
    ]
    heading = ("CLUSTER", "ALIVE", "NUM_SVC", "LATENCY")
    write(
        form,
        data,
        table=lambda: _table(heading, cells) if cells else "no gateway is in use",
        short=lambda: "\n".join(
            f"{each.cluster} {'alive' if each.is_alive else 'dead'}" for each in rows
        ),
    )


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    out = StringIO()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console(file=out, highlight=False, width=400).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _list(data: Json, name: str) -> Sequence[Json]:
    found = data.get(name) if isinstance(data, Mapping) else None
    return found if isinstance(found, list) else ()


def _maps(data: Json, name: str) -> list[Mapping[str, Json]]:
    return [each for each in _list(data, name) if isinstance(each, Mapping)]
