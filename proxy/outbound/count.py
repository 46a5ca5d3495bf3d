"""Where outbound connections are counted: slots looked up once for all that are alike."""

from __future__ import annotations

from typing import Final, final

from core.record import dataclass
from discovery.model import Address, Endpoint, Labels, Metadata, Target
from identity.name import Identity
from proxy.telemetry.metric import (
    Metrics,
    dst_labels,
    parent_labels,
    route_labels,
    target_labels,
)
from proxy.telemetry.slot import Histogram, Slot
from proxy.telemetry.transport import Cache, SideSlots

_NEAR_TLS: Final[Labels] = (("tls", "no_identity"), ("no_tls_reason", "loopback"))
_ROUTE_ERRORS: Final = {
    "forbidden-destination": "forbidden",
    "no-endpoints": "invalid_backend",
    "policy-invalid": "invalid_policy",
}
"""Our codes as Linkerd's labels name them; any other is ``unexpected``."""


@final
@dataclass(frozen=True, slots=True)
class Kind:
    """What makes outbound connections alike."""

    destination: Address
    parent: Metadata
    route: Metadata
    target: Target | None
    """The Service's name and port that the endpoint was resolved from."""
    labels: Labels
    """Of that Service's endpoints together."""
    endpoint: Endpoint
    server: Identity | None
    no_tls_reason: str

    @property
    def tls(self) -> Labels:
        """The TLS_CONNECT fragment."""
        if self.server is not None:
            return (("tls", "true"), ("server_id", self.server.name))
        return (("tls", "no_identity"), ("no_tls_reason", self.no_tls_reason))


@final
@dataclass(frozen=True, slots=True)
class Counted:
    """The slots of one kind."""

    near: SideSlots
    far: SideSlots
    opened: Slot
    life: Histogram
    connect: Histogram
    protocol: Slot


@final
@dataclass(frozen=True, slots=True)
class CountedHttp:
    """The slots of the workload's HTTP connections to one destination."""

    near: SideSlots
    life: Histogram
    protocol: Slot


@final
class OutboundCounts:
    """The outbound families of one sidecar."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._counted: Cache[Kind, Counted] = Cache()
        self._https: Cache[tuple[Address, Metadata, str], CountedHttp] = Cache()

    def of(self, kind: Kind) -> Counted:
        """Return where a connection of this kind is counted."""
        found = self._counted.get(kind)
        return found if found is not None else self._counted.put(kind, self._make(kind))

    def http(self, destination: Address, parent: Metadata, protocol: str) -> CountedHttp:
        """Return where the near side of HTTP connections is counted."""
        key = (destination, parent, protocol)
        found = self._https.get(key)
        if found is not None:
            return found
        direction = ("direction", "outbound")
        labels = (direction, ("peer", "src"), *target_labels(destination), *_NEAR_TLS)
        parents = parent_labels(parent)
        return self._https.put(
            key,
            CountedHttp(
                SideSlots(self._metrics, labels),
                self._metrics.life_seconds.child((direction, *parents)),
                self._metrics.protocols.child((("protocol", protocol), *parents)),
            ),
        )

    def closed(
        self, destination: Address, parent: Metadata, route: Metadata, code: str | None
    ) -> None:
        """Count a connection that its route has done with; ``code`` is None for an orderly end."""
        error = "" if code is None else _ROUTE_ERRORS.get(code, "unexpected")
        labels = (*_routed(destination, parent, route), ("error", error))
        self._metrics.route_close.child(labels).value += 1

    def never_opened(
        self, destination: Address, parent: Metadata, route: Metadata, code: str
    ) -> None:
        """Count a connection that its route took up and could not carry."""
        self._metrics.route_open.child(_routed(destination, parent, route)).value += 1
        self.closed(destination, parent, route, code)

    def _make(self, kind: Kind) -> Counted:
        metrics, endpoint = self._metrics, kind.endpoint
        direction = ("direction", "outbound")
        src = (direction, ("peer", "src"), *target_labels(kind.destination), *_NEAR_TLS)
        authority = () if kind.target is None else (("authority", str(kind.target)),)
        dst = (
            *(direction, ("peer", "dst"), *authority, *target_labels(endpoint.address)),
            *(*kind.tls, *dst_labels(kind.labels, endpoint.labels)),
        )
        parent = parent_labels(kind.parent)
        locality = dict(endpoint.labels).get("zone_locality", "unknown")
        return Counted(
            near=SideSlots(metrics, src),
            far=SideSlots(metrics, dst, locality),
            opened=metrics.route_open.child(_routed(kind.destination, kind.parent, kind.route)),
            life=metrics.life_seconds.child((direction, *parent)),
            connect=metrics.connect_seconds.child((direction, kind.tls[0])),
            protocol=metrics.protocols.child((("protocol", "opaq"), *parent)),
        )


def _routed(destination: Address, parent: Metadata, route: Metadata) -> Labels:
    target = (("target_ip", destination.ip), ("target_port", str(destination.port)))
    return (*parent_labels(parent), *route_labels(route), *target)
