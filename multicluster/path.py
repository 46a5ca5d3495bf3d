"""In which order endpoints of several clusters are tried: local first, then spilling over.

Pure, for the data plane: what is near is preferred while it is ready; of other clusters the ones
that are reached directly come before those behind a gateway. When an endpoint of another cluster
cannot be reached, a different cluster's comes next: what broke may well be the whole cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Final

from discovery.model import Endpoint, PathKind

NEAR_ATTEMPTS: Final = 2
"""How many near endpoints are tried before those of other clusters, where there are any."""

_RANK: Final = {PathKind.LOCAL: 0, PathKind.DIRECT: 1, PathKind.GATEWAY: 2}


def preferred(endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """Return the endpoints that new work is balanced over: those of the best way there is.

    Other clusters are used when no endpoint is left here, and gateways when none is reached
    directly.
    """
    if not endpoints:
        return ()
    best = min(_RANK[each.path.kind] for each in endpoints)
    return tuple(each for each in endpoints if _RANK[each.path.kind] == best)


def in_order(endpoints: Sequence[Endpoint], pick: float, attempts: int) -> tuple[Endpoint, ...]:
    """Return the endpoints to try, ``attempts`` at most; ``pick`` in [0, 1) chooses the first."""
    near = [each for each in endpoints if each.path.kind is PathKind.LOCAL]
    if len(near) == len(endpoints):
        return _from(near, pick)[:attempts]
    far: list[Endpoint] = []
    for kind in (PathKind.DIRECT, PathKind.GATEWAY):
        far += _by_cluster([each for each in endpoints if each.path.kind is kind], pick)
    first = _from(near, pick)
    return (*first[:NEAR_ATTEMPTS], *far, *first[NEAR_ATTEMPTS:])[:attempts]


def _from(endpoints: Sequence[Endpoint], pick: float) -> tuple[Endpoint, ...]:
    start = int(pick * len(endpoints))
    return (*endpoints[start:], *endpoints[:start])


def _by_cluster(endpoints: Sequence[Endpoint], pick: float) -> list[Endpoint]:
    """Take turns among clusters, the first of them as likely as it has endpoints."""
    turned = _from(endpoints, pick)
    clusters: dict[str, list[Endpoint]] = {}
    for each in turned:
        clusters.setdefault(each.path.cluster, []).append(each)
    rounds = zip_longest(*clusters.values())
    return [each for one in rounds for each in one if each is not None]
