from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from core.errors import HandshakeError, TruncatedError, UnreachableError
from identity.generation import Generation
from proxy.net.poller import Poller
from proxy.net.stream import Stream
from proxy.wire.tls import TlsEngine
from proxy.wire.tls_library import TlsLibrary
from tests.support.streams import Witness, connected, ending_of, read_exactly, reset, until

_BIG = bytes(range(256)) * 16_384


@dataclass
class End:
    """One end of a connection."""

    stream: Stream
    witness: Witness
    engine: TlsEngine


def dial_engine(tls: TlsLibrary, web: Generation, api: Generation) -> TlsEngine:
    """Return an engine that dials."""
    return tls.client(web, direct=True, server_name=api.server_name, session=None, keeper=None)


@contextmanager
def ends(
    poller: Poller, tls: TlsLibrary, web: Generation, api: Generation
) -> Iterator[tuple[End, End]]:
    """Return both ends of a connection, client and server, before their handshake."""
    with connected() as (near, peer):
        made = []
        for sock, engine in (
            (
                near,
                dial_engine(tls, web, api),
            ),
            (peer, tls.server(api, direct=True)),
        ):
            witness = Witness()
            made.append(End(Stream(poller, sock, witness), witness, engine))
        yield made[0], made[1]
        for end in made:
            end.stream.close()


async def shake(client: End, server: End) -> None:
    """Complete the handshake on both ends."""

    async def dial() -> None:
        await client.stream.start_tls(client.engine)
        client.stream.flush()

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(dial())
        tasks.create_task(server.stream.start_tls(server.engine))


async def test_bytes_go_both_ways_and_are_counted_without_tls(
    poller: Poller, tls: TlsLibrary, web: Generation, api: Generation
) -> None:
    """Also many of them, also at once."""
    with ends(poller, tls, web, api) as (client, server):
        await shake(client, server)
        assert client.engine.alpn == server.engine.alpn == "transport.l5d.io/v1"
        assert client.engine.version == "TLSv1.3"
        client.stream.write(_BIG)
        server.stream.write(_BIG[::-1])
        await until(lambda: len(server.witness.data) == len(client.witness.data) == len(_BIG))
        assert server.witness.data == _BIG
        assert client.witness.data == _BIG[::-1]
        assert client.stream.bytes_out == server.stream.bytes_in == len(_BIG)


async def test_an_end_is_told_by_tls_and_the_other_direction_lives(
    poller: Poller, tls: TlsLibrary, web: Generation, api: Generation
) -> None:
    """Half-closed, with many bytes before and after it."""
    with ends(poller, tls, web, api) as (client, server):
        await shake(client, server)
        client.stream.write(_BIG)
        client.stream.end()
        await until(lambda: server.witness.ends)
        assert server.witness.data == _BIG
        server.stream.write(_BIG)
        server.stream.end()
        await until(lambda: client.witness.ends)
        assert client.witness.data == _BIG
        assert client.witness.closings == server.witness.closings == []
        assert client.stream.ended_in
        assert client.stream.ended_out


async def test_an_end_without_close_notify_is_an_error(
    poller: Poller, tls: TlsLibrary, web: Generation, api: Generation
) -> None:
    """Anyone on the way may have made it; what came before it is delivered."""
    with ends(poller, tls, web, api) as (client, server):
        await shake(client, server)
        server.stream.write(b"half of")
        server.stream.socket.shutdown(socket.SHUT_WR)
        await until(lambda: client.witness.closings)
        assert client.witness.data == b"half of"
        assert client.witness.ends == 0
        assert isinstance(client.witness.closings[0], TruncatedError)


async def test_bytes_read_before_tls_are_taken_up(
    poller: Poller, tls: TlsLibrary, web: Generation, api: Generation
) -> None:
    """A hello that was read to be judged, whole or in part."""
    loop = asyncio.get_running_loop()
    for size in (1, 100, 10_000):
        with ends(poller, tls, web, api) as (client, server):
            async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
                dialling = tasks.create_task(client.stream.start_tls(client.engine))
                await asyncio.sleep(0)
                early = await loop.sock_recv(server.stream.socket, size)
                tasks.create_task(server.stream.start_tls(server.engine, early))
                await dialling
                client.stream.write(b"after")
                while server.witness.data != b"after":
                    await asyncio.sleep(0.001)


async def test_what_is_no_hello_gets_an_alert_and_an_error(
    poller: Poller, tls: TlsLibrary, api: Generation
) -> None:
    """Both sides learn of it."""
    witness = Witness()
    with connected() as (near, peer):
        stream = Stream(poller, near, witness)
        peer.sendall(b"\x16\x03\x01\x00\x05hello")
        with pytest.raises(HandshakeError):
            await stream.start_tls(tls.server(api, direct=False))
        alert = await read_exactly(peer, 7)
        assert alert[0] == 21
        assert near.fileno() < 0
        assert witness.closings == [None]


@pytest.mark.parametrize("how", ["ended", "reset", "ended before", "silent"])
async def test_a_peer_that_leaves_ends_the_handshake_at_once(
    poller: Poller, tls: TlsLibrary, api: Generation, how: str
) -> None:
    """Not when the caller's patience ends; unless the peer is merely silent."""
    witness = Witness()
    with connected() as (near, peer):
        stream = Stream(poller, near, witness)
        if how == "ended before":
            stream.resume()
            peer.shutdown(socket.SHUT_WR)
            await until(lambda: witness.ends)
        loop = asyncio.get_running_loop()
        if how == "ended":
            loop.call_later(0.01, peer.shutdown, socket.SHUT_WR)
        elif how == "reset":
            loop.call_later(0.01, reset, peer)
        expected = TimeoutError if how == "silent" else (HandshakeError, UnreachableError)
        with pytest.raises(expected):
            async with asyncio.timeout(0.2 if how == "silent" else 10):
                await stream.start_tls(tls.server(api, direct=False))
        stream.abort()
        assert near.fileno() < 0
        assert len(witness.closings) == 1


async def test_a_client_shows_nothing_before_it_is_told_to(
    poller: Poller, tls: TlsLibrary, web: Generation, api: Generation
) -> None:
    """Its certificate waits until the server is judged: the server cannot finish."""
    with ends(poller, tls, web, api) as (client, server):
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server.stream.start_tls(server.engine))
            async with asyncio.timeout(10):
                await client.stream.start_tls(client.engine)
            await asyncio.sleep(0.05)
            assert not serving.done()
            client.stream.write(b"now")
            async with asyncio.timeout(10):
                await serving
        await until(lambda: server.witness.data == b"now")


async def test_a_torn_record_is_an_error(
    poller: Poller, tls: TlsLibrary, web: Generation, api: Generation
) -> None:
    """A byte that was changed on the way ends the stream, and nothing of it is delivered."""
    with ends(poller, tls, web, api) as (client, server):
        await shake(client, server)
        client.engine.write(b"x" * 100)
        wire = bytearray(client.engine.take())
        wire[50] ^= 1
        client.stream.socket.sendall(wire)
        await until(lambda: server.witness.closings)
        assert isinstance(server.witness.closings[0], HandshakeError)
        assert server.witness.data == b""


async def test_closing_in_the_middle_of_a_handshake_is_harmless(
    poller: Poller, tls: TlsLibrary, api: Generation
) -> None:
    """Whoever waits for it is told."""
    with connected() as (near, peer):
        stream = Stream(poller, near, Witness())
        asyncio.get_running_loop().call_later(0.01, stream.close)
        with pytest.raises(UnreachableError):
            await stream.start_tls(tls.server(api, direct=False))
        assert await ending_of(peer) == "end"


async def test_an_independent_client_is_understood_a_byte_at_a_time(
    poller: Poller, tls: TlsLibrary, web: Generation, api: Generation
) -> None:
    """However the wire cuts its records."""
    witness = Witness()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = web.client_context(False).wrap_bio(incoming, outgoing, server_hostname=api.server_name)
    with connected() as (near, peer):
        stream = Stream(poller, near, witness)
        loop = asyncio.get_running_loop()

        async def talk() -> None:
            while True:
                try:
                    client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    await drip(outgoing.read())
                    incoming.write(await loop.sock_recv(peer, 65_536))
            await drip(outgoing.read())
            client.write(b"byte by byte")
            await drip(outgoing.read())

        async def drip(data: bytes) -> None:
            for byte in data:
                await loop.sock_sendall(peer, bytes((byte,)))
                await asyncio.sleep(0)

        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            tasks.create_task(talk())
            await stream.start_tls(tls.server(api, direct=False))
        await until(lambda: witness.data == b"byte by byte")
        stream.close()
