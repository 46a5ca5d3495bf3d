"""Which endpoints of a set may be chosen now, and when the others may be tried again.

Pure; time is an argument. Everything but the scan for a last resort takes constant time, or the
logarithm of how many are held back.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final, final

from proxy.outbound.member import TIERS, Member, Phase
from proxy.telemetry.balancer import BalancerSlots

LAST_RESORT_S: Final = 1.0
"""How long an unreachable endpoint is left alone at most while nothing else is ready."""
RESCAN_S: Final = 0.1
"""How often such endpoints are looked for."""


@final
class Roster:
    """The members of one set, by whether they may be chosen."""

    __slots__ = ("_count", "_news", "_rescan_at", "_sequence", "_shut", "slots", "tiers")

    def __init__(self, slots: BalancerSlots, news: Callable[[Phase], None]) -> None:
        """Begin with nobody; ``news`` is told when one more may be chosen: READY or PROBE."""
        self._news = news
        self.tiers: list[list[Member]] = [[] for _ in range(TIERS)]
        """Who may be chosen, the preferred first."""
        self.slots = slots
        self._shut: list[tuple[float, int, Member]] = []
        """When to probe whom: a heap; entries of the past are passed over."""
        self._count = 0
        self._sequence = 0
        self._rescan_at = 0.0

    @property
    def is_empty(self) -> bool:
        """Whether none may be chosen."""
        return self._count == 0

    def join(self, member: Member) -> None:
        """Take in a new member, ready."""
        self.slots.members.value += 1
        self.slots.pending.value += 1
        self._put_in(member)
        self._news(Phase.READY)

    def drop(self, member: Member) -> None:
        """Let a member go: its outcomes mean nothing any more."""
        if member.place >= 0:
            self._take_out(member)
        member.phase = Phase.GONE
        self.slots.members.value -= 1
        self.slots.pending.value -= 1

    def prune(self) -> None:
        """Forget when to probe those who are gone or were tried since."""
        self._shut = [
            each for each in self._shut if each[2].phase is Phase.SHUT and each[0] == each[2].until
        ]
        heapq.heapify(self._shut)

    def move(self, member: Member, tier: int) -> None:
        """Prefer a member more or less."""
        is_in = member.place >= 0
        if is_in:
            self._take_out(member)
        member.tier = tier
        if is_in:
            self._put_in(member)

    def hold_back(self, member: Member) -> None:
        """Let nobody choose a member until the waits it has to keep are over."""
        if member.phase is Phase.GONE:
            return
        if member.place >= 0:
            self._take_out(member)
        member.phase = Phase.SHUT
        member.until = member.wait_end()
        self._sequence += 1
        heapq.heappush(self._shut, (member.until, self._sequence, member))

    def release(self, member: Member) -> None:
        """Let everyone choose a member again."""
        if member.phase is not Phase.READY:
            self._offer(member, Phase.READY)

    def offer_probe(self, member: Member) -> None:
        """Let one request go to a member."""
        self._offer(member, Phase.PROBE)

    def take_probe(self, member: Member) -> bool:
        """Return whether who has chosen this member is its probe; then nobody else may."""
        if member.phase is not Phase.PROBE:
            return False
        member.phase = Phase.PROBING
        self._take_out(member)
        return True

    def wake(self, now: float) -> None:
        """Let those be probed whose wait is over; and the unreachable, when nothing is ready."""
        while self._shut and self._shut[0][0] <= now:
            member = heapq.heappop(self._shut)[2]
            if member.phase is Phase.SHUT and member.until <= now:
                self.offer_probe(member)
        if not self._shut or not self.is_empty or now < self._rescan_at:
            return
        self._rescan_at = now + RESCAN_S
        self.prune()
        for _, _, member in self._shut:
            if member.last_resort_at(LAST_RESORT_S) <= now:
                self.offer_probe(member)

    def next_wake(self, now: float) -> float | None:
        """Return when a member that is held back may be tried; None: only news can help."""
        if not self._shut:
            return None
        first = self._shut[0][0]
        return min(first, max(self._rescan_at, now)) if self.is_empty else first

    def _offer(self, member: Member, phase: Phase) -> None:
        if member.phase is Phase.GONE:
            return
        member.phase = phase
        if member.place < 0:
            self._put_in(member)
        self._news(phase)

    def _put_in(self, member: Member) -> None:
        ready = self.tiers[member.tier]
        member.place = len(ready)
        ready.append(member)
        self._count += 1
        self.slots.ready.value += 1
        self.slots.pending.value -= 1

    def _take_out(self, member: Member) -> None:
        ready = self.tiers[member.tier]
        last = ready.pop()
        if last is not member:
            ready[member.place] = last
            last.place = member.place
        member.place = -1
        self._count -= 1
        self.slots.ready.value -= 1
        self.slots.pending.value += 1
