"""A gateway's liveness, as Linkerd's probe worker has it."""

from __future__ import annotations

import pytest

from multicluster.liveness import ProbeState, after_probe, pause_s
from multicluster.model import GatewayLiveness

THRESHOLD = 3


def state_after(probes: str) -> ProbeState:
    """Return the state after probes, ``+`` for one that succeeded."""
    state = ProbeState()
    for each in probes:
        state = after_probe(state, succeeded=each == "+", failure_threshold=THRESHOLD)
    return state


@pytest.mark.parametrize(
    ("probes", "liveness", "usable"),
    [
        ("", GatewayLiveness.UNPROBED, True),
        ("-" * 50, GatewayLiveness.UNPROBED, True),
        ("+", GatewayLiveness.ALIVE, True),
        ("+--", GatewayLiveness.ALIVE, True),
        ("+---", GatewayLiveness.DEAD, False),
        ("+----", GatewayLiveness.DEAD, False),
        ("+--+--", GatewayLiveness.ALIVE, True),
        ("--+", GatewayLiveness.ALIVE, True),
        ("+---+", GatewayLiveness.ALIVE, True),
        ("+---+---", GatewayLiveness.DEAD, False),
    ],
)
def test_liveness(probes: str, liveness: GatewayLiveness, usable: bool) -> None:
    """Out after so many failures in a row once it has lived, and back with the first answer."""
    state = state_after(probes)
    assert (state.liveness, state.is_usable) == (liveness, usable)


@pytest.mark.parametrize(("pick", "seconds"), [(0.0, 3.0), (0.5, 3.15), (1.0, 3.3)])
def test_probes_are_spread(pick: float, seconds: float) -> None:
    """By a tenth of the period at most."""
    assert pause_s(3.0, pick) == pytest.approx(seconds)
