"""Mutual TLS required on the way out: annotation ``pillion.dev/outbound-mtls``.

On a workload it is about whatever that workload calls, on a Service about whoever calls it; a
namespace speaks for those of its workloads and Services that do not say. ``required`` means that
an endpoint without identity is never dialled: the call is refused, not sent in plaintext. Any
value but ``opportunistic`` counts as required, so that a typo fails closed.
"""

from __future__ import annotations

from typing import Final

from policy.model import OutboundTls
from resources.kind import Meta

OUTBOUND_MTLS_ANNOTATION: Final = "pillion.dev/outbound-mtls"


def outbound_tls(own: Meta | None, namespace: Meta | None) -> OutboundTls:
    """Return what an object, or else its namespace, says of mutual TLS."""
    for meta in (own, namespace):
        said = meta.annotations.get(OUTBOUND_MTLS_ANNOTATION) if meta is not None else None
        if said is not None:
            is_open = said == OutboundTls.OPPORTUNISTIC.value
            return OutboundTls.OPPORTUNISTIC if is_open else OutboundTls.REQUIRED
    return OutboundTls.OPPORTUNISTIC


def strictest(*modes: OutboundTls) -> OutboundTls:
    """Return required where one of them is."""
    return OutboundTls.REQUIRED if OutboundTls.REQUIRED in modes else OutboundTls.OPPORTUNISTIC
