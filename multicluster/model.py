"""What other clusters bring in, in values: services under names of ours, gateways, addresses.

Names, labels and modes are those of Linkerd's mirror (``mirror.linkerd.io``).
"""

from __future__ import annotations

from enum import Enum
from typing import Final, final

from core.record import dataclass
from discovery.model import Address
from identity.name import Identity

MAX_CLUSTERS: Final = 63
"""Links that are followed: beside our own, as many as have their roots read."""


class ExportMode(Enum):
    """How a service of another cluster is taken in."""

    GATEWAY = "gateway"
    DIRECT = "direct"
    FEDERATED = "federated"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedService:
    """A service of other clusters as it appears here."""

    namespace: str
    name: str
    mode: ExportMode
    addresses: tuple[str, ...]
    """What it is dialled at; empty when headless."""
    members: tuple[str, ...]
    """``service@cluster`` of every part, the own cluster's as ``service``."""
    gateways: tuple[str, ...] = ()
    """Clusters whose gateway leads to their part."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A link's gateway: where it is, whom it has to prove to be, how it is asked."""

    cluster: str
    addresses: tuple[Address, ...]
    """Of its probe port; one that answers is enough."""
    identity: Identity
    trust_domain: str
    path: str
    period_s: float
    timeout_s: float
    failure_threshold: int


class GatewayLiveness(Enum):
    """What probes say of a gateway; one that never answered stays in use (mirror reference)."""

    UNPROBED = "unprobed"
    ALIVE = "alive"
    DEAD = "dead"
