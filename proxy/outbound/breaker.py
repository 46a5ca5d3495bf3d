"""When an endpoint is left alone: after failures, for a while that grows, until a probe succeeds.

Pure; time is an argument. Rules and numbers are linkerd2-proxy's (outbound/http/breaker): so many
failures in a row open the breaker, or, where asked for, a success rate below a threshold; after
the wait one request is let through, and its outcome decides. The same machine with one failure
holds back an endpoint that cannot be reached.
"""

from __future__ import annotations

from math import exp
from typing import Final, final

from policy.model import Backoff, ConsecutiveFailures, FailureAccrual, UnifiedFailures
from proxy.outbound.backoff import CONNECT, backoff_s

CONNECTING: Final = ConsecutiveFailures(max_failures=1, backoff=CONNECT)
"""What an endpoint is held to that has to be reached at all."""

_IDLE_FACTOR: Final = 3.0
"""After so many windows without a response the rate has to be learned anew."""


@final
class Breaker:
    """One endpoint's breaker."""

    __slots__ = (
        "_backoff",
        "_decay_s",
        "_failures",
        "_max_failures",
        "_min_requests",
        "_openings",
        "_rate",
        "_requests",
        "_seen_at",
        "_threshold",
        "is_open",
        "opened_at",
        "until",
    )

    def __init__(self, accrual: FailureAccrual) -> None:
        """Begin closed: requests pass."""
        self.is_open = False
        """Whether requests are held back, all but a probe after ``until``."""
        self.until = 0.0
        """When a probe may go, in seconds as ``now``."""
        self.opened_at = 0.0
        """When the wait now running began."""
        self._backoff: Backoff = accrual.backoff
        self._openings = 0
        self._failures = 0
        self._requests = 0
        self._rate = 1.0
        self._seen_at = 0.0
        if isinstance(accrual, UnifiedFailures):
            self._max_failures = accrual.max_consecutive_failures
            self._threshold = accrual.success_rate_threshold
            self._decay_s = max(accrual.decay_s, 0.01)
            self._min_requests = accrual.min_requests
        else:
            self._max_failures = accrual.max_failures
            self._threshold = 0.0
            self._decay_s = 10.0
            self._min_requests = 0

    def passed(self, now: float) -> None:
        """Take in a success; it ends what was open."""
        if self.is_open:
            self._close()
        self._failures = 0
        if self._threshold > 0.0:
            self._sample(now, 1.0)

    def failed(self, now: float, chance: float, hint_s: float = 0.0) -> bool:
        """Take in a failure; returns whether the breaker is open from now on.

        When open already, this is its probe's. ``chance`` in [0, 1) is for the jitter; ``hint_s``
        is what the endpoint asked for: the wait is not shorter where the policy respects it.
        """
        self._failures += 1
        if self._threshold > 0.0 and not self.is_open:
            self._sample(now, 0.0)
        is_over = self._max_failures > 0 and self._failures >= self._max_failures
        if self.is_open or is_over or self._is_rate_low():
            self._open(now, chance, hint_s)
        return self.is_open

    def limited(self, now: float, chance: float, hint_s: float = 0.0) -> bool:
        """Take in that a request was turned away for too many (429, RESOURCE_EXHAUSTED).

        It lowers the rate where one is kept, and is no failure in a row. Returns whether the
        breaker is open from now on.
        """
        if self._threshold <= 0.0:
            self.passed(now)
            return False
        if not self.is_open:
            self._failures = 0
            self._sample(now, 0.0)
        if self.is_open or self._is_rate_low():
            self._open(now, chance, hint_s)
        return self.is_open

    def _is_rate_low(self) -> bool:
        return (
            self._threshold > 0.0
            and self._requests >= self._min_requests
            and self._rate < self._threshold
        )

    def _open(self, now: float, chance: float, hint_s: float) -> None:
        self.is_open = True
        self._openings += 1
        wait = backoff_s(self._backoff, self._openings, chance)
        if self._backoff.respect_retry_after:
            wait = max(wait, min(hint_s, self._backoff.max_s))
        self.opened_at = now
        self.until = now + wait

    def _close(self) -> None:
        self.is_open = False
        self._openings = 0
        self._failures = 0
        self._requests = 0
        self._rate = 1.0

    def _sample(self, now: float, value: float) -> None:
        elapsed = now - self._seen_at
        if elapsed > _IDLE_FACTOR * self._decay_s:
            self._requests = 0
        self._requests += 1
        kept = exp(-max(elapsed, 0.0) / self._decay_s)
        self._rate = self._rate * kept + value * (1.0 - kept)
        self._seen_at = now
