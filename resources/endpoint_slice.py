"""EndpointSlice: a share of a Service's endpoints."""

from __future__ import annotations

from typing import Final, final

from core.record import dataclass
from resources.fields import Fields
from resources.kind import Meta

SERVICE_LABEL: Final = "kubernetes.io/service-name"

_PROTOCOLS: Final = ("TCP", "UDP", "SCTP")
_TYPES: Final = ("IPv4", "IPv6", "FQDN")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SlicePort:
    """One TCP port of a slice; without number every port is meant."""

    name: str = ""
    number: int | None = None
    app_protocol: str = ""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SliceEndpoint:
    """One endpoint; its addresses are interchangeable, the first is used."""

    addresses: tuple[str, ...]
    is_ready: bool = True
    """``conditions.ready``; unknown counts as ready."""
    hostname: str = ""
    pod: tuple[str, str] | None = None
    """Namespace and name of the Pod behind it."""
    zone: str = ""
    node_name: str = ""
    for_zones: tuple[str, ...] = ()
    """Topology hints: whom it is meant for."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSlice:
    """A slice of one address family (slices of host names hold no endpoints here)."""

    meta: Meta
    service: str = ""
    """The Service's name, in the slice's own namespace; empty: of none."""
    endpoints: tuple[SliceEndpoint, ...] = ()
    ports: tuple[SlicePort, ...] = ()


def parse_endpoint_slice(meta: Meta, body: Fields) -> EndpointSlice:
    """Read an EndpointSlice."""
    kind = body.choice("addressType", _TYPES, required=True)
    return EndpointSlice(
        meta=meta,
        service=meta.labels.get(SERVICE_LABEL, ""),
        endpoints=() if kind == "FQDN" else _endpoints(meta, body, kind),
        ports=_ports(body),
    )


def _endpoints(meta: Meta, body: Fields, kind: str) -> tuple[SliceEndpoint, ...]:
    found = []
    for fields in body.maps("endpoints"):
        addresses = fields.addresses("addresses")
        if any((":" in address) != (kind == "IPv6") for address in addresses):
            fields.problem("addresses", f"holds an address that is not {kind}")
        target = fields.map("targetRef")
        is_pod = target.text("kind") == "Pod"
        pod = (target.text("namespace", meta.namespace), target.text("name")) if is_pod else None
        hints = fields.map("hints")
        if addresses:
            found.append(
                SliceEndpoint(
                    addresses=addresses,
                    is_ready=fields.map("conditions").flag("ready", default=True),
                    hostname=fields.text("hostname"),
                    pod=pod,
                    zone=fields.text("zone"),
                    node_name=fields.text("nodeName"),
                    for_zones=tuple(each.text("name") for each in hints.maps("forZones")),
                )
            )
        else:
            fields.problem("addresses", "holds no address")
    return tuple(found)


def _ports(body: Fields) -> tuple[SlicePort, ...]:
    found = []
    for fields in body.maps("ports"):
        name, number = fields.text("name"), fields.port("port")
        app_protocol = fields.text("appProtocol")
        if fields.choice("protocol", _PROTOCOLS, "TCP") == "TCP":
            found.append(SlicePort(name=name, number=number, app_protocol=app_protocol))
    return tuple(found)
