"""HTTP through two real sidecars over mutual TLS."""

from __future__ import annotations

import asyncio

import pytest

from discovery.model import Endpoint, Hint
from identity.generation import Generation
from proxy.net.capture import FixedCapture
from tests.session.apps import exchange, serve
from tests.session.http_apps import hello
from tests.sidecars import run_pair, run_sidecar


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "redirected"])
async def test_a_request_is_carried_and_answered(
    web: Generation, api: Generation, direct: bool
) -> None:
    """The application sees the request, and who called."""
    async with serve(hello) as app, run_pair(web, api, app, direct=direct) as pair:
        got = await exchange(pair.entry, b"GET /a?b=c HTTP/1.1\r\nHost: api.shop\r\nX-A: b\r\n\r\n")
        head, _, body = got.partition(b"\r\n\r\n")
        print(got.decode())
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert body.startswith(b"GET /a?b=c HTTP/1.1\r\n")
        assert b"host: api.shop" in body
        assert b"l5d-client-id: " + web.identity.name.encode() in body


@pytest.mark.parametrize(("upgrades", "spoken"), [("true", "HTTP/2"), ("false", "HTTP/1")])
async def test_http1_between_sidecars_is_http2_unless_that_is_switched_off(
    web: Generation, api: Generation, upgrades: str, spoken: str
) -> None:
    """The application gets the same request either way."""
    settings = {"PILLION_H2_UPGRADE": upgrades}
    async with serve(hello) as app, run_pair(web, api, app, client_settings=settings) as pair:
        direct_port = pair.server.config.inbound_listen.port
        pair.client.control.route(
            app, Endpoint(address=app, identity=api.identity, direct_port=direct_port, hint=Hint.H2)
        )
        got = await exchange(pair.entry, b"GET /a HTTP/1.1\r\nHost: api.shop\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"GET /a HTTP/1.1\r\n" in got
        (between,) = pair.server.sidecar.runtime.connections
        assert between.describe()["protocol"] == spoken


async def test_a_dial_that_breaks_harms_one_request(api: Generation) -> None:
    """A fault of ours is answered and told; the sidecar and the next request go on."""

    class Broken:
        async def connect(self, *_: object) -> None:
            raise ValueError("a bug")

    async with (
        serve(hello) as app,
        run_sidecar(api, FixedCapture(app), ip="127.0.0.2") as running,
    ):
        runtime = running.sidecar.runtime
        address = running.config.inbound_listen
        request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        sound = runtime.connector
        runtime.connector = Broken()  # type: ignore[assignment]
        assert (await exchange(address, request)).startswith(b"HTTP/1.1 500 ")
        assert running.events("session broke")
        runtime.connector = sound
        assert (await exchange(address, request)).startswith(b"HTTP/1.1 200 ")


async def test_bytes_of_open_connections_to_the_application_are_counted(api: Generation) -> None:
    """Once a second, not only when the connection ends."""
    async with (
        serve(hello) as app,
        run_sidecar(api, FixedCapture(app), ip="127.0.0.2") as running,
    ):
        runtime = running.sidecar.runtime
        address = running.config.inbound_listen
        reader, writer = await asyncio.open_connection(address.ip, address.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        runtime.ticker.tick(runtime.loop.time())
        read = {
            labels: value
            for _, labels, value in runtime.metrics.tcp_read.samples()
            if ("peer", "dst") in labels
        }
        assert len(read) == 1
        assert min(read.values()) > 0
        writer.close()
