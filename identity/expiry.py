"""What is about to end, in sentences: leaf, issuers, anchors. Pure; time is an argument.

A sentence stays the same until things change, so that it can be compared and repeated daily.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from core.clock import utc_text
from identity.anchors import short_fingerprint
from identity.generation import Generation

AUTHORITY_WARNING_S: Final = 60 * 86_400.0
"""How long before its end an authority is warned about (``linkerd check``)."""
LEAF_WARNING_AT: Final = 0.9
"""The part of its life after which a leaf should long have been renewed."""
_ROTATE: Final = "replace it with `pillion identity rotate`"


def leaf_warnings(generation: Generation, now: float) -> Iterator[str]:
    """Yield what is to be said about a sidecar's own leaf and the issuers above it.

    ``now`` is in seconds since the epoch.
    """
    lifetime = generation.not_after - generation.not_before
    if now >= generation.not_after:
        yield (
            f"our certificate ended at {utc_text(generation.not_after)} and was not renewed: "
            "peers refuse us"
        )
    elif now >= generation.not_before + lifetime * LEAF_WARNING_AT:
        yield (
            f"our certificate ends at {utc_text(generation.not_after)} and is not renewed, with "
            "nine tenths of its life gone"
        )
    end = generation.authority_not_after
    if end and end - now < AUTHORITY_WARNING_S:
        yield authority_warning("the issuer of our certificate", end, now)


def anchor_warnings(generation: Generation, now: float) -> Iterator[str]:
    """Yield what is to be said about the ends of trust anchors; ``now`` since the epoch."""
    for domain, roots in sorted(generation.anchors.roots.items()):
        for root in sorted(roots):
            end = generation.anchor_ends[root]
            if end - now < AUTHORITY_WARNING_S:
                what = f"the trust anchor {short_fingerprint(root)} of {domain}"
                yield authority_warning(what, end, now)


def authority_warning(what: str, end: float, now: float) -> str:
    """Return the sentence about an authority that ends in less than ``AUTHORITY_WARNING_S``."""
    if now >= end:
        return f"{what} ended at {utc_text(end)}: nothing under it is believed; {_ROTATE}"
    return f"{what} ends at {utc_text(end)}, in less than 60 days; {_ROTATE}"
