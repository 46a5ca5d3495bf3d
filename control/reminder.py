"""Warnings that are logged once, and again every day for as long as they hold."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final, final

REMIND_S: Final = 86_400.0


@final
class Reminder:
    """Remembers what was said when."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said: dict[str, float] = {}

    def remind(self, warnings: Collection[str], now: float) -> None:
        """Say what is new or was said a day ago; ``now`` in seconds since the epoch.

        What is missing this time counts as new when it comes back.
        """
        self._said = {each: said for each, said in self._said.items() if each in warnings}
        for warning in warnings:
            if now >= self._said.get(warning, 0.0) + REMIND_S:
                self._said[warning] = now
                self._say(warning)
