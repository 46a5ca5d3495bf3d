"""A server of every sort, and clients, as programs to be run inside pods.

``python -m tests.netns.polyglot serve`` serves each protocol of ``PORTS`` at its port;
``python -m tests.netns.polyglot ask PROTOCOL ADDRESS PORT`` calls one, by its own library, and
prints what fields the server was sent, as a JSON object.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

import grpc
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded
from h2.exceptions import ProtocolError
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.session.http1_app import Http1App

PORTS: Final = {
    "HTTP/1": 9001,
    "HTTP/2": 9002,
    "gRPC": 9003,
    "WebSocket": 9004,
    "bytes": 9005,
    "greeting": 9006,
}
BIG: Final = 300_000
"""More than any window or buffer on the way."""
PATIENCE_S: Final = 15.0
GREETING: Final = b"220 at your service\r\n"


class Grpc(grpc.GenericRpcHandler):
    """``Seen`` says what metadata came; ``Talk`` answers each message before the next."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return what a method does."""
        metadata = {str(key): str(value) for key, value in handler_call_details.invocation_metadata}
        made: dict[str, Any] = {
            "/shop.Api/Seen": grpc.unary_unary_rpc_method_handler(
                lambda _, __: json.dumps(metadata).encode()
            ),
            "/shop.Api/Talk": grpc.stream_stream_rpc_method_handler(_talk),
        }
        return made.get(handler_call_details.method)


def _talk(requests: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
    for request in requests:
        yield request.upper()


async def _http2(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each request with its fields and how much content it had."""
    talk = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
    talk.initiate_connection()
    seen: dict[int, dict[str, str]] = {}
    lengths: dict[int, int] = {}
    with suppress(ConnectionError, ProtocolError):
        while data := await reader.read(65_536):
            for event in talk.receive_data(data):
                number = getattr(event, "stream_id", None) or 0
                if isinstance(event, RequestReceived):
                    seen[number] = {str(key): str(value) for key, value in event.headers or ()}
                elif isinstance(event, DataReceived):
                    size = event.flow_controlled_length or 0
                    lengths[number] = lengths.get(number, 0) + len(event.data or b"")
                    talk.acknowledge_received_data(size, number)
                elif isinstance(event, StreamEnded):
                    fields = {**seen.pop(number), "length": str(lengths.pop(number, 0))}
                    talk.send_headers(number, [(":status", "200")])
                    talk.send_data(number, json.dumps(fields).encode(), end_stream=True)
            writer.write(talk.data_to_send())
    writer.close()


async def _web_socket(connection: ServerConnection) -> None:
    """Say what fields came, then echo."""
    assert connection.request is not None
    fields = {key.lower(): value for key, value in connection.request.headers.raw_items()}
    with suppress(ConnectionClosed):
        await connection.send(json.dumps(fields))
        async for message in connection:
            await connection.send(message)


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes, and end when it ends."""
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speak first, and then as ``_echo`` does."""
    writer.write(GREETING)
    await _echo(reader, writer)


async def serve_all() -> None:
    """Serve until killed; says so once all ports are open."""
    streams = {
        "HTTP/1": Http1App().serve,
        "HTTP/2": _http2,
        "bytes": _echo,
        "greeting": _greet,
    }
    servers = [
        await asyncio.start_server(each, "0.0.0.0", PORTS[name])  # of its pod
        for name, each in streams.items()
    ]
    with ThreadPoolExecutor(8) as threads:
        rpc = grpc.server(threads)
        rpc.add_generic_rpc_handlers((Grpc(),))
        rpc.add_insecure_port(f"0.0.0.0:{PORTS['gRPC']}")
        rpc.start()
        async with serve(_web_socket, "0.0.0.0", PORTS["WebSocket"], max_size=None):
            print("open", flush=True)
            await asyncio.gather(*(each.serve_forever() for each in servers))


def ask_grpc(address: str) -> dict[str, str]:
    """Call both methods."""
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        made: Any = channel
        fields: dict[str, str] = json.loads(
            made.unary_unary("/shop.Api/Seen")(b"x" * BIG, timeout=PATIENCE_S)
        )
        words = [b"word %d" % number for number in range(100)]
        said = list(made.stream_stream("/shop.Api/Talk")(iter(words), timeout=PATIENCE_S))
        assert said == [each.upper() for each in words]
        return fields


async def ask_web_socket(address: str) -> dict[str, str]:
    """Shake hands, and send messages of several lengths to and fro."""
    async with (
        asyncio.timeout(PATIENCE_S),
        connect(f"ws://{address}/", proxy=None, max_size=None) as talk,
    ):
        fields: dict[str, str] = json.loads(await talk.recv())
        for message in (b"", "text", b"\0" * BIG):
            await talk.send(message)
            assert await talk.recv() == message
        return fields


def main(verb: str, *words: str) -> None:
    """Serve, or ask and print."""
    if verb == "serve":
        asyncio.run(serve_all())
        return
    protocol, address, port = words
    if protocol == "gRPC":
        fields = ask_grpc(f"{address}:{port}")
    else:
        fields = asyncio.run(ask_web_socket(f"{address}:{port}"))
    print(json.dumps(fields))


if __name__ == "__main__":
    main(*sys.argv[1:])
