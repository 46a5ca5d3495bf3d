"""Real clients through a gateway: curl, gRPC's own library, and a protocol that leaves HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import grpc
import pytest

from discovery.model import Address
from identity.generation import Generation
from tests.authority import Mesh
from tests.session.apps import exchange
from tests.session.gateways import NAME, behind_gateway, scene_of
from tests.session.http1_app import PIECE, Http1App
from tests.support.programs import run_program

T = TypeVar("T")
PATIENCE_S = 20.0
CURL = ("curl", "--silent", "--show-error", "--noproxy", "", "--max-time", "15")


@pytest.fixture
def gateway(mesh: Mesh) -> Generation:
    """Return the gateway's generation."""
    return mesh.generation("mesh/gateway")


@pytest.mark.needs("curl")
@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_curl(web: Generation, gateway: Generation, api: Generation, version: str) -> None:
    """Heads, and content of known and of unknown length, up and down."""
    app = Http1App()
    async with scene_of(web, gateway, api, app=app.serve) as scene:
        entry = f"http://{scene.client.config.outbound_listen}"
        said = await run_program(*CURL, f"--http{version}", f"{entry}/seen?a=b")
        seen = json.loads(said.out)
        assert (seen["method"], seen["target"], seen["version"]) == ("GET", "/seen?a=b", version)
        fields = dict(seen["fields"])
        assert fields["host"] == NAME
        assert fields["l5d-client-id"] == gateway.identity.name
        assert f"for={web.identity.name};" in fields["forwarded"]
        assert "l5d-orig-proto" not in fields
        data = PIECE * 300
        said = await run_program(*CURL, "--data-binary", "@-", f"{entry}/sum", data=data)
        assert hashlib.sha256(data).hexdigest().encode() in said.out
        said = await run_program(*CURL, f"{entry}/chunks/100")
        assert said.out == PIECE * 100
        said = await run_program(*CURL, f"{entry}/bytes/1000000")
        assert len(said.out) == 1_000_000


async def switching(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Leave HTTP as is asked for, and then send back what comes."""
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"upgrade: websocket" in head.lower()
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n")
    writer.write(b"Upgrade: websocket\r\n\r\n")
    try:
        while data := await reader.read(65_536):
            writer.write(data[::-1])
    except ConnectionError:
        pass
    finally:
        writer.close()


async def test_a_protocol_that_leaves_http(
    web: Generation, gateway: Generation, api: Generation
) -> None:
    """As WebSocket does: from the 101 on, bytes go both ways."""
    async with scene_of(web, gateway, api, app=switching) as scene:
        address = scene.client.config.outbound_listen
        reader, writer = await asyncio.open_connection(address.ip, address.port)
        writer.write(b"GET /chat HTTP/1.1\r\nHost: api\r\nConnection: Upgrade\r\n")
        writer.write(b"Upgrade: websocket\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            for word in (b"abc", b"defgh"):
                writer.write(word)
                assert await reader.readexactly(len(word)) == word[::-1]
        writer.close()


async def test_bytes_that_are_no_http(
    web: Generation, gateway: Generation, api: Generation
) -> None:
    """They come as they are."""
    async with scene_of(web, gateway, api) as scene:
        data = bytes(range(256)) * 4_096
        assert await exchange(scene.client.config.outbound_listen, data) == data


class Methods(grpc.GenericRpcHandler):
    """A server that sends messages back, alone or as a stream, and one that fails."""

    def __init__(self) -> None:
        self.metadata: dict[str, str] = {}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return what a method does."""
        self.metadata = {
            str(key): str(value) for key, value in handler_call_details.invocation_metadata
        }
        made: dict[str, Any] = {
            "/shop.Api/Echo": grpc.unary_unary_rpc_method_handler(lambda request, _: request),
            "/shop.Api/Talk": grpc.stream_stream_rpc_method_handler(_talk),
            "/shop.Api/Fail": grpc.unary_unary_rpc_method_handler(_fail),
        }
        return made.get(handler_call_details.method)


def _talk(requests: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
    for request in requests:
        yield request.upper()


def _fail(_: bytes, context: grpc.ServicerContext) -> bytes:
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no")


@asynccontextmanager
async def grpc_app(methods: Methods) -> AsyncIterator[Address]:
    """Run a server of gRPC."""
    with ThreadPoolExecutor(8) as threads:
        server = grpc.server(threads)
        server.add_generic_rpc_handlers((methods,))
        port = server.add_insecure_port("127.0.0.2:0")
        server.start()
        yield Address("127.0.0.2", port)
        await asyncio.to_thread(server.stop(0).wait)


async def off_loop(work: Callable[[], T]) -> T:
    """Do what blocks in a thread; the sidecars run on the loop."""
    async with asyncio.timeout(3 * PATIENCE_S):
        return await asyncio.to_thread(work)


async def test_grpc(web: Generation, gateway: Generation, api: Generation) -> None:
    """Unary, streaming both ways in turn, and an error with its words."""
    methods = Methods()
    async with (
        grpc_app(methods) as app,
        behind_gateway(web, gateway, api, app) as scene,
    ):
        channel: Any = grpc.insecure_channel(
            str(scene.client.config.outbound_listen), options=[("grpc.enable_http_proxy", 0)]
        )

        def work() -> None:
            echo = channel.unary_unary("/shop.Api/Echo")
            message = PIECE * 20
            assert echo(message, timeout=PATIENCE_S) == message
            talk = channel.stream_stream("/shop.Api/Talk")
            words = [b"word %d" % number for number in range(200)]
            assert list(talk(iter(words), timeout=PATIENCE_S)) == [each.upper() for each in words]
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary("/shop.Api/Fail")(b"", timeout=PATIENCE_S)
            error: Any = caught.value
            assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "no")

        try:
            await off_loop(work)
        finally:
            await asyncio.to_thread(channel.close)
        assert methods.metadata["l5d-client-id"] == gateway.identity.name
        assert f"for={web.identity.name};" in methods.metadata["forwarded"]
