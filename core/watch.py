"""A value that changes, read without waiting and awaited for its next change.

One owner publishes; any number of readers hold the ``Watch`` and read ``current``. What is
published is immutable, so a reader never sees half a change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar, final

T = TypeVar("T")


@final
class Watch(Generic[T]):
    """The current value of something live, with its version and a way to wait for the next."""

    __slots__ = ("_listeners", "_value", "_version", "_waiters")

    def __init__(self, value: T) -> None:
        self._value = value
        self._version = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._listeners: list[Callable[[T], None]] = []

    @property
    def current(self) -> T:
        """The value published last."""
        return self._value

    @property
    def version(self) -> int:
        """How often a value was published; grows by one at each ``publish``."""
        return self._version

    @property
    def is_watched(self) -> bool:
        """Whether anyone is to be told of the next change."""
        return bool(self._waiters or self._listeners)

    def publish(self, value: T) -> None:
        """Replace the value and wake every waiter; equal values are not news."""
        if value == self._value:
            return
        self._value = value
        self._version += 1
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        for listener in tuple(self._listeners):
            listener(value)

    def subscribe(self, listener: Callable[[T], None]) -> Callable[[], None]:
        """Call ``listener`` at each later change; returns the function that ends it."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe

    async def changed(self, since: int) -> T:
        """Return the value as soon as its version is past ``since``."""
        while self._version <= since:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
        return self._value
