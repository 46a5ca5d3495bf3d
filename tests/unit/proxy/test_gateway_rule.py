"""What a gateway may carry, as values."""

from __future__ import annotations

import pytest

from core.errors import RefusedError
from discovery.model import Address, Endpoint, EndpointSet, Path, PathKind, Target
from identity.name import Identity
from proxy.gateway.rule import carried, must_exported, refuse_loop
from proxy.wire.transport_header import TransportHeader

WHO = Identity("api.shop.serviceaccount.identity.linkerd.cluster.local")
OWN_IPS = frozenset({"10.0.0.9"})
MESHED = (("control_plane_ns", "linkerd"),)
SIDECAR = Endpoint(address=Address("10.0.0.1", 80), identity=WHO, direct_port=4143, labels=MESHED)
TRANSPARENT = Endpoint(address=Address("10.0.0.2", 80), identity=WHO, labels=MESHED)
PLAIN = Endpoint(address=Address("10.0.0.3", 80))
NAMELESS = Endpoint(address=Address("10.0.0.4", 80), labels=MESHED)
OURSELVES = Endpoint(address=Address("10.0.0.9", 80), identity=WHO)
FARTHER = Endpoint(
    address=Address("10.0.0.5", 80), identity=WHO, path=Path(PathKind.DIRECT, "south")
)


def set_of(*endpoints: Endpoint) -> EndpointSet:
    """Return a set of endpoints."""
    return EndpointSet(endpoints=endpoints)


def test_our_own_cluster_and_not_ourselves() -> None:
    """A gateway leads inwards; what is left out for that is no mistake."""
    every = set_of(SIDECAR, TRANSPARENT, PLAIN, NAMELESS, OURSELVES, FARTHER)
    assert carried(every, OWN_IPS).endpoints == (SIDECAR, TRANSPARENT, PLAIN)
    assert carried(set_of(OURSELVES, FARTHER), OWN_IPS).endpoints == ()
    assert carried(set_of(), OWN_IPS).endpoints == ()


def test_a_meshed_pod_is_not_sent_plaintext() -> None:
    """Not even where nothing else is there."""
    with pytest.raises(RefusedError) as raised:
        carried(set_of(NAMELESS), OWN_IPS)
    assert raised.value.code == "mtls-required"


def test_loops_and_exports() -> None:
    """Nobody asks itself, and only what is exported is named."""
    refuse_loop(WHO, None)
    refuse_loop(WHO, Identity("gateway.example"))
    with pytest.raises(RefusedError) as raised:
        refuse_loop(WHO, WHO)
    assert raised.value.code == "loop"
    target = Target("api.shop.svc.cluster.local", 80)
    header = TransportHeader(80, target.host)
    assert must_exported(header, WHO, target) is target
    with pytest.raises(RefusedError, match="is not exported"):
        must_exported(header, WHO, None)
