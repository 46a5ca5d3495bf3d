"""A ticket for an endpoint: counts what is pending there, and tells how it went.

Pure; time is an argument. Whoever holds a ticket ends it exactly once, with ``finish``; what comes
after that does nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final, final

from discovery.model import Endpoint
from policy.model import PenaltyPeakEwma
from proxy.outbound.member import Member, Phase
from proxy.outbound.roster import Roster
from proxy.telemetry.classification import is_failure


class Outcome(Enum):
    """How an attempt at an endpoint ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    """It failed as breakers count: 5xx, a stream error, a timeout, a failing gRPC status."""
    LIMITED = "limited"
    """It turned the request away: 429 or RESOURCE_EXHAUSTED."""
    UNREACHABLE = "unreachable"
    """No connection, or a far sidecar that could not reach its application."""
    ABANDONED = "abandoned"
    """Ended by our side or the client's: it says nothing about the endpoint."""


_RESOURCE_EXHAUSTED: Final = 8
_TOO_MANY_REQUESTS: Final = 429


def outcome_of(status: int, grpc_status: int | None = None) -> Outcome:
    """Return what a response says about its endpoint; a gRPC status counts before HTTP's."""
    limited = (
        status == _TOO_MANY_REQUESTS if grpc_status is None else grpc_status == _RESOURCE_EXHAUSTED
    )
    if limited:
        return Outcome.LIMITED
    return Outcome.FAILURE if is_failure(status, grpc_status) else Outcome.SUCCESS


@final
class Pick:
    """One attempt at one endpoint."""

    __slots__ = (
        "_chance",
        "_is_over",
        "_is_pending",
        "_penalty",
        "_roster",
        "began_at",
        "is_probe",
        "member",
    )

    def __init__(
        self,
        roster: Roster,
        member: Member,
        now: float,
        chance: Callable[[], float],
        penalty: PenaltyPeakEwma | None,
    ) -> None:
        """Count one more pending at ``member``."""
        self.member = member
        self.began_at = now
        self.is_probe = roster.take_probe(member)
        """Whether this attempt alone decides about an endpoint that was held back."""
        self._roster = roster
        self._chance = chance
        self._penalty = penalty
        self._is_pending = True
        self._is_over = False
        member.load.begin(now)

    @property
    def endpoint(self) -> Endpoint:
        """Where to."""
        return self.member.endpoint

    def connected(self, now: float) -> None:
        """Take in that the endpoint can be reached: a new connection is there.

        That is all the proof wanted of an endpoint that could not be; one whose breaker is open
        has to answer as well.
        """
        member = self.member
        # Whoever is ready has no breaker open; it is not even looked at, for among a thousand
        # endpoints each object of one lies cold in the processor's cache.
        if member.phase is Phase.READY or member.phase is Phase.GONE:
            return
        if not member.connecting.is_open:
            return
        member.connecting.passed(now)
        if member.is_broken:
            return
        if self.is_probe:
            self._prove(is_good=True)
        self._roster.release(member)

    def opened(self, now: float) -> None:
        """Take in that a connection is there that is itself what is balanced: it stays pending."""
        self.connected(now)
        self.member.load.answered(now, now - self.began_at)

    def answered(self, now: float, outcome: Outcome = Outcome.SUCCESS) -> None:
        """Take in the first data of a response, or its end: the endpoint's latency."""
        if not self._is_pending:
            return
        self._is_pending = False
        load, seconds = self.member.load, now - self.began_at
        load.end()
        if outcome is Outcome.SUCCESS:
            load.answered(now, seconds)
        elif outcome is Outcome.FAILURE or outcome is Outcome.LIMITED:
            load.failed(now, seconds)
        else:
            return
        # Whoever answers can be reached, however long the rest of the response takes.
        self.connected(now)

    def proved(self, now: float) -> None:
        """Take in that an endpoint does well whose answer is not over yet: it has had its probe."""
        if self.is_probe and not self._is_over and self.member.phase is not Phase.GONE:
            self._judge(now, Outcome.SUCCESS, 0.0)
            self._prove(is_good=True)

    def finish(self, now: float, outcome: Outcome, hint_s: float = 0.0) -> None:
        """End the attempt; ``hint_s`` is how long the endpoint asked to be left alone."""
        if self._is_over:
            return
        self._is_over = True
        self.answered(now, outcome)
        if self.member.phase is Phase.GONE:
            return
        if outcome is Outcome.ABANDONED:
            if self.is_probe:
                self.is_probe = False
                self._roster.offer_probe(self.member)
            return
        if self._penalty is not None and outcome in (Outcome.FAILURE, Outcome.LIMITED):
            penalty = max(self._penalty.penalty_s, min(hint_s, self._penalty.max_retry_after_s))
            self.member.load.penalize(now, penalty)
        if self.is_probe:
            self._judge(now, outcome, hint_s)
            self._prove(is_good=self.member.phase is Phase.READY)
        elif self.member.phase is Phase.READY:
            self._judge(now, outcome, hint_s)
        # What began before the endpoint was held back says nothing that is not known.

    def close(self, now: float) -> None:
        """End a connection that was open: one less is."""
        if not self._is_over:
            self._is_over = True
            if self._is_pending:
                self._is_pending = False
                self.member.load.end()

    def _judge(self, now: float, outcome: Outcome, hint_s: float) -> None:
        """Let the breakers decide; the member is ready or held back afterwards."""
        member, slots = self.member, self._roster.slots
        breaker = member.breaker
        if outcome is Outcome.UNREACHABLE:
            member.connecting.failed(now, self._chance())
            slots.unreachable.value += 1
            if self.is_probe and breaker is not None and breaker.is_open:
                breaker.failed(now, self._chance(), hint_s)
                slots.opened.value += 1
            self._roster.hold_back(member)
            return
        if member.phase is not Phase.READY:
            member.connecting.passed(now)
        if breaker is not None:
            is_open = False
            if outcome is Outcome.FAILURE:
                is_open = breaker.failed(now, self._chance(), hint_s)
            elif outcome is Outcome.LIMITED:
                is_open = breaker.limited(now, self._chance(), hint_s)
            else:
                breaker.passed(now)
            if is_open:
                slots.opened.value += 1
                self._roster.hold_back(member)
                return
        self._roster.release(member)

    def _prove(self, *, is_good: bool) -> None:
        """End the probe."""
        self.is_probe = False
        slots = self._roster.slots
        (slots.probes_good if is_good else slots.probes_bad).value += 1
