"""One clock for all waits of open connections: a look at each, once a second.

A timer for every request would cost more than most requests; a wait that is told a second late
harms nobody.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol, final

TICK_S: Final = 1.0
SLICE: Final = 512
"""Looked at in one go: some milliseconds."""


class Ticked(Protocol):
    """Who has waits to look after."""

    def on_tick(self, now: float) -> None:
        """Look at the waits; ``now`` is the loop's time. Never raises."""
        ...


@final
class Ticker:
    """Calls everyone on its list once a second."""

    def __init__(self) -> None:
        self._ticked: dict[Ticked, None] = {}

    def add(self, ticked: Ticked) -> None:
        """Call ``ticked`` from now on."""
        self._ticked[ticked] = None

    def discard(self, ticked: Ticked) -> None:
        """Call ``ticked`` no more."""
        self._ticked.pop(ticked, None)

    def tick(self, now: float) -> None:
        """Call everyone at once; ``now`` is the loop's time."""
        for ticked in list(self._ticked):
            if ticked in self._ticked:
                ticked.on_tick(now)

    async def run(self) -> None:
        """Tick until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TICK_S)
            everyone = list(self._ticked)
            for start in range(0, len(everyone), SLICE):
                now = loop.time()
                for ticked in everyone[start : start + SLICE]:
                    if ticked in self._ticked:
                        ticked.on_tick(now)
                await asyncio.sleep(0)
