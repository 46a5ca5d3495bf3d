"""Resumed sessions: taken up while both ends remember each other, and never believed after."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from core.watch import Watch
from discovery.model import Endpoint
from identity.generation import Generation
from proxy.net.stream import Stream
from tests.authority import Mesh
from tests.session.apps import echo, serve
from tests.session.client import CLUSTER_IP, call, run_client
from tests.session.peers import echo_tls, mk_files, mk_server_context, tls_server
from tests.sidecars import Control, Pair, Running, run_pair

pytestmark = pytest.mark.usefixtures("tls_engine")


@asynccontextmanager
async def connected(pair: Pair) -> AsyncIterator[tuple[Stream, Stream]]:
    """Hold a connection open; yields the streams between the sidecars: client's, server's."""
    for side in (pair.client, pair.server):
        assert not side.sidecar.runtime.connections
    reader, writer = await asyncio.open_connection(pair.entry.ip, pair.entry.port)
    async with asyncio.timeout(5):
        writer.write(b"ping")
        assert await reader.readexactly(4) == b"ping"
        (near,) = pair.client.relayed
        (far,) = pair.server.relayed
        yield near.relay.far, far.relay.near
        writer.write_eof()
        assert await reader.read() == b""
        for side in (pair.client, pair.server):
            await until_idle(side)
    writer.close()


async def until_idle(running: Running) -> None:
    """Wait until the sidecar has no connection open."""
    while running.sidecar.runtime.connections:
        await asyncio.sleep(0.001)


async def is_resumed(pair: Pair) -> bool:
    """Make a connection; both ends must agree on whether it resumes an earlier one."""
    async with connected(pair) as (near, far):
        assert near.engine is not None
        assert far.engine is not None
        assert near.engine.resumed == far.engine.resumed
        return near.engine.resumed


async def test_the_second_connection_resumes_the_first(web: Generation, api: Generation) -> None:
    """Both ends know it, and the server's sidecar still knows who calls."""
    async with serve(echo) as app, run_pair(web, api, app) as pair:
        assert [await is_resumed(pair) for _ in range(4)] == [False, True, True, True]
        callers = [each["client_identity"] for each in pair.server.events("connection")]
        assert callers == [str(web.identity)] * 4


async def test_a_renewed_client_makes_a_full_handshake(
    mesh: Mesh, web: Generation, api: Generation
) -> None:
    """Sessions die with the generation they were made under."""
    async with serve(echo) as app, run_pair(web, api, app) as pair:
        assert [await is_resumed(pair) for _ in range(2)] == [False, True]
        pair.client.control.generation.publish(mesh.generation("shop/web"))
        assert [await is_resumed(pair) for _ in range(2)] == [False, True]


async def test_a_renewed_server_makes_a_full_handshake(
    mesh: Mesh, web: Generation, api: Generation
) -> None:
    """Tickets die with the generation that gave them; the client notices nothing."""
    async with serve(echo) as app, run_pair(web, api, app) as pair:
        assert [await is_resumed(pair) for _ in range(2)] == [False, True]
        pair.server.control.generation.publish(mesh.generation("shop/api"))
        assert [await is_resumed(pair) for _ in range(2)] == [False, True]


async def test_what_the_server_forgot_costs_one_connection(
    web: Generation, api: Generation
) -> None:
    """It hangs up on a resumed peer that it no longer knows; the next handshake is full."""
    async with serve(echo) as app, run_pair(web, api, app) as pair:
        assert [await is_resumed(pair) for _ in range(2)] == [False, True]
        api.peers._peers.clear()
        assert await call(pair.client) == b""
        assert (await pair.server.until_event("connection failed"))["code"] == "resumed-unknown"
        assert [await is_resumed(pair) for _ in range(2)] == [False, True]


async def test_what_the_client_forgot_costs_nothing(web: Generation, api: Generation) -> None:
    """A server that cannot be believed resumed is asked at once for a full handshake."""
    async with serve(echo) as app, run_pair(web, api, app) as pair:
        assert [await is_resumed(pair) for _ in range(2)] == [False, True]
        web.peers._peers.clear()
        assert [await is_resumed(pair) for _ in range(2)] == [False, True]
        assert pair.client.events("connection failed") == []


async def test_a_session_is_not_offered_to_another_identity(
    mesh: Mesh, web: Generation, tmp_path: Path
) -> None:
    """The same server under another expected name is asked anew, and found out."""
    context = mk_server_context(mesh, mk_files(mesh, "shop/api", tmp_path), alpn="")
    control = Control(Watch(web))
    with tls_server(context, echo_tls) as server:
        # The server is a thread: on a busy machine its turn may come late.
        async with run_client(web, control, OUTBOUND_CONNECT_TIMEOUT="10s") as client:
            for who, expected in (("shop/api", b"ping"), ("shop/db", b""), ("shop/api", b"ping")):
                identity = mesh.identity(who)
                control.route(CLUSTER_IP, Endpoint(address=server.address, identity=identity))
                assert await call(client) == expected
    assert server.sessions == [False, True]
