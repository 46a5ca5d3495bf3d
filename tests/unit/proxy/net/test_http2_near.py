"""A client of HTTP/2 that asks and does not read."""

from __future__ import annotations

import asyncio
import socket
from typing import final

from proxy.http.exchange import Exchange, Service
from proxy.http.http2_near import MAX_UNREAD, Http2Near
from proxy.net.poller import Poller
from proxy.net.relay import Relay
from proxy.net.stream import CLOSED, Stream
from proxy.wire.http_message import HTTP_2, ResponseHead
from tests.wire.http2_talk import PREFACE, headers, settings

FIELD = 10_000
"""Octets of a field that every answer has: too long for the table of repeated ones."""


@final
class Answering(Service):
    """Answers each request at once."""

    def __init__(self) -> None:
        self.answered = 0

    def begin(self, exchange: Exchange) -> None:
        self.answered += 1
        fields = ((b"x-long", b"a" * FIELD),)
        exchange.answer(ResponseHead(204, b"", HTTP_2, fields, 0, True))

    def refused(self, code: str) -> None:
        raise AssertionError(code)


@final
class Owner:
    def near_closed(self, error: Exception | None) -> None:
        pass

    def near_switched(self, relay: Relay) -> None:
        pass

    def relay_done(self, error: Exception | None) -> None:
        pass


async def test_who_reads_no_answers_is_not_read(poller: Poller) -> None:
    """Heads have no window; what waits of them is bounded, and goes out when the client reads."""
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
    service = Answering()
    stream = Stream(poller, ours, CLOSED)
    near = Http2Near(poller, stream, service, Owner())
    near.start(b"")
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(theirs, PREFACE + settings())
    asked = 0
    most = 0
    async with asyncio.timeout(10):
        while asked < 1_000:
            try:
                theirs.send(headers(2 * asked + 1))
            except BlockingIOError:
                break
            asked += 1
            await asyncio.sleep(0)
            most = max(most, near.codec.waiting_output)
        await asyncio.sleep(0.05)
        assert MAX_UNREAD < most < MAX_UNREAD + 20 * FIELD
        assert service.answered < asked
        got = 0
        while got < asked * FIELD:
            got += len(await loop.sock_recv(theirs, 65_536))
    assert service.answered == asked
    stream.close()
    theirs.close()
