"""The sink of a connection that is still being judged: bytes wait here, within a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, final

from core.errors import ClosedEarlyError, MeshError, UnreachableError
from proxy.net.stream import Sink, Stream
from proxy.wire.buffer import Buffer

INBOX_BYTES: Final = 65_536
"""When so many bytes wait, reading stops; one read more may already be on its way."""


@final
class Inbox(Sink):
    """Collects what a stream reads until somebody knows what to do with it."""

    __slots__ = (
        "_error",
        "_limit",
        "_loop",
        "_waiter",
        "closed",
        "data",
        "ended",
        "listener",
        "stream",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int = INBOX_BYTES) -> None:
        self._loop = loop
        self._limit = limit
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self.data = bytearray()
        """What has come and was not taken."""
        self.ended = False
        self.closed = False
        self.listener: Callable[[], None] | None = None
        """Called at whatever happens, beside whoever waits here."""
        self.stream: Stream | None = None
        """The stream to hold back when the bound is reached."""

    def on_data(self, data: Buffer) -> None:
        """Keep a copy; at the bound hold the stream back."""
        self.data += data
        if len(self.data) >= self._limit and self.stream is not None:
            self.stream.pause()
        self._wake()

    def on_end(self) -> None:
        """Remember that no more comes."""
        self.ended = True
        self._wake()

    def on_drained(self) -> None:
        """Let who waits for room go on."""
        self._wake()

    def on_closed(self, error: Exception | None) -> None:
        """Remember why the stream is gone."""
        self.closed = True
        self._error = error
        self._wake()

    def reason(self) -> MeshError:
        """Return why the stream gave nothing."""
        error = self._error
        if isinstance(error, MeshError):
            return error
        return UnreachableError(f"hung up without a word: {error or 'closed'}", code="far-closed")

    async def more(self, seen: int) -> bool:
        """Wait until there are more than ``seen`` bytes; False when none will come.

        Raises ClosedEarlyError when the connection is gone. The caller bounds the wait.
        """
        while len(self.data) <= seen:
            if self.closed:
                raise ClosedEarlyError(f"the client went away: {self._error or 'closed'}")
            if self.ended or seen >= self._limit:
                return False
            await self._wait()
        return True

    async def room(self) -> bool:
        """Wait until the stream's backlog is sent; False when the stream is gone.

        The caller bounds the wait.
        """
        while not self.closed and self.stream is not None and self.stream.congested:
            await self._wait()
        return not self.closed

    def take(self) -> bytearray:
        """Return all that waits and start afresh."""
        data, self.data = self.data, bytearray()
        return data

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self.listener is not None:
            self.listener()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
