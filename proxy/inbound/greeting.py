"""A server that speaks first, found out without a stall and without configuration.

When the client of a port with protocol detection stays silent, the application is dialled once
on speculation: if it greets within a second, the port is opaque from here on, and this client
gets the greeting. The client's own first byte ends the speculation. Nobody whom policy would
refuse as a plain TCP client causes a dial or sees a byte.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import final

from core.errors import MeshError
from discovery.model import Address
from proxy.net.inbox import Inbox
from proxy.net.sockopt import round_trip_s
from proxy.net.stream import Stream
from proxy.runtime import Runtime
from proxy.speaker import GREETING_WAIT_S, Speaker, Speakers, is_greeting, silence_s


@final
@dataclass(frozen=True, slots=True)
class Greeted:
    """A connection to the application that has spoken."""

    stream: Stream
    inbox: Inbox


@final
class Greetings:
    """Finds out, port by port, whether the application speaks first."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._speakers: Speakers[int] = Speakers()
        self._asking: dict[int, asyncio.Event] = {}
        """Ports for which a speculative connection is open; set when it is decided."""

    async def listen(self, inbox: Inbox, target: Address) -> Greeted | Speaker:
        """Wait for the first word on a silent, admissible connection.

        Returns the greeted application; SERVER when the port is known to greet; CLIENT when the
        client spoke, or has to.
        """
        runtime = self._runtime
        if await client_speaks(inbox, silence_s(_round_trip_s(inbox))):
            return Speaker.CLIENT
        known = self._speakers.get(target.port, runtime.clock.monotonic())
        asking = self._asking.get(target.port)
        if known is None and asking is not None:
            await either(inbox, asking, GREETING_WAIT_S)
            known = self._speakers.get(target.port, runtime.clock.monotonic())
            return Speaker.CLIENT if inbox.data or known is None else known
        if known is not None:
            return known
        decided = self._asking[target.port] = asyncio.Event()
        try:
            answer = await self._ask(inbox, target)
            if answer is None:
                return Speaker.CLIENT
            speaker = Speaker.SERVER if isinstance(answer, Greeted) else answer
            self._speakers.learn(target.port, speaker, runtime.clock.monotonic())
            return answer
        finally:
            del self._asking[target.port]
            decided.set()

    async def _ask(self, inbox: Inbox, target: Address) -> Greeted | Speaker | None:
        """Dial the application and hear it out; None: nothing is learned from this.

        Only a second of silence, or what is no greeting, says that the client has to speak. A
        client that spoke or left, or an application that is down, must not decide for others.
        """
        runtime = self._runtime
        try:
            sock = await runtime.connector.connect(
                runtime.app(target), runtime.limits.inbound_connect_s
            )
        except MeshError:
            # Whether the application can be reached is for the connection itself to find out.
            return None
        heard = Inbox(runtime.loop)
        stream = Stream(runtime.poller, sock, heard)
        heard.stream = stream
        stream.resume()
        news = asyncio.Event()
        heard.listener = news.set
        greeted = None
        try:
            await either(inbox, news, GREETING_WAIT_S)
            if inbox.data or inbox.ended or inbox.closed:
                return None
            if is_greeting(heard.data) and not stream.closed:
                stream.pause()
                runtime.log.info("server speaks first", port=target.port)
                greeted = Greeted(stream, heard)
                return greeted
            is_down = not heard.data and (heard.ended or heard.closed)
            return None if is_down else Speaker.CLIENT
        finally:
            heard.listener = None
            if greeted is None:
                stream.abort()


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
