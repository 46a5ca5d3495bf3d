"""An HTTP/1 application by h11, which is strict about what it is sent; its paths say what it does.

``/seen`` tells the request's head, ``/sum`` the sum of its content, ``/echo`` sends content and
trailers back as they come, ``/hints`` answers 103 twice before 200, ``/refuse`` answers 413 without
reading, ``/chunks/N`` sends N pieces and the sum as a trailer, ``/bytes/N`` N octets of known
length. CONNECT leads back to itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Final

import h11

READ: Final = 65_536
PIECE: Final = b"0123456789abcdef" * 1_024
"""16 KiB of content."""


class Http1App:
    """Answers every connection; keeps what it saw."""

    def __init__(self) -> None:
        self.heads: list[h11.Request] = []
        self.connections = 0
        self.cut_short = 0
        """Connections that ended inside a message."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests until the client goes."""
        self.connections += 1
        talk = _Talk(reader, writer)
        try:
            while True:
                event = await talk.next()
                if not isinstance(event, h11.Request):
                    return
                self.heads.append(event)
                await _answer(talk, event)
                if talk.is_tunnel:
                    talk = _Talk(reader, writer)
                    continue
                if talk.reader.our_state is not h11.DONE:
                    return
                await talk.content()
                talk.reader.start_next_cycle()
        except (ConnectionError, h11.RemoteProtocolError):
            self.cut_short += 1
        finally:
            writer.close()


class _Talk:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = h11.Connection(h11.SERVER)
        self.is_tunnel = False
        self._in = reader
        self._out = writer

    async def next(self) -> h11.Event | type[h11.PAUSED]:
        """Return the next event."""
        while True:
            event = self.reader.next_event()
            if event is not h11.NEED_DATA:
                assert not isinstance(event, type) or event is h11.PAUSED
                return event
            if self.reader.they_are_waiting_for_100_continue:
                await self.send(h11.InformationalResponse(status_code=100, headers=[]))
            self.reader.receive_data(await self._in.read(READ))

    async def content(self) -> tuple[str, list[tuple[bytes, bytes]]]:
        """Read the request to its end; return the sum of its content, and its trailers."""
        total = hashlib.sha256()
        while True:
            if self.reader.their_state is h11.DONE:
                return total.hexdigest(), []
            event = await self.next()
            if isinstance(event, h11.Data):
                total.update(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return total.hexdigest(), list(event.headers)

    async def send(self, event: h11.Event) -> None:
        """Send an event."""
        data = self.reader.send(event)
        if data:
            self._out.write(data)
            await self._out.drain()

    async def tunnel(self) -> None:
        """Take what follows for another connection."""
        await self.content()
        await self.send(h11.Response(status_code=200, headers=[]))
        self.is_tunnel = True

    async def answer(self, status: int, content: bytes, *fields: tuple[str, str]) -> None:
        """Answer in one piece."""
        headers = [("content-length", str(len(content))), *fields]
        await self.send(h11.Response(status_code=status, headers=headers))
        await self.send(h11.Data(data=content))
        await self.send(h11.EndOfMessage())


async def _answer(talk: _Talk, request: h11.Request) -> None:
    if request.method == b"CONNECT":
        await talk.tunnel()
        return
    path = request.target.decode().partition("?")[0]
    if path.startswith("http://"):
        path = "/" + path.split("/", 3)[3]
    _, name, *rest = path.split("/")
    if name == "seen":
        await talk.content()
        await talk.answer(200, json.dumps(_seen(request)).encode())
    elif name == "sum":
        total, trailers = await talk.content()
        await talk.answer(200, total.encode(), ("x-trailers", str(len(trailers))))
    elif name == "echo":
        await _echo(talk)
    elif name == "hints":
        for link in ("</a.css>; rel=preload", "</b.js>; rel=preload"):
            await talk.send(h11.InformationalResponse(status_code=103, headers=[("link", link)]))
        await talk.answer(200, b"hinted")
    elif name == "refuse":
        await talk.answer(413, b"too much", ("connection", "close"))
    elif name == "chunks":
        await _chunks(talk, int(rest[0]))
    elif name == "bytes":
        await _bytes(talk, int(rest[0]))
    else:
        await talk.answer(404, b"")


def _seen(request: h11.Request) -> dict[str, object]:
    return {
        "method": request.method.decode(),
        "target": request.target.decode(),
        "version": request.http_version.decode(),
        "fields": [[name.decode(), value.decode()] for name, value in request.headers],
    }


async def _echo(talk: _Talk) -> None:
    await talk.send(h11.Response(status_code=200, headers=[("trailer", "x-end")]))
    while True:
        event = await talk.next()
        if isinstance(event, h11.Data):
            await talk.send(h11.Data(data=event.data))
        elif isinstance(event, h11.EndOfMessage):
            await talk.send(h11.EndOfMessage(headers=event.headers))
            return


async def _chunks(talk: _Talk, count: int) -> None:
    await talk.send(h11.Response(status_code=200, headers=[("trailer", "x-sum")]))
    total = hashlib.sha256()
    for _ in range(count):
        await talk.send(h11.Data(data=PIECE))
        total.update(PIECE)
    fields = [("x-sum", total.hexdigest())]
    is_old = talk.reader.their_http_version == b"1.0"
    await talk.send(h11.EndOfMessage(headers=[] if is_old else fields))


async def _bytes(talk: _Talk, size: int) -> None:
    await talk.send(h11.Response(status_code=200, headers=[("content-length", str(size))]))
    while size:
        piece = PIECE[:size]
        size -= len(piece)
        await talk.send(h11.Data(data=piece))
    await talk.send(h11.EndOfMessage())
