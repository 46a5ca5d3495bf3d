"""What may grow in a mesh, and what one decision, request or event costs as it does.

Each measurement is of the code that runs, without sockets where there are none in it, and asks
for what lies last: the policy that admits is the last of its Server's, the route the last of all.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle
from time import process_time
from typing import Final, final

from bench.balance import stepper
from bench.cost import costs_of
from bench.http2_pair import Asked, Served
from bench.http_codec import FIELDS, PSEUDO, TRACES
from bench.policy import ADMITTED, REFUSED, REQUEST, build, outbound_routed, policy_of, routed
from policy.decide import decide_connection, decide_request
from policy.model import Client, Permit, ServerPolicy
from policy.route import PathMatchKind
from proxy.net.loop import Loop, poller_of
from proxy.net.stream import Stream
from proxy.wire.buffer import Buffer
from proxy.wire.http1_head import parse_request_head
from proxy.wire.http1_reader import RequestReader
from proxy.wire.http1_writer import write_request_head
from proxy.wire.http_field import Fields
from proxy.wire.http_message import HTTP_11

TURNS: Final = 300
"""How often each point is measured; the best counts."""
SERVERS: Final = 1_000
"""The most that policies are spread over."""
MUST: Final = 1.5
STRETCH: Final = 1.1
"""Times the cost of one each, at most."""
EVENTS: Final = 200
"""Of a busy connection, in one turn."""
CHUNK: Final = 65_536
"""What one read brings of a body, in octets."""
SPARE_DESCRIPTORS: Final = 256


@final
@dataclass(frozen=True, slots=True)
class Line:
    """One cost along an axis."""

    title: str
    microseconds: tuple[float, ...]
    """For each of the axis' counts."""

    @property
    def growth(self) -> float:
        """How many times the first point the dearest costs."""
        return max(self.microseconds) / self.microseconds[0]


@final
@dataclass(frozen=True, slots=True)
class Axis:
    """What grows, and the costs beside it."""

    key: str
    title: str
    counts: tuple[int, ...]
    lines: tuple[Line, ...]
    is_bounded: bool = False
    """Whether the cost must not grow, by MUST."""


Maker = Callable[[int], Callable[[], object]]
"""Returns what is done at a count."""


def _lines(counts: Sequence[int], named: dict[str, Maker]) -> tuple[Line, ...]:
    """Measure each named line; a maker returns what is done at a count."""
    return tuple(
        Line(title, tuple(costs_of([make(count) for count in counts], TURNS)))
        for title, make in named.items()
    )


def policies(counts: tuple[int, ...] = (1, 10, 100, 1_000, 5_000)) -> Axis:
    """Measure decisions among policies that are spread over up to SERVERS Servers."""
    found = {
        count: policy_of(build(servers, servers, count))
        for count in counts
        for servers in [min(count, SERVERS)]
    }

    named: dict[str, Maker] = {}
    for client, who in (("admitted", ADMITTED), ("refused", REFUSED)):
        named[f"connection, {client}"] = partial(_connecting, found, who)
        named[f"request, {client}"] = partial(_asking, found, who)
    title = f"policies, over up to {SERVERS:,} Servers"
    return Axis("policies", title, counts, _lines(counts, named), is_bounded=True)


def _connecting(found: dict[int, ServerPolicy], who: Client, count: int) -> Callable[[], object]:
    policy = found[count]
    return lambda: decide_connection(policy, who)


def _asking(found: dict[int, ServerPolicy], who: Client, count: int) -> Callable[[], object]:
    policy = found[count]
    return lambda: decide_request(policy, who, REQUEST)


def routes(counts: tuple[int, ...] = (1, 10, 100, 1_000)) -> Axis:
    """Measure decisions about requests for the last of so many routes, inbound and outbound."""
    base = policy_of(build(1, 1, 1))
    kinds = {
        PathMatchKind.EXACT: "/api/v{}/orders/42",
        PathMatchKind.PREFIX: "/api/v{}/orders",
        PathMatchKind.REGEX: "/api/v{}/orders/[0-9]+",
    }

    def inbound(kind: PathMatchKind) -> Maker:
        def make(count: int) -> Callable[[], object]:
            table = routed(base, kind, kinds[kind], count)
            request = replace(REQUEST, path=f"/api/v{count}/orders/42")
            assert isinstance(decide_request(table, ADMITTED, request), Permit)
            return lambda: decide_request(table, ADMITTED, request)

        return make

    def outbound(kind: PathMatchKind) -> Maker:
        def make(count: int) -> Callable[[], object]:
            table = outbound_routed(kind, kinds[kind], count)
            lines = b"GET /api/v%d/orders/42?expand=items HTTP/1.1\r\nhost: api.shop\r\n" % count
            head = parse_request_head(lines)
            assert table.find(head) is not None
            return lambda: table.find(head)

        return make

    named = {f"inbound, {kind.value}": inbound(kind) for kind in kinds}
    named |= {f"outbound, {kind.value}": outbound(kind) for kind in kinds}
    return Axis("routes", "routes", counts, _lines(counts, named), is_bounded=True)


def endpoints(counts: tuple[int, ...] = (1, 2, 10, 100, 1_000)) -> Axis:
    """Measure a choice among endpoints, with its ticket, its answer and its end."""
    lines = _lines(counts, {"choice, answer and end": stepper})
    return Axis("endpoints", "endpoints of a Service", counts, lines, is_bounded=True)


@final
class _Player:
    """One of two who send each other 64 bytes, until so many have gone over."""

    def __init__(self, left: list[int], done: Callable[[], None]) -> None:
        self._left = left
        self._done = done
        self.stream: Stream | None = None

    def on_data(self, data: Buffer) -> None:
        """Send it back."""
        self._left[0] -= 1
        if self._left[0] <= 0:
            self._done()
        elif self.stream is not None:
            self.stream.write(data)

    def on_end(self) -> None:
        """Not before the stream is closed."""

    def on_drained(self) -> None:
        """Nothing waits."""

    def on_closed(self, error: Exception | None) -> None:
        """Nothing is left to do."""


@final
class _Idle:
    """Whoever has a connection on which nothing happens."""

    def on_data(self, data: Buffer) -> None:
        """Nothing comes."""

    def on_end(self) -> None:
        """Not before the stream is closed."""

    def on_drained(self) -> None:
        """Nothing waits."""

    def on_closed(self, error: Exception | None) -> None:
        """Nothing is left to do."""


def connections(counts: tuple[int, ...] = (1, 10, 100, 1_000, 8_000)) -> Axis:
    """Measure an event, read and answered, while so many other connections are idle.

    Where fewer files may be open than the largest count takes, there are fewer points.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = (hard if hard != resource.RLIM_INFINITY else 1 << 20) - SPARE_DESCRIPTORS
    counts = tuple(count for count in counts if 2 * count <= most)
    wanted = 2 * counts[-1] + SPARE_DESCRIPTORS
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    found = []
    for count in counts:
        with asyncio.Runner(loop_factory=Loop) as runner:
            found.append(runner.run(_event_us(count)))
    title = "idle connections beside a busy one"
    return Axis("connections", title, counts, (Line("event read and answered", tuple(found)),))


async def _event_us(idle: int) -> float:
    loop = asyncio.get_running_loop()
    poller = poller_of(loop)
    with ExitStack() as stack:
        streams = []

        def pair() -> tuple[socket.socket, socket.socket]:
            near, far = socket.socketpair()
            for each in (near, far):
                stack.enter_context(each).settimeout(0)
            return near, far

        for _ in range(idle):
            stream = Stream(poller, pair()[0], _Idle())
            stream.resume()
            streams.append(stream)
        left = [0]
        played = asyncio.Event()
        players = [_Player(left, played.set) for _ in range(2)]
        for player, sock in zip(players, pair(), strict=True):
            player.stream = Stream(poller, sock, player)
            player.stream.resume()
            streams.append(player.stream)
        gc.collect()
        gc.freeze()
        best = float("inf")
        for _ in range(TURNS):
            left[0] = EVENTS
            played.clear()
            began = process_time()
            streams[-1].write(b"x" * 64)
            await played.wait()
            best = min(best, (process_time() - began) / EVENTS * 1e6)
        for stream in streams:
            stream.close()
        poller.close()
        gc.unfreeze()
        return best


def headers(counts: tuple[int, ...] = (1, 5, 10, 20, 50, 100)) -> Axis:
    """Measure a request's head read and written again, with so many fields."""

    def fields(count: int) -> Fields:
        own = tuple((b"x-field-%d" % n, b"a value of some length, %d" % n) for n in range(count))
        return ((FIELDS[0]), *own[1:])

    def http1(count: int) -> Callable[[], object]:
        text = write_request_head(b"GET", b"/api/v1/orders", fields(count), HTTP_11)
        reader = RequestReader()

        def exchange() -> bytes:
            reader.feed(text)
            head = reader.read_head()
            assert head is not None
            reader.next_message()
            return write_request_head(head.method, head.path, head.fields, head.version)

        return exchange

    def http2(count: int) -> Callable[[], object]:
        client, server = Asked(), Served((), b"")
        own = fields(count)
        traces = cycle(TRACES)

        def exchange() -> object:
            client.ask(PSEUDO, (*own, (b"traceparent", next(traces))))
            server.codec.feed(client.codec.take(), 0.0)
            client.codec.feed(server.codec.take(), 0.0)
            assert client.head is not None
            return client.head

        return exchange

    named: dict[str, Maker] = {"HTTP/1, read and written": http1, "HTTP/2, both ends": http2}
    return Axis("headers", "fields of a request", counts, _lines(counts, named))


def bodies(counts: tuple[int, ...] = (1, 1_024, 16_384, 65_536, 262_144, 1_048_576)) -> Axis:
    """Measure a request with so many octets of content, head included."""

    def http1(count: int) -> Callable[[], object]:
        own: Fields = (*FIELDS, (b"content-length", b"%d" % count))
        text = write_request_head(b"POST", b"/api/v1/orders", own, HTTP_11) + b"x" * count
        pieces = [text[at : at + CHUNK] for at in range(0, len(text), CHUNK)]
        reader = RequestReader()

        def exchange() -> int:
            size = 0
            for number, piece in enumerate(pieces):
                reader.feed(piece)
                if number == 0:
                    assert reader.read_head() is not None
                size += len(reader.read_body())
            assert size == count
            reader.next_message()
            return size

        return exchange

    def http2(count: int) -> Callable[[], object]:
        client, server = Asked(), Served((), b"")
        whole = b"x" * count
        pieces = [whole[at : at + CHUNK] for at in range(0, count, CHUNK)]

        def exchange() -> int:
            stream = client.ask(PSEUDO, FIELDS, ends=False)
            server.size = 0
            for number, piece in enumerate(pieces):
                client.codec.send_data(stream, piece, ends=number == len(pieces) - 1)
                # What the peer's window does not take waits until the peer has read.
                while wire := client.codec.take():
                    server.codec.feed(wire, 0.0)
                    client.codec.feed(server.codec.take(), 0.0)
            assert client.head is not None
            assert server.size == count
            return server.size

        return exchange

    named: dict[str, Maker] = {"HTTP/1, read": http1, "HTTP/2, both ends": http2}
    return Axis("bodies", "octets of a request's content", counts, _lines(counts, named))


AXES: Final = (policies, routes, endpoints, connections, headers, bodies)
