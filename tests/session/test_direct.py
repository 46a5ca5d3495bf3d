"""The direct port: mutual TLS with ALPN and a header, from independent peers, or nothing."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from core.watch import Watch
from discovery.model import Address
from identity.generation import Generation
from policy.model import ServerPolicy
from proxy.net.capture import FixedCapture
from proxy.wire.transport_header import PREFACE, TransportHeader, encode_header
from tests.authority import Mesh, mk_mesh
from tests.session.apps import echo, serve
from tests.session.peers import mk_context, mk_files
from tests.sidecars import OPEN, Control, Running, free_address, run_sidecar

pytestmark = pytest.mark.usefixtures("tls_engine")


async def talk(
    running: Running, context: ssl.SSLContext, sni: str, data: bytes
) -> bytes | Exception:
    """Connect to the inbound port with TLS, send ``data`` and return the answer or the failure."""
    return await asyncio.to_thread(_talk, running.config.inbound_listen, context, sni, data)


def _talk(address: Address, context: ssl.SSLContext, sni: str, data: bytes) -> bytes | Exception:
    # Blocking, in a thread: event loops leave a transport behind when a handshake is reset.
    try:
        with (
            socket.create_connection((address.ip, address.port), timeout=10) as raw,
            context.wrap_socket(raw, server_hostname=sni) as client,
        ):
            client.sendall(data)
            return client.recv(65_536)
    except OSError as error:
        return error


async def test_an_independent_client_speaks_the_direct_protocol(
    mesh: Mesh, api: Generation, tmp_path: Path
) -> None:
    """Header and bytes in one write; the bytes behind the header are the application's."""
    context = mk_context(mesh, mk_files(mesh, "shop/web", tmp_path))
    inbound = free_address("127.0.0.2")
    async with (
        serve(echo) as app,
        run_sidecar(api, FixedCapture(inbound), ip="127.0.0.2", inbound=inbound) as running,
    ):
        data = encode_header(TransportHeader(app.port)) + b"ping"
        assert await talk(running, context, api.server_name, data) == b"ping"
        seen = await running.until_event("connection")
        assert seen["client_identity"] == str(mesh.identity("shop/web"))


async def test_the_header_may_come_a_byte_at_a_time(
    mesh: Mesh, api: Generation, tmp_path: Path
) -> None:
    """However slowly, as long as it comes in time."""
    context = mk_context(mesh, mk_files(mesh, "shop/web", tmp_path))
    inbound = free_address("127.0.0.2")
    async with (
        serve(echo) as app,
        run_sidecar(api, FixedCapture(inbound), ip="127.0.0.2", inbound=inbound) as running,
    ):
        reader, writer = await asyncio.open_connection(
            inbound.ip, inbound.port, ssl=context, server_hostname=api.server_name
        )
        for byte in encode_header(TransportHeader(app.port)) + b"p":
            writer.write(bytes((byte,)))
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            assert await reader.readexactly(1) == b"p"
        writer.transport.abort()
        del running


_REFUSED: dict[str, tuple[str, Callable[[Mesh, Path], ssl.SSLContext], bytes | None]] = {
    "no client certificate": ("direct-not-mutual", lambda mesh, _: mk_context(mesh, None), None),
    "no ALPN": (
        "direct-no-alpn",
        lambda mesh, path: mk_context(mesh, mk_files(mesh, "shop/web", path), ""),
        None,
    ),
    "ALPN without overlap": (
        "direct-no-alpn",
        lambda mesh, path: mk_context(mesh, mk_files(mesh, "shop/web", path), "h2"),
        None,
    ),
    "no header": (
        "transport-header",
        lambda mesh, path: mk_context(mesh, mk_files(mesh, "shop/web", path)),
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" + bytes(64),
    ),
    "port 0": (
        "transport-header",
        lambda mesh, path: mk_context(mesh, mk_files(mesh, "shop/web", path)),
        PREFACE + b"\x00\x00\x00\x02\x08\x00",
    ),
    "port 70000": (
        "transport-header",
        lambda mesh, path: mk_context(mesh, mk_files(mesh, "shop/web", path)),
        PREFACE + b"\x00\x00\x00\x04\x08\xf0\xa2\x04",
    ),
    "a length past the bound": (
        "transport-header",
        lambda mesh, path: mk_context(mesh, mk_files(mesh, "shop/web", path)),
        PREFACE + b"\x00\x01\x00\x00",
    ),
    "a name": (
        "gateway-disabled",
        lambda mesh, path: mk_context(mesh, mk_files(mesh, "shop/web", path)),
        encode_header(TransportHeader(80, "web.shop.svc.cluster.local")),
    ),
}


@pytest.mark.parametrize("name", list(_REFUSED))
async def test_what_is_not_the_direct_protocol_is_closed_without_a_byte(
    name: str, mesh: Mesh, api: Generation, tmp_path: Path
) -> None:
    """Each refusal is logged with its code; the application sees nothing."""
    code, context_of, data = _REFUSED[name]
    reached: list[bytes] = []

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(await reader.read())
        writer.close()

    inbound = free_address("127.0.0.2")
    async with (
        serve(record) as app,
        run_sidecar(api, FixedCapture(inbound), ip="127.0.0.2", inbound=inbound) as running,
    ):
        header = encode_header(TransportHeader(app.port))
        answer = await talk(
            running, context_of(mesh, tmp_path), api.server_name, header if data is None else data
        )
        assert answer == b"" or isinstance(answer, Exception)
        assert (await running.until_event("connection failed"))["code"] == code
    assert reached == []


@pytest.mark.parametrize("which", ["inbound", "outbound"])
async def test_a_header_for_our_own_ports_is_refused(
    which: str, mesh: Mesh, api: Generation, tmp_path: Path
) -> None:
    """A sidecar never dials itself."""
    context = mk_context(mesh, mk_files(mesh, "shop/web", tmp_path))
    inbound = free_address("127.0.0.2")
    async with run_sidecar(api, FixedCapture(inbound), ip="127.0.0.2", inbound=inbound) as running:
        port = inbound.port if which == "inbound" else running.config.outbound_listen.port
        answer = await talk(
            running, context, api.server_name, encode_header(TransportHeader(port)) + b"x"
        )
        assert answer == b"" or isinstance(answer, Exception)
        assert (await running.until_event("connection failed"))["code"] == "loop"


async def test_plaintext_and_foreign_tls_on_the_direct_port_are_refused(
    mesh: Mesh, api: Generation, tmp_path: Path
) -> None:
    """Only mesh TLS for our own name."""
    inbound = free_address("127.0.0.2")
    async with run_sidecar(api, FixedCapture(inbound), ip="127.0.0.2", inbound=inbound) as running:
        context = mk_context(mesh, mk_files(mesh, "shop/web", tmp_path))
        assert not isinstance(await talk(running, context, "foreign.example", b"x"), bytes)
        reader, writer = await asyncio.open_connection(inbound.ip, inbound.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()
        failures = running.events("connection failed")
        assert [each["code"] for each in failures] == ["direct-not-mutual"] * 2


async def test_a_direct_connection_to_a_foreign_address_is_refused(
    mesh: Mesh, api: Generation, tmp_path: Path
) -> None:
    """Only the pod's own addresses are served."""
    context = mk_context(mesh, mk_files(mesh, "shop/web", tmp_path))
    inbound = free_address("127.0.0.2")
    async with run_sidecar(
        api, FixedCapture(Address("127.0.0.9", 80)), ip="127.0.0.2", inbound=inbound
    ) as running:
        await talk(running, context, api.server_name, b"x")
        failed = await running.until_event("connection failed")
        assert failed["code"] == "direct-foreign-address"


async def test_a_client_of_another_authority_is_refused(
    api: Generation, mesh: Mesh, tmp_path: Path
) -> None:
    """A chain that does not reach our anchors ends the handshake."""
    stranger = mk_mesh(tmp_path / "stranger")
    context = mk_context(mesh, mk_files(stranger, "shop/web", tmp_path / "leaf"))
    inbound = free_address("127.0.0.2")
    async with run_sidecar(api, FixedCapture(inbound), ip="127.0.0.2", inbound=inbound) as running:
        await talk(running, context, api.server_name, b"x")
        failed = await running.until_event("connection failed")
        assert failed["code"] == "handshake"
        assert "does not verify" in failed["reason"]


async def test_an_expired_client_is_refused(api: Generation, mesh: Mesh, tmp_path: Path) -> None:
    """A leaf past its notAfter ends the handshake."""
    files = mk_files(mesh, "shop/web", tmp_path, now=time.time() - 10, lifetime_s=1, skew_s=0)
    context = mk_context(mesh, files)
    inbound = free_address("127.0.0.2")
    async with run_sidecar(api, FixedCapture(inbound), ip="127.0.0.2", inbound=inbound) as running:
        await talk(running, context, api.server_name, b"x")
        failed = await running.until_event("connection failed")
        assert "expired" in failed["reason"]


async def test_tls_1_2_is_refused(api: Generation, mesh: Mesh, tmp_path: Path) -> None:
    """TLS 1.3 only."""
    context = mk_context(mesh, mk_files(mesh, "shop/web", tmp_path))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    inbound = free_address("127.0.0.2")
    async with run_sidecar(api, FixedCapture(inbound), ip="127.0.0.2", inbound=inbound) as running:
        answer = await talk(running, context, api.server_name, b"x")
        assert isinstance(answer, ssl.SSLError)
        assert (await running.until_event("connection failed"))["code"] == "handshake"


async def test_policy_decides_about_the_header_s_port(
    mesh: Mesh, api: Generation, tmp_path: Path
) -> None:
    """The policy of the target port, not of the direct port."""
    context = mk_context(mesh, mk_files(mesh, "shop/web", tmp_path))
    inbound = free_address("127.0.0.2")
    control = Control(Watch(api))
    async with (
        serve(echo) as app,
        run_sidecar(
            api, FixedCapture(inbound), ip="127.0.0.2", inbound=inbound, control=control
        ) as running,
    ):
        denied: ServerPolicy = replace(OPEN, authorizations=())
        control.policies[app.port] = Watch(denied)
        data = encode_header(TransportHeader(app.port)) + b"ping"
        answer = await talk(running, context, api.server_name, data)
        assert answer == b"" or isinstance(answer, Exception)
        refused = await running.until_event("connection denied")
        assert refused["code"] == "unauthorized"
        assert refused["client_identity"] == str(mesh.identity("shop/web"))
