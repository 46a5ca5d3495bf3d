"""Endpoints and balancers for tests, with a chance that is drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable

from discovery.model import Address, Endpoint, Path, PathKind
from policy.model import FailureAccrual
from proxy.outbound.balancer import Balancer, Balancing
from proxy.outbound.pick import Pick
from proxy.telemetry.balancer import BalancerSlots


def endpoint(number: int, *, cluster: str = "") -> Endpoint:
    """Return the endpoint of this number (0 to 65535), in a cluster."""
    path = Path(PathKind.DIRECT, cluster) if cluster else Path()
    address = Address(f"10.1.{number >> 8}.{number & 255}", 8080)
    return Endpoint(address=address, path=path)


def balancer(
    *endpoints: Endpoint,
    reserve: tuple[Endpoint, ...] = (),
    accrual: FailureAccrual | None = None,
    by_connection: bool = False,
    slots: BalancerSlots | None = None,
    chance: Callable[[], float] | None = None,
) -> Balancer:
    """Return a balancer over these endpoints, as of time 0."""
    made = Balancer(
        Balancing(accrual=accrual, is_by_connection=by_connection),
        chance or random.Random(7).random,
        slots or BalancerSlots(),
    )
    made.update(endpoints, 0.0, reserve)
    return made


def must(pick: Pick | None) -> Pick:
    """Return a ticket that has to be there."""
    assert pick is not None
    return pick
