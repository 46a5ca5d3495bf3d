"""Where an application wants to go that tells us by SOCKS 5, for nothing is captured.

The client hears that it is connected as soon as its destination is known, as with a captured
connection: what it speaks has to be seen first.
"""

from __future__ import annotations

import asyncio
from typing import Final, final

from core.errors import ClientProtocolError, DetectTimeoutError, RefusedError, UnreachableError
from discovery.model import Address
from proxy.net.address import plain_ip
from proxy.net.inbox import Inbox
from proxy.net.stream import Stream
from proxy.outbound.lookup import Lookup
from proxy.runtime import Runtime
from proxy.wire.socks5 import (
    NO_AUTHENTICATION,
    Reply,
    SocksRefusal,
    SocksRequest,
    encode_reply,
    read_greeting,
    read_request,
)

_HEAR_S: Final = 1.0
"""How long a refused client may take to hang up."""


@final
class SocksEntry:
    """Serves the first bytes of connections at the outbound port."""

    def __init__(self, runtime: Runtime, lookup: Lookup) -> None:
        self._runtime = runtime
        self._lookup = lookup

    async def destination(self, stream: Stream, inbox: Inbox) -> Address:
        """Return where the client wants to go; what it says after that stays.

        Raises ClientProtocolError, DetectTimeoutError, UnreachableError for a name that nobody
        knows, or RefusedError for one of our own listeners.
        """
        runtime = self._runtime
        limit = runtime.limits.detect_s
        try:
            async with asyncio.timeout(limit):
                request = await self._request(stream, inbox)
        except TimeoutError as error:
            raise DetectTimeoutError(f"no whole SOCKS 5 request came within {limit:g} s") from error
        try:
            found = await self._resolve(request)
            runtime.refuse_own_listener(found)
        except UnreachableError:
            await say_last(stream, inbox, encode_reply(Reply.HOST_UNREACHABLE))
            raise
        except RefusedError:
            await say_last(stream, inbox, encode_reply(Reply.NOT_ALLOWED))
            raise
        stream.write(encode_reply(Reply.SUCCEEDED))
        return found

    async def _request(self, stream: Stream, inbox: Inbox) -> SocksRequest:
        seen = 0
        while (size := read_greeting(inbox.data)) is None:
            if not await inbox.more(seen):
                raise ClientProtocolError("the client ended before it had greeted", code="socks5")
            seen = len(inbox.data)
        if isinstance(size, SocksRefusal):
            raise await _refused(stream, inbox, size)
        del inbox.data[:size]
        stream.write(NO_AUTHENTICATION)
        seen = 0
        while (found := read_request(inbox.data)) is None:
            if not await inbox.more(seen):
                raise ClientProtocolError("the client ended within its request", code="socks5")
            seen = len(inbox.data)
        if isinstance(found, SocksRefusal):
            raise await _refused(stream, inbox, found)
        request, size = found
        del inbox.data[:size]
        return request

    async def _resolve(self, request: SocksRequest) -> Address:
        if not request.is_name:
            return Address(plain_ip(request.host), request.port)
        return await self._lookup.find(request.host, request.port)


async def _refused(stream: Stream, inbox: Inbox, refusal: SocksRefusal) -> ClientProtocolError:
    await say_last(stream, inbox, refusal.answer)
    return ClientProtocolError(refusal.reason, code="socks5")


async def say_last(stream: Stream, inbox: Inbox, answer: bytes) -> None:
    """Send the last bytes to a client, in order; the caller's reset must not overtake them."""
    if answer:
        stream.write(answer)
        stream.end()
        # Its own end says that it has heard ours; a client that stays is reset.
        try:
            async with asyncio.timeout(_HEAR_S):
                while not (inbox.ended or inbox.closed):
                    inbox.data.clear()
                    await inbox.more(0)
        except (TimeoutError, ClientProtocolError):
            return
