"""The admin server: plaintext or mesh TLS by detection, HTTP/1.1 by h11.

One request at a time on a connection, small bodies, bounded waits: this is a door for probes,
scrapers and people, not a data path. It runs before there is an identity.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final, Protocol, final

import h11

from core.errors import MeshError, OverloadError
from policy.model import Client
from proxy.admin.answer import Answer
from proxy.inbound.detect import detect_client
from proxy.net.inbox import Inbox
from proxy.net.stream import Stream
from proxy.runtime import Runtime

IDLE_TIMEOUT_S: Final = 60.0
"""A scraper's keep-alive; Prometheus scrapes every 10 to 60 seconds."""
WRITE_TIMEOUT_S: Final = 10.0
DETECT_TIMEOUT_S: Final = 1.0
"""Linkerd's for this port: a silent client is taken for plaintext HTTP."""
MAX_CONNECTIONS: Final = 64
MAX_SLOW_READERS: Final = 4
"""Connections whose answer waits for its reader; a scrape may be several MiB."""
MAX_HEAD_BYTES: Final = 16_384
MAX_BODY_BYTES: Final = 16_384


class AdminHandler(Protocol):
    """What answers requests."""

    async def answer(
        self, method: str, path: str, query: str, body: bytes, client: Client
    ) -> Answer:
        """Return status, content type and body."""
        ...


@final
class AdminServer:
    """Serves the admin port."""

    def __init__(self, runtime: Runtime, handler: AdminHandler) -> None:
        self._runtime = runtime
        self._handler = handler
        self._open: dict[Stream, asyncio.Task[None] | None] = {}
        """Who asked for something last comes last."""

    def accepted(self, sock: socket.socket, ip: str) -> None:
        """Take a connection; past the bound the longest idle one makes room for it.

        Otherwise whoever holds idle connections would keep the kubelet's probes out.
        """
        inbox = Inbox(self._runtime.loop)
        stream = Stream(self._runtime.poller, sock, inbox)
        inbox.stream = stream
        if len(self._open) >= MAX_CONNECTIONS:
            self._drop(next(iter(self._open)))
        self._open[stream] = None
        self._runtime.spawn(self._serve(stream, inbox, ip))

    def _drop(self, stream: Stream) -> None:
        task = self._open.pop(stream, None)
        stream.abort(OverloadError("another admin connection needs the room"))
        # It may be waiting for other workers' answers, which nobody will read.
        if task is not None:
            task.cancel()

    async def _serve(self, stream: Stream, inbox: Inbox, ip: str) -> None:
        runtime = self._runtime
        if stream in self._open:
            self._open[stream] = asyncio.current_task()
        try:
            stream.resume()
            client = await self._identify(stream, inbox, ip)
            await self._converse(stream, inbox, client)
        except (MeshError, h11.ProtocolError, TimeoutError) as error:
            runtime.log.debug("admin connection failed", client_ip=ip, reason=str(error))
        except Exception:  # a broken answer must not end the sidecar
            runtime.log.exception("admin broke", code="internal")
        finally:
            stream.close()
            self._open.pop(stream, None)

    async def _identify(self, stream: Stream, inbox: Inbox, ip: str) -> Client:
        if self._runtime.generation.current is None:
            return Client(ip)
        try:
            async with asyncio.timeout(DETECT_TIMEOUT_S):
                await inbox.more(0)
        except TimeoutError:
            return Client(ip)
        return await detect_client(
            stream,
            inbox,
            self._runtime,
            ip,
            DETECT_TIMEOUT_S,
            direct=False,
        )

    async def _converse(self, stream: Stream, inbox: Inbox, client: Client) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        while True:
            try:
                request, body = await self._request(connection, inbox)
                if request is None:
                    return
                self._open[stream] = self._open.pop(stream, None)
                await self._respond(connection, stream, request, body, client)
            except h11.RemoteProtocolError as error:
                if connection.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
                    status = error.error_status_hint
                    self._send(connection, stream, status, "text/plain", b"bad request\n")
                await self._delivered(inbox)
                return
            # A client that does not read its answers gets no more of them.
            if not await self._delivered(inbox):
                return
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                stream.end()
                return
            connection.start_next_cycle()

    async def _delivered(self, inbox: Inbox) -> bool:
        slow = [each for each in self._open if each.congested]
        if len(slow) > MAX_SLOW_READERS:
            self._drop(slow[0])
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            return await inbox.room()

    async def _request(
        self, connection: h11.Connection, inbox: Inbox
    ) -> tuple[h11.Request | None, bytes]:
        request: h11.Request | None = None
        body = bytearray()
        async with asyncio.timeout(IDLE_TIMEOUT_S):
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    if not inbox.data and not await inbox.more(0):
                        connection.receive_data(b"")
                        return None, b""
                    connection.receive_data(bytes(inbox.take()))
                    if inbox.stream is not None:
                        inbox.stream.resume()
                elif isinstance(event, h11.Request):
                    request = event
                    if _head_bytes(event) > MAX_HEAD_BYTES:
                        raise h11.RemoteProtocolError("head too large", error_status_hint=431)
                elif isinstance(event, h11.Data):
                    body += event.data
                    if len(body) > MAX_BODY_BYTES:
                        raise h11.RemoteProtocolError("body too large", error_status_hint=413)
                elif isinstance(event, h11.EndOfMessage):
                    return request, bytes(body)
                else:
                    return None, b""

    async def _respond(
        self,
        connection: h11.Connection,
        stream: Stream,
        request: h11.Request,
        body: bytes,
        client: Client,
    ) -> None:
        target = request.target.decode("ascii", "replace")
        path, _, query = target.partition("?")
        method = request.method.decode("ascii")
        status, content_type, content = await self._handler.answer(
            method, path, query, body, client
        )
        self._send(connection, stream, status, content_type, content, is_head=method == "HEAD")

    def _send(
        self,
        connection: h11.Connection,
        stream: Stream,
        status: int,
        content_type: str,
        content: bytes,
        *,
        is_head: bool = False,
    ) -> None:
        headers = [("content-type", content_type), ("content-length", str(len(content)))]
        # A 204 has neither content nor its length (RFC 9110, 8.6).
        response = h11.Response(status_code=status, headers=[] if status == 204 else headers)
        out = connection.send(response) or b""
        if content and not is_head:
            out += connection.send(h11.Data(data=content)) or b""
        out += connection.send(h11.EndOfMessage()) or b""
        stream.write(out)


def _head_bytes(request: h11.Request) -> int:
    # h11 looks at its bound only while a head is not whole.
    fields = sum(len(name) + len(value) + 4 for name, value in request.headers)
    return len(request.method) + len(request.target) + fields
