"""Going away in order: one trigger, many holders, one deadline.

Whoever does work worth finishing holds a ``Drain`` ticket; ``start`` tells every listener to
take nothing new; ``drained`` returns once the last ticket is given back or the deadline passed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import final


@final
class Drain:
    """Counts work in flight and tells it when to come to an end."""

    __slots__ = ("_empty", "_given_up", "_in_flight", "_listeners", "_started")

    def __init__(self) -> None:
        self._in_flight = 0
        self._started = False
        self._given_up = False
        self._listeners: list[Callable[[], None]] = []
        self._empty: asyncio.Event | None = None

    @property
    def started(self) -> bool:
        """Whether the way out has begun."""
        return self._started

    @property
    def in_flight(self) -> int:
        """How many tickets are out."""
        return self._in_flight

    def enter(self) -> None:
        """Take a ticket: something in flight is worth finishing."""
        self._in_flight += 1

    def leave(self) -> None:
        """Give a ticket back."""
        self._in_flight -= 1
        if self._in_flight == 0 and self._empty is not None:
            self._empty.set()

    def on_start(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` when draining starts (at once if it has)."""
        if self._started:
            listener()
        else:
            self._listeners.append(listener)

    def start(self) -> None:
        """Begin: every listener is told once."""
        if self._started:
            return
        self._started = True
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener()

    def give_up(self) -> None:
        """Wait no longer: what is in flight now will not be finished."""
        self._given_up = True
        if self._empty is not None:
            self._empty.set()

    async def drained(self, deadline_s: float) -> bool:
        """Wait until nothing is in flight; False when ``deadline_s`` seconds were not enough.

        False too once the wait was given up.
        """
        if self._in_flight and not self._given_up:
            self._empty = asyncio.Event()
            try:
                async with asyncio.timeout(deadline_s):
                    await self._empty.wait()
            except TimeoutError:
                return False
        return self._in_flight == 0
