"""What the far side must prove before a byte of the client's goes to it, and how it may fail."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from core.watch import Watch
from discovery.model import Address, Endpoint, PathKind
from discovery.model import Path as Way
from identity.anchors import Anchors
from identity.generation import Generation
from proxy.wire.transport_header import TransportHeader, read_header
from tests.authority import Mesh, mk_mesh
from tests.session.client import CLUSTER_IP, call, is_reset, run_client
from tests.session.peers import echo_tls, mk_files, mk_server_context, tls_server
from tests.sidecars import Control

pytestmark = pytest.mark.usefixtures("tls_engine")


_PATIENCE = "10s"
"""Where the server is threads of this process, a handshake takes as long as it takes."""


def read_one_header(sock: ssl.SSLSocket) -> TransportHeader:
    """Read a transport header off a connection."""
    data = b""
    while (found := read_header(data)) is None:
        data += sock.recv(1)
    return found[0]


async def test_an_independent_server_gets_header_and_bytes(
    mesh: Mesh, web: Generation, tmp_path: Path
) -> None:
    """With ALPN selected, the header comes first; then the client's bytes, and its end."""
    seen: list[TransportHeader] = []

    def answer(sock: ssl.SSLSocket) -> None:
        seen.append(read_one_header(sock))
        echo_tls(sock)

    identity = mesh.identity("shop/api")
    context = mk_server_context(mesh, mk_files(mesh, "shop/api", tmp_path))
    control = Control(Watch(web))
    with tls_server(context, answer) as server:
        async with run_client(web, control, OUTBOUND_CONNECT_TIMEOUT=_PATIENCE) as client:
            app = Address(server.address.ip, 8080)
            control.route(
                CLUSTER_IP,
                Endpoint(address=app, identity=identity, direct_port=server.address.port),
            )
            assert await call(client) == b"ping"
            assert seen == [TransportHeader(8080)]
            assert (await client.until_event("connection"))["server_identity"] == str(identity)
            assert (await client.until_event("connection closed"))["error"] == ""


async def test_without_alpn_no_header_is_sent(mesh: Mesh, web: Generation, tmp_path: Path) -> None:
    """A server that selects nothing gets the stream as it is."""
    context = mk_server_context(mesh, mk_files(mesh, "shop/api", tmp_path), alpn="")
    control = Control(Watch(web))
    with tls_server(context, echo_tls) as server:
        async with run_client(web, control, OUTBOUND_CONNECT_TIMEOUT=_PATIENCE) as client:
            control.route(
                CLUSTER_IP,
                Endpoint(
                    address=Address(server.address.ip, 8080),
                    identity=mesh.identity("shop/api"),
                    direct_port=server.address.port,
                ),
            )
            assert await call(client) == b"ping"


async def test_a_gateway_is_asked_for_the_name(mesh: Mesh, web: Generation, tmp_path: Path) -> None:
    """With an authority override, the header carries its host and port."""
    seen: list[TransportHeader] = []

    def answer(sock: ssl.SSLSocket) -> None:
        seen.append(read_one_header(sock))
        echo_tls(sock)

    name = "api.shop.svc.cluster.local"
    context = mk_server_context(mesh, mk_files(mesh, "shop/gateway", tmp_path))
    control = Control(Watch(web))
    with tls_server(context, answer) as server:
        async with run_client(web, control, OUTBOUND_CONNECT_TIMEOUT=_PATIENCE) as client:
            for override in (f"{name}:8080", name):
                control.route(
                    CLUSTER_IP,
                    Endpoint(
                        address=server.address,
                        identity=mesh.identity("shop/gateway"),
                        authority_override=override,
                    ),
                )
                assert await call(client) == b"ping"
    assert seen == [TransportHeader(8080, name), TransportHeader(server.address.port, name)]


def _leaf(ahead_s: float, **times: float) -> Callable[[Mesh, Path], ssl.SSLContext]:
    # The moment is the test's, not the module's: an issuer signs nothing before its own begin.
    def make(mesh: Mesh, path: Path) -> ssl.SSLContext:
        files = mk_files(mesh, "shop/api", path, now=time.time() + ahead_s, **times)
        return mk_server_context(mesh, files)

    return make


def _tls_1_2(mesh: Mesh, path: Path) -> ssl.SSLContext:
    context = mk_server_context(mesh, mk_files(mesh, "shop/api", path))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


_UNPROVEN: dict[str, tuple[Callable[[Mesh, Path], ssl.SSLContext], str, str]] = {
    "another identity": (
        lambda mesh, path: mk_server_context(mesh, mk_files(mesh, "shop/other", path)),
        "identity-mismatch",
        "other.shop",
    ),
    "another authority": (
        lambda mesh, path: mk_server_context(
            mesh, mk_files(mk_mesh(path / "stranger"), "shop/api", path / "leaf")
        ),
        "handshake",
        "does not verify",
    ),
    "a leaf that has ended": (
        _leaf(-10, lifetime_s=1, skew_s=0),
        "handshake",
        "expired",
    ),
    "a leaf that is not valid yet": (
        _leaf(600, skew_s=0),
        "handshake",
        "not yet valid",
    ),
    "TLS 1.2": (_tls_1_2, "handshake", "alert protocol version"),
}


@pytest.mark.parametrize("name", list(_UNPROVEN))
async def test_a_server_that_does_not_prove_its_name_is_not_used(
    mesh: Mesh, web: Generation, tmp_path: Path, name: str
) -> None:
    """The client is reset, the reason logged; no byte of the client's and no certificate sent."""
    context_of, code, said = _UNPROVEN[name]
    heard: list[bytes] = []
    control = Control(Watch(web))
    with tls_server(
        context_of(mesh, tmp_path), lambda sock: heard.append(sock.recv(100))
    ) as server:
        async with run_client(web, control) as client:
            control.route(
                CLUSTER_IP,
                Endpoint(address=server.address, identity=mesh.identity("shop/api")),
            )
            assert await call(client) == b""
            failed = await client.until_event("connection failed")
            assert failed["code"] == code
            assert said in failed["reason"]
            assert await is_reset(client)
    assert heard == []
    assert server.sessions == []


async def test_a_root_speaks_only_for_its_own_trust_domain(mesh: Mesh, tmp_path: Path) -> None:
    """A trusted root of another domain that vouches for a name of ours is not believed."""
    rogue = mk_mesh(tmp_path / "rogue")
    anchors = Anchors(
        "cluster.local",
        {"cluster.local": frozenset({mesh.root}), "west.example": frozenset({rogue.root})},
    )
    web = mesh.generation("shop/web", anchors=anchors)
    context = mk_server_context(mesh, mk_files(rogue, "shop/api", tmp_path / "leaf"))
    control = Control(Watch(web))
    with tls_server(context, echo_tls) as server:
        async with run_client(web, control) as client:
            control.route(
                CLUSTER_IP,
                Endpoint(address=server.address, identity=mesh.identity("shop/api")),
            )
            assert await call(client) == b""
            assert (await client.until_event("connection failed"))["code"] == "identity-root"


async def test_a_linked_path_believes_only_its_own_domain(
    mesh: Mesh, web: Generation, tmp_path: Path
) -> None:
    """The right name under the wrong domain's root does not do on a link."""
    context = mk_server_context(mesh, mk_files(mesh, "shop/api", tmp_path))
    control = Control(Watch(web))
    with tls_server(context, echo_tls) as server:
        async with run_client(web, control) as client:
            endpoint = Endpoint(
                address=server.address,
                identity=mesh.identity("shop/api"),
                path=Way(PathKind.DIRECT, "west", "west.example"),
            )
            control.route(CLUSTER_IP, endpoint)
            assert await call(client) == b""
            assert (await client.until_event("connection failed"))["code"] == "identity-mismatch"


async def test_a_server_that_refuses_our_certificate_resets_the_client(
    mesh: Mesh, web: Generation, tmp_path: Path
) -> None:
    """In TLS 1.3 the refusal comes as an alert after our handshake: never an orderly end."""
    stranger = mk_mesh(tmp_path / "stranger")
    context = mk_server_context(mesh, mk_files(mesh, "shop/api", tmp_path / "leaf"), mutual=False)
    context.load_verify_locations(cadata=stranger.anchors.union)
    context.verify_mode = ssl.CERT_REQUIRED
    control = Control(Watch(web))
    with tls_server(context, echo_tls) as server:
        async with run_client(web, control) as client:
            control.route(
                CLUSTER_IP,
                Endpoint(address=server.address, identity=mesh.identity("shop/api")),
            )
            assert await is_reset(client)
            assert (await client.until_event("connection failed"))["code"] == "handshake"
            assert await call(client) == b""
    assert len(server.refused) == 2


async def test_a_server_that_speaks_first_over_tls_is_heard(
    mesh: Mesh, web: Generation, tmp_path: Path
) -> None:
    """Its first bytes, sent with its handshake, arrive before the client has said a word."""

    def greet(sock: ssl.SSLSocket) -> None:
        sock.sendall(b"220 ready\r\n")
        echo_tls(sock)

    context = mk_server_context(mesh, mk_files(mesh, "shop/api", tmp_path), alpn="")
    control = Control(Watch(web))
    with tls_server(context, greet) as server:
        async with run_client(web, control) as client:
            control.route(
                CLUSTER_IP,
                Endpoint(address=server.address, identity=mesh.identity("shop/api")),
            )
            address = client.config.outbound_listen
            reader, writer = await asyncio.open_connection(address.ip, address.port)
            async with asyncio.timeout(5):
                assert await reader.readline() == b"220 ready\r\n"
                writer.write_eof()
                assert await reader.read() == b""
            writer.close()


async def test_a_tls_stream_that_is_cut_by_a_mere_fin_resets_the_client(
    mesh: Mesh, web: Generation, tmp_path: Path
) -> None:
    """Without close_notify an end may be forged: it never looks like an orderly one."""

    def die(sock: ssl.SSLSocket) -> None:
        sock.sendall(b"half of it")
        socket.socket.shutdown(sock, socket.SHUT_WR)
        socket.socket.recv(sock, 65_536)

    context = mk_server_context(mesh, mk_files(mesh, "shop/api", tmp_path))
    control = Control(Watch(web))
    with tls_server(context, die) as server:
        async with run_client(web, control) as client:
            control.route(
                CLUSTER_IP,
                Endpoint(address=server.address, identity=mesh.identity("shop/api")),
            )
            address = client.config.outbound_listen
            reader, writer = await asyncio.open_connection(address.ip, address.port)
            async with asyncio.timeout(5):
                assert await reader.readexactly(10) == b"half of it"
                with pytest.raises(ConnectionResetError):
                    await reader.read()
            writer.close()
            assert (await client.until_event("connection closed"))["error"] == "truncated"
