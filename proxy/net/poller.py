"""The readiness of all user sockets, through one epoll of our own inside the event loop.

What owners have to send they may gather while events are told: they are asked to send it once,
when all that was ready has been told. One write then carries what many streams had to say.

The loop watches one descriptor, ours; what is ready behind it is told to its owner with the
kernel's own flags. Two things need them. uvloop calls a reader once more when a socket is reset
and then forgets it: bytes that waited are read, the reset itself is never heard of, and the
connection hangs. And a stream that is held back must still learn that its peer is gone. It also
saves half a kibibyte a watched descriptor.
"""

from __future__ import annotations

import asyncio
import select
from typing import Final, Protocol, final

READ: Final = select.EPOLLIN
WRITE: Final = select.EPOLLOUT
GONE: Final = select.EPOLLERR
"""Reset or timed out: reported whether asked for or not."""
ENDED: Final = select.EPOLLHUP
"""Both directions have ended: reported whether asked for or not."""

_MOST: Final = 256
"""Descriptors told of in one turn of the loop."""


class Pollable(Protocol):
    """Who owns a watched descriptor."""

    __slots__ = ()

    def on_ready(self, events: int) -> None:
        """Take notice of what the descriptor is ready for; never raises.

        An event may be meant for a descriptor of the same number that was closed a moment ago:
        whoever is called asks the kernel, without blocking, before believing it.
        """
        ...


class Corked(Protocol):
    """Who gathers what it has to send."""

    __slots__ = ()

    def uncork(self) -> None:
        """Send what was gathered; never raises."""
        ...


@final
class Poller:
    """Watches descriptors for one event loop."""

    __slots__ = ("_corked", "_epoll", "_is_telling", "_watched", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._epoll = select.epoll()
        self._watched: dict[int, Pollable] = {}
        self._corked: list[Corked] = []
        self._is_telling = False
        loop.add_reader(self._epoll.fileno(), self._ready)

    def watch(self, fd: int, owner: Pollable, events: int) -> None:
        """Begin to watch ``fd`` for READ and WRITE as given; GONE and ENDED always come."""
        self._epoll.register(fd, events)
        self._watched[fd] = owner

    def change(self, fd: int, events: int) -> None:
        """Watch ``fd`` for other events."""
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Watch ``fd`` no more; to be called before it is closed."""
        del self._watched[fd]
        self._epoll.unregister(fd)

    def cork(self, owner: Corked) -> None:
        """Ask ``owner`` to send when all that is ready now has been told; once for each call."""
        if not self._corked and not self._is_telling:
            self.loop.call_soon(self._uncork)
        self._corked.append(owner)

    def close(self) -> None:
        """Watch nothing any more."""
        if not self._epoll.closed:
            self.loop.remove_reader(self._epoll.fileno())
            self._epoll.close()

    def _ready(self) -> None:
        self._is_telling = True
        for fd, events in self._epoll.poll(0, _MOST):
            owner = self._watched.get(fd)
            if owner is None:
                continue
            try:
                owner.on_ready(events)
            except Exception as error:  # noqa: BLE001  # one owner's bug must not starve the rest
                self._report("a descriptor's owner broke", error)
        if self._corked:
            self._uncork()
        self._is_telling = False

    def _uncork(self) -> None:
        while self._corked:
            corked, self._corked = self._corked, []
            for owner in corked:
                try:
                    owner.uncork()
                except Exception as error:  # noqa: BLE001  # as above
                    self._report("a corked sender broke", error)

    def _report(self, message: str, error: Exception) -> None:
        self.loop.call_exception_handler({"message": message, "exception": error})
