"""Service: its addresses, ports and selector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Final, final

from core.record import dataclass
from resources.fields import Fields
from resources.kind import Meta

HEADLESS: Final = "None"
"""What ``spec.clusterIP`` says of a Service without one."""

_TYPES: Final = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
_PROTOCOLS: Final = ("TCP", "UDP", "SCTP")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    """One TCP port of a Service."""

    name: str = ""
    port: int
    target: int | str
    """The pods' port: a number, or the name of a container port."""
    app_protocol: str = ""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A Service; only its TCP ports, others do not concern the mesh."""

    meta: Meta
    type: str = "ClusterIP"
    cluster_ips: tuple[str, ...] = ()
    """Empty when headless."""
    ip_families: tuple[int, ...] = ()
    """4 and 6 as given; empty when not."""
    ports: tuple[ServicePort, ...] = ()
    selector: Mapping[str, str] = field(default_factory=dict)
    is_local_only: bool = False
    """``internalTrafficPolicy: Local``: only endpoints on the client's node."""
    publishes_not_ready: bool = False

    def port(self, number: int) -> ServicePort | None:
        """Return the declared port of this number."""
        return next((port for port in self.ports if port.port == number), None)


def parse_service(meta: Meta, body: Fields) -> Service:
    """Read a Service."""
    spec = body.map("spec", required=True)
    kind = spec.choice("type", _TYPES, "ClusterIP")
    is_headless = spec.text("clusterIP") == HEADLESS
    return Service(
        meta=meta,
        type=kind,
        cluster_ips=() if is_headless or kind == "ExternalName" else _cluster_ips(spec),
        ip_families=_families(spec),
        ports=_ports(spec),
        selector=spec.text_map("selector"),
        is_local_only=spec.choice("internalTrafficPolicy", ("Cluster", "Local"), "Cluster")
        == "Local",
        publishes_not_ready=spec.flag("publishNotReadyAddresses"),
    )


def _cluster_ips(spec: Fields) -> tuple[str, ...]:
    if HEADLESS in spec.texts("clusterIPs"):
        return ()
    given = spec.addresses("clusterIPs")
    first = spec.address("clusterIP")
    return tuple(dict.fromkeys((first, *given) if first else given))


def _families(spec: Fields) -> tuple[int, ...]:
    found = []
    for given in spec.texts("ipFamilies"):
        if given not in {"IPv4", "IPv6"}:
            spec.problem("ipFamilies", f"{given[:80]!r} is neither IPv4 nor IPv6")
        else:
            found.append(int(given[-1]))
    return tuple(found)


def _ports(spec: Fields) -> tuple[ServicePort, ...]:
    found: dict[int, ServicePort] = {}
    for fields in spec.maps("ports"):
        number = fields.port("port", required=True)
        target = fields.port_or_name("targetPort")
        protocol = fields.choice("protocol", _PROTOCOLS, "TCP")
        port = (
            None
            if number is None
            else ServicePort(
                name=fields.text("name"),
                port=number,
                target=number if target is None else target,
                app_protocol=fields.text("appProtocol"),
            )
        )
        if port is None or protocol != "TCP":
            continue
        if port.port in found:
            fields.problem("port", f"{port.port} is declared twice for TCP")
        found.setdefault(port.port, port)
    return tuple(found.values())
