"""NetworkAuthentication (policy.linkerd.io): networks that clients call from."""

from __future__ import annotations

from typing import final

from core.record import dataclass
from resources.fields import Fields
from resources.kind import Meta
from resources.network import NetworkRange, parse_networks


@final
@dataclass(frozen=True, slots=True)
class NetworkAuthentication:
    """A NetworkAuthentication; any of its networks will do."""

    meta: Meta
    networks: tuple[NetworkRange, ...]


def parse_network_authentication(meta: Meta, body: Fields) -> NetworkAuthentication:
    """Read a NetworkAuthentication."""
    spec = body.map("spec", required=True)
    spec.only("networks")
    return NetworkAuthentication(meta, parse_networks(spec, "networks", required=True))
