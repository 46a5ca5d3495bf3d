"""WebSocket through two sidecars over mutual TLS, by a library that knows all of RFC 6455."""

from __future__ import annotations

import asyncio
import contextlib
import http
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.http11 import Request, Response

from discovery.model import Address
from identity.generation import Generation
from tests.peers.http_ways import WAYS, run_http1, run_way
from tests.sidecars import Pair

BIG = 8_000_000
PATIENCE_S = 10.0


@dataclass
class App:
    """An application that echoes messages, and does what some of them say."""

    closed: list[tuple[int, str]] = field(default_factory=list)
    """How its connections ended."""
    callers: list[str] = field(default_factory=list)

    async def talk(self, connection: ServerConnection) -> None:
        """Echo until the end."""
        assert connection.request is not None
        self.callers.append(connection.request.headers["l5d-client-id"])
        try:
            async for message in connection:
                if message == "ping me":
                    await (await connection.ping(b"from the server"))
                    await connection.send("you are there")
                elif message == "close":
                    await connection.close(4_001, "as you wish")
                elif message == "in pieces":
                    await connection.send([b"one", b"two", b"three"])
                elif message == "vanish":
                    connection.transport.abort()
                else:
                    await connection.send(message)
        finally:
            with contextlib.suppress(ConnectionClosedError):
                await connection.wait_closed()
            self.closed.append((connection.close_code or 0, connection.close_reason or ""))

    def refuse(self, connection: ServerConnection, request: Request) -> Response | None:
        """Take every path but one."""
        if request.path == "/private":
            return connection.respond(http.HTTPStatus.FORBIDDEN, "not for you")
        return None


@dataclass
class Web:
    """The application behind two sidecars."""

    app: App
    pair: Pair
    web: Generation

    def connect(self, path: str = "/", **options: object) -> connect:
        """Connect to it."""
        made = connect(
            f"ws://{self.pair.entry}{path}",
            proxy=None,
            max_size=None,
            open_timeout=PATIENCE_S,
            **options,  # type: ignore[arg-type]
        )
        assert isinstance(made, connect)
        return made

    async def until_closed(self) -> tuple[int, str]:
        """Wait until the application's side has ended; return how."""
        async with asyncio.timeout(PATIENCE_S):
            while not self.app.closed:
                await asyncio.sleep(0.01)
        return self.app.closed[-1]


@pytest.fixture(params=WAYS)
async def web_app(
    request: pytest.FixtureRequest, web: Generation, api: Generation
) -> AsyncIterator[Web]:
    """Return an application, one way after the other."""
    app = App()
    async with serve(
        app.talk, "127.0.0.2", 0, process_request=app.refuse, subprotocols=None, max_size=None
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with run_way(request.param, web, api, Address("127.0.0.2", port)) as pair:
            yield Web(app, pair, web)


async def _echoes(connection: ClientConnection, message: str | bytes) -> bool:
    await connection.send(message)
    return await connection.recv() == message


@pytest.mark.parametrize("compression", ["deflate", None], ids=["deflate", "plain"])
async def test_messages_go_both_ways(web_app: Web, compression: str | None) -> None:
    """Text and octets of every length that has a form of its own, with and without compression."""
    async with asyncio.timeout(2 * PATIENCE_S), web_app.connect(compression=compression) as talk:
        assert (talk.subprotocol, bool(talk.protocol.extensions)) == (None, bool(compression))
        for size in (0, 1, 125, 126, 127, 65_535, 65_536, BIG):
            assert await _echoes(talk, b"\x00" * size)
            assert await _echoes(talk, "é" * (size // 2))
    assert web_app.app.callers == [web_app.web.identity.name]


async def test_pieces_stay_pieces(web_app: Web) -> None:
    """A message in fragments arrives in the same ones."""
    async with asyncio.timeout(PATIENCE_S), web_app.connect() as talk:
        await talk.send("in pieces")
        got = [piece async for piece in talk.recv_streaming()]
        assert [piece for piece in got if piece] == [b"one", b"two", b"three"]


async def test_pings_are_answered_both_ways(web_app: Web) -> None:
    """By the far end, not by us."""
    async with asyncio.timeout(PATIENCE_S), web_app.connect(ping_interval=None) as talk:
        await (await talk.ping(b"from the client"))
        await talk.send("ping me")
        assert await talk.recv() == "you are there"


async def test_the_client_closes(web_app: Web) -> None:
    """Its code and reason arrive."""
    async with asyncio.timeout(PATIENCE_S), web_app.connect() as talk:
        assert await _echoes(talk, "hello")
        await talk.close(4_000, "enough")
    assert await web_app.until_closed() == (4_000, "enough")


async def test_the_server_closes(web_app: Web) -> None:
    """So do the server's."""
    async with asyncio.timeout(PATIENCE_S), web_app.connect() as talk:
        await talk.send("close")
        with pytest.raises(ConnectionClosedError) as caught:
            await talk.recv()
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4_001, "as you wish")


async def test_an_abrupt_end_passes_on(web_app: Web) -> None:
    """Whoever vanishes, the other end learns of it."""
    async with asyncio.timeout(PATIENCE_S):
        async with web_app.connect() as talk:
            await talk.send("vanish")
            with pytest.raises(ConnectionClosedError):
                await talk.recv()
        web_app.app.closed.clear()
        talk = await web_app.connect()
        assert await _echoes(talk, "hello")
        talk.transport.abort()
        assert (await web_app.until_closed())[0] == 1_006


async def test_a_refusal_is_an_answer(web_app: Web) -> None:
    """The application's status reaches the client."""
    with pytest.raises(InvalidStatus) as caught:
        async with web_app.connect("/private"):
            pass
    assert caught.value.response.status_code == 403
    assert caught.value.response.body == b"not for you"


async def test_a_server_without_websockets_answers(web: Generation, api: Generation) -> None:
    """An upgrade that is not taken up ends in an ordinary answer."""
    async with run_http1("riding", web, api) as (pair, app):
        with pytest.raises(InvalidStatus) as caught:
            async with connect(f"ws://{pair.entry}/bytes/5", proxy=None):
                pass
        assert caught.value.response.status_code == 200
        fields = dict(app.heads[0].headers)
        assert (fields[b"upgrade"], fields[b"connection"].lower()) == (b"websocket", b"upgrade")


async def test_many_at_once(web_app: Web) -> None:
    """Twenty connections, each with its own echo; a dial has a time limit, and shares this loop."""

    async def one(number: int) -> None:
        async with web_app.connect() as talk:
            for turn in range(50):
                assert await _echoes(talk, f"{number} {turn}")
            with contextlib.suppress(ConnectionClosedOK):
                await talk.close()

    async with asyncio.timeout(2 * PATIENCE_S), asyncio.TaskGroup() as tasks:
        for number in range(20):
            tasks.create_task(one(number))
    assert len(web_app.app.callers) == 20
