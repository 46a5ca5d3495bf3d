"""Servers that speak first: heard without a stall by plain clients, learned, never leaked."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import replace

import pytest

from core.errors import UnreachableError
from core.watch import Watch
from discovery.model import Address
from identity.generation import Generation
from policy.model import ServerPolicy, TlsAuthenticated
from proxy.greeting import Greetings, Server
from proxy.net.capture import FixedCapture
from proxy.net.inbox import Inbox
from proxy.net.stream import Stream
from proxy.speaker import Speaker
from tests.session.apps import exchange, serve
from tests.sidecars import OPEN, Control, free_address, run_sidecar

AUTHENTICATED: ServerPolicy = replace(
    OPEN,
    authorizations=(
        replace(OPEN.authorizations[0], authentication=TlsAuthenticated(suffixes=((),))),
    ),
)
STALL_S = 1.0
"""Ten times the promise of 100 ms: tells a stall from none."""


class Greeter:
    """Greets every client and counts connections."""

    def __init__(self, greeting: bytes = b"220 ready\r\n") -> None:
        self.greeting = greeting
        self.accepted = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            writer.write(self.greeting)
            while data := await reader.read(100):
                writer.write(b"250 " + data)
        except ConnectionError:
            pass
        finally:
            writer.close()


class SlowGreeter(Greeter):
    """Greets after a while."""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.15)
        await super().__call__(reader, writer)


class Silent:
    """Waits for the client and echoes; counts connections."""

    def __init__(self) -> None:
        self.accepted = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            while data := await reader.read(100):
                writer.write(data)
        except ConnectionError:
            pass
        finally:
            writer.close()


async def first_word(address: Address) -> tuple[bytes, float]:
    """Connect, say nothing, and return the first bytes with the seconds they took."""
    started = time.monotonic()
    reader, writer = await asyncio.open_connection(address.ip, address.port)
    async with asyncio.timeout(15):
        word = await reader.read(100)
    took = time.monotonic() - started
    writer.write(b"hello")
    if word:
        async with asyncio.timeout(5):
            assert await reader.read(100) == b"250 hello"
    writer.close()
    return word, took


async def test_a_greeting_comes_at_once_and_the_port_is_learned(api: Generation) -> None:
    """The speculative connection becomes the client's; later ones need no speculation."""
    greeter = Greeter()
    async with (
        serve(greeter) as app,
        run_sidecar(api, FixedCapture(app), ip="127.0.0.2") as running,
    ):
        for _ in range(3):
            word, took = await first_word(running.config.inbound_listen)
            assert word == b"220 ready\r\n"
            assert took < STALL_S
        assert greeter.accepted == 3
        assert len(running.events("server speaks first")) == 1


async def test_many_silent_clients_cause_one_speculative_dial(api: Generation) -> None:
    """Until a port is learned, one connection asks for all."""
    silent = Silent()
    async with (
        serve(silent) as app,
        run_sidecar(api, FixedCapture(app), ip="127.0.0.2") as running,
    ):
        inbound = running.config.inbound_listen
        pairs = [await asyncio.open_connection(inbound.ip, inbound.port) for _ in range(10)]
        await asyncio.sleep(1.3)
        assert silent.accepted == 1
        for _, writer in pairs:
            writer.write(b"now")
        async with asyncio.timeout(5):
            for reader, _ in pairs:
                assert await reader.readexactly(3) == b"now"
        assert silent.accepted == 11
        for _, writer in pairs:
            writer.transport.abort()


async def test_a_client_that_speaks_ends_the_speculation(api: Generation) -> None:
    """Its bytes go over a connection of its own, looked into as always."""
    silent = Silent()
    async with (
        serve(silent) as app,
        run_sidecar(api, FixedCapture(app), ip="127.0.0.2") as running,
    ):
        inbound = running.config.inbound_listen
        reader, writer = await asyncio.open_connection(inbound.ip, inbound.port)
        await asyncio.sleep(0.2)
        writer.write(b"late")
        async with asyncio.timeout(5):
            assert await reader.readexactly(4) == b"late"
        assert silent.accepted == 2
        assert running.events("server speaks first") == []
        writer.transport.abort()


async def test_a_refused_client_neither_dials_nor_hears(api: Generation) -> None:
    """Policy comes before the speculation: no dial, no byte."""
    greeter = Greeter()
    control = Control(Watch(api), policy=AUTHENTICATED)
    async with (
        serve(greeter) as app,
        run_sidecar(
            api,
            FixedCapture(app),
            ip="127.0.0.2",
            control=control,
            settings={"PILLION_INBOUND_DETECT_TIMEOUT": "500ms"},
        ) as running,
    ):
        assert await exchange(running.config.inbound_listen, b"", end=False) == b""
        assert greeter.accepted == 0


@pytest.mark.parametrize("word", [b"HTTP/1.1 408 Request Timeout\r\n\r\n", b"HTTP"])
async def test_an_http_timeout_is_no_greeting(api: Generation, word: bytes) -> None:
    """A server that gives up on silence has not spoken first."""
    greeter = Greeter(word)
    async with (
        serve(greeter) as app,
        run_sidecar(
            api,
            FixedCapture(app),
            ip="127.0.0.2",
            settings={"PILLION_INBOUND_DETECT_TIMEOUT": "500ms"},
        ) as running,
    ):
        assert await exchange(running.config.inbound_listen, b"", end=False) == b""
        assert running.events("server speaks first") == []
        failed = await running.until_event("connection failed")
        assert failed["code"] == "detect-timeout"


async def test_a_port_whose_application_is_down_is_not_learned_as_greeting(
    api: Generation,
) -> None:
    """A failed speculative dial leaves detection as it was."""
    async with serve(Silent()) as app:
        pass
    async with run_sidecar(api, FixedCapture(app), ip="127.0.0.2") as running:
        assert await exchange(running.config.inbound_listen, b"x") == b""
        failed = await running.until_event("connection failed")
        assert failed["code"] == "connect-refused"


async def test_a_client_that_speaks_or_leaves_early_teaches_nothing(api: Generation) -> None:
    """Otherwise one caller could make the port's greeting unheard for ten minutes."""
    async with (
        serve(SlowGreeter()) as app,
        run_sidecar(api, FixedCapture(app), ip="127.0.0.2") as running,
    ):
        inbound = running.config.inbound_listen
        for last in (b"x", b""):
            _, writer = await asyncio.open_connection(inbound.ip, inbound.port)
            await asyncio.sleep(0.07)
            writer.write(last)
            writer.transport.abort()
        first, took = await first_word(inbound)
        assert first == b"220 ready\r\n"
        assert took < STALL_S


@pytest.mark.parametrize("speaks", [True, False])
async def test_words_that_were_not_read_yet_count(api: Generation, speaks: bool) -> None:
    """A dial that fails while they wait, as after a stall of ours, ends nobody who has spoken."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    ours.setblocking(False)

    async def dial() -> Server:
        if speaks:
            theirs.sendall(b"hello")
        raise UnreachableError("it took too long", code="connect-timeout")

    async with run_sidecar(api, FixedCapture(free_address()), ip="127.0.0.2") as running:
        runtime = running.sidecar.runtime
        inbox = Inbox(runtime.loop)
        stream = inbox.stream = Stream(runtime.poller, ours, inbox)
        stream.resume()
        greetings: Greetings[int, Server] = Greetings(runtime)
        try:
            if speaks:
                assert await greetings.listen(inbox, 1, dial) is Speaker.CLIENT
                assert inbox.data == b"hello"
            else:
                with pytest.raises(UnreachableError):
                    await greetings.listen(inbox, 1, dial)
        finally:
            stream.abort()
            theirs.close()


async def test_an_application_that_was_down_may_greet_when_it_is_up(api: Generation) -> None:
    """A failed speculative dial is no answer."""
    app = free_address("127.0.0.2")
    async with run_sidecar(api, FixedCapture(app), ip="127.0.0.2") as running:
        inbound = running.config.inbound_listen
        _, writer = await asyncio.open_connection(inbound.ip, inbound.port)
        await asyncio.sleep(0.07)
        writer.transport.abort()
        server = await asyncio.start_server(Greeter(), app.ip, app.port)
        async with server:
            first, took = await first_word(inbound)
        assert first == b"220 ready\r\n"
        assert took < STALL_S


async def test_what_a_speculation_fails_with_ends_all_who_are_silent(api: Generation) -> None:
    """Those who came while it was under way would else wait for the detection's end."""
    dials = 0

    async def dial() -> Server:
        nonlocal dials
        dials += 1
        raise UnreachableError("nobody listens", code="connect-refused")

    async with run_sidecar(api, FixedCapture(free_address()), ip="127.0.0.2") as running:
        greetings: Greetings[int, Server] = Greetings(running.sidecar.runtime)
        inboxes = [Inbox(running.sidecar.runtime.loop) for _ in range(3)]
        asked = [asyncio.ensure_future(greetings.listen(each, 1, dial)) for each in inboxes]
        async with asyncio.timeout(STALL_S):
            found = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(each) for each in found] == [UnreachableError] * 3
        assert dials == 1
