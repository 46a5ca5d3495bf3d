"""What a Service of ours has in other clusters: endpoints by port, beside its own if it has any.

Made from links and what lies behind them, never read from a manifest.
"""

from __future__ import annotations

from typing import Final, final

from core.record import dataclass
from discovery.model import Endpoint
from resources.kind import Meta, ObjectKey

_GROUP: Final = "multicluster.pillion.dev"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """The endpoints of other clusters behind the Service of the same name."""

    meta: Meta
    endpoints: tuple[tuple[int, tuple[Endpoint, ...]], ...] = ()
    """The Service's port → ready endpoints, sorted by port."""
    local: str = ""
    """The Service of this cluster, in the same namespace, whose endpoints belong too."""
    instances: tuple[tuple[str, str], ...] = ()
    """Of a headless Service: a pod's name in it → the address of the Service that leads there."""

    def of_port(self, number: int) -> tuple[Endpoint, ...]:
        """Return the endpoints behind a port of the Service."""
        return next((found for port, found in self.endpoints if port == number), ())


def mirror_key(namespace: str, name: str) -> ObjectKey:
    """Return the key of the Mirror of a Service."""
    return ObjectKey(_GROUP, "Mirror", namespace, name)
