"""Redirected inbound connections: detection, policy, pass-through, and bad manners."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from core.watch import Watch
from discovery.model import Address
from identity.generation import Generation
from policy.model import Protocol, ServerPolicy, TlsAuthenticated
from proxy.net.capture import FixedCapture
from tests.authority import Mesh
from tests.session.apps import echo, exchange, serve
from tests.session.peers import mk_context, mk_files
from tests.session.test_direct import talk
from tests.sidecars import OPEN, Control, free_address, run_pair, run_sidecar

AUTHENTICATED: ServerPolicy = replace(
    OPEN,
    authorizations=(
        replace(OPEN.authorizations[0], authentication=TlsAuthenticated(suffixes=((),))),
    ),
)

pytestmark = pytest.mark.usefixtures("tls_engine")


async def test_an_unmeshed_client_is_served_in_plaintext(api: Generation) -> None:
    """Without TLS the bytes go through untouched, counted with the reason."""
    async with (
        serve(echo) as app,
        run_sidecar(api, FixedCapture(app), ip="127.0.0.2") as running,
    ):
        inbound = running.config.inbound_listen
        assert await exchange(inbound, b"\0plain bytes") == b"\0plain bytes"
        seen = await running.until_event("connection")
        assert (seen["tls"], seen["client_identity"]) == ("none", "")


async def test_a_client_certificate_is_optional_on_other_ports(api: Generation, mesh: Mesh) -> None:
    """Mesh TLS without a client certificate is TLS without identity."""
    async with (
        serve(echo) as app,
        run_sidecar(api, FixedCapture(app), ip="127.0.0.2") as running,
    ):
        context = mk_context(mesh, None, "")
        assert await talk(running, context, api.server_name, b"hello") == b"hello"
        seen = await running.until_event("connection")
        assert (seen["tls"], seen["client_identity"]) == ("mesh", "")


async def test_tls_for_another_name_is_passed_through(
    api: Generation, mesh: Mesh, tmp_path: Path
) -> None:
    """The application terminates its own TLS; its certificate is what the client sees."""
    chain, key = mk_files(mesh, "shop/app", tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    server = await asyncio.start_server(echo, "127.0.0.2", 0, ssl=context)
    app = Address("127.0.0.2", server.sockets[0].getsockname()[1])
    async with run_sidecar(api, FixedCapture(app), ip="127.0.0.2") as running:
        answer = await talk(running, mk_context(mesh, None, ""), "app.example", b"secret")
        assert answer == b"secret"
        assert (await running.until_event("connection"))["tls"] == "foreign"
    server.close()
    await server.wait_closed()


async def test_an_opaque_port_is_not_looked_into(api: Generation, mesh: Mesh) -> None:
    """On an opaque port even a hello for us goes to the application as it is."""
    control = Control(Watch(api), policy=replace(OPEN, protocol=Protocol.OPAQUE))
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(5))
        writer.close()

    async with (
        serve(listen) as app,
        run_sidecar(api, FixedCapture(app), ip="127.0.0.2", control=control) as running,
    ):
        await talk(running, mk_context(mesh, None, ""), api.server_name, b"x")
        await running.until_event("connection")
    assert heard[0][:2] == b"\x16\x03"


@pytest.mark.parametrize("split", [1, 5, 100, 300])
async def test_a_hello_in_pieces_is_put_together(api: Generation, mesh: Mesh, split: int) -> None:
    """The handshake succeeds however the hello is cut."""
    async with (
        serve(echo) as app,
        run_sidecar(api, FixedCapture(app), ip="127.0.0.2") as running,
    ):
        address = running.config.inbound_listen
        reader, writer = await asyncio.open_connection(address.ip, address.port)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = mk_context(mesh, None, "").wrap_bio(
            incoming, outgoing, server_hostname=api.server_name
        )
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        hello = outgoing.read()
        for piece in (hello[:split], hello[split:]):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)
        async with asyncio.timeout(10):
            while True:
                incoming.write(await reader.read(65_536))
                try:
                    client.do_handshake()
                except ssl.SSLWantReadError:
                    continue
                break
        writer.transport.abort()


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40),
        b"\x16\x03\x01\xff\xff" + bytes(70_000),
        bytes(range(256)) * 10,
    ],
    ids=["truncated hello", "oversized record", "garbage"],
)
async def test_what_is_no_hello_reaches_the_application_as_it_is(
    api: Generation, data: bytes
) -> None:
    """Garbage is the application's business; the sidecar goes on."""
    async with (
        serve(echo) as app,
        run_sidecar(api, FixedCapture(app), ip="127.0.0.2") as running,
    ):
        assert await exchange(running.config.inbound_listen, data) == data
        assert await exchange(running.config.inbound_listen, b"next") == b"next"


async def test_a_silent_client_is_let_go_after_the_detect_timeout(api: Generation) -> None:
    """A byte of a hello and then nothing: closed, counted, nothing else lost."""
    async with (
        serve(echo) as app,
        run_sidecar(
            api,
            FixedCapture(app),
            ip="127.0.0.2",
            settings={"PILLION_INBOUND_DETECT_TIMEOUT": "200ms"},
        ) as running,
    ):
        assert await exchange(running.config.inbound_listen, b"\x16", end=False) == b""
        failed = await running.until_event("connection failed")
        assert failed["code"] == "detect-timeout"
        assert await exchange(running.config.inbound_listen, b"next") == b"next"


async def test_a_closed_application_port_resets_the_client(api: Generation) -> None:
    """Nobody listens behind us: refused, named in the log."""
    app = free_address("127.0.0.2")
    async with run_sidecar(api, FixedCapture(app), ip="127.0.0.2") as running:
        inbound = running.config.inbound_listen
        reader, writer = await asyncio.open_connection(inbound.ip, inbound.port)
        writer.write(b"hello")
        async with asyncio.timeout(10):
            with pytest.raises(ConnectionResetError):
                await reader.read()
        writer.close()
        failed = await running.until_event("connection failed")
        assert failed["code"] == "connect-refused"
        assert str(app) in failed["reason"]


async def test_policy_refuses_with_its_reasons(web: Generation, api: Generation) -> None:
    """An unmeshed client is refused by name and reason, a meshed one admitted."""
    control = Control(Watch(api), policy=AUTHENTICATED)
    reached: list[bytes] = []

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(await reader.read(5))
        writer.write(reached[-1])
        writer.close()

    async with serve(record) as app:
        async with run_sidecar(api, FixedCapture(app), ip="127.0.0.2", control=control) as running:
            assert await exchange(running.config.inbound_listen, b"hello") == b""
            refused = await running.until_event("connection denied")
            assert refused["code"] == "unauthorized"
            assert "admits the caller" in refused["reason"]
            assert (refused["client_identity"], refused["tls"]) == ("", "none")
            assert any("mesh" in tried for tried in refused["tried"])
        assert reached == []
        async with run_pair(web, api, app, server_control=control) as pair:
            assert await exchange(pair.entry, b"hello") == b"hello"


async def test_a_changed_policy_cuts_what_it_no_longer_allows(
    web: Generation, api: Generation
) -> None:
    """Open connections are decided again: the refused are reset, the admitted live on."""
    control = Control(Watch(api))
    async with (
        serve(echo) as app,
        run_pair(web, api, app, server_control=control) as pair,
        run_sidecar(api, FixedCapture(app), ip="127.0.0.2", control=control) as plain,
    ):
        kept = await asyncio.open_connection(pair.entry.ip, pair.entry.port)
        inbound = plain.config.inbound_listen
        lost = await asyncio.open_connection(inbound.ip, inbound.port)
        for reader, writer in (kept, lost):
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
        control.inbound(app.port).publish(AUTHENTICATED)
        async with asyncio.timeout(10):
            with pytest.raises(ConnectionResetError):
                await lost[0].readexactly(1)
            kept[1].write(b"y")
            assert await kept[0].readexactly(1) == b"y"
        event = "connection terminated due to policy change"
        assert (await plain.until_event(event))["code"] == "unauthorized"
        for _, writer in (kept, lost):
            writer.transport.abort()


async def test_a_policy_that_changes_during_the_dial_counts(
    api: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was permitted before the application answered, and is not any more, is cut."""
    control = Control(Watch(api))
    heard: list[bytes] = []

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            heard.append(await reader.read())
        writer.close()

    async with (
        serve(record) as app,
        run_sidecar(api, FixedCapture(app), ip="127.0.0.2", control=control) as running,
    ):
        connector = running.sidecar.runtime.connector

        class Late:
            async def connect(self, address: Address, timeout_s: float) -> socket.socket:
                control.inbound(app.port).publish(AUTHENTICATED)
                return await connector.connect(address, timeout_s)

        monkeypatch.setattr(running.sidecar.runtime, "connector", Late())
        assert await exchange(running.config.inbound_listen, b"hello") == b""
        event = "connection terminated due to policy change"
        refused = await running.until_event(event)
        assert (refused["code"], refused["target"]) == ("unauthorized", str(app))
    assert b"".join(heard) == b""


async def test_a_header_s_policy_is_asked_even_when_nothing_is_known(
    web: Generation, api: Generation
) -> None:
    """A policy that cannot be used refuses everyone."""
    control = Control(Watch(api), policy=replace(OPEN, invalid="web.yaml cannot be read"))
    async with serve(echo) as app, run_pair(web, api, app, server_control=control) as pair:
        assert await exchange(pair.entry, b"hello") == b""
        refused = await pair.server.until_event("connection denied")
        assert refused["code"] == "policy-invalid"
        assert "web.yaml" in refused["reason"]


async def test_ten_more_than_the_bound_wait_and_are_served_later(api: Generation) -> None:
    """At the admission bound accepting pauses; nobody is refused."""
    async with (
        serve(echo) as app,
        run_sidecar(
            api,
            FixedCapture(app),
            ip="127.0.0.2",
            settings={"PILLION_MAX_CONNECTIONS": "20"},
        ) as running,
    ):
        address = running.config.inbound_listen
        pairs = [await asyncio.open_connection(address.ip, address.port) for _ in range(30)]
        for _, writer in pairs:
            writer.write(b"x")
        async with asyncio.timeout(10):
            for reader, _ in pairs[:20]:
                assert await reader.readexactly(1) == b"x"
            assert len(running.sidecar.runtime.connections) == 20
            for _, writer in pairs[:20]:
                writer.transport.abort()
            for reader, _ in pairs[20:]:
                assert await reader.readexactly(1) == b"x"
        for _, writer in pairs[20:]:
            writer.transport.abort()
        assert running.sidecar.runtime.admission.pauses >= 1


async def test_without_a_certificate_connections_wait(api: Generation) -> None:
    """Nothing is accepted before there is an identity, and nothing is lost."""
    control = Control(Watch[Generation | None](None))
    app_address = free_address("127.0.0.2")
    async with run_sidecar(
        None, FixedCapture(app_address), ip="127.0.0.2", control=control
    ) as running:
        address = running.config.inbound_listen
        reader, writer = await asyncio.open_connection(address.ip, address.port)
        writer.write(b"early")
        await writer.drain()
        assert running.events("connection failed") == []
        control.generation.publish(api)
        failed = await running.until_event("connection failed")
        assert failed["code"] == "connect-refused"
        writer.transport.abort()
        del reader
