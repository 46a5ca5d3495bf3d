"""``python -m bench.http_codec``: what the HTTP codecs cost, in microseconds, beside h11 and h2.

No sockets: bytes in, meaning out, on one core. The exchange is a GET with seven fields (429
octets of HTTP/1) of which one, ``traceparent``, is new in every request, and a small answer.
Each figure is the best of many short runs, in processor time: what the code costs, not what else
the machine did.
"""

from __future__ import annotations

import re
import time
import timeit
from collections.abc import Callable
from itertools import cycle
from typing import Final

import h11
import hpack
import hpack.huffman
import hpack.huffman_constants
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived as H2DataReceived
from h2.events import RequestReceived as H2RequestReceived
from rich.console import Console
from rich.table import Table

from bench.http2_pair import Asked, Served
from cli.version import core_modules, core_speed
from proxy.wire.http1_head import parse_request_head, parse_response_head
from proxy.wire.http1_reader import RequestReader, ResponseReader
from proxy.wire.http2_hpack_decoder import HpackDecoder
from proxy.wire.http2_hpack_encoder import HpackEncoder
from proxy.wire.http2_huffman import decode_huffman
from proxy.wire.http_field import Fields
from proxy.wire.http_message import HTTP_11, NONE_SENSITIVE
from proxy.wire.native import write_request_head, write_response_head

HOST: Final = b"orders.shop.svc.cluster.local:8080"
PATH: Final = b"/api/v1/orders/12345?expand=items&limit=20"
PSEUDO: Final[Fields] = (
    (b":method", b"GET"),
    (b":scheme", b"http"),
    (b":authority", HOST),
    (b":path", PATH),
)
FIELDS: Final[Fields] = (
    (b"host", HOST),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"),
    (b"accept", b"application/json, text/plain, */*"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"content-type", b"application/json; charset=utf-8"),
    (b"x-request-kind", b"interactive, from the shop's own pages"),
)
ANSWER: Final[Fields] = (
    (b"content-type", b"application/json"),
    (b"content-length", b"12"),
    (b"server", b"shop"),
)
BODY: Final = b'{"ok": true}'
TRACES: Final = [b"00-%032x-%016x-01" % (seed * 2**97, seed * 2**41) for seed in range(1, 5_001)]

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_HEAD: Final = re.compile(
    rb"(" + _TOKEN + rb"++) ([!-~]++) HTTP/1\.([01])\r\n"
    rb"((?:" + _TOKEN + rb"++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+)\r\n"
)


def request_of(trace: bytes) -> bytes:
    """Return the request as HTTP/1."""
    fields = (*FIELDS, (b"traceparent", trace))
    return write_request_head(b"GET", PATH, fields, HTTP_11)


REQUESTS: Final = [request_of(trace) for trace in TRACES]
RESPONSE: Final = write_response_head(200, b"OK", ANSWER, HTTP_11) + BODY


def cost(work: Callable[[], object], *, number: int = 200, repeat: int = 60) -> float:
    """Return the microseconds of processor time that one call takes, at its best."""
    best = min(timeit.repeat(work, timer=time.process_time, number=number, repeat=repeat))
    return best / number * 1e6


def http1_rows() -> list[tuple[str, float]]:
    """Measure the HTTP/1 codec."""
    head = REQUESTS[0]
    lines = head[:-2]
    answer = RESPONSE[: -len(BODY) - 2]
    requests = cycle(REQUESTS)

    def exchange() -> None:
        near.feed(next(requests))
        request = near.read_head()
        assert request is not None
        write_request_head(request.method, request.path, request.fields, request.version)
        near.next_message()
        far.expect(request.method)
        far.feed(RESPONSE)
        response = far.read_head()
        assert response is not None
        write_response_head(response.status, response.reason, response.fields, HTTP_11)
        far.read_body()

    def with_h11() -> None:
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(next(requests))
        connection.next_event()

    near = RequestReader()
    far = ResponseReader()
    return [
        ("one strict re.match over a request head", cost(lambda: _HEAD.match(head))),
        ("request head, all of its meaning", cost(lambda: parse_request_head(lines))),
        ("response head, all of its meaning", cost(lambda: parse_response_head(answer, b"GET"))),
        ("h11, request head alone", cost(with_h11, number=100)),
        ("a hop: request and response, read and written", cost(exchange)),
    ]


def huffman_of(text: bytes) -> bytes:
    """Return ``text`` in HPACK's Huffman code."""
    constants = hpack.huffman_constants
    coder = hpack.huffman.HuffmanEncoder(constants.REQUEST_CODES, constants.REQUEST_CODES_LENGTH)
    return bytes(coder.encode(text))


def hpack_rows() -> list[tuple[str, float]]:
    """Measure HPACK alone."""
    encoder = HpackEncoder()
    decoder = HpackDecoder(16_384, 65_536)
    theirs = hpack.Decoder()
    traces = cycle(TRACES)

    def encode() -> bytes:
        return encoder.encode(PSEUDO, (*FIELDS, (b"traceparent", next(traces))), NONE_SENSITIVE)

    for _ in range(3):
        block = encode()
        decoder.decode(block)
        theirs.decode(block, raw=True)
    blocks = cycle([encode() for _ in TRACES])
    again = cycle([encode() for _ in TRACES[:500]])
    coded = huffman_of(TRACES[0])
    coder = hpack.Encoder()
    fields = [*PSEUDO, *FIELDS]
    return [
        ("HPACK encode, one new field", cost(encode)),
        (
            "HPACK encode by hpack, one new field",
            cost(lambda: coder.encode([*fields, (b"traceparent", next(traces))]), number=50),
        ),
        ("HPACK decode, memo missed", cost(lambda: decoder.decode(next(blocks)))),
        ("HPACK decode, memo hit", cost(lambda: decoder.decode(block))),
        ("HPACK decode by hpack", cost(lambda: theirs.decode(next(again), raw=True), number=50)),
        ("Huffman, 39 octets", cost(lambda: decode_huffman(coded))),
    ]


def http2_rows() -> list[tuple[str, float]]:
    """Measure whole exchanges between two ends of HTTP/2."""
    client, server = Asked(), Served(ANSWER, BODY)
    traces = cycle(TRACES)

    def exchange(fields: Fields) -> None:
        client.ask(PSEUDO, fields)
        server.codec.feed(client.codec.take(), 0.0)
        client.codec.feed(server.codec.take(), 0.0)

    near = RequestReader()
    requests = cycle(REQUESTS)

    def hop() -> None:
        """Do what the outbound side does for HTTP/1 that rides on HTTP/2; the peer costs too."""
        near.feed(next(requests))
        request = near.read_head()
        assert request is not None
        near.next_message()
        exchange(request.fields)
        head = client.head
        assert head is not None
        write_response_head(head.status, head.reason, head.fields, HTTP_11)

    return [
        (
            "HTTP/2 exchange, both ends, one new field",
            cost(lambda: exchange((*FIELDS, (b"traceparent", next(traces))))),
        ),
        ("HTTP/2 exchange, both ends, memo hit", cost(lambda: exchange(FIELDS))),
        ("HTTP/1 over HTTP/2, both ends", cost(hop)),
        ("HTTP/2 exchange by h2, both ends", cost(h2_exchange(), number=50, repeat=20)),
    ]


def h2_exchange() -> Callable[[], None]:
    """Return the same exchange by the h2 library."""
    client = H2Connection(H2Configuration(client_side=True, header_encoding=None))
    server = H2Connection(H2Configuration(client_side=False, header_encoding=None))
    client.initiate_connection()
    server.initiate_connection()
    traces = cycle(TRACES)
    server.receive_data(client.data_to_send())
    client.receive_data(server.data_to_send())

    def exchange() -> None:
        stream = client.get_next_available_stream_id()
        fields = [*PSEUDO, *FIELDS, (b"traceparent", next(traces))]
        client.send_headers(stream, fields, end_stream=True)
        for event in server.receive_data(client.data_to_send()):
            if isinstance(event, H2RequestReceived):
                server.send_headers(event.stream_id, [(b":status", b"200"), *ANSWER])
                server.send_data(event.stream_id, BODY, end_stream=True)
        for event in client.receive_data(server.data_to_send()):
            if isinstance(event, H2DataReceived):
                client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    return exchange


def main() -> None:
    """Measure and print."""
    table = Table(title=f"HTTP codecs: {core_speed(core_modules())}")
    table.add_column("what")
    table.add_column("µs", justify="right")
    for rows in (http1_rows(), hpack_rows(), http2_rows()):
        for name, microseconds in rows:
            table.add_row(name, f"{microseconds:.2f}")
        table.add_section()
    Console(width=80).print(table)


if __name__ == "__main__":
    main()
