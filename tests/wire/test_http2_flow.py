"""HTTP/2 between two ends of ours: content through windows, credit, turns, ends, shutting down."""

from __future__ import annotations

from itertools import cycle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.wire.http2_limit import Http2Limits
from proxy.wire.http_field import Fields
from tests.wire import http2_talk as wire
from tests.wire.http2_end import Client, Server
from tests.wire.http2_event import (
    DataReceived,
    GoAwayReceived,
    Http2Event,
    PingAnswered,
    RequestReceived,
    ResponseReceived,
    StreamReset,
    TrailersReceived,
)
from tests.wire.http2_talk import Talk, call, data, goaway, headers, ping, serve, window

GET: Fields = tuple(wire.GET)
POST: Fields = tuple(wire.POST)


class Pair:
    """A client and a server with a wire between them."""

    def __init__(self, limits: Http2Limits | None = None) -> None:
        self.client = Client(limits or Http2Limits())
        self.server = Server(limits or Http2Limits())
        self.at_client: list[Http2Event] = []
        self.at_server: list[Http2Event] = []
        self.run()

    def run(self, *, acknowledge: bool = True) -> None:
        """Carry octets to and fro until both are silent."""
        while True:
            out = self.client.take()
            for event in self.server.feed(out, 0.0) if out else []:
                self.at_server.append(event)
                if acknowledge and isinstance(event, DataReceived):
                    self.server.acknowledge(event.stream_id, event.credit)
            back = self.server.take()
            for event in self.client.feed(back, 0.0) if back else []:
                self.at_client.append(event)
                if acknowledge and isinstance(event, DataReceived):
                    self.client.acknowledge(event.stream_id, event.credit)
            if not out and not back:
                return

    def request(self, head: Fields = GET, fields: Fields = (), *, ends: bool = True) -> int:
        """Send a request and return its stream."""
        stream = self.client.send_request(head, fields, ends=ends)
        self.run()
        return stream


def content(events: list[Http2Event], stream: int) -> bytes:
    """Return a stream's content."""
    return b"".join(
        event.data
        for event in events
        if isinstance(event, DataReceived) and event.stream_id == stream
    )


def test_an_exchange_says_everything_once() -> None:
    """Heads, interim ones, content, trailers, both ways."""
    pair = Pair()
    stream = pair.request(POST, ((b"te", b"trailers"), (b"expect", b"100-continue")), ends=False)
    (request,) = [event for event in pair.at_server if isinstance(event, RequestReceived)]
    assert request.head.fields == ((b"te", b"trailers"), (b"expect", b"100-continue"))
    assert request.head.expects_continue
    assert (request.head.method, request.head.authority) == (b"POST", b"a")
    assert not request.ended
    pair.server.send_head(stream, 100, (), ends=False)
    pair.client.send_data(stream, b"abc", ends=False)
    pair.client.send_trailers(stream, ((b"x", b"1"),))
    pair.run()
    assert content(pair.at_server, stream) == b"abc"
    assert TrailersReceived(stream, ((b"x", b"1"),)) in pair.at_server
    pair.server.send_head(stream, 200, ((b"server", b"s"),), ends=False)
    pair.server.send_data(stream, b"def", ends=False)
    pair.server.send_trailers(stream, ((b"grpc-status", b"0"),))
    pair.run()
    heads = [event.head.status for event in pair.at_client if isinstance(event, ResponseReceived)]
    assert heads == [100, 200]
    assert content(pair.at_client, stream) == b"def"
    assert TrailersReceived(stream, ((b"grpc-status", b"0"),)) in pair.at_client
    assert pair.client.active == pair.server.active == 0


def test_content_of_any_size_goes_through_the_windows() -> None:
    """A megabyte each way, with 65,535 octets on the way at most."""
    pair = Pair()
    stream = pair.request(POST, ends=False)
    big = bytes(range(256)) * 4_096
    assert pair.client.send_data(stream, big, ends=True) > 0
    pair.run()
    assert content(pair.at_server, stream) == big
    assert pair.client.drained() == [stream]
    assert pair.client.drained() == []
    pair.server.send_head(stream, 200, (), ends=False)
    pair.server.send_data(stream, big, ends=True)
    pair.run()
    assert content(pair.at_client, stream) == big
    assert (
        max(len(each.data) for each in pair.at_client if isinstance(each, DataReceived)) <= 16_384
    )
    assert pair.client.active == pair.server.active == 0


def test_nothing_more_comes_than_was_acknowledged() -> None:
    """A slow reader holds one window of a stream, and its sender waits."""
    pair = Pair()
    stream = pair.request(POST, ends=False)
    left = pair.client.send_data(stream, bytes(100_000), ends=True)
    pair.run(acknowledge=False)
    assert left == 100_000 - 65_535
    assert len(content(pair.at_server, stream)) == 65_535
    pair.server.acknowledge(stream, 30_000)
    pair.run(acknowledge=False)
    assert len(content(pair.at_server, stream)) == 65_535
    pair.server.acknowledge(stream, 5_000)
    pair.run(acknowledge=False)
    assert len(content(pair.at_server, stream)) == 100_000
    assert pair.client.drained() == [stream]


def test_a_slow_stream_does_not_hold_up_another() -> None:
    """As long as the connection's window is not used up."""
    pair = Pair()
    slow = pair.request(POST, ends=False)
    fast = pair.request(POST, ends=False)
    pair.client.send_data(slow, bytes(200_000), ends=True)
    pair.run(acknowledge=False)
    pair.client.send_data(fast, b"quick", ends=True)
    pair.run(acknowledge=False)
    assert content(pair.at_server, fast) == b"quick"


def test_streams_take_turns() -> None:
    """One frame each, when both have more than the output takes at once."""
    talk = call(Http2Limits(output=40_000), count=2, ends=False)
    client = talk.codec
    talk.say(window(0, 10**6) + wire.settings((4, 10**6)))
    talk.frames.clear()
    client.send_data(1, bytes(300_000), ends=True)
    client.send_data(3, bytes(300_000), ends=True)
    talk.read()
    order = [frame.stream_id for frame in talk.frames]
    assert order.count(1) == order.count(3) == 19
    assert "13" * 15 in "".join(str(stream) for stream in order)


def test_the_output_has_a_bound() -> None:
    """Content beyond it waits in its stream, and follows as the output empties."""
    limits = Http2Limits(output=50_000)
    talk = call(limits, ends=False)
    talk.say(window(0, 10**6) + wire.settings((4, 10**6)))
    talk.frames.clear()
    left = talk.codec.send_data(1, bytes(200_000), ends=True)
    assert talk.codec.waiting_output in range(50_000, 50_000 + 16_393)
    assert left == 200_000 - sum(1 for _ in range(4)) * 16_384
    first = talk.codec.take()
    assert len(first) in range(50_000, 50_000 + 16_393)
    talk._out += first
    talk.read()
    assert sum(talk.sizes) == 200_000
    assert talk.codec.drained() == [1]


def test_pieces_that_wait_keep_their_order() -> None:
    """Each is queued behind the one before, and none overtakes."""
    pair = Pair()
    stream = pair.request(POST, ends=False)
    for octet in b"abc":
        pair.client.send_data(stream, bytes([octet]) * 50_000, ends=octet == b"c"[0])
    pair.run()
    assert content(pair.at_server, stream) == b"a" * 50_000 + b"b" * 50_000 + b"c" * 50_000


@pytest.mark.parametrize("trailers", [(), ((b"x", b"y"),)])
def test_the_end_waits_behind_the_content(trailers: Fields) -> None:
    """However long the window stays shut."""
    talk = call(ends=False)
    talk.say(wire.settings((4, 2)))
    talk.frames.clear()
    assert talk.codec.send_data(1, b"abcde", ends=False) == 3
    talk.codec.send_trailers(1, trailers)
    talk.read()
    assert talk.answered == []
    talk.say(window(1, 3))
    assert talk.answered == [1]
    assert talk.sizes == [2, 3]
    assert [fields for _, fields, ends in talk.sections if ends] == (
        [list(trailers)] if trailers else []
    )
    talk.say(headers(1, wire.OK))
    assert talk.codec.active == 0


def test_an_empty_end_needs_no_window() -> None:
    """Nor room in the output."""
    talk = call(Http2Limits(output=10), ends=False)
    talk.say(wire.settings((4, 0)))
    talk.frames.clear()
    talk.codec.ping(b"12345678")
    assert talk.codec.send_data(1, b"", ends=False) == 0
    assert talk.codec.send_data(1, b"", ends=True) == 0
    talk.read()
    assert talk.answered == [1]


def test_what_was_ended_is_not_sent_on() -> None:
    """That is a fault of our own, and raises."""
    talk = call()
    with pytest.raises(ValueError, match="has been sent"):
        talk.codec.send_data(1, b"x", ends=False)
    with pytest.raises(ValueError, match="has been sent"):
        talk.codec.send_trailers(1, ())
    server = serve()
    server.say(headers(1, POST, ends=False))
    assert isinstance(server.codec, Server)
    server.codec.send_head(1, 204, (), ends=True)
    with pytest.raises(ValueError, match="has been sent"):
        server.codec.send_head(1, 204, (), ends=True)
    with pytest.raises(ValueError, match="eight"):
        server.codec.ping(b"")


def test_sending_on_a_stream_that_was_reset_does_nothing() -> None:
    """The peer was quicker; that is nobody's fault."""
    talk = call(ends=False)
    talk.say(wire.reset(1))
    talk.frames.clear()
    assert talk.codec.send_data(1, b"x", ends=True) == 0
    talk.codec.send_trailers(1, ((b"x", b"y"),))
    talk.codec.reset(1, 8)
    talk.codec.acknowledge(1, 100)
    talk.read()
    assert talk.frames == []
    server = serve()
    assert isinstance(server.codec, Server)
    server.say(headers(1, POST, ends=False) + wire.reset(1))
    server.frames.clear()
    server.codec.send_head(1, 200, (), ends=True)
    server.read()
    assert server.frames == []


def test_a_reset_drops_what_waits() -> None:
    """And the stream's turn with it."""
    talk = call(count=2, ends=False)
    talk.codec.send_data(1, bytes(100_000), ends=True)
    talk.codec.send_data(3, bytes(10_000), ends=True)
    talk.codec.reset(1, 8)
    talk.read()
    talk.frames.clear()
    talk.say(window(0, 50_000))
    assert {frame.stream_id for frame in talk.frames} == {3}
    assert talk.codec.active == 1


def test_content_behind_our_reset_is_dropped_and_paid_for() -> None:
    """What was on its way comes out of the connection's window, and goes back into it."""
    server = Server(Http2Limits(connection_window=100_000))
    talk = Talk(server, answers=False)
    talk.say(wire.PREFACE + wire.settings())
    for number in range(20):
        stream = 2 * number + 1
        talk.say(headers(stream, POST, ends=False))
        server.reset(stream, 8)
        talk.events.clear()
        talk.say(data(stream, bytes(16_000), ends=False))
        assert talk.events == []
    assert not server.is_ended


def test_content_not_acknowledged_before_a_reset_is_paid_for() -> None:
    """Whoever ends the stream."""
    for ours in (True, False):
        server = Server(Http2Limits(connection_window=100_000))
        talk = Talk(server, answers=False)
        talk.say(wire.PREFACE + wire.settings())
        for number in range(20):
            stream = 2 * number + 1
            server.feed(
                headers(stream, POST, ends=False) + data(stream, bytes(16_000), ends=False), 0.0
            )
            if ours:
                server.reset(stream, 8)
            else:
                server.feed(wire.reset(stream), 0.0)
        assert not server.is_ended


def test_content_of_an_ended_stream_is_paid_for_when_it_is_acknowledged() -> None:
    """A slow reader of many finished answers still holds no more than the connection's window."""
    client = Client(Http2Limits(connection_window=70_000))
    talk = Talk(client)
    client.feed(wire.settings(), 0.0)
    for number in range(4):
        stream = client.send_request(GET, (), ends=True)
        client.feed(headers(stream, wire.OK, ends=False) + data(stream, bytes(16_000)), 0.0)
        assert client.active == 0
        del number
    talk.read()
    talk.frames.clear()
    client.acknowledge(1, 16_000)
    client.acknowledge(3, 15_999)
    talk.read()
    assert talk.frames == []
    client.acknowledge(5, 10_000)
    client.acknowledge(5, 10_000)
    talk.read()
    (update,) = talk.frames
    assert update.stream_id == 0
    client.acknowledge(3, 1)
    client.acknowledge(3, 10_000)
    client.acknowledge(7, 16_000)
    assert client.codec._credit == 1 + 16_000 + 6_000


def test_a_stream_s_credit_is_told_in_large_steps() -> None:
    """An update costs as much as a frame of content."""
    talk = serve(answers=False)
    talk.say(headers(1, POST, ends=False))
    talk.frames.clear()
    for _ in range(40):
        talk.say(data(1, bytes(1_000), ends=False))
    updates = [frame for frame in talk.frames if frame.stream_id == 1]
    assert len(updates) == 1


def test_no_credit_is_given_for_what_did_not_come() -> None:
    """Whatever the caller says."""
    talk = serve(answers=False)
    talk.say(headers(1, POST, ends=False) + data(1, b"abc", ends=False))
    talk.frames.clear()
    talk.codec.acknowledge(1, 10**9)
    talk.codec.acknowledge(1, 10**9)
    talk.read()
    assert talk.frames == []
    assert talk.codec.codec._credit == 3


def test_a_ping_is_answered_by_the_other_end() -> None:
    """With its own octets."""
    pair = Pair()
    pair.client.ping(b"abcdefgh")
    pair.run()
    assert PingAnswered(b"abcdefgh") in pair.at_client


def test_a_server_shuts_down_in_two_steps() -> None:
    """RFC 9113 §6.8: first no new streams, then the last one's number."""
    pair = Pair()
    first = pair.request()
    pair.server.shut_down()
    crossing = pair.client.send_request(GET, (), ends=True)
    pair.run()
    assert GoAwayReceived(2**31 - 1, 0, b"") in pair.at_client
    assert not pair.client.can_open
    assert pair.client.is_leaving
    pair.server.go_away()
    pair.run()
    assert GoAwayReceived(crossing, 0, b"") in pair.at_client
    for stream in (first, crossing):
        pair.server.send_head(stream, 204, (), ends=True)
    pair.run()
    answered = [event.stream_id for event in pair.at_client if isinstance(event, ResponseReceived)]
    assert answered == [first, crossing]


def test_a_stream_opened_after_the_last_one_is_refused() -> None:
    """With a code that says it may be tried elsewhere."""
    talk = serve()
    talk.codec.go_away()
    talk.say(headers(1))
    assert talk.reasons == ["http2-draining"]
    assert talk.resets == [(1, 7)]


def test_streams_the_server_will_not_look_at_come_back_as_refused() -> None:
    """So that they can be tried elsewhere."""
    talk = call(count=3)
    talk.say(goaway(3, 0, b"bye"))
    assert talk.events[-2:] == [StreamReset(5, 7, ""), GoAwayReceived(3, 0, b"bye")]
    assert talk.codec.active == 2
    assert not isinstance(talk.codec, Server)
    talk.say(headers(1, wire.OK) + headers(3, wire.OK))
    assert talk.codec.active == 0


def test_stream_numbers_end() -> None:
    """Then another connection is needed."""
    client = Client()
    client.feed(wire.settings(), 0.0)
    client._client._next_id = 2**31 - 1
    assert client.send_request(GET, (), ends=True) == 2**31 - 1
    assert not client.can_open
    assert client.is_leaving


def test_a_reset_takes_a_stream_out_of_the_queue() -> None:
    """Also when it waits for room in the output, its window open."""
    talk = call(Http2Limits(output=20_000), count=2, ends=False)
    talk.codec.send_data(1, bytes(60_000), ends=True)
    talk.codec.send_data(3, bytes(30_000), ends=True)
    talk.codec.reset(3, 8)
    talk.frames.clear()
    talk.read()
    assert sum(talk.sizes) == 60_000
    assert [frame.type for frame in talk.frames if frame.stream_id == 3] == [3]


def test_a_window_shut_by_settings_holds_back_what_stood_in_the_queue() -> None:
    """And what is opened later lets it go on."""
    talk = call(Http2Limits(output=20_000), ends=False)
    talk.codec.send_data(1, bytes(60_000), ends=True)
    talk.codec.feed(wire.settings((4, 0)), 0.0)
    talk.frames.clear()
    talk.read()
    before = sum(talk.sizes)
    assert before < 60_000
    talk.say(wire.settings((4, 65_535)))
    assert sum(talk.sizes) == 60_000
    assert talk.codec.on_time(0.0) == []


def test_heads_behind_our_reset_are_read_and_dropped() -> None:
    """The compression table must not lose step."""
    entry = wire.literal(b"x", b"steady", 0x40)
    server = serve(answers=False)
    server.say(headers(1, POST, ends=False))
    server.codec.reset(1, 8)
    server.events.clear()
    server.say(wire.raw(0x1, 0x5, 1, entry))
    assert server.events == []
    server.say(wire.raw(0x1, 0x5, 3, wire.block(wire.GET) + b"\xbe"))
    (request,) = [event for event in server.events if isinstance(event, RequestReceived)]
    assert request.head.fields == ((b"x", b"steady"),)
    client = call(count=2)
    client.codec.reset(1, 8)
    client.events.clear()
    client.say(wire.raw(0x1, 0x5, 1, wire.block(wire.OK) + entry))
    assert client.events == []
    client.say(wire.raw(0x1, 0x5, 3, wire.block(wire.OK) + b"\xbe"))
    assert client.statuses == [200]


def test_a_server_that_goes_on_behind_its_end_loses_the_stream() -> None:
    """While we still send on it."""
    talk = call(fields=wire.POST, ends=False)
    talk.say(headers(1, wire.OK) + headers(1, wire.OK))
    assert talk.reasons == ["http2-closed-stream"]
    assert talk.resets == [(1, 5)]


@settings(max_examples=40)
@given(
    st.lists(st.integers(0, 40_000), min_size=1, max_size=6),
    st.lists(st.integers(500, 60_000), min_size=1, max_size=8),
    st.lists(st.integers(0, 400_000), max_size=6),
)
def test_content_arrives_whole_however_windows_and_cuts_fall(
    pieces: list[int], steps: list[int], cuts: list[int]
) -> None:
    """Whatever is sent, acknowledged and cut in whatever steps."""
    client, server = Client(), Server()
    stream = client.send_request(POST, (), ends=False)
    sent = [bytes([number % 251]) * size for number, size in enumerate(pieces)]
    for piece in sent:
        client.send_data(stream, piece, ends=False)
    client.send_data(stream, b"", ends=True)
    got = b""
    ended = False
    owed = 0
    turns = cycle(steps)
    while not ended:
        out = client.take()
        for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(out)], strict=True):
            for event in server.feed(out[begin:end], 0.0):
                if isinstance(event, DataReceived):
                    got += event.data
                    owed += event.credit
                    ended = event.ended
        step = min(owed, next(turns))
        owed -= step
        server.acknowledge(stream, step)
        client.feed(server.take(), 0.0)
    assert got == b"".join(sent)


def test_a_request_on_a_new_connection_may_be_sent_before_settings_come() -> None:
    """Nothing waits for a round trip."""
    client, server = Client(), Server()
    client.send_request(GET, (), ends=True)
    events = server.feed(client.take(), 0.0)
    assert any(isinstance(event, RequestReceived) for event in events)


def test_pings_on_a_broken_connection_are_not_read() -> None:
    """GOAWAY is the last word."""
    talk = serve()
    talk.say(ping(b"") + ping())
    assert talk.pongs == []
    assert talk.codec.feed(ping(), 0.0) == []


def _reading(limits: Http2Limits) -> Server:
    """Return a server that acknowledges nothing by itself."""
    codec = Server(limits)
    codec.feed(wire.PREFACE + wire.settings(), 0.0)
    return codec


def test_what_is_lent_is_returned_once() -> None:
    """The window is spared what streams hold, up to the bound, and is never paid twice."""
    codec = _reading(Http2Limits(connection_window=100_000, lent=60_000))

    for stream_id in (1, 3):
        codec.feed(headers(stream_id, wire.POST, ends=False), 0.0)
        for _ in range(3):
            codec.feed(data(stream_id, bytes(10_000), ends=False), 0.0)
            assert codec.lacks == 10_000
            codec.lend(stream_id, 10_000)
            assert codec.lacks == 0
    codec.feed(headers(5, wire.POST, ends=False) + data(5, bytes(10_000), ends=False), 0.0)
    codec.lend(5, 10_000)
    assert codec.lacks == 10_000
    codec.acknowledge(1, 30_000)
    codec.reset(3, 8)
    assert codec.lacks == 10_000
    codec.lend(5, 10_000)
    codec.lend(5, 10_000)
    assert codec.lacks == 0
    codec.acknowledge(5, 10_000)
    codec.acknowledge(5, 10_000)
    assert (codec.lacks, codec.codec._lent) == (0, 0)


def test_what_an_ended_stream_was_lent_is_returned_once() -> None:
    """Its content may be acknowledged after its end."""
    codec = _reading(Http2Limits(connection_window=100_000))
    codec.feed(headers(1, wire.POST, ends=False) + data(1, bytes(10_000), ends=False), 0.0)
    codec.feed(data(1, bytes(10_000), ends=False), 0.0)
    codec.lend(1, 10_000)
    codec.send_head(1, 200, (), ends=True)
    codec.feed(data(1, b"", ends=True), 0.0)
    assert codec.lacks == 10_000
    codec.acknowledge(1, 20_000)
    assert (codec.lacks, codec.codec._lent) == (0, 0)
