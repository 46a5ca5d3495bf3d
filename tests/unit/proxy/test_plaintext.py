"""Which endpoints may be dialled without TLS where mutual TLS is required."""

from __future__ import annotations

import pytest

from core.errors import OUTCOMES
from discovery.model import Address, Endpoint, default_metadata
from identity.name import Identity
from policy.model import OutboundTls
from proxy.outbound.resolve import Plan, refuse_plaintext

_ADDRESS = Address("10.1.0.2", 8080)
_NAME = Identity("db.shop.serviceaccount.identity.linkerd.cluster.local")
_URI = Identity("spiffe://cluster.local/db", is_uri=True)


@pytest.mark.parametrize(
    ("mode", "endpoint", "own_ip", "refused"),
    [
        (OutboundTls.OPPORTUNISTIC, Endpoint(address=_ADDRESS), "", False),
        (OutboundTls.REQUIRED, Endpoint(address=_ADDRESS), "", True),
        (OutboundTls.REQUIRED, Endpoint(address=_ADDRESS, identity=_NAME), "", False),
        (OutboundTls.REQUIRED, Endpoint(address=_ADDRESS, identity=_URI), "", True),
        (
            OutboundTls.REQUIRED,
            Endpoint(address=_ADDRESS, identity=_URI, server_name="db.test"),
            "",
            False,
        ),
        (OutboundTls.REQUIRED, Endpoint(address=_ADDRESS), _ADDRESS.ip, False),
    ],
)
def test_only_what_would_be_plaintext_is_refused(
    mode: OutboundTls, endpoint: Endpoint, own_ip: str, refused: bool
) -> None:
    """An identity without a server name would be dialled in plaintext; our own pod always is."""
    plan = Plan(default_metadata("db"), endpoint=endpoint, tls_mode=mode)
    error = refuse_plaintext(plan, endpoint, frozenset({own_ip}))
    assert (error is not None) is refused
    if error is not None:
        assert error.code in OUTCOMES
        assert str(_ADDRESS) in str(error)
