"""What a client is told when a sidecar answers in the server's place: Linkerd's table, by rows.

Where we differ a row says so in its name: nobody's HTTP/2 connection is ended because one of its
requests failed (Linkerd sends GOAWAY), and a connect failure is told at once in every version
(Linkerd's HTTP/2 client goes on trying until its fail-fast answers).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import pytest

from core.watch import Watch
from discovery.model import Address, Endpoint, Hint, default_metadata
from identity.generation import Generation
from policy.model import InboundRoute, InboundRule, Protocol, RateLimit, ServerPolicy
from policy.route import HttpMatch, InvalidFilter, PathMatch, PathMatchKind
from proxy.net.capture import FixedCapture
from proxy.wire.transport_header import SessionProtocol, TransportHeader, encode_header
from tests.authority import Mesh
from tests.session.apps import serve
from tests.session.http_apps import hello
from tests.session.http_wire import evil, evil2, failures, http2, statuses_of, talk, until
from tests.session.peers import black_hole, mk_context, mk_files, silent_server
from tests.sidecars import OPEN, Control, free_address, run_pair, run_sidecar
from tests.wire import http2_talk as wire

GET = b"GET /x HTTP/1.1\r\nHost: api\r\n\r\n"
LAST = b"GET /x HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n"
GRPC = (
    *wire.POST[:2],
    (b":path", b"/x"),
    wire.POST[3],
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
)


@contextlib.contextmanager
def nobody() -> Iterator[Address]:
    """An address at which nobody listens."""
    yield free_address("127.0.0.2")


@contextlib.contextmanager
def resets() -> Iterator[Address]:
    """An address at which connections are reset."""
    with silent_server("127.0.0.2") as address:
        yield address


def only(*filters: InvalidFilter, path: str = "/other") -> ServerPolicy:
    """Return a policy whose one route is for one path."""
    match = HttpMatch(path=PathMatch(PathMatchKind.EXACT, path))
    rule = InboundRule(matches=(match,), filters=filters)
    return replace(OPEN, routes=(InboundRoute(metadata=default_metadata("r"), rules=(rule,)),))


@final
@dataclass(frozen=True)
class Row:
    """A situation, and what a client is told in HTTP and in gRPC."""

    http: int
    grpc: int
    closes: bool
    """An HTTP/1 connection ends behind it."""
    code: str
    policy: ServerPolicy = OPEN
    address: Callable[[], AbstractContextManager[Address]] = nobody


INBOUND = {
    "no route": Row(404, 5, False, "", only()),
    "no authorization": Row(403, 7, False, "", replace(OPEN, authorizations=())),
    "a filter that is unknown, and the connection lives": Row(
        500, 13, False, "filter-invalid", only(InvalidFilter("x"), path="/x")
    ),
    "connect refused, at once also in HTTP/2": Row(502, 14, True, "connect-refused"),
    "connect timeout, at once also in HTTP/2": Row(
        504, 4, True, "connect-timeout", address=lambda: black_hole("127.0.0.2")
    ),
}


@pytest.mark.parametrize("row", INBOUND)
async def test_inbound(mesh: Mesh, api: Generation, row: str, tmp_path: Path) -> None:
    """In words to whoever has an identity, in numbers to all others."""
    case = INBOUND[row]
    inbound = free_address("127.0.0.2")
    with case.address() as app:
        for who in ("meshed", "stranger"):
            control = Control(Watch(api), policy=replace(case.policy, protocol=Protocol.DETECT))
            target = inbound if who == "meshed" else app
            async with run_sidecar(
                api, FixedCapture(target), ip="127.0.0.2", inbound=inbound, control=control
            ) as running:
                if who == "meshed":
                    context = mk_context(mesh, mk_files(mesh, "shop/web", tmp_path))
                    header = encode_header(TransportHeader(app.port, session=SessionProtocol.HTTP1))
                    got = await asyncio.to_thread(
                        _tls_talk, inbound, context, api.server_name, header + GET + LAST
                    )
                else:
                    got = await talk(inbound, GET + LAST)
                answers = 1 if case.closes else 2
                assert statuses_of(got) == [case.http] * answers
                assert got.count(b"content-length: 0\r\n") == answers
                assert (b"connection: close" in got.split(b"\r\n\r\n")[0]) is case.closes
                assert (b"l5d-proxy-error: " in got) is (who == "meshed")
                assert (b"l5d-proxy-connection: close" in got) is (who == "meshed" and case.closes)
                found = await failures(running, "inbound")
                assert found == ({case.code: answers} if case.code else {})
                if who == "meshed":
                    continue
                async with http2(inbound) as client:
                    for stream in (1, 3):
                        client.say(wire.headers(stream, GRPC))
                        await client.until_stream(stream)
                        (fields,) = client.heads[stream]
                        assert fields[b":status"] == b"200"
                        assert fields[b"content-type"] == b"application/grpc"
                        assert fields[b"grpc-status"] == b"%d" % case.grpc
                        assert b"grpc-message" not in fields
                        assert b"l5d-proxy-error" not in fields
                    # No GOAWAY: the connection is shared with requests that did not fail.
                    assert client.goaway is None


def _tls_talk(address: Address, context: ssl.SSLContext, sni: str, data: bytes) -> bytes:
    got = b""
    with (
        contextlib.suppress(ssl.SSLError),
        socket.create_connection((address.ip, address.port), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname=sni) as client,
    ):
        client.sendall(data)
        while part := client.recv(65_536):
            got += part
    return got


LIMITED = RateLimit(metadata=default_metadata("limit"), total=1)


async def test_a_rate_limit(api: Generation) -> None:
    """429 and gRPC's 8; the connection lives."""
    control = Control(Watch(api), policy=replace(OPEN, rate_limit=LIMITED))
    async with (
        serve(hello) as app,
        run_sidecar(api, FixedCapture(app), ip="127.0.0.2", control=control) as running,
    ):
        entry = running.config.inbound_listen
        got = await talk(entry, GET + GET + LAST)
        assert statuses_of(got.replace(b" HTTP/1.1\r\n", b"")) == [200, 429, 429]
        async with http2(entry) as client:
            client.say(b"".join(wire.headers(stream, GRPC) for stream in (1, 3, 5)))
            await client.until_stream(5)
            (fields,) = client.heads[5]
            assert fields[b"grpc-status"] == b"8"


@pytest.mark.parametrize("data", [GET, wire.PREFACE + wire.settings() + wire.headers(1)])
async def test_a_fault_of_our_own_ends_its_connection_alone(api: Generation, data: bytes) -> None:
    """A limit of nothing cannot come from a manifest, and nothing can be divided by it."""
    broken = replace(OPEN, rate_limit=replace(LIMITED, total=0))
    control = Control(Watch(api), policy=broken)
    async with (
        serve(hello) as app,
        run_sidecar(api, FixedCapture(app), ip="127.0.0.2", control=control) as running,
    ):
        entry = running.config.inbound_listen
        assert statuses_of(await talk(entry, data)) == []
        runtime = running.sidecar.runtime
        await until(lambda: not runtime.connections and not runtime.admission.open)
        running.control.policies[app.port].publish(OPEN)
        assert (await talk(entry, LAST)).startswith(b"HTTP/1.1 200 ")
        assert running.events("session broke")


OUTBOUND = {
    "connect refused, at once also in HTTP/2": Row(502, 14, True, "connect-refused"),
    "connect timeout, at once also in HTTP/2": Row(
        504, 4, True, "connect-timeout", address=black_hole
    ),
}


@pytest.mark.parametrize("row", OUTBOUND)
async def test_outbound(web: Generation, row: str) -> None:
    """Always in words: the application is the sidecar's own."""
    case = OUTBOUND[row]
    with case.address() as app:
        async with run_sidecar(web, FixedCapture(app)) as running:
            entry = running.config.outbound_listen
            got = await talk(entry, GET + LAST)
            assert statuses_of(got) == [case.http]
            assert b"connection: close" in got
            assert b"l5d-proxy-error: " in got
            assert await failures(running, "outbound") == {case.code: 1}
            async with http2(entry) as client:
                client.say(wire.headers(1, GRPC) + wire.headers(3, wire.GET))
                await client.until_stream(1)
                await client.until_stream(3)
                (fields,) = client.heads[1]
                assert fields[b"grpc-status"] == b"%d" % case.grpc
                assert fields[b"grpc-message"]
                assert client.status(3) == case.http
                assert client.goaway is None


REQUIRED = {
    "the endpoint's": ("same", True, 200, ""),
    "another's": ("other", True, 502, "identity-mismatch"),
    "of an endpoint without": ("same", False, 502, "identity-mismatch"),
}


@pytest.mark.parametrize("row", REQUIRED)
async def test_an_application_may_require_an_identity(
    web: Generation, api: Generation, row: str
) -> None:
    """``l5d-require-id``: that endpoint or none; the header goes no further."""
    whose, is_meshed, status, code = REQUIRED[row]
    name = (api if whose == "same" else web).identity.name
    request = b"GET / HTTP/1.1\r\nHost: a\r\nL5d-Require-Id: %b\r\nConnection: close\r\n\r\n"
    async with serve(hello) as app, run_pair(web, api, app) as pair:
        if not is_meshed:
            pair.client.control.route(app, Endpoint(address=app))
        got = await talk(pair.entry, request % name.encode())
        assert statuses_of(got.replace(b" HTTP/1.1\r\n", b"")) == [status]
        assert b"l5d-require-id" not in got.lower().partition(b"\r\n\r\n")[2]
        assert (b"connection: close" in got) is True
        assert await failures(pair.client, "outbound") == ({code: 1} if code else {})


async def test_a_server_that_is_somebody_else(web: Generation, api: Generation) -> None:
    """502, whatever it would have said."""
    async with serve(hello) as app, run_pair(web, api, app) as pair:
        inbound = pair.server.config.inbound_listen
        endpoint = Endpoint(address=app, identity=web.identity, direct_port=inbound.port)
        pair.client.control.route(app, endpoint)
        got = await talk(pair.entry, LAST)
        assert statuses_of(got) == [502]
        assert set(await failures(pair.client, "outbound")) & {"identity-mismatch", "handshake"}


async def test_who_calls_is_not_the_client_s_to_say(web: Generation, api: Generation) -> None:
    """``l5d-client-id`` of a stranger is taken off, a meshed client's is replaced."""
    forged = b"GET / HTTP/1.1\r\nHost: a\r\nl5d-client-id: forged\r\nConnection: close\r\n\r\n"
    async with serve(hello) as app, run_pair(web, api, app) as pair:
        got = await talk(pair.entry, forged)
        assert got.count(b"l5d-client-id") == 1
        assert b"l5d-client-id: " + web.identity.name.encode() in got
        assert b"forged" not in got
    async with (
        serve(hello) as app,
        run_sidecar(api, FixedCapture(app), ip="127.0.0.2") as running,
    ):
        got = await talk(running.config.inbound_listen, forged)
        assert b"l5d-client-id" not in got


async def test_who_calls_cannot_be_hidden(mesh: Mesh, api: Generation, tmp_path: Path) -> None:
    """A peer that is no sidecar names what we add in ``connection``: it stays."""
    context = mk_context(mesh, mk_files(mesh, "shop/web", tmp_path), "")
    request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: l5d-client-id, close\r\n\r\n"
    async with (
        serve(hello) as app,
        run_sidecar(api, FixedCapture(app), ip="127.0.0.2") as running,
    ):
        address = running.config.inbound_listen
        reader, writer = await asyncio.open_connection(
            address.ip, address.port, ssl=context, server_hostname=api.server_name
        )
        writer.write(request)
        async with asyncio.timeout(10):
            got = await reader.read()
        writer.transport.abort()
    assert b"l5d-client-id: " + mesh.identity("shop/web").name.encode() in got


@pytest.mark.parametrize("hops", ["inbound", "outbound", "both", "riding"])
async def test_what_sidecars_say_is_not_an_application_s_to_say(
    web: Generation, api: Generation, hops: str
) -> None:
    """Their headers are taken off its answers."""
    lies = evil(
        b"HTTP/1.1 200 OK\r\nl5d-proxy-error: x\r\nl5d-proxy-connection: close\r\n"
        b"l5d-orig-proto: HTTP/1.0\r\nContent-Length: 2\r\n\r\nok"
    )
    async with serve(lies) as app:
        if hops in {"both", "riding"}:
            hint = Hint.H2 if hops == "riding" else Hint.UNKNOWN
            async with run_pair(web, api, app, hint=hint) as pair:
                got = await talk(pair.entry, LAST)
        else:
            ip = "127.0.0.2" if hops == "inbound" else "127.0.0.1"
            async with run_sidecar(api, FixedCapture(app), ip=ip) as running:
                config = running.config
                at = config.inbound_listen if hops == "inbound" else config.outbound_listen
                got = await talk(at, LAST)
    assert statuses_of(got) == [200]
    assert b"l5d-" not in got.lower()
    assert got.endswith(b"\r\n\r\nok")


async def test_what_sidecars_say_stays_between_them(web: Generation, api: Generation) -> None:
    """Why one refuses is told to the other, and the status alone to the application."""
    control = Control(Watch(api), policy=replace(OPEN, authorizations=()))
    with nobody() as app:
        async with run_pair(web, api, app, hint=Hint.H2, server_control=control) as pair:
            got = await talk(pair.entry, LAST)
    assert statuses_of(got) == [403]
    assert b"l5d-" not in got.lower()


@pytest.mark.parametrize("error", [2, 7, 8, 11])
async def test_a_reset_of_an_http2_server_s_is_passed_on(
    web: Generation, api: Generation, error: int
) -> None:
    """With its reason, through both sidecars; refused streams are tried again first."""
    app = evil2(lambda stream: wire.reset(stream, error))
    async with serve(app) as at, run_pair(web, api, at) as pair, http2(pair.entry) as client:
        client.say(wire.headers(1, wire.POST))
        await client.until_stream(1)
        assert client.resets.get(1) == error or (error == 7 and client.status(1) == 503)
        assert client.goaway is None
        runtime = pair.client.sidecar.runtime
        await until(lambda: len(runtime.connections) == 1)


async def test_a_reset_of_an_http2_server_s_is_a_bad_gateway_for_http1(
    web: Generation, api: Generation
) -> None:
    """It has no other words for it."""

    async def breaks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    async with serve(breaks) as at, run_pair(web, api, at) as pair:
        got = await talk(pair.entry, LAST)
        assert statuses_of(got) == [502]
