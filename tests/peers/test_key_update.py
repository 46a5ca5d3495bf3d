"""New keys in the midst of a connection (RFC 8446, 4.6.3), asked for by ``openssl``.

By then the peer's certificates are forgotten, where our engine can do that.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import pytest

from core.watch import Watch
from discovery.model import Endpoint
from identity.generation import Generation
from proxy.net.capture import FixedCapture
from proxy.wire.tls_library import CRYPTOGRAPHY
from proxy.wire.transport_header import TransportHeader, encode_header
from tests.authority import Mesh
from tests.peers.test_openssl import credentials, demands, mk_root, printed, s_server
from tests.session.apps import echo, serve
from tests.session.client import CLUSTER_IP, run_client
from tests.session.peers import DIRECT, mk_files
from tests.sidecars import Control, Running, free_address, run_sidecar

pytestmark = pytest.mark.needs("openssl")

_COMMANDS: Final = (b"k", b"K", b"K", b"k")
"""Small: the program changes the keys it sends with; large: it asks for other keys of ours, too."""
_LARGE: Final = b"~" * 40_000
"""Several records; nowhere in what ``-msg`` prints of messages."""
_KEY_UPDATE: Final = b" TLS 1.3, Handshake [length 0005], KeyUpdate"
_PATIENCE_S: Final = 60


def forgotten(running: Running, engine: str) -> bool:
    """Whether the peer of the only connection was forgotten, which one engine cannot do."""
    (connection,) = running.relayed
    relay = connection.relay
    (found,) = [each.engine for each in (relay.near, relay.far) if each.engine is not None]
    return (found.peer_der is None) == (engine == CRYPTOGRAPHY)


async def change_keys(process: asyncio.subprocess.Process, command: bytes) -> bytes:
    """Let the program change keys; return what it has printed once that is on the wire."""
    await say(process, command + b"\n")
    kind = {b"k": b"18 00 00 01 00", b"K": b"18 00 00 01 01"}[command]
    seen = await printed(process, kind)
    assert b">>>" + _KEY_UPDATE in seen
    return seen


async def say(process: asyncio.subprocess.Process, text: bytes) -> None:
    """Type ``text``; a command is one only at the beginning of what is read at once."""
    assert process.stdin is not None
    process.stdin.write(text)
    await process.stdin.drain()


async def test_a_client_changes_keys(
    mesh: Mesh, api: Generation, tmp_path: Path, tls_engine: str
) -> None:
    """Data goes on both ways after each change, and the connection ends in order."""
    files = mk_files(mesh, "shop/web", tmp_path)
    inbound = free_address("127.0.0.2")
    async with (
        serve(echo) as app,
        run_sidecar(api, FixedCapture(inbound), ip=app.ip, inbound=inbound) as running,
    ):
        client = await asyncio.create_subprocess_exec(
            *(
                "openssl",
                "s_client",
                "-msg",
                "-connect",
                str(inbound),
                "-servername",
                api.server_name,
            ),
            *("-alpn", DIRECT, "-CAfile", str(mk_root(mesh, tmp_path)), *credentials(files)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        await say(client, encode_header(TransportHeader(app.port)) + b"first\n")
        await printed(client, b"first\n")
        assert forgotten(running, tls_engine)
        for number, command in enumerate(_COMMANDS):
            seen = await change_keys(client, command)
            await say(client, b"%s%d.\n" % (_LARGE, number))
            seen += await printed(client, b"%d.\n" % number)
            assert seen.count(b"~") == len(_LARGE)
            assert (b"<<<" + _KEY_UPDATE in seen) == (command == b"K")
        await say(client, b"Q\n")
        await client.communicate()
        assert client.returncode == 0
        assert (await running.until_event("connection closed"))["error"] == ""


async def test_a_server_changes_keys(
    mesh: Mesh, web: Generation, tmp_path: Path, tls_engine: str
) -> None:
    """Data goes on both ways after each change, and the end is heard."""
    files = mk_files(mesh, "shop/api", tmp_path)
    control = Control(Watch(web))
    async with (
        s_server("-msg", *credentials(files), *demands(mesh, tmp_path)) as (address, server),
        run_client(web, control, TLS_RESUME="false") as client,
    ):
        control.route(CLUSTER_IP, Endpoint(address=address, identity=mesh.identity("shop/api")))
        entry = client.config.outbound_listen
        reader, writer = await asyncio.open_connection(entry.ip, entry.port)
        async with asyncio.timeout(_PATIENCE_S):
            writer.write(b"first\n")
            await printed(server, b"first\n")
            assert forgotten(client, tls_engine)
            for number, command in enumerate(_COMMANDS):
                seen = await change_keys(server, command)
                # What comes after the change shows that we have heard of it.
                await say(server, b"%s%d.\n" % (_LARGE, number))
                assert await reader.readexactly(len(_LARGE) + 3) == b"%s%d.\n" % (_LARGE, number)
                writer.write(b"%s%d.\n" % (_LARGE, number))
                seen += await printed(server, b"%d.\n" % number)
                assert seen.count(b"~") == len(_LARGE)
                assert (b"<<<" + _KEY_UPDATE in seen) == (command == b"K")
            writer.write_eof()
            await printed(server, b"DONE\n")
        writer.close()
