"""Another generation comes while connections are open, begun, and to be resumed."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from core.watch import Watch
from identity.anchors import Anchors
from identity.generation import Generation
from proxy.net.capture import FixedCapture
from proxy.wire.transport_header import TransportHeader, encode_header
from tests.authority import Mesh, mk_mesh
from tests.session.apps import echo, exchange, serve
from tests.session.peers import mk_context, mk_files
from tests.sidecars import Control, free_address, run_pair, run_sidecar

pytestmark = pytest.mark.usefixtures("tls_engine")


def _only(mesh: Mesh) -> Anchors:
    return Anchors("cluster.local", {"cluster.local": frozenset({mesh.root})})


async def test_who_waits_with_the_handshake_meets_the_anchors_of_then(
    mesh: Mesh, api: Generation, tmp_path: Path
) -> None:
    """A connection accepted before a root was taken away is no way around that."""
    context = mk_context(mesh, mk_files(mesh, "shop/web", tmp_path))
    other = mk_mesh(tmp_path / "other")
    inbound = free_address("127.0.0.2")
    control = Control(Watch(api))
    async with (
        serve(echo) as app,
        run_sidecar(
            api, FixedCapture(inbound), ip="127.0.0.2", inbound=inbound, control=control
        ) as running,
        asyncio.timeout(10),
    ):
        for after, expected in ((api, b"ping"), (api.under(_only(other)), b"")):
            control.generation.publish(api)
            reader, writer = await asyncio.open_connection(inbound.ip, inbound.port)
            while running.sidecar.runtime.drain.in_flight == 0:
                await asyncio.sleep(0.01)
            control.generation.publish(after)
            heard = b""
            try:
                await writer.start_tls(context, server_hostname=api.server_name)
                writer.write(encode_header(TransportHeader(app.port)) + b"ping")
                heard = await reader.read(10)
            except (OSError, ssl.SSLError):
                heard = b""
            finally:
                writer.transport.abort()
            assert heard == expected
        failed = await running.until_event("connection failed")
        assert "does not verify" in failed["reason"]


async def test_open_connections_outlive_their_generation(
    mesh: Mesh, web: Generation, api: Generation, tmp_path: Path
) -> None:
    """On both sides, even when nothing of it is trusted any more; new ones are refused."""
    other = mk_mesh(tmp_path / "other")
    async with serve(echo) as app, run_pair(web, api, app) as pair, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(pair.entry.ip, pair.entry.port)
        for number, side in enumerate((pair.client, pair.server, None)):
            writer.write(b"%d" % number)
            assert await reader.readexactly(1) == b"%d" % number
            if side is not None:
                generation = side.control.generation
                assert generation.current is not None
                generation.publish(generation.current.under(_only(other)))
        assert await exchange(pair.entry, b"ping") == b""
        writer.close()
        await writer.wait_closed()


async def test_a_session_is_not_resumed_under_other_anchors(
    mesh: Mesh, web: Generation, api: Generation, tmp_path: Path
) -> None:
    """Neither ticket nor remembered peer gets past a root that was taken away."""
    other = mk_mesh(tmp_path / "other")
    for side in ("client", "server"):
        async with serve(echo) as app, run_pair(web, api, app) as pair:
            for _ in range(3):
                assert await exchange(pair.entry, b"ping") == b"ping"
            changed = pair.client if side == "client" else pair.server
            before = changed.control.generation.current
            assert before is not None
            changed.control.generation.publish(before.under(_only(other)))
            assert await exchange(pair.entry, b"ping") == b""
