"""Waiting for an endpoint, within bounds: how many may, for how long, and when to stop trying.

Pure; time is an argument. As linkerd2-proxy's queue before a balancer: whoever finds no endpoint
ready waits; when none was ready for the whole timeout, all who wait fail, and from then on
everyone fails at once, until an endpoint is ready again.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, final

QUEUE_CAPACITY: Final = 10_000
FAILFAST_S: Final = 3.0
"""linkerd2-proxy's own bounds (outbound); those in a policy's ``Queue`` it parses and leaves be."""


class Entry(Enum):
    """What somebody is told who finds no endpoint ready."""

    WAIT = "wait"
    FULL = "full"
    """As many wait as may."""
    SHUT = "shut"
    """Nothing has been ready for the whole timeout: fail at once."""


@final
class FailFast:
    """The queue of one balancer, as numbers."""

    __slots__ = ("_capacity", "_since", "is_shut", "timeout_s", "waiting")

    def __init__(self, capacity: int = QUEUE_CAPACITY, timeout_s: float = FAILFAST_S) -> None:
        """``capacity`` may wait, ``timeout_s`` seconds at most."""
        self.is_shut = False
        self.waiting = 0
        self.timeout_s = timeout_s
        self._capacity = capacity
        self._since = -1.0
        """Since when nothing is ready; below 0: something is, as far as anybody asked."""

    @property
    def deadline(self) -> float:
        """When those who wait fail; meaningful while somebody does."""
        return self._since + self.timeout_s

    def enter(self, now: float) -> Entry:
        """Tell somebody who found nothing ready at ``now`` what to do; ``WAIT`` counts them in."""
        if self.is_shut:
            return Entry.SHUT
        if self.waiting >= self._capacity:
            return Entry.FULL
        if self._since < 0.0:
            self._since = now
        self.waiting += 1
        return Entry.WAIT

    def leave(self) -> None:
        """Count one out who had to wait, served or not."""
        self.waiting -= 1
        if self.waiting == 0 and not self.is_shut:
            # Nobody has been waiting: how long nothing is ready begins with the next who does.
            self._since = -1.0

    def expire(self, now: float) -> bool:
        """Shut when the timeout is over at ``now``; returns whether it is shut from now on."""
        if not self.is_shut and self.waiting and now >= self.deadline:
            self.is_shut = True
        return self.is_shut

    def ready(self) -> bool:
        """Take in that an endpoint is ready; returns whether that opens what was shut.

        Whoever waits is served by it at once.
        """
        self._since = -1.0
        was_shut, self.is_shut = self.is_shut, False
        return was_shut
