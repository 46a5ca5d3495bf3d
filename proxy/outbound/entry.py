"""How an application begins that tells us where it wants to go, for nothing is captured.

Its first octets say in what way: SOCKS, HTTP's CONNECT, or else requests with whole URLs. Only the
pod's own programs are served.
"""

from __future__ import annotations

import asyncio
from typing import Final, final

from core.errors import DetectTimeoutError, MeshError, RefusedError
from discovery.model import Address
from proxy.http.answer import answer_for
from proxy.net.inbox import Inbox
from proxy.net.stream import Stream
from proxy.outbound.lookup import Lookup
from proxy.outbound.socks import SocksEntry, say_last
from proxy.runtime import Runtime
from proxy.wire.http1_reader import RequestReader
from proxy.wire.http1_writer import reason_of
from proxy.wire.http_message import HTTP_11, RequestHead
from proxy.wire.native import write_response_head

LOCAL: Final = ("127.0.0.1", "::1")
_CONNECT: Final = b"CONNECT "
_SOCKS: Final = (4, 5)
"""The first octets of SOCKS's versions; the older one is refused in its own words."""


@final
class Entry:
    """Serves the first octets of connections at the outbound port."""

    __slots__ = ("_lookup", "_runtime", "_socks")

    def __init__(self, runtime: Runtime, lookup: Lookup) -> None:
        self._runtime: Final = runtime
        self._lookup: Final = lookup
        self._socks: Final = SocksEntry(runtime, lookup)

    async def destination(self, stream: Stream, inbox: Inbox, ip: str) -> Address | None:
        """Return where the client at ``ip`` wants to go; what it says after that stays.

        None: requests follow that say so each for itself. Raises RefusedError for a client that
        is not of this pod, ClientProtocolError, DetectTimeoutError, or UnreachableError for a
        name that nobody knows.
        """
        if ip not in LOCAL and ip not in self._runtime.own_ips:
            raise RefusedError(
                f"{ip} is not of this pod",
                hint="only the pod's own programs may go out by its sidecar",
                code="not-local",
            )
        stream.resume()
        limit = self._runtime.limits.detect_s
        try:
            async with asyncio.timeout(limit):
                kind = await _first_octets(inbox)
                head = await _connect_head(inbox) if kind == _CONNECT else None
        except TimeoutError as error:
            raise DetectTimeoutError(f"no word of a destination came within {limit:g} s") from error
        if head is not None:
            return await self._connect(stream, inbox, head)
        if kind:
            return None
        return await self._socks.destination(stream, inbox)

    async def _connect(self, stream: Stream, inbox: Inbox, head: RequestHead) -> Address:
        """Answer a CONNECT: at once, since what the client speaks has to be seen first."""
        host, _, port = head.authority.decode("ascii").rpartition(":")
        try:
            found = await self._lookup.find(host.strip("[]"), int(port))
            self._runtime.refuse_own_listener(found)
        except MeshError as error:
            answer = answer_for(HTTP_11, error, is_grpc=False, informs=True)
            fields = (*answer.fields, (b"connection", b"close"))
            text = write_response_head(answer.status, reason_of(answer.status), fields, HTTP_11)
            await say_last(stream, inbox, text)
            raise
        stream.write(write_response_head(200, b"Connection established", (), HTTP_11))
        return found


async def _first_octets(inbox: Inbox) -> bytes:
    """Wait until it is clear what comes: nothing for SOCKS, CONNECT, or one octet of a request."""
    while True:
        begin = bytes(inbox.data[: len(_CONNECT)])
        if begin and begin[0] in _SOCKS:
            return b""
        if begin == _CONNECT:
            return begin
        if begin and not _CONNECT.startswith(begin):
            return begin[:1]
        if not await inbox.more(len(inbox.data)):
            return begin[:1]


async def _connect_head(inbox: Inbox) -> RequestHead | None:
    """Read the head of a CONNECT; None: it is broken, and left to whoever answers for it."""
    seen = 0
    reader = RequestReader()
    try:
        while True:
            reader.feed(bytes(inbox.data[seen:]))
            seen = len(inbox.data)
            head = reader.read_head()
            if head is not None:
                inbox.data[:] = reader.take_rest()
                return head
            if not await inbox.more(seen):
                return None
    except MeshError:
        return None
