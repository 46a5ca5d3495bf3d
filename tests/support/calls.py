"""Callers and applications of a decision's case: HTTP/1, gRPC over HTTP/2 by ``h2``, and bytes."""

from __future__ import annotations

import asyncio
import re

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    Event,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    TrailersReceived,
)

from policy.match import Request

BYTES = b"\0these are bytes"
_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")


async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer HTTP/1 with 200, a gRPC call with OK, and bytes with themselves."""
    try:
        first = await reader.read(65_536)
        if first.startswith(b"PRI * HTTP/2"):
            await _answer_calls(first, reader, writer)
        elif b" HTTP/1." in first:
            await _answer_requests(first, reader, writer)
        else:
            while first:
                writer.write(first)
                first = await reader.read(65_536)
    except ConnectionError:
        pass
    finally:
        writer.close()


async def _answer_requests(
    data: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    while data:
        for _ in range(data.count(b"\r\n\r\n")):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
        data = await reader.read(65_536)


async def _answer_calls(
    data: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    connection = H2Connection(H2Configuration(client_side=False))
    connection.initiate_connection()
    while data:
        for event in connection.receive_data(data):
            if isinstance(event, StreamEnded) and event.stream_id is not None:
                kind = ("content-type", "application/grpc")
                connection.send_headers(event.stream_id, [(":status", "200"), kind])
                connection.send_headers(event.stream_id, [("grpc-status", "0")], end_stream=True)
            elif isinstance(event, RequestReceived):
                assert dict(event.headers or ())[b":method"] == b"POST"
        writer.write(connection.data_to_send())
        data = await reader.read(65_536)


async def ask_http1(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Request, times: int
) -> list[int]:
    """Make a request so many times at once; return the statuses in order."""
    fields = {"host": "web.app"}
    fields |= {bytes(name).decode(): bytes(value).decode() for name, value in request.headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    target = f"{request.path}?{request.query}" if request.query else request.path
    one = f"{request.method} {target} HTTP/1.1\r\n{lines}"
    writer.write(f"{one}\r\n".encode() * (times - 1) + f"{one}connection: close\r\n\r\n".encode())
    return [int(each) for each in _STATUS.findall(await reader.read())]


async def ask_grpc(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Request, times: int
) -> list[int]:
    """Make a call so many times at once; return each one's grpc-status."""
    connection = H2Connection(H2Configuration(client_side=True))
    connection.initiate_connection()
    for n in range(times):
        connection.send_headers(
            2 * n + 1,
            [
                (":method", request.method),
                (":scheme", "http"),
                (":authority", "web.app"),
                (":path", request.path),
                ("content-type", "application/grpc"),
                ("te", "trailers"),
            ],
            end_stream=True,
        )
    writer.write(connection.data_to_send())
    found: dict[int, int] = {}
    ended: set[int] = set()
    while len(ended) < times:
        data = await reader.read(65_536)
        assert data, f"the connection ended after {len(ended)} of {times} calls"
        for event in connection.receive_data(data):
            _note(event, found, ended)
        writer.write(connection.data_to_send())
    return [found[2 * n + 1] for n in range(times)]


def _note(event: Event, found: dict[int, int], ended: set[int]) -> None:
    assert not isinstance(event, ConnectionTerminated), event
    if isinstance(event, ResponseReceived | TrailersReceived):
        said = dict(event.headers or ()).get(b"grpc-status")
        if said is not None and event.stream_id is not None:
            found[event.stream_id] = int(said)
    elif isinstance(event, StreamEnded) and event.stream_id is not None:
        ended.add(event.stream_id)


async def ask_bytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Send bytes; tell whether they were answered, and not closed upon."""
    writer.write(BYTES)
    answer = b""
    try:
        while len(answer) < len(BYTES) and (data := await reader.read(65_536)):
            answer += data
    except ConnectionError:
        pass
    assert answer in {b"", BYTES}
    return answer == BYTES
