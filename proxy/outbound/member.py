"""One endpoint as a balancer sees it: its load, and whether it may be chosen."""

from __future__ import annotations

from enum import Enum
from typing import Final, final

from discovery.model import Endpoint, PathKind
from policy.model import FailureAccrual
from proxy.outbound.breaker import CONNECTING, Breaker
from proxy.outbound.load import Load

TIERS: Final = 4
"""Ours; of other zones; of other clusters, reached directly; through a gateway."""
FAR_TIER: Final = 2
"""From here on endpoints are in other clusters."""


class Phase(Enum):
    """Whether an endpoint may be chosen."""

    READY = "ready"
    SHUT = "shut"
    """Held back, by its breaker or because it could not be reached."""
    PROBE = "probe"
    """One request may go, to find out."""
    PROBING = "probing"
    """That request is on its way."""
    GONE = "gone"
    """No endpoint of this set any more."""


@final
class Member:
    """The state of one endpoint while it belongs to the set."""

    __slots__ = (
        "breaker",
        "connecting",
        "endpoint",
        "kept",
        "load",
        "phase",
        "place",
        "tier",
        "until",
    )

    def __init__(
        self, endpoint: Endpoint, tier: int, load: Load, accrual: FailureAccrual | None
    ) -> None:
        """Begin ready, and nowhere."""
        self.endpoint = endpoint
        self.load = load
        self.phase = Phase.READY
        self.connecting = Breaker(CONNECTING)
        self.breaker: Breaker | None = None if accrual is None else Breaker(accrual)
        self.until = 0.0
        """When it may be probed, while it is shut."""
        self.tier = tier
        self.kept: object | None = None
        """What who uses it keeps for it: its connections."""
        self.place = -1
        """Where it stands among those that may be chosen; below 0: it is not one."""

    @property
    def is_broken(self) -> bool:
        """Whether its circuit breaker is open, however well it can be reached."""
        return self.breaker is not None and self.breaker.is_open

    def wait_end(self) -> float:
        """Return when it may be probed: when every wait is over."""
        end = self.connecting.until if self.connecting.is_open else 0.0
        if self.breaker is not None and self.breaker.is_open:
            end = max(end, self.breaker.until)
        return end

    def last_resort_at(self, wait_s: float) -> float:
        """Return when it may be probed although its wait is not over, if nothing else is ready.

        Only what could not be reached is tried early; a breaker keeps its word.
        """
        if self.breaker is not None and self.breaker.is_open:
            return self.until
        return min(self.until, self.connecting.opened_at + wait_s)


def tier_of(endpoint: Endpoint, *, is_reserve: bool) -> int:
    """Return how much an endpoint is preferred, 0 the most."""
    kind = endpoint.path.kind
    if kind is PathKind.LOCAL:
        return 1 if is_reserve else 0
    return FAR_TIER if kind is PathKind.DIRECT else FAR_TIER + 1


def same_way(old: Endpoint, new: Endpoint) -> bool:
    """Whether what was learned of one endpoint holds for the other: it is reached the same way."""
    return (
        old.address == new.address
        and old.identity == new.identity
        and old.server_name == new.server_name
        and old.direct_port == new.direct_port
        and old.authority_override == new.authority_override
        and old.hint is new.hint
        and old.path == new.path
        and old.http2 == new.http2
    )
