"""A server that speaks first, found out without a stall and without configuration.

When a client stays silent where a protocol is to be detected, the server is dialled once on
speculation: if it greets within a second, connections of this kind are opaque from here on, and
this client gets the greeting. The client's own first byte ends the speculation. Nobody whom
policy would refuse as a plain TCP client causes a dial or sees a byte: that is the caller's to
see to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, Protocol, TypeVar, final

from core.errors import MeshError
from proxy.net.inbox import Inbox
from proxy.net.sockopt import round_trip_s
from proxy.net.stream import Stream
from proxy.runtime import Runtime
from proxy.speaker import GREETING_WAIT_S, Speaker, Speakers, is_greeting, silence_s


class Server(Protocol):
    """A connection to a server, its sink an inbox."""

    @property
    def stream(self) -> Stream:
        """The stream."""
        ...

    @property
    def inbox(self) -> Inbox:
        """What the server has said."""
        ...

    def drop(self, now: float) -> None:
        """Let go of it unused; ``now`` in monotonic seconds."""
        ...


K = TypeVar("K", bound=Hashable)
S = TypeVar("S", bound=Server)


@final
class _Asking:
    """A speculative connection that is open."""

    __slots__ = ("decided", "failed")

    def __init__(self) -> None:
        self.decided: Final = asyncio.Event()
        """Set when it has come to something."""
        self.failed: MeshError | None = None
        """Why the server cannot be asked."""


@final
class Greetings(Generic[K, S]):
    """Finds out, key by key, whether the server speaks first."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._speakers: Speakers[K] = Speakers()
        self._asking: dict[K, _Asking] = {}

    async def listen(self, inbox: Inbox, key: K, dial: Callable[[], Awaitable[S]]) -> S | Speaker:
        """Wait for the first word on a silent connection; ``dial`` connects to the server.

        Returns the server that has greeted; SERVER when it is known to greet; CLIENT when the
        client spoke, or has to. Raises what ``dial`` raises while the client is silent, or raised
        for another silent client meanwhile.
        """
        clock = self._runtime.clock
        if await client_speaks(inbox, silence_s(_round_trip_s(inbox))):
            return Speaker.CLIENT
        known = self._speakers.get(key, clock.monotonic())
        asking = self._asking.get(key)
        if known is None and asking is not None:
            await either(inbox, asking.decided, GREETING_WAIT_S)
            known = self._speakers.get(key, clock.monotonic())
            is_silent = not (inbox.data or inbox.ended or inbox.closed)
            if asking.failed is not None and is_silent:
                raise asking.failed
            return Speaker.CLIENT if inbox.data or known is None else known
        if known is not None:
            return known
        asking = self._asking[key] = _Asking()
        try:
            answer = await self._ask(inbox, dial)
            if answer is None:
                return Speaker.CLIENT
            speaker = answer if isinstance(answer, Speaker) else Speaker.SERVER
            self._speakers.learn(key, speaker, clock.monotonic())
            if speaker is Speaker.SERVER:
                self._runtime.log.info("server speaks first", key=str(key))
        except MeshError as error:
            asking.failed = error
            raise
        else:
            return answer
        finally:
            del self._asking[key]
            asking.decided.set()

    async def _ask(self, inbox: Inbox, dial: Callable[[], Awaitable[S]]) -> S | Speaker | None:
        """Dial the server and hear it out; None: nothing is learned from this.

        A server that cannot be reached, or hangs up on a silent client, does so without a mesh,
        too: raises why. The client is listened to once more before: where we were held up
        ourselves, its words wait unread while a time limit of the dial is long over.
        """
        try:
            return await self._hear_out(inbox, await dial())
        except MeshError:
            if await client_speaks(inbox, silence_s(_round_trip_s(inbox))):
                return None
            raise

    async def _hear_out(self, inbox: Inbox, server: S) -> S | Speaker | None:
        """Return what a server that is there does about a silent client.

        Only a second of silence, or what is no greeting, says that the client has to speak. A
        client that spoke or left must not decide for others.
        """
        heard = server.inbox
        news = asyncio.Event()
        heard.listener = news.set
        server.stream.resume()
        greeted = None
        try:
            if not heard.data:
                await either(inbox, news, GREETING_WAIT_S)
            if inbox.data or inbox.ended or inbox.closed:
                return None
            if is_greeting(heard.data) and not server.stream.closed:
                server.stream.pause()
                greeted = server
                return greeted
            if not heard.data and (heard.ended or heard.closed):
                raise heard.reason()
            return Speaker.CLIENT
        finally:
            heard.listener = None
            if greeted is None:
                server.drop(self._runtime.clock.monotonic())


async def client_speaks(inbox: Inbox, timeout_s: float) -> bool:
    """Wait for the client's first byte or its end; False when it stays silent."""
    try:
        async with asyncio.timeout(timeout_s):
            await inbox.more(0)
    except TimeoutError:
        return False
    return True


async def either(inbox: Inbox, news: asyncio.Event, timeout_s: float) -> None:
    """Wait for the client to speak, end or leave, or for ``news``, or for the time to pass."""
    inbox.listener = news.set
    try:
        if not (inbox.data or inbox.ended or inbox.closed):
            async with asyncio.timeout(timeout_s):
                await news.wait()
    except TimeoutError:
        pass
    finally:
        inbox.listener = None


def _round_trip_s(inbox: Inbox) -> float:
    if inbox.stream is None or inbox.stream.closed:
        return 0.0
    return round_trip_s(inbox.stream.socket)
