"""The readiness of all user sockets, by the kernel's own flags.

What owners have to send they may gather while events are told: they are asked to send it once,
when all that was ready has been told. One write then carries what many streams had to say.

On our own loop (``proxy.net.loop``) one epoll holds user sockets and asyncio's descriptors, and
asyncio is not woken for what does not concern it. On any other the loop watches one descriptor,
our epoll's, and what is ready behind it is told to its owner.

The kernel's flags are needed for two things. Other loops call a reader once more when a socket is
reset, and then forget it or tell nobody why: bytes that waited are read, the reset itself is never
heard of, and the connection hangs. And a stream that is held back must still learn that its peer
is gone.
"""

from __future__ import annotations

import asyncio
import select
import time
from typing import Final, Protocol, final

from proxy.net.native import wait

READ: Final = select.EPOLLIN
WRITE: Final = select.EPOLLOUT
NEWS: Final = READ | select.EPOLLPRI | select.EPOLLRDHUP | select.EPOLLET
"""To be told when something new can be read, once, instead of as long as it was not read: half of
the kernel's work. It comes as READ alone when one read brings all there is, if it has the room;
with anything else when an end, a reset or urgent data follow, which only the next read meets."""
GONE: Final = select.EPOLLERR
"""Reset or timed out: reported whether asked for or not."""
ENDED: Final = select.EPOLLHUP
"""Both directions have ended: reported whether asked for or not."""

_TURNS: Final = 256
"""Turns in a row without asyncio's being asked whether it has something to do."""


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

    __slots__ = (
        "_corked",
        "_epoll",
        "_is_called",
        "_is_nested",
        "_is_telling",
        "_watched",
        "loop",
        "now",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, *, is_nested: bool = True) -> None:
        """``is_nested``: ``loop`` is to watch our epoll; else it calls ``wait``."""
        self.loop = loop
        self.now = time.monotonic()
        """When all that is told of now was found to be ready, in monotonic seconds."""
        self._epoll = select.epoll()
        self._watched: dict[int, Pollable] = {}
        self._corked: list[Corked] = []
        self._is_telling = False
        self._is_called = False
        """Whether asyncio has got something to do since the last wait began."""
        self._is_nested = is_nested
        if is_nested:
            loop.add_reader(self._epoll.fileno(), self._ready)

    def watch(self, fd: int, owner: Pollable, events: int) -> None:
        """Begin to watch ``fd`` for READ, WRITE, both or NEWS; GONE and ENDED always come."""
        self._epoll.register(fd, events)
        self._watched[fd] = owner

    def change(self, fd: int, events: int) -> None:
        """Watch ``fd`` for other events, or tell once more what is so of the same."""
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Watch ``fd`` no more; to be called before it is closed."""
        del self._watched[fd]
        self._epoll.unregister(fd)

    def cork(self, owner: Corked) -> None:
        """Ask ``owner`` to send when all that is ready now has been told; once for each call."""
        if self._is_nested and not self._corked and not self._is_telling:
            self.loop.call_soon(self._uncork)
        self._corked.append(owner)

    def call(self) -> None:
        """Let the wait end as soon as all that is ready has been told."""
        self._is_called = True

    def wait(self, timeout_s: float) -> None:
        """Tell owners what is ready until ``call`` is called, or for so many seconds.

        Less than 0: for ever; 0: tell what is ready now. Returns earlier after many turns.
        """
        self._is_called = False
        if self._corked:
            self._uncork()
            if self._is_called:
                timeout_s = 0.0
        until = time.monotonic() + timeout_s if timeout_s > 0 else 0.0
        for _ in range(_TURNS):
            self._tell(timeout_s)
            if self._is_called or timeout_s == 0:
                return
            if timeout_s > 0:
                timeout_s = until - time.monotonic()
                if timeout_s <= 0:
                    return

    def close(self) -> None:
        """Watch nothing any more; what belongs to our own loop is closed with it."""
        if self._is_nested and not self._epoll.closed:
            self.loop.remove_reader(self._epoll.fileno())
            self.end()

    def end(self) -> None:
        """Watch nothing any more, for the loop is closed."""
        self._epoll.close()
        self._watched.clear()
        self._corked.clear()

    def _ready(self) -> None:
        self._tell(0)

    def _tell(self, timeout_s: float) -> None:
        """Wait once, then tell each owner what its descriptor is ready for."""
        ready = wait(self._epoll, timeout_s)
        self.now = time.monotonic()
        self._is_telling = True
        try:
            for place in range(0, len(ready), 2):
                owner = self._watched.get(ready[place])
                if owner is None:
                    continue
                try:
                    owner.on_ready(ready[place + 1])
                except Exception as error:  # noqa: BLE001  # one owner's bug must not starve the rest
                    self._report("a descriptor's owner broke", error)
            if self._corked:
                self._uncork()
        finally:
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
