"""The admin port as an HTTP server: plain or over mesh TLS, and nobody keeps others from it."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import ssl
import time
from pathlib import Path
from typing import final

import pytest

from core.watch import Watch
from identity.generation import Generation
from policy.model import Client
from proxy.admin import server as admin_server
from proxy.admin.answer import Answer
from proxy.admin.server import AdminServer
from proxy.net.capture import FixedCapture
from proxy.telemetry.slot import MAX_CHILDREN
from tests.authority import Mesh
from tests.session.admin import ask, connected, read_reply, samples
from tests.session.apps import echo, serve
from tests.session.client import run_client
from tests.session.peers import mk_context, mk_files
from tests.sidecars import Control, free_address, run_sidecar

# HTTP

pytestmark = pytest.mark.usefixtures("tls_engine")


async def test_an_unknown_page_names_those_there_are(api: Generation) -> None:
    """404, with help; whatever the path holds."""
    async with run_sidecar(api, FixedCapture(free_address()), ip="127.0.0.2") as running:
        for path in ("/", "/metric", "/ready/", "/%00", "/../etc/passwd", "http://x/live"):
            reply = await ask(running, path)
            assert reply.status == 404
            assert b"/metrics" in reply.body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
async def test_pages_that_are_only_read_say_so(api: Generation, method: str) -> None:
    """405 to every other method."""
    async with run_sidecar(api, FixedCapture(free_address()), ip="127.0.0.2") as running:
        for path in ("/live", "/ready", "/metrics", "/config"):
            assert (await ask(running, path, method)).status == 405


async def test_head_gives_the_length_and_no_body(api: Generation) -> None:
    """The connection goes on after it, in step."""
    async with (
        run_sidecar(api, FixedCapture(free_address()), ip="127.0.0.2") as running,
        connected(running) as (reader, writer),
    ):
        for path in ("/live", "/metrics"):
            writer.write(f"HEAD {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            reply = await read_reply(reader, head=True)
            assert reply.status == 200
            assert int(reply.headers["content-length"]) > 0
        writer.write(b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await read_reply(reader)).body == b"live\n"


async def test_a_connection_serves_many_requests(api: Generation) -> None:
    """Keep-alive, one after the other and all at once, in order."""
    async with (
        run_sidecar(api, FixedCapture(free_address()), ip="127.0.0.2") as running,
        connected(running) as (reader, writer),
    ):
        for _ in range(5):
            writer.write(b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await read_reply(reader)).body == b"live\n"
        paths = ("live", "ready", "nowhere", "live") * 25
        writer.write(b"".join(b"GET /%s HTTP/1.1\r\nhost: x\r\n\r\n" % p.encode() for p in paths))
        answers = [(await read_reply(reader)).status for _ in paths]
        assert answers == [404 if path == "nowhere" else 200 for path in paths]
        writer.write(b"POST /live HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody")
        assert (await read_reply(reader)).status == 405
        writer.write(b"GET /live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert (await read_reply(reader)).status == 200
        assert await reader.read() == b""


async def test_http_1_0_is_answered_and_closed(api: Generation) -> None:
    """As old probes speak."""
    async with (
        run_sidecar(api, FixedCapture(free_address()), ip="127.0.0.2") as running,
        connected(running) as (reader, writer),
    ):
        writer.write(b"GET /live HTTP/1.0\r\n\r\n")
        assert (await read_reply(reader)).body == b"live\n"
        assert await reader.read() == b""


# Mesh TLS on the same port


async def test_mesh_tls_and_plaintext_share_the_port(
    mesh: Mesh, api: Generation, tmp_path: Path
) -> None:
    """With and without a client certificate; several requests on a connection."""
    files = mk_files(mesh, "shop/prometheus", tmp_path)
    async with run_sidecar(api, FixedCapture(free_address()), ip="127.0.0.2") as running:
        for context in (mk_context(mesh, files, ""), mk_context(mesh, None, ""), None):
            sni = api.server_name if context is not None else None
            async with connected(running, context, sni) as (reader, writer):
                for _ in range(3):
                    writer.write(b"GET /ready HTTP/1.1\r\nhost: x\r\n\r\n")
                    assert (await read_reply(reader)).body == b"ready\n"


async def test_tls_for_somebody_else_is_no_request(mesh: Mesh, api: Generation) -> None:
    """Another name's hello is not terminated; it is answered as the bad request that it is."""
    async with run_sidecar(api, FixedCapture(free_address()), ip="127.0.0.2") as running:
        with pytest.raises(ssl.SSLError):
            async with connected(running, mk_context(mesh, None, ""), "foreign.example"):
                pass
        assert (await ask(running, "/live")).status == 200


async def test_before_the_certificate_only_plaintext_is_served(mesh: Mesh) -> None:
    """A hello then is a bad request, and harms nobody else."""
    control = Control(Watch[Generation | None](None))
    async with run_sidecar(
        None, FixedCapture(free_address()), ip="127.0.0.2", control=control
    ) as running:
        await asyncio.sleep(0)
        with pytest.raises(ssl.SSLError):
            async with connected(running, mk_context(mesh, None, ""), "api.example"):
                pass
        assert (await ask(running, "/live")).status == 200


# Bad manners


def _head(size: int) -> bytes:
    """Return a request whose method, target and fields come to ``size`` bytes."""
    start = b"GET /live HTTP/1.1\r\nhost: x\r\na: "
    return start + b"b" * (size - 3 - 5 - 9 - 5) + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x00\x01\x02\x03\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", 400),
        (_head(admin_server.MAX_HEAD_BYTES), 200),
        (_head(admin_server.MAX_HEAD_BYTES + 1), 431),
        (_head(60_000), 431),
        (b"POST /live HTTP/1.1\r\nhost: x\r\ncontent-length: 16385\r\n\r\n" + bytes(16_385), 413),
        (b"POST /live HTTP/1.1\r\nhost: x\r\ncontent-length: 16384\r\n\r\n" + bytes(16_384), 405),
    ],
    ids=[
        "garbage",
        "no path",
        "no host",
        "bad length",
        "head at bound",
        "head past it",
        "long head",
        "long body",
        "body at bound",
    ],
)
async def test_what_is_no_request_gets_its_status(
    api: Generation, data: bytes, status: int
) -> None:
    """A clear answer, and then the end."""
    async with run_sidecar(api, FixedCapture(free_address()), ip="127.0.0.2") as running:
        async with connected(running) as (reader, writer):
            writer.write(data)
            assert (await read_reply(reader)).status == status
            if status not in {200, 405}:
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
        assert (await ask(running, "/live")).status == 200


async def test_an_endless_head_is_cut_off(api: Generation) -> None:
    """At its bound, not when memory runs out."""
    async with (
        run_sidecar(api, FixedCapture(free_address()), ip="127.0.0.2") as running,
        connected(running) as (reader, writer),
    ):
        writer.write(b"GET /live HTTP/1.1\r\n")
        sent = 0
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(10):
                while sent < 64 << 20:
                    writer.write(b"x: " + b"y" * 4_000 + b"\r\n")
                    await writer.drain()
                    sent += 4_005
        assert sent < 8 << 20
        del reader


async def test_a_silent_client_is_let_go(api: Generation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a request, within one, and between two."""
    monkeypatch.setattr(admin_server, "IDLE_TIMEOUT_S", 0.2)
    monkeypatch.setattr(admin_server, "DETECT_TIMEOUT_S", 0.1)
    async with run_sidecar(api, FixedCapture(free_address()), ip="127.0.0.2") as running:
        for data in (b"", b"G", b"GET /live HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n1"):
            async with connected(running) as (reader, writer):
                writer.write(data)
                async with asyncio.timeout(5):
                    assert await reader.read() == b""
        async with connected(running) as (reader, writer):
            writer.write(b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await read_reply(reader)).status == 200
            async with asyncio.timeout(5):
                assert await reader.read() == b""


async def test_a_slow_client_is_answered(api: Generation) -> None:
    """A byte at a time is fine, within the bound."""
    async with (
        run_sidecar(api, FixedCapture(free_address()), ip="127.0.0.2") as running,
        connected(running) as (reader, writer),
    ):
        for byte in b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n":
            writer.write(bytes((byte,)))
            await asyncio.sleep(0.001)
        assert (await read_reply(reader)).body == b"live\n"


async def test_a_client_that_reads_nothing_is_let_go(
    api: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large answer waits for its reader no longer than the bound; others are served."""
    monkeypatch.setattr(admin_server, "WRITE_TIMEOUT_S", 0.2)
    async with run_sidecar(api, FixedCapture(free_address()), ip="127.0.0.2") as running:
        for number in range(MAX_CHILDREN):
            labels = (("client", f"{number}" + "x" * 5_000),)
            running.sidecar.runtime.metrics.deny.child(labels).value += 1
        admin = running.config.admin_listen
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.settimeout(0)
            await asyncio.get_running_loop().sock_connect(sock, (admin.ip, admin.port))
            sock.send(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
            open_now = running.sidecar.runtime.running
            async with asyncio.timeout(5):
                while not open_now:
                    await asyncio.sleep(0.001)
                assert (await ask(running, "/live")).status == 200
                while open_now:
                    await asyncio.sleep(0.01)


async def test_answers_that_wait_for_their_readers_are_bounded(api: Generation) -> None:
    """Of many that read nothing all but a few are dropped."""
    async with run_sidecar(api, FixedCapture(free_address()), ip="127.0.0.2") as running:
        for number in range(MAX_CHILDREN):
            labels = (("client", f"{number}" + "x" * 5_000),)
            running.sidecar.runtime.metrics.deny.child(labels).value += 1
        admin = running.config.admin_listen
        with contextlib.ExitStack() as stack:
            poll = select.poll()
            for _ in range(admin_server.MAX_SLOW_READERS + 3):
                sock = stack.enter_context(socket.socket())
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.settimeout(0)
                await asyncio.get_running_loop().sock_connect(sock, (admin.ip, admin.port))
                sock.send(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
                poll.register(sock, 0)
            async with asyncio.timeout(5):
                while len(poll.poll(0)) < 3:
                    await asyncio.sleep(0.01)
            assert (await ask(running, "/live")).status == 200
            assert len(poll.poll(0)) == 3


async def test_idle_connections_keep_nobody_out(api: Generation) -> None:
    """However many sit there, a probe and a scrape come through."""
    async with run_sidecar(api, FixedCapture(free_address()), ip="127.0.0.2") as running:
        admin = running.config.admin_listen
        idle = [
            await asyncio.open_connection(admin.ip, admin.port)
            for _ in range(admin_server.MAX_CONNECTIONS + 10)
        ]
        started = time.monotonic()
        assert (await ask(running, "/live")).status == 200
        assert (await ask(running, "/metrics")).status == 200
        assert time.monotonic() - started < 5
        assert len(running.sidecar.runtime.running) <= admin_server.MAX_CONNECTIONS
        for _, writer in idle:
            writer.transport.abort()


@final
class Unanswered:
    """What answers nobody, as while other workers are asked and one of them hangs."""

    def __init__(self) -> None:
        self.asked = 0

    async def answer(
        self, method: str, path: str, query: str, body: bytes, client: Client
    ) -> Answer:
        """Let them wait."""
        self.asked += 1
        answer: Answer = await asyncio.get_running_loop().create_future()
        return answer


async def test_answers_that_are_waited_for_are_bounded(api: Generation) -> None:
    """Whoever has to make room is forgotten with the question that was asked."""
    async with run_sidecar(api, FixedCapture(free_address()), ip="127.0.0.2") as running:
        runtime = running.sidecar.runtime
        pages = Unanswered()
        server = AdminServer(runtime, pages)
        many = admin_server.MAX_CONNECTIONS + 10
        with contextlib.ExitStack() as stack:
            for asked in range(1, many + 1):
                near, far = socket.socketpair()
                far.settimeout(0)
                stack.enter_context(near)
                server.accepted(far, "127.0.0.1")
                near.send(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
                async with asyncio.timeout(10):
                    while pages.asked < asked:
                        await asyncio.sleep(0.001)
            await asyncio.sleep(0)
            assert len(runtime.running) == admin_server.MAX_CONNECTIONS


async def test_probes_come_through_when_users_are_at_their_bound(web: Generation) -> None:
    """Admission counts user connections only."""
    async with (
        serve(echo) as app,
        run_client(web, destination=app, MAX_CONNECTIONS="2") as client,
    ):
        address = client.config.outbound_listen
        held = [await asyncio.open_connection(address.ip, address.port) for _ in range(4)]
        for reader, writer in held[:2]:
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
        assert (await ask(client, "/live")).status == 200
        found = samples((await ask(client, "/metrics")).body)
        assert found["pillion_accept_pauses_total"][frozenset()] >= 1
        for _, writer in held:
            writer.transport.abort()
