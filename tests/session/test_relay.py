"""Bytes through two real sidecars over mutual TLS: whole, in order, both ways, to the end."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import struct

import pytest

from identity.generation import Generation
from tests.session.apps import echo, serve
from tests.sidecars import run_pair


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "redirected"])
async def test_a_request_and_its_answer_go_through(
    web: Generation, api: Generation, direct: bool
) -> None:
    """The client's bytes reach the application; the server's sidecar knows who called."""
    async with serve(echo) as app, run_pair(web, api, app, direct=direct) as pair:
        reader, writer = await asyncio.open_connection(pair.entry.ip, pair.entry.port)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        await writer.wait_closed()
        seen = await pair.server.until_event("connection")
        assert seen["client_identity"] == str(web.identity)
        assert seen["tls"] == "mesh"
        assert seen["target"] == str(app)
        went = await pair.client.until_event("connection")
        assert went["server_identity"] == str(api.identity)


async def test_large_transfers_arrive_whole_both_ways(web: Generation, api: Generation) -> None:
    """32 MiB each way at once, with matching sums."""
    blob = os.urandom(1 << 20)
    rounds = 32
    expected = hashlib.sha256(blob * rounds).hexdigest()
    received: list[str] = []

    async def swap(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def send() -> None:
            for _ in range(rounds):
                writer.write(blob)
                await writer.drain()
            writer.write_eof()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(send())
            digest = hashlib.sha256()
            while data := await reader.read(1 << 20):
                digest.update(data)
            received.append(digest.hexdigest())
        writer.close()

    async with serve(swap) as app, run_pair(web, api, app) as pair:
        reader, writer = await asyncio.open_connection(pair.entry.ip, pair.entry.port)
        async with asyncio.timeout(60):
            await swap(reader, writer)
            while len(received) < 2:
                await asyncio.sleep(0.01)
    assert received == [expected, expected]


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "redirected"])
async def test_a_half_closed_client_still_gets_its_answer(
    web: Generation, api: Generation, direct: bool
) -> None:
    """The client ends first; the application answers 8 MiB only after that end."""
    size = 8 << 20

    async def answer_after_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.read()
        writer.write(request + b"x" * size)
        await writer.drain()
        writer.close()

    async with serve(answer_after_end) as app, run_pair(web, api, app, direct=direct) as pair:
        reader, writer = await asyncio.open_connection(pair.entry.ip, pair.entry.port)
        writer.write(b"request")
        writer.write_eof()
        async with asyncio.timeout(30):
            answer = await reader.read()
        assert answer[:7] == b"request"
        assert len(answer) == 7 + size
        writer.close()


async def test_a_half_closed_server_still_reads(web: Generation, api: Generation) -> None:
    """The application ends first and goes on reading what the client sends."""
    got = asyncio.get_running_loop().create_future()

    async def end_then_read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")
        writer.write_eof()
        got.set_result(await reader.read())
        writer.close()

    async with serve(end_then_read) as app, run_pair(web, api, app) as pair:
        reader, writer = await asyncio.open_connection(pair.entry.ip, pair.entry.port)
        async with asyncio.timeout(10):
            assert await reader.read() == b"bye"
            writer.write(b"still here")
            writer.write_eof()
            assert await got == b"still here"
        writer.close()


async def test_a_server_that_speaks_first_is_heard_at_once(
    web: Generation, api: Generation
) -> None:
    """Between sidecars nothing waits for the client's first byte."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        writer.write(b"220 ready\r\n")
        await writer.drain()
        writer.close()

    async with serve(greet) as app, run_pair(web, api, app) as pair:
        reader, writer = await asyncio.open_connection(pair.entry.ip, pair.entry.port)
        async with asyncio.timeout(5):
            assert await reader.read() == b"220 ready\r\n"
        writer.close()


async def test_a_reset_is_passed_on_as_a_reset(web: Generation, api: Generation) -> None:
    """A torn stream never looks like one that ended in order."""

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        raw: socket.socket = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with serve(reset) as app, run_pair(web, api, app) as pair:
        reader, writer = await asyncio.open_connection(pair.entry.ip, pair.entry.port)
        writer.write(b"x")
        async with asyncio.timeout(5):
            with pytest.raises(ConnectionResetError):
                await reader.read()
        writer.close()


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "redirected"])
async def test_an_answer_to_an_upload_that_is_refused_arrives(
    web: Generation, api: Generation, direct: bool
) -> None:
    """The application answers, closes with most of the upload unread, and is heard all the same."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1_000)
        writer.write(b"413 too large")
        await writer.drain()
        writer.transport.abort()

    async with serve(refuse) as app, run_pair(web, api, app, direct=direct) as pair:
        loop = asyncio.get_running_loop()
        for _ in range(5):
            with socket.socket() as client:
                client.settimeout(0)
                async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
                    await loop.sock_connect(client, (pair.entry.ip, pair.entry.port))
                    uploading = tasks.create_task(upload(client, 16 << 20))
                    assert await loop.sock_recv(client, 100) == b"413 too large"
                    uploading.cancel()


async def upload(client: socket.socket, size: int) -> None:
    """Send so many bytes, unless the server is gone before."""
    with contextlib.suppress(ConnectionError):
        await asyncio.get_running_loop().sock_sendall(client, bytes(size))


async def test_a_slow_reader_holds_the_sender_back(web: Generation, api: Generation) -> None:
    """With nobody reading, both sidecars stop at their bounds instead of taking all there is."""
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        del reader
        try:
            while True:
                writer.write(b"z" * 65_536)
                await writer.drain()
                sent += 65_536
        except ConnectionError:
            writer.close()

    async with serve(flood) as app, run_pair(web, api, app) as pair:
        reader, writer = await asyncio.open_connection(pair.entry.ip, pair.entry.port, limit=1)
        del reader
        before = -1
        async with asyncio.timeout(20):
            while before != sent:
                before = sent
                await asyncio.sleep(0.5)
        assert sent > 0
        for side in (pair.client, pair.server):
            assert len(side.sidecar.runtime.connections) == 1
            # One side of each is TLS: nothing there can be moved as it is.
            assert side.sidecar.runtime.pipes.on_loan == 0
            for connection in side.relayed:
                for stream in (connection.relay.near, connection.relay.far):
                    assert stream.backlog_bytes <= 2 * 65_536
        writer.transport.abort()
