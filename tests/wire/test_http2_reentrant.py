"""Listeners that act on any stream while a read is being told: no count goes astray."""

from __future__ import annotations

import random
from typing import Final, final

import pytest

from proxy.wire.http2_client import Http2Client
from proxy.wire.http2_connection import Http2Connection
from proxy.wire.http2_limit import Http2Limits
from proxy.wire.http2_server import Http2Server
from proxy.wire.http2_stream import Stream
from proxy.wire.http_field import Field
from proxy.wire.http_message import RequestHead, ResponseHead
from tests.wire import http2_talk as wire

LIMITS: Final = Http2Limits(stream_window=300, lent=200, streams=5, output=1_000, stall=2.0)
CONNECTIONS: Final = 200
READS: Final = 40
DEEPEST: Final = 3
MOST: Final = 1_000_000
"""More credit than any stream has."""


@final
class Player:
    """Whatever it is told, it does something to streams that came lately, at random."""

    def __init__(self, seed: int, *, is_server: bool) -> None:
        self.random: Final = random.Random(seed)  # it has to play the same again
        self.streams: Final[list[Stream]] = []
        self.told: Final[dict[int, int]] = {}
        """How often each stream was told that it was reset or lost."""
        self._depth = 0
        self._server: Final = Http2Server(self, LIMITS) if is_server else None
        self._client: Final = None if is_server else Http2Client(self, LIMITS)

    @property
    def codec(self) -> Http2Connection:
        codec = self._server or self._client
        assert codec is not None
        return codec

    def begin(self) -> None:
        """Open a stream, where that may be done."""
        if self._client is not None and self._client.can_open:
            ends = self.random.random() < 0.4
            self._listen(self._client.send_request((*wire.POST,), (), ends=ends))

    def act(self) -> None:
        """Do up to three things; what they bring about may be answered by more."""
        if self._depth < DEEPEST:
            self._depth += 1
            for _ in range(self.random.randrange(4)):
                self._do(self.random.randrange(10))
            self._depth -= 1

    def _do(self, what: int) -> None:
        codec = self.codec
        if what == 0:
            self.begin()
        elif what == 1:
            codec.take()
        elif what == 2:
            for drained in codec.drained():
                if drained.listener is not None:
                    drained.listener.on_room()
        elif what == 3 and self.random.random() < 0.01:
            codec.let_go(None)
        elif self.streams:
            self._do_to(self.random.choice(self.streams[-6:]), what)

    def _do_to(self, stream: Stream, what: int) -> None:
        codec = self.codec
        ends = self.random.random() < 0.3
        if what == 4:
            codec.reset(stream, 8)
        elif what == 5:
            codec.reset_behind(stream, 0)
        elif what == 6:
            codec.lend(stream, self.random.choice((1, 50, 1_000)))
        elif what == 7:
            codec.acknowledge(stream, self.random.choice((1, 50, 1_000)))
        elif stream.is_finished:
            stream.listener = None
        elif self._server is not None and not stream.is_answered:
            self._server.send_head(stream, 200, (), ends=ends)
        elif what == 8:
            codec.send_data(stream, bytes(self.random.choice((0, 1, 1_000, 40_000))), ends=ends)
        else:
            codec.send_trailers(stream, ((b"a", b"b"),) if ends else ())

    def _listen(self, stream: Stream) -> None:
        self.streams.append(stream)
        stream.listener = Echo(self, stream)

    def on_request(self, stream: Stream, head: RequestHead, *, ended: bool) -> None:
        self._listen(stream)
        self.act()

    def on_refused(self, stream_id: int, reason: str) -> None:
        self.act()

    def on_settings(self) -> None:
        self.act()

    def on_pong(self, payload: bytes) -> None:
        self.act()

    def on_goaway(self, last_stream_id: int, error: int, debug: bytes) -> None:
        self.act()

    def on_broken(self, error: int, reason: str) -> None:
        self.act()

    def check(self) -> None:
        """Find every count to be what its streams say, and nothing left of those that are over."""
        codec = self.codec
        outbox = codec._outbox
        assert sum(stream.is_ready for stream in self.streams) == len(outbox._ready)
        assert outbox.size == sum(len(each) for each in outbox._frames)
        if codec.is_ended:
            return
        lacks = LIMITS.connection_window - codec._receive_window - codec._credit
        assert lacks == sum(stream.unacknowledged - stream.lent for stream in self.streams)
        assert codec._lent == sum(stream.lent for stream in self.streams) <= LIMITS.lent
        for stream in self.streams:
            assert stream.is_gone == (stream.id not in codec._streams)
            assert not (stream.is_gone and (stream.listener or stream.waiting_size))

    def read(self) -> bytes:
        """Return frames of a peer's, mostly on streams that are open."""
        said = b""
        last = max((stream.id for stream in self.streams), default=-1)
        for _ in range(self.random.choice((1, 3, 10))):
            live = [each.id for each in self.codec._streams.values() if each.is_remote_open]
            if self._server is not None and (not live or self.random.random() < 0.4):
                last += 2
                said += wire.headers(last, wire.POST, ends=self.random.random() < 0.3)
            elif live:
                said += self._frame(self.random.choice(live))
        return said

    def _frame(self, stream: int) -> bytes:
        ends = self.random.random() < 0.1
        size = self.random.choice((1, 100, 60_000))
        head = wire.headers(stream, wire.OK, ends=ends)
        return self.random.choice(
            (
                wire.data(stream, bytes(size % 101), ends=ends),
                wire.data(stream, bytes(10), ends=ends),
                wire.raw(0x0, 0x8, stream, bytes((3,)) + bytes(8)),
                wire.window(stream, 0 if ends else size),
                wire.window(0, size),
                wire.settings((4, size)),
                wire.ping(flags=int(ends)),
                wire.reset(stream) if ends else b"",
                wire.goaway(stream) if ends else b"",
                b"" if self._server is not None and not ends else head,
            )
        )


@final
class Echo:
    """Lets the player act for one stream."""

    def __init__(self, player: Player, stream: Stream) -> None:
        self._player: Final = player
        self._id: Final = stream.id

    def on_response(self, head: ResponseHead, *, ended: bool) -> None:
        self._player.act()

    def on_content(self, data: bytes, credit: int, *, ended: bool) -> None:
        self._player.act()

    def on_trailers(self, fields: tuple[Field, ...], never_indexed: frozenset[Field]) -> None:
        self._player.act()

    def on_room(self) -> None:
        self._player.act()

    def on_reset(self, error: int, reason: str) -> None:
        self._over()

    def on_lost(self, error: Exception | None) -> None:
        self._over()

    def _over(self) -> None:
        told = self._player.told
        told[self._id] = told.get(self._id, 0) + 1
        self._player.act()


@pytest.mark.parametrize("is_server", [True, False])
def test_whatever_a_listener_does_while_it_is_told_every_count_holds(is_server: bool) -> None:
    """And when all is acknowledged, the connection has its whole window back."""
    whole = 0
    for seed in range(CONNECTIONS):
        player = Player(seed, is_server=is_server)
        codec = player.codec
        codec.feed((wire.PREFACE if is_server else b"") + wire.settings(), 0.0)
        for number in range(READS):
            player.begin()
            codec.feed(player.read(), number / 10)
            player.check()
            player.act()
            codec.on_time(number / 10)
            player.check()
        if not codec.is_ended:
            whole += 1
            for stream in player.streams:
                codec.acknowledge(stream, MOST)
            assert codec._receive_window + codec._credit == LIMITS.connection_window
        codec.let_go(None)
        assert all(stream.is_gone for stream in player.streams)
        assert set(player.told.values()) <= {1}
    assert whole
