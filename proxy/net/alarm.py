"""One timer of one owner: set anew as often as needed, and never going off after its end."""

from __future__ import annotations

import asyncio
from typing import Protocol, final


class Sleeper(Protocol):
    """Who is woken."""

    def on_alarm(self) -> None:
        """Take notice that the time has come; never raises."""
        ...


@final
class Alarm:
    """Wakes its owner at one moment at a time."""

    __slots__ = ("_handle", "_loop", "_sleeper")

    def __init__(self, loop: asyncio.AbstractEventLoop, sleeper: Sleeper) -> None:
        self._loop = loop
        self._sleeper: Sleeper | None = sleeper
        self._handle: asyncio.TimerHandle | None = None

    def set(self, when: float) -> None:
        """Wake the owner at ``when``, in the loop's time; an earlier setting is forgotten."""
        if self._handle is not None:
            self._handle.cancel()
        self._handle = self._loop.call_at(when, self._ring)

    def close(self) -> None:
        """Wake nobody any more."""
        if self._handle is not None:
            self._handle.cancel()
        self._handle = None
        self._sleeper = None

    def _ring(self) -> None:
        self._handle = None
        if self._sleeper is not None:
            self._sleeper.on_alarm()
