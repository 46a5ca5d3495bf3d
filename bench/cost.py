"""What a call costs: the best of many short turns, taken in turn with what it is compared with."""

from __future__ import annotations

import timeit
from collections.abc import Callable, Sequence
from time import process_time
from typing import Final

TURN_S: Final = 0.002
"""How long a turn takes about: shorter than what the machine's other work interrupts."""


def costs_of(actions: Sequence[Callable[[], object]], turns: int) -> list[float]:
    """Return microseconds of processor time of each action: the best of ``turns``.

    In turn, so that a slow moment meets all of them; how often an action is called in a turn
    follows from its first calls, so that each turn takes about TURN_S.
    """
    timers = [timeit.Timer(action, timer=process_time) for action in actions]
    counts = []
    for timer in timers:
        timer.timeit(3)
        counts.append(max(1, round(TURN_S / max(timer.timeit(5) / 5, 1e-7))))
    best = [float("inf")] * len(timers)
    for _ in range(turns):
        for place, (timer, count) in enumerate(zip(timers, counts, strict=True)):
            best[place] = min(best[place], timer.timeit(count) / count * 1e6)
    return best
