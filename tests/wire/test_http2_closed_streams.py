"""How streams ended: what is remembered, and of which streams nobody can tell."""

from __future__ import annotations

from typing import Final, final

from proxy.wire.http2_client import Http2Client
from proxy.wire.http2_stream import (
    ENDED,
    REMEMBERED,
    RESET_BY_PEER,
    RESET_BY_US,
    ClosedStreams,
    Stream,
)
from tests.wire.http2_end import Heard, HeardOfStream
from tests.wire.http2_talk import POST, data, headers, raw, reset, serve, settings


def test_as_many_resets_are_remembered_as_the_bound_and_one_more_forgets_the_oldest() -> None:
    """The bound holds whatever a peer opens and closes."""
    closed = ClosedStreams()
    ids = [4 * number + 3 for number in range(REMEMBERED)]
    for stream_id in ids:
        closed.add(stream_id, RESET_BY_US)
    closed.add(ids[0], RESET_BY_PEER)
    assert [closed.how(1), closed.how(3), closed.how(5)] == [ENDED, RESET_BY_PEER, ENDED]
    one_more = ids[-1] + 2
    closed.add(one_more, RESET_BY_PEER)
    assert [closed.how(1), closed.how(3), closed.how(5)] == [0, 0, ENDED]
    assert [closed.how(ids[1]), closed.how(one_more)] == [RESET_BY_US, RESET_BY_PEER]
    assert len(closed._resets) == REMEMBERED


def test_the_last_end_of_a_stream_counts() -> None:
    """A stream that ended may be reset by us behind that."""
    closed = ClosedStreams()
    assert [closed.how(1), closed.how(3)] == [ENDED, ENDED]
    closed.add(3, RESET_BY_US)
    assert [closed.how(1), closed.how(3), closed.how(5)] == [ENDED, RESET_BY_US, ENDED]


def test_a_request_on_a_number_left_out_is_not_one_on_a_stream_that_ended() -> None:
    """RFC 9113 §5.1.1: numbers grow; those left out were never open."""
    for taken, reason in (((1, 3), "http2-closed-stream"), ((1, 7), "http2-stream-id")):
        talk = serve()
        for stream_id in taken:
            talk.say(headers(stream_id))
        talk.say(headers(3))
        assert talk.reasons == [reason]


def test_content_behind_a_reset_is_dropped_however_many_streams_ended_since() -> None:
    """What ends as it should makes nobody forget a reset."""
    talk = serve()
    talk.say(headers(1, POST, ends=False))
    talk.codec.reset(1, 8)
    for number in range(1, 2 * REMEMBERED):
        talk.say(headers(2 * number + 1))
    talk.say(data(1) + raw(0x6, 0, 0, b"12345678"))
    assert talk.reasons == []
    assert talk.pongs == [b"12345678"]
    talk.say(reset(1))
    assert not talk.codec.is_ended


@final
class Breaker(HeardOfStream):
    """Acts on every stream of the connection when its own is lost."""

    def __init__(self, client: Http2Client, streams: list[Stream]) -> None:
        super().__init__(0, [])
        self._client: Final = client
        self._streams: Final = streams
        self.lost = 0

    def on_lost(self, error: Exception | None) -> None:
        self.lost += 1
        for stream in self._streams:
            self._client.send_data(stream, b"x", ends=True)
            self._client.reset_behind(stream, 8)
            self._client.reset(stream, 8)


def test_who_is_told_of_a_lost_connection_may_act_on_its_other_streams() -> None:
    """As a request does that takes its copies along; each is told all the same, and once."""
    heard = Heard()
    client = Http2Client(heard)
    client.feed(settings() + settings(flags=0x1), 0.0)
    streams: list[Stream] = []
    breakers: list[Breaker] = []
    for _ in range(3):
        stream = client.send_request((*POST,), (), ends=False)
        client.send_data(stream, bytes(70_000), ends=False)
        stream.listener = breaker = Breaker(client, streams)
        streams.append(stream)
        breakers.append(breaker)
    while client.take():
        pass
    client.let_go(None)
    assert [breaker.lost for breaker in breakers] == [1, 1, 1]
    assert [stream.is_gone for stream in streams] == [True, True, True]
    assert client.take() == b""
