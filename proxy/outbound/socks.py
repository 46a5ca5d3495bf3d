"""Where an application wants to go that tells us by SOCKS 5, for nothing is captured.

Only the pod's own programs are served. The client hears that it is connected as soon as its
destination is known, as with a captured connection: what it speaks has to be seen first. Names
of Services are looked up in the mesh, all others by the system.
"""

from __future__ import annotations

import asyncio
from typing import Final, final

from core.errors import ClientProtocolError, DetectTimeoutError, RefusedError, UnreachableError
from discovery.model import Address
from proxy.net.address import plain_ip
from proxy.net.inbox import Inbox
from proxy.net.resolver import ask_system
from proxy.net.stream import Stream
from proxy.providers import NameProvider
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
_LOCAL: Final = ("127.0.0.1", "::1")


@final
class SocksEntry:
    """Serves the first bytes of connections at the outbound port."""

    def __init__(self, runtime: Runtime, names: NameProvider | None) -> None:
        self._runtime = runtime
        self._names = names

    async def destination(self, stream: Stream, inbox: Inbox, ip: str) -> Address:
        """Return where the client at ``ip`` wants to go; what it says after that stays.

        Raises RefusedError for a client that is not of this pod, ClientProtocolError,
        DetectTimeoutError, or UnreachableError for a name that nobody knows.
        """
        runtime = self._runtime
        if ip not in _LOCAL and ip not in runtime.own_ips:
            raise RefusedError(
                f"{ip} is not of this pod",
                hint="only the pod's own programs may go out by its sidecar",
                code="not-local",
            )
        limit = runtime.limits.detect_s
        stream.resume()
        try:
            async with asyncio.timeout(limit):
                request = await self._request(stream, inbox)
        except TimeoutError as error:
            raise DetectTimeoutError(f"no whole SOCKS 5 request came within {limit:g} s") from error
        try:
            found = await self._resolve(request)
        except UnreachableError:
            await _say(stream, inbox, encode_reply(Reply.HOST_UNREACHABLE))
            raise
        if runtime.is_own_listener(found):
            await _say(stream, inbox, encode_reply(Reply.NOT_ALLOWED))
            return found
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
        known = self._names.addresses(request.host, request.port) if self._names else None
        if known is None:
            known = await ask_system(self._runtime.loop, request.host, request.port)
        ours = {":" in each for each in self._runtime.own_ips}
        usable = [each for each in known if not ours or (":" in each.ip) in ours]
        if not usable:
            raise UnreachableError(
                f"{request.host} has no address that this pod can reach",
                hint="see the Service's selector and its pods' readiness",
                code="name-unknown",
            )
        return usable[0]


async def _refused(stream: Stream, inbox: Inbox, refusal: SocksRefusal) -> ClientProtocolError:
    await _say(stream, inbox, refusal.answer)
    return ClientProtocolError(refusal.reason, code="socks5")


async def _say(stream: Stream, inbox: Inbox, answer: bytes) -> None:
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
