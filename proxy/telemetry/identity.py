"""The identity's families: how long leaf, issuer and anchors last, and what became of renewals.

Brought up to date at a scrape; nothing here is touched by a connection.
"""

from __future__ import annotations

from identity.anchors import short_fingerprint
from identity.generation import Generation
from identity.status import IdentityStatus
from proxy.telemetry.metric import Metrics


def count_identity(
    metrics: Metrics, generation: Generation | None, status: IdentityStatus, now: float
) -> None:
    """Put the state of our identity into its families; ``now`` in seconds since the epoch."""
    for family, done, failed in (
        (metrics.cert_refresh, status.refreshes, status.failures),
        (metrics.anchor_reload, status.reloads, status.reload_failures),
    ):
        family.child((("result", "ok"),)).value = done
        family.child((("result", "error"),)).value = failed
    metrics.identity_warnings.child().value = len(status.warnings)
    if generation is None:
        return
    metrics.cert_expiry.child().value = generation.not_after
    metrics.cert_refreshed.child().value = status.refreshed
    metrics.cert_ttl.child().value = generation.not_after - now
    if generation.authority_not_after:
        metrics.issuer_ttl.child().value = generation.authority_not_after - now
    metrics.anchor_ttl.set_all(
        {
            (("trust_domain", domain), ("fingerprint", short_fingerprint(root))): (
                generation.anchor_ends[root] - now
            )
            for domain, roots in generation.anchors.roots.items()
            for root in roots
        }
    )
