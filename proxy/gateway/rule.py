"""What a gateway may carry: no loop, only exported ports, and no plaintext to a meshed pod.

Pure. The rules are linkerd2-proxy's (app/gateway/src/), and one more: whatever the mesh knows to
have a sidecar is reached by mutual TLS or not at all.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from core.errors import RefusedError
from discovery.model import Endpoint, EndpointSet, PathKind, Target
from identity.name import Identity
from proxy.wire.transport_header import TransportHeader

_MESHED: Final = "control_plane_ns"
"""The label that endpoints of meshed pods have (Linkerd's destination controller)."""


def refuse_loop(client: Identity, own: Identity | None) -> None:
    """Raise RefusedError where a gateway is asked by itself."""
    if client == own:
        raise RefusedError(f"{client} asks itself: traffic goes round in a circle", code="loop")


def must_exported(header: TransportHeader, client: Identity, target: Target | None) -> Target:
    """Return what the header leads to. Raises RefusedError where nothing is exported there."""
    if target is None:
        raise RefusedError(
            f"{client} asks for {header.name}:{header.port}, which is not exported",
            hint="label the Service mirror.linkerd.io/exported, and declare the port",
            code="gateway-not-exported",
        )
    return target


def carried(found: EndpointSet, own_ips: frozenset[str]) -> EndpointSet:
    """Return the endpoints that may be dialled: our cluster's own, never ourselves in plaintext.

    Raises RefusedError when all there are have a sidecar and no identity to prove.
    """
    local = [
        each
        for each in found.endpoints
        if each.path.kind is PathKind.LOCAL and each.address.ip not in own_ips
    ]
    usable = [each for each in local if each.sni or not _is_meshed(each)]
    if local and not usable:
        raise RefusedError(
            f"{local[0].address} has a sidecar, but no identity or a port that skips it",
            hint="a gateway sends a meshed pod no plaintext; see skip-inbound-ports",
            code="mtls-required",
        )
    return replace(found, endpoints=tuple(usable))


def _is_meshed(endpoint: Endpoint) -> bool:
    return any(name == _MESHED for name, _ in endpoint.labels)
