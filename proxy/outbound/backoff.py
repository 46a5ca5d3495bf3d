"""How long to wait after the nth failure in a row: exponential, with jitter, never past a bound.

Pure. The formula is linkerd2-proxy's (linkerd/exp-backoff): the base doubles up to the longest
wait, and a random share of the base, up to ``jitter``, is added without passing it.
"""

from __future__ import annotations

from typing import Final

from policy.model import Backoff

CONNECT: Final = Backoff(min_s=0.1, max_s=60.0, jitter=0.1)
"""Between connects to an endpoint that cannot be reached (linkerd2-proxy, outbound)."""

_MAX_DOUBLINGS: Final = 62
"""Past this any wait has met its bound, and a float would not stay exact."""


def backoff_s(backoff: Backoff, failures: int, chance: float) -> float:
    """Return the wait in seconds after ``failures`` (1 and up) in a row; ``chance`` in [0, 1)."""
    doublings = min(max(0, failures - 1), _MAX_DOUBLINGS)
    base = min(backoff.max_s, backoff.min_s * float(1 << doublings))
    return min(backoff.max_s, base + base * backoff.jitter * chance)
