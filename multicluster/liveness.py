"""Whether a gateway lives: probes in, liveness out, as a pure state machine.

The rules are Linkerd's probe worker's: a gateway that has never answered stays in use; after its
first answer, so many failures in a row take it out, and one answer brings it back.
"""

from __future__ import annotations

from typing import Final, final

from core.record import dataclass
from multicluster.model import GatewayLiveness

JITTER: Final = 0.1
"""How much longer than its period a pause may be, so that sidecars do not ask in step."""


@final
@dataclass(frozen=True, slots=True)
class ProbeState:
    """What is known of one gateway."""

    liveness: GatewayLiveness = GatewayLiveness.UNPROBED
    failures: int = 0
    """Failed probes since the last that succeeded."""

    @property
    def is_usable(self) -> bool:
        """Whether traffic is sent to it."""
        return self.liveness is not GatewayLiveness.DEAD


def after_probe(state: ProbeState, *, succeeded: bool, failure_threshold: int) -> ProbeState:
    """Return what is known after one more probe."""
    if succeeded:
        return ProbeState(GatewayLiveness.ALIVE)
    failures = state.failures + 1
    if state.liveness is GatewayLiveness.ALIVE and failures >= failure_threshold:
        return ProbeState(GatewayLiveness.DEAD, failures)
    return ProbeState(state.liveness, failures)


def pause_s(period_s: float, pick: float) -> float:
    """Return seconds until the next probe; ``pick`` in [0, 1)."""
    return period_s * (1.0 + JITTER * pick)
