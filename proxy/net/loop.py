"""The sidecar's event loop: asyncio's own, on an epoll that it shares with the user sockets.

While nothing concerns asyncio, it is not asked: the wait for its descriptors goes on, and owners
of user sockets are told from within it. It ends when one of asyncio's own descriptors is ready,
its next timer is due, or somebody has given it something to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
from collections.abc import Callable, Iterator, Mapping
from contextvars import Context
from selectors import EVENT_READ, EVENT_WRITE, SelectorKey
from typing import Protocol, TypeVarTuple, Unpack, final

from proxy.net.poller import READ, WRITE, Pollable, Poller

Arguments = TypeVarTuple("Arguments")


class HasDescriptor(Protocol):
    """What has a file descriptor, as sockets have."""

    def fileno(self) -> int:
        """Return its number."""
        ...


@final
class Watched(Pollable):
    """One descriptor of asyncio's."""

    __slots__ = ("_found", "_poller", "key")

    def __init__(
        self, key: SelectorKey, found: list[tuple[SelectorKey, int]], poller: Poller
    ) -> None:
        self.key = key
        self._found = found
        self._poller = poller

    def on_ready(self, events: int) -> None:
        """Keep it for asyncio, as its own selectors read the kernel's flags."""
        wanted = EVENT_WRITE if events & ~READ else 0
        if events & ~WRITE:
            wanted |= EVENT_READ
        self._found.append((self.key, wanted & self.key.events))
        self._poller.call()


def number_of(file: int | HasDescriptor) -> int:
    """Return a descriptor's number. Raises ValueError for one that is closed."""
    fd = file if isinstance(file, int) else file.fileno()
    if fd < 0:
        raise ValueError(f"{file!r} is no open descriptor")
    return fd


@final
class Keys(Mapping["int | HasDescriptor", SelectorKey]):
    """What is registered, by descriptor or what has one."""

    def __init__(self, watched: dict[int, Watched]) -> None:
        self._watched = watched

    def __len__(self) -> int:
        return len(self._watched)

    def __getitem__(self, file: int | HasDescriptor) -> SelectorKey:
        return self._watched[number_of(file)].key

    def __iter__(self) -> Iterator[int]:
        return iter(self._watched)


@final
class Selector(selectors.BaseSelector):
    """asyncio's descriptors, beside the user sockets of a poller."""

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        self._watched: dict[int, Watched] = {}
        self._found: list[tuple[SelectorKey, int]] = []
        self._keys = Keys(self._watched)

    def register(
        self, fileobj: int | HasDescriptor, events: int, data: object = None
    ) -> SelectorKey:
        """Watch a descriptor. Raises KeyError when that is done already."""
        fd = number_of(fileobj)
        if fd in self._watched:
            raise KeyError(f"{fileobj!r} (FD {fd}) is already registered")
        key = SelectorKey(fileobj, fd, events, data)
        watched = Watched(key, self._found, self._poller)
        self._poller.watch(fd, watched, _flags(events))
        self._watched[fd] = watched
        return key

    def modify(self, fileobj: int | HasDescriptor, events: int, data: object = None) -> SelectorKey:
        """Watch a descriptor for other events, or for somebody else. Raises KeyError."""
        fd = number_of(fileobj)
        watched = self._watched[fd]
        if events != watched.key.events:
            self._poller.change(fd, _flags(events))
        watched.key = SelectorKey(fileobj, fd, events, data)
        return watched.key

    def unregister(self, fileobj: int | HasDescriptor) -> SelectorKey:
        """Watch a descriptor no more. Raises KeyError for one that was not registered."""
        fd = number_of(fileobj)
        watched = self._watched.pop(fd)
        # Who has closed it already, against the rules, must not break who takes it out.
        with contextlib.suppress(OSError):
            self._poller.forget(fd)
        return watched.key

    def get_key(self, fileobj: int | HasDescriptor) -> SelectorKey:
        """Return what is registered of a descriptor. Raises KeyError."""
        return self._watched[number_of(fileobj)].key

    def get_map(self) -> Mapping[int | HasDescriptor, SelectorKey]:
        """Return all that is registered."""
        return self._keys

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Wait, telling owners of user sockets meanwhile; return what is ready of asyncio's."""
        self._poller.wait(-1.0 if timeout is None else max(0.0, timeout))
        if not self._found:
            return []
        # What was taken out meanwhile, or is somebody else's by now, is not told.
        found = [(key, events) for key, events in self._found if self._is_current(key)]
        self._found.clear()
        return found

    def close(self) -> None:
        """Watch nothing any more, user sockets included."""
        self._watched.clear()
        self._poller.end()

    def _is_current(self, key: SelectorKey) -> bool:
        watched = self._watched.get(key.fd)
        return watched is not None and watched.key is key


@final
class Loop(asyncio.SelectorEventLoop):
    """asyncio's event loop, which hears of what it is given to do while it waits."""

    def __init__(self) -> None:
        self.poller = Poller(self, is_nested=False)
        """Watches user sockets for this loop."""
        super().__init__(Selector(self.poller))

    def call_soon(
        self,
        callback: Callable[[Unpack[Arguments]], object],
        *args: *Arguments,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """Call ``callback`` in the next turn."""
        self.poller.call()
        return asyncio.SelectorEventLoop.call_soon(self, callback, *args, context=context)

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[Arguments]], object],
        *args: *Arguments,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """Call ``callback`` in the next turn; for other threads, too."""
        self.poller.call()
        return super().call_soon_threadsafe(callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Arguments]], object],
        *args: *Arguments,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call ``callback`` at ``when``, in the loop's time."""
        self.poller.call()
        return asyncio.SelectorEventLoop.call_at(self, when, callback, *args, context=context)

    def stop(self) -> None:
        """End the run after this turn."""
        self.poller.call()
        super().stop()


def poller_of(loop: asyncio.AbstractEventLoop) -> Poller:
    """Return our loop's own poller, or a new one that another loop watches."""
    return loop.poller if isinstance(loop, Loop) else Poller(loop)


def _flags(events: int) -> int:
    return (READ if events & EVENT_READ else 0) | (WRITE if events & EVENT_WRITE else 0)
