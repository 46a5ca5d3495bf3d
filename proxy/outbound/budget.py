"""How many retries a destination is good for: a share of its requests, and a few a second.

Pure; time is an argument. As in Linkerd's ServiceProfiles (tower's retry budget): over any
``ttl`` the retries are at most ``retry_ratio`` of the requests plus ``min_retries_per_second``
for each of its seconds. When everything fails, a destination sees no more than that on top of
what its clients ask for.
"""

from __future__ import annotations

from typing import Final, final

from discovery.model import RetryBudget

SLOTS: Final = 10
"""Parts that the ``ttl`` is counted in; what is older than all of them is forgotten."""

MIN_TTL_S: Final = 1.0
MAX_TTL_S: Final = 60.0
"""Linkerd's bounds of ``ttl``."""


@final
class Budget:
    """The budget of one destination."""

    __slots__ = (
        "_balance",
        "_balances",
        "_reserve",
        "_share",
        "_slot",
        "_slot_s",
        "_sum",
        "_until",
    )

    def __init__(self, budget: RetryBudget) -> None:
        """Begin without any requests: only the reserve can be spent."""
        ttl_s = min(MAX_TTL_S, max(MIN_TTL_S, budget.ttl_s))
        self._share = max(0.0, budget.retry_ratio)
        self._reserve = max(0, budget.min_retries_per_second) * ttl_s
        self._slot_s = ttl_s / SLOTS
        self._slot = 0
        self._balances: list[float] = [0.0] * SLOTS
        self._balance = 0.0
        """Of the slot of now, whose place among the balances is out of date."""
        self._until = self._slot_s
        """When the slot of now is over."""
        self._sum = 0.0

    def left(self, now: float) -> float:
        """Return how many retries may be made at ``now`` (seconds, monotonic)."""
        self._turn(now)
        return self._reserve + self._sum

    def deposit(self, now: float) -> None:
        """Count a request; retries are none."""
        self._turn(now)
        self._balance += self._share
        self._sum += self._share

    def withdraw(self, now: float) -> bool:
        """Spend a retry; returns False, and spends nothing, when none is left."""
        self._turn(now)
        # A share like 0.2 is no exact float: a hair less than one is one.
        if self._reserve + self._sum < 1.0 - 1e-9:
            return False
        self._balance -= 1.0
        self._sum -= 1.0
        return True

    def _turn(self, now: float) -> None:
        if now < self._until:
            return
        slot = int(now / self._slot_s)
        if slot <= self._slot:
            return
        self._balances[self._slot % SLOTS] = self._balance
        for each in range(max(self._slot + 1, slot - SLOTS + 1), slot + 1):
            self._balances[each % SLOTS] = 0.0
        self._balance = 0.0
        self._slot = slot
        self._until = (slot + 1) * self._slot_s
        # Added up anew once a slot, so that errors of rounding do not add up.
        self._sum = sum(self._balances)
