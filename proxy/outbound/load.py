"""How loaded an endpoint is: its latency of late, times what it has to do.

Peak-EWMA as linkerd2-proxy balances by it (tower's ``load::PeakEwma``): a latency above the
estimate counts at once and in full, one below it by its age, and without samples the estimate
falls towards nothing, so that an endpoint once slow is tried again. Two rules are ours. A failure
never makes an endpoint look faster than it did. And where answers are awaited, the time that an
endpoint has given none counts as its latency, so that one which has fallen silent is left alone
before its requests time out: for a while, for what is awaited may be a stream with nothing to say.
"""

from __future__ import annotations

from math import exp
from typing import Final, final

MIN_SEED_S: Final = 0.001
"""The least latency that an endpoint nobody has asked yet is credited with."""
PATIENCE_S: Final = 10.0
"""How long silence counts; then one more request is let find out, and it counts anew."""


@final
class Load:
    """One endpoint's load; constant time and memory, whatever passes."""

    __slots__ = (
        "_at",
        "_decay_s",
        "_estimate",
        "_floor_s",
        "_is_awaited",
        "_penalty",
        "_penalty_at",
        "_penalty_decay_s",
        "_silent_since",
        "pending",
    )

    def __init__(
        self,
        now: float,
        *,
        seed_s: float = 0.03,
        decay_s: float = 10.0,
        floor_s: float = 0.0,
        penalty_decay_s: float = 10.0,
        is_awaited: bool = True,
    ) -> None:
        """Begin at ``seed_s``; all times in seconds, ``now`` monotonic.

        ``floor_s``: latencies below it are alike. ``is_awaited``: what is pending owes an answer,
        unlike an open connection.
        """
        self.pending: int = 0
        """Requests without an answer, or open connections."""
        self._estimate = max(seed_s, MIN_SEED_S)
        self._at = now
        self._decay_s = max(decay_s, 0.001)
        self._floor_s = floor_s
        self._penalty = 0.0
        self._penalty_at = now
        self._penalty_decay_s = max(penalty_decay_s, 0.001)
        self._is_awaited = is_awaited
        self._silent_since = -1.0
        """Since when something is asked of it and nothing was answered; below 0: it is not so."""

    def latency_s(self, now: float) -> float:
        """Return the latency to expect, in seconds."""
        value = _decayed(self._estimate, now - self._at, self._decay_s)
        if self._silent_since >= 0.0:
            silence = now - self._silent_since
            if value < silence <= PATIENCE_S:
                value = silence
        if self._penalty > 0.0:
            elapsed = now - self._penalty_at
            value = max(value, _decayed(self._penalty, elapsed, self._penalty_decay_s))
        return max(value, self._floor_s)

    def cost(self, now: float) -> float:
        """Return what the next request would cost here; the lower is chosen."""
        return self.latency_s(now) * (self.pending + 1)

    def begin(self, now: float) -> None:
        """Count one more that is pending."""
        if self._is_awaited and (self._silent_since < 0.0 or now - self._silent_since > PATIENCE_S):
            self._silent_since = now
        self.pending += 1

    def end(self) -> None:
        """Count one less."""
        if self.pending > 0:
            self.pending -= 1
        if self.pending == 0:
            self._silent_since = -1.0

    def answered(self, now: float, seconds: float) -> None:
        """Take in that something was answered after ``seconds``."""
        self._silent_since = -1.0
        elapsed = now - self._at
        if elapsed > 0.0:
            kept = exp(-elapsed / self._decay_s)
            self._estimate = max(self._estimate * kept + seconds * (1.0 - kept), seconds)
        elif seconds > self._estimate:
            self._estimate = seconds
        self._at = max(self._at, now)

    def failed(self, now: float, seconds: float) -> None:
        """Take in that something failed after ``seconds``: the estimate does not fall by it."""
        self._silent_since = -1.0
        self._estimate = max(self._estimate, seconds)
        self._at = max(self._at, now)

    def penalize(self, now: float, seconds: float) -> None:
        """Let a failure count as a latency of ``seconds``, on top of what was measured."""
        left = _decayed(self._penalty, now - self._penalty_at, self._penalty_decay_s)
        self._penalty = max(left, seconds)
        self._penalty_at = max(self._penalty_at, now)


def _decayed(value: float, elapsed: float, decay_s: float) -> float:
    return value * exp(-elapsed / decay_s) if elapsed > 0.0 else value
