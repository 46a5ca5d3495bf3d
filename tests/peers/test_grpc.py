"""gRPC's own library through two sidecars over mutual TLS: all kinds of calls, and their ends."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import grpc
import pytest

from discovery.model import Address, Hint
from identity.generation import Generation
from tests.sidecars import Pair, run_pair

T = TypeVar("T")

PATIENCE_S: Final = 10.0
BIG: Final = 20_000_000
_SIZES: Final = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@dataclass
class App:
    """A server whose methods say what they do."""

    metadata: dict[str, str] = field(default_factory=dict)
    """Of the call that came last."""
    started: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    ended: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    """Released once for each call to ``Wait`` that its client gave up."""
    together: threading.Barrier = field(default_factory=lambda: threading.Barrier(100))

    def echo(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Unary: send the request back, with metadata before and behind it."""
        self.metadata = {key: str(value) for key, value in context.invocation_metadata()}
        context.send_initial_metadata((("x-first", "before"),))
        context.set_trailing_metadata((("x-last", "behind"), ("x-last-bin", b"\x00\xff")))
        return request

    def count(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Server streaming: as many messages as the request says."""
        for number in range(int(request)):
            yield b"%d" % number

    def total(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        """Client streaming: how many, and their sum."""
        total = hashlib.sha256()
        many = 0
        for request in requests:
            total.update(request)
            many += 1
        return b"%d %b" % (many, total.hexdigest().encode())

    def talk(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Both streaming: answer each message before the next."""
        for request in requests:
            yield request.upper()

    def fail(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Unary: end with an error, which is all of the answer."""
        context.set_trailing_metadata((("x-why", "because"),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "nothing é works, 100%")

    def tire(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Server streaming: end with an error behind messages."""
        yield b"one"
        context.abort(grpc.StatusCode.DATA_LOSS, "lost")

    def wait(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Server streaming: one message, then nothing until the client gives up."""
        over = threading.Event()

        def end() -> None:
            over.set()
            self.ended.release()

        # Who gives up at once may be heard of before the message is known to be sent: then
        # nothing behind it runs any more, but this does.
        context.add_callback(end)
        self.started.release()
        yield b"here"
        over.wait(3 * PATIENCE_S)

    def meet(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Unary: answer when a hundred are here."""
        self.together.wait(PATIENCE_S)
        return request


@dataclass
class Grpc:
    """A client's channel through the sidecars, and the application behind them."""

    channel: grpc.Channel
    app: App
    pair: Pair
    web: Generation

    def call(self, name: str, kind: str = "unary_unary") -> Callable[..., Any]:
        """Return a method, its messages as bytes."""
        made: Callable[..., Any] = getattr(self.channel, kind)(f"/shop.Api/{name}")
        return made


def _handlers(app: App) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(
        "shop.Api",
        {
            "Echo": grpc.unary_unary_rpc_method_handler(app.echo),
            "Count": grpc.unary_stream_rpc_method_handler(app.count),
            "Total": grpc.stream_unary_rpc_method_handler(app.total),
            "Talk": grpc.stream_stream_rpc_method_handler(app.talk),
            "Fail": grpc.unary_unary_rpc_method_handler(app.fail),
            "Tire": grpc.unary_stream_rpc_method_handler(app.tire),
            "Wait": grpc.unary_stream_rpc_method_handler(app.wait),
            "Meet": grpc.unary_unary_rpc_method_handler(app.meet),
        },
    )


@pytest.fixture(params=[Hint.H2, Hint.UNKNOWN], ids=["hinted", "as-it-is"])
async def rpc(
    request: pytest.FixtureRequest, web: Generation, api: Generation
) -> AsyncIterator[Grpc]:
    """Return a channel through two sidecars."""
    app = App()
    with ThreadPoolExecutor(110) as threads:
        server = grpc.server(threads, options=_SIZES)
        server.add_generic_rpc_handlers((_handlers(app),))
        port = server.add_insecure_port("127.0.0.2:0")
        server.start()
        hint: Hint = request.param
        async with run_pair(
            web, api, Address("127.0.0.2", port), direct=hint is Hint.H2, hint=hint
        ) as pair:
            channel = grpc.insecure_channel(
                str(pair.entry), options=[*_SIZES, ("grpc.enable_http_proxy", 0)]
            )
            try:
                yield Grpc(channel, app, pair, web)
            finally:
                await asyncio.to_thread(channel.close)
        await asyncio.to_thread(server.stop(0).wait)


async def off_loop(work: Callable[[], T]) -> T:
    """Do what blocks in a thread; the sidecars run on the loop."""
    async with asyncio.timeout(3 * PATIENCE_S):
        return await asyncio.to_thread(work)


async def test_one_message_each_way(rpc: Grpc) -> None:
    """With metadata before and behind it; the application is told who called."""

    def work() -> None:
        answer, call = rpc.call("Echo").with_call(  # type: ignore[attr-defined]
            b"hello", metadata=(("x-a", "b"), ("x-b-bin", b"\x01\xfe")), timeout=PATIENCE_S
        )
        assert answer == b"hello"
        assert ("x-first", "before") in list(call.initial_metadata())
        assert {("x-last", "behind"), ("x-last-bin", b"\x00\xff")} <= set(call.trailing_metadata())
        assert call.code() is grpc.StatusCode.OK

    await off_loop(work)
    assert rpc.app.metadata["l5d-client-id"] == rpc.web.identity.name
    assert rpc.app.metadata["x-a"] == "b"


async def test_messages_come_down(rpc: Grpc) -> None:
    """Server streaming."""

    def work() -> list[bytes]:
        return list(rpc.call("Count", "unary_stream")(b"1000", timeout=PATIENCE_S))

    assert await off_loop(work) == [b"%d" % number for number in range(1_000)]


async def test_messages_go_up(rpc: Grpc) -> None:
    """Client streaming."""
    messages = [b"%d" % number * 100 for number in range(1_000)]

    def work() -> bytes:
        answer: bytes = rpc.call("Total", "stream_unary")(iter(messages), timeout=PATIENCE_S)
        return answer

    total = hashlib.sha256(b"".join(messages)).hexdigest()
    assert await off_loop(work) == b"1000 %b" % total.encode()


async def test_messages_go_both_ways_in_turn(rpc: Grpc) -> None:
    """Each message waits for the answer to the one before it: nothing is held back."""

    def work() -> int:
        answered = threading.Semaphore(1)

        def ask() -> Iterator[bytes]:
            for number in range(200):
                assert answered.acquire(timeout=PATIENCE_S)
                yield b"message %d" % number

        many = 0
        for answer in rpc.call("Talk", "stream_stream")(ask(), timeout=2 * PATIENCE_S):
            assert answer == b"MESSAGE %d" % many
            many += 1
            answered.release()
        return many

    assert await off_loop(work) == 200


async def test_big_messages(rpc: Grpc) -> None:
    """Twenty megabytes in one message, up and down."""
    message = hashlib.sha256(b"").digest() * (BIG // 32)

    def work() -> bytes:
        answer: bytes = rpc.call("Echo")(message, timeout=2 * PATIENCE_S)
        return answer

    assert await off_loop(work) == message


async def test_errors_arrive_as_they_are(rpc: Grpc) -> None:
    """A status alone, with its words and metadata, and one behind messages."""

    def work() -> None:
        with pytest.raises(grpc.RpcError) as caught:
            rpc.call("Fail")(b"", timeout=PATIENCE_S)
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert error.details() == "nothing é works, 100%"
        assert ("x-why", "because") in list(error.trailing_metadata())
        answers = rpc.call("Tire", "unary_stream")(b"", timeout=PATIENCE_S)
        assert next(answers) == b"one"
        with pytest.raises(grpc.RpcError) as caught:
            next(answers)
        error = caught.value
        assert (error.code(), error.details()) == (grpc.StatusCode.DATA_LOSS, "lost")
        with pytest.raises(grpc.RpcError) as caught:
            rpc.call("Nothing")(b"", timeout=PATIENCE_S)
        error = caught.value
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED

    await off_loop(work)


async def test_a_cancelled_call_ends_in_the_application(rpc: Grpc) -> None:
    """The far application learns that nobody waits any more; others go on."""

    def work() -> None:
        other = rpc.call("Wait", "unary_stream")(b"", timeout=3 * PATIENCE_S)
        assert next(other) == b"here"
        call = rpc.call("Wait", "unary_stream")(b"", timeout=3 * PATIENCE_S)
        assert next(call) == b"here"
        call.cancel()
        assert rpc.app.ended.acquire(timeout=PATIENCE_S)
        assert not rpc.app.ended.acquire(blocking=False)
        assert other.is_active()
        other.cancel()
        assert rpc.app.ended.acquire(timeout=PATIENCE_S)

    await off_loop(work)


async def test_a_deadline_ends_the_call(rpc: Grpc) -> None:
    """The client's deadline passes; the application is told, by the header or by the reset."""

    def work() -> None:
        call = rpc.call("Wait", "unary_stream")(b"", timeout=0.5)
        assert next(call) == b"here"
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert rpc.app.ended.acquire(timeout=PATIENCE_S)

    await off_loop(work)


async def test_a_hundred_calls_at_once(rpc: Grpc) -> None:
    """None is answered before all have arrived: they are on their way together."""

    def work() -> list[bytes]:
        calls = [
            rpc.call("Meet").future(b"%d" % number, timeout=2 * PATIENCE_S)  # type: ignore[attr-defined]
            for number in range(100)
        ]
        return [call.result() for call in calls]

    assert await off_loop(work) == [b"%d" % number for number in range(100)]


async def test_hundreds_of_cancelled_calls_harm_nobody(rpc: Grpc) -> None:
    """Clients that give up again and again are no attack: the connection lives on."""

    def work() -> None:
        other = rpc.call("Talk", "stream_stream")
        asked = threading.Semaphore(0)

        def ask() -> Iterator[bytes]:
            yield b"first"
            assert asked.acquire(timeout=2 * PATIENCE_S)
            yield b"last"

        answers = other(ask(), timeout=3 * PATIENCE_S)
        assert next(answers) == b"FIRST"
        for _ in range(15):
            calls = [rpc.call("Wait", "unary_stream")(b"", timeout=PATIENCE_S) for _ in range(100)]
            for call in calls:
                assert next(call) == b"here"
                call.cancel()
        asked.release()
        assert list(answers) == [b"LAST"]

    await off_loop(work)
