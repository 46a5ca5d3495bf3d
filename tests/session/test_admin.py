"""What the admin port says: alive, ready or why not, what went through, how it is set up."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

from core.watch import Watch
from identity.generation import Generation
from proxy.net.capture import FixedCapture
from proxy.telemetry.slot import MAX_CHILDREN
from tests.authority import Mesh
from tests.session.admin import ask, samples
from tests.session.apps import echo, exchange, serve
from tests.sidecars import Control, free_address, run_sidecar

# Liveness and readiness


async def test_ready_says_why_not_before_the_first_certificate(api: Generation) -> None:
    """Live from the start; ready with the certificate."""
    control = Control(Watch[Generation | None](None))
    async with run_sidecar(
        None, FixedCapture(free_address()), ip="127.0.0.2", control=control
    ) as running:
        await asyncio.sleep(0)
        assert (await ask(running, "/live")).status == 200
        reply = await ask(running, "/ready")
        assert (reply.status, reply.body) == (
            503,
            b"not ready: no certificate has been issued to us yet\n",
        )
        control.generation.publish(api)
        assert (await ask(running, "/ready")).status == 200


async def test_ready_says_that_we_drain(api: Generation) -> None:
    """The port answers until the end; liveness does not suffer."""
    async with (
        serve(echo) as app,
        run_sidecar(api, FixedCapture(app), ip="127.0.0.2") as running,
    ):
        assert (await ask(running, "/ready")).status == 200
        inbound = running.config.inbound_listen
        reader, writer = await asyncio.open_connection(inbound.ip, inbound.port)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        running.sidecar.stop()
        reply = await ask(running, "/ready")
        assert (reply.status, reply.body) == (503, b"not ready: draining\n")
        assert (await ask(running, "/live")).status == 200
        writer.transport.abort()


@dataclass
class Doubt:
    """A readiness source."""

    unready: Watch[str]


async def test_a_readiness_source_gives_its_reason(api: Generation) -> None:
    """Not ready for as long as one source says so, in its words."""
    doubt = Doubt(Watch("the mesh directory cannot be read"))
    async with run_sidecar(
        api, FixedCapture(free_address()), ip="127.0.0.2", readiness=(doubt,)
    ) as running:
        reply = await ask(running, "/ready")
        assert (reply.status, reply.body) == (
            503,
            b"not ready: the mesh directory cannot be read\n",
        )
        doubt.unready.publish("")
        assert (await ask(running, "/ready")).status == 200


# Metrics and configuration


async def test_open_connections_are_counted_up_to_now(api: Generation) -> None:
    """A scrape sees the bytes of connections that have not ended."""
    async with (
        serve(echo) as app,
        run_sidecar(api, FixedCapture(app), ip="127.0.0.2") as running,
    ):
        inbound = running.config.inbound_listen
        reader, writer = await asyncio.open_connection(inbound.ip, inbound.port)
        for size, total in ((3, 3), (5, 8)):
            writer.write(bytes(size))
            await reader.readexactly(size)
            found = samples((await ask(running, "/metrics")).body)
            assert set(found["tcp_open_connections"].values()) == {1}
            assert set(found["tcp_read_bytes_total"].values()) == {total}
        writer.transport.abort()


async def test_denials_and_failures_are_counted(api: Generation) -> None:
    """With their error codes."""
    closed = free_address("127.0.0.2")
    async with run_sidecar(api, FixedCapture(closed), ip="127.0.0.2") as running:
        assert await exchange(running.config.inbound_listen, b"x") == b""
        assert await exchange(running.config.outbound_listen, b"x") == b""
        reply = await ask(running, "/metrics")
    found = samples(reply.body)
    for name in ("inbound_tcp_errors_total", "outbound_tcp_errors_total"):
        ((labels, value),) = found[name].items()
        assert dict(labels)["error"] == "connect-refused"
        assert value == 1


async def test_label_sets_are_bounded(api: Generation) -> None:
    """At the bound nothing is lost; past it what is new counts under one child."""
    async with run_sidecar(api, FixedCapture(free_address()), ip="127.0.0.2") as running:
        metrics = running.sidecar.runtime.metrics
        for number in range(MAX_CHILDREN):
            metrics.deny.child((("client", str(number)),)).value += 1
        found = samples((await ask(running, "/metrics")).body)["inbound_tcp_authz_deny_total"]
        assert len(found) == MAX_CHILDREN
        assert set(found.values()) == {1}
        for number in range(50):
            metrics.deny.child((("client", f"new {number}"),)).value += 1
        metrics.deny.child((("client", "7"),)).value += 1
        found = samples((await ask(running, "/metrics")).body)["inbound_tcp_authz_deny_total"]
        assert len(found) == MAX_CHILDREN + 1
        assert found[frozenset({("client", "other")})] == 50
        assert found[frozenset({("client", "7")})] == 2


async def test_the_configuration_shows_no_secret(mesh: Mesh, tmp_path: Path) -> None:
    """Settings and where files are; never what is in them."""
    token = tmp_path / "token"
    token.write_text("sesame")
    api = mesh.generation("shop/api")
    key = next((mesh.authority.directory / "leaves").rglob("key.pem")).read_text()
    settings = {"PILLION_IDENTITY_TOKEN_FILE": str(token)}
    async with run_sidecar(
        api, FixedCapture(free_address()), ip="127.0.0.2", settings=settings
    ) as running:
        reply = await ask(running, "/config")
    assert reply.headers["content-type"] == "application/json"
    shown = json.loads(reply.body)
    assert shown["identity_token_file"] == str(token)
    assert shown["pod_name"] == "web-0"
    assert b"sesame" not in reply.body
    assert b"PRIVATE" not in reply.body
    assert key.splitlines()[1].encode() not in reply.body
