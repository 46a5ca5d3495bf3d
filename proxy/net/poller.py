"""The readiness of all user sockets, through one epoll of our own inside the event loop.

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

    def on_ready(self, events: int) -> None:
        """Take notice of what the descriptor is ready for; never raises.

        An event may be meant for a descriptor of the same number that was closed a moment ago:
        whoever is called asks the kernel, without blocking, before believing it.
        """
        ...


@final
class Poller:
    """Watches descriptors for one event loop."""

    __slots__ = ("_epoll", "_watched", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._epoll = select.epoll()
        self._watched: dict[int, Pollable] = {}
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

    def close(self) -> None:
        """Watch nothing any more."""
        if not self._epoll.closed:
            self.loop.remove_reader(self._epoll.fileno())
            self._epoll.close()

    def _ready(self) -> None:
        for fd, events in self._epoll.poll(0, _MOST):
            owner = self._watched.get(fd)
            if owner is None:
                continue
            try:
                owner.on_ready(events)
            except Exception as error:  # noqa: BLE001  # one owner's bug must not starve the rest
                context = {"message": "a descriptor's owner broke", "exception": error}
                self.loop.call_exception_handler(context)
