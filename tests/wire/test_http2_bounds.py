"""What an HTTP/2 peer may do again and again, and where it ends: floods, bombs, stalls."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy.wire.http2_limit import HTTP2_LIMITS, Allowance, Http2Limits
from tests.wire.http2_end import Client, Server
from tests.wire.http2_event import RequestReceived
from tests.wire.http2_talk import (
    ACK,
    GET,
    OK,
    POST,
    PREFACE,
    Talk,
    block,
    call,
    continuation,
    data,
    goaway,
    headers,
    literal,
    ping,
    priority,
    raw,
    reset,
    serve,
    settings,
    window,
)

ENHANCE_YOUR_CALM = 0xB


def ended_after(talk: Talk, make: Callable[[int], bytes], most: int) -> int:
    """Return how many of ``make``'s messages are taken before the connection ends."""
    for number in range(most):
        talk.say(make(number))
        if talk.codec.is_ended:
            return number
    return most


def test_an_allowance_comes_back_with_time() -> None:
    """So many at once, so many a second, never more than the most."""
    bucket = Allowance(3, 2)
    assert [bucket.spend(10.0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.spend(10.4)
    assert bucket.spend(10.6)
    assert not bucket.spend(10.6)
    assert [bucket.spend(1_000.0) for _ in range(4)] == [True, True, True, False]
    bucket.refund()
    assert bucket.spend(1_000.0)
    for _ in range(10):
        bucket.refund()
    assert [bucket.spend(1_000.0) for _ in range(4)] == [True, True, True, False]


def test_a_rapid_reset_ends_the_connection() -> None:
    """CVE-2023-44487: 1,000 streams given up at once are taken, not one more."""
    talk = serve(answers=False)
    taken = ended_after(talk, lambda number: headers(2 * number + 1) + reset(2 * number + 1), 1_100)
    assert taken == HTTP2_LIMITS.resets
    assert talk.reasons == ["http2-resets"]
    assert talk.goaway == ENHANCE_YOUR_CALM


def test_streams_given_up_now_and_then_are_fine() -> None:
    """A client that cancels ten calls a second may do so for ever."""
    talk = serve(answers=False)
    for number in range(3_000):
        talk.now = number / 10
        talk.say(headers(2 * number + 1) + reset(2 * number + 1))
    assert not talk.codec.is_ended


@pytest.mark.parametrize(("waits", "ends"), [(0.0625, True), (0.125, False)])
def test_streams_given_up_late_are_fine(waits: float, ends: bool) -> None:
    """A deadline that passes for call after call is nobody's attack."""
    talk = serve(Http2Limits(resets=10, resets_per_second=0), answers=False)
    for number in range(11):
        talk.now = float(number)
        talk.say(headers(2 * number + 1))
        talk.now += waits
        talk.say(reset(2 * number + 1))
    assert talk.codec.is_ended == ends


def test_streams_given_up_behind_the_answer_are_fine() -> None:
    """Who has read enough of a stream may say so."""
    talk = serve(Http2Limits(resets=10, resets_per_second=0), answers=False)
    assert isinstance(talk.codec, Server)
    for number in range(11):
        talk.say(headers(2 * number + 1))
        talk.codec.send_head(2 * number + 1, 200, (), ends=False)
        talk.say(reset(2 * number + 1))
    assert not talk.codec.is_ended


def test_answered_streams_pay_for_given_up_ones() -> None:
    """Half of the calls may be cancelled, however fast they come."""
    talk = serve()
    for number in range(3_000):
        talk.say(headers(4 * number + 1))
        talk.say(headers(4 * number + 3, POST, ends=False))
        talk.say(reset(4 * number + 3))
    assert not talk.codec.is_ended


def test_streams_broken_on_purpose_count_as_given_up() -> None:
    """CVE-2025-8671: the server is made to reset what it has begun to work on."""
    talk = serve(answers=False)
    taken = ended_after(
        talk,
        lambda number: headers(2 * number + 1, POST, ends=False) + window(2 * number + 1, 0),
        1_100,
    )
    assert taken == HTTP2_LIMITS.resets
    assert talk.reasons[-1] == "http2-resets"


def test_malformed_requests_count_as_given_up() -> None:
    """They cost as much."""
    talk = serve(answers=False)
    bad = [*GET, (b"X", b"y")]
    taken = ended_after(talk, lambda number: headers(2 * number + 1, bad), 1_100)
    assert taken == HTTP2_LIMITS.resets


def test_a_server_s_resets_do_not_end_a_client_s_connection() -> None:
    """They are answers of a kind; what they cost, the client began."""
    talk = call(Http2Limits(resets=2, noise=100), count=10)
    for number in range(10):
        talk.say(reset(2 * number + 1))
    assert not talk.codec.is_ended


@pytest.mark.parametrize(
    "frame",
    [
        ping(),
        ping(flags=ACK),
        settings(),
        settings((4, 65_535)),
        settings(flags=ACK),
        priority(1),
        raw(0x16, 0, 0, b"abc"),
        window(0, 1),
        window(3, 1),
        data(3, b"", ends=False),
        raw(0x0, 0x8, 3, b"\x01\x00"),
        goaway(),
        reset(1),
    ],
    ids=[
        *("ping", "ping answered", "settings", "a setting", "settings answered", "priority"),
        *("unknown", "window", "stream window", "empty data", "padding", "goaway", "reset"),
    ],
)
def test_frames_that_carry_nothing_are_counted(frame: bytes) -> None:
    """CVE-2019-9511 to 9518 and their like: 1,000 at once, not one more; then 33 a second."""
    talk = serve(answers=False)
    talk.say(headers(1, POST, ends=False) + reset(1) + headers(3, POST, ends=False))
    talk.codec.codec._noise._left = 1_000.0
    assert ended_after(talk, lambda number: frame, 1_100) == HTTP2_LIMITS.noise
    assert talk.reasons == ["http2-noise"]
    assert talk.goaway == ENHANCE_YOUR_CALM
    again = serve(answers=False)
    again.say(headers(1, POST, ends=False) + reset(1) + headers(3, POST, ends=False))
    for number in range(3_000):
        again.now = number / 30
        again.say(frame)
    assert not again.codec.is_ended


def test_content_pays_for_pings() -> None:
    """GRPC measures its bandwidth with a ping for every frame or two."""
    talk = serve(answers=False)
    talk.say(headers(1, POST, ends=False))
    for _ in range(3_000):
        talk.say(data(1, b"x", ends=False) + ping())
    assert not talk.codec.is_ended


def test_content_we_send_pays_for_window_updates() -> None:
    """A download is answered with little else."""
    talk = serve()
    talk.say(window(0, 2**31 - 1 - 65_535) + settings((4, 2**31 - 1)))
    talk.body = bytes(16_384)
    for number in range(800):
        talk.say(headers(2 * number + 1))
        for _ in range(4):
            talk.say(window(0, 1))
    assert not talk.codec.is_ended


def test_answers_that_are_never_fetched_end_the_connection() -> None:
    """1,000 wait, not one more: a peer that pings and does not read."""
    limits = Http2Limits(noise=10**6)
    server = Server(limits)
    server.feed(PREFACE + settings(), 0.0)
    for number in range(limits.replies):
        server.feed(ping(), 0.0)
        assert server.is_ended is (number == limits.replies - 1)
    while server.take():
        pass
    fresh = Server(limits)
    fresh.feed(PREFACE + settings(), 0.0)
    for _ in range(limits.replies * 2):
        fresh.feed(ping(), 0.0)
        fresh.take()
    assert not fresh.is_ended


@pytest.mark.parametrize(("size", "reason"), [(65_536, ""), (65_537, "http2-header-bomb")])
def test_a_header_block_has_a_bound(size: int, reason: str) -> None:
    """However many frames it comes in (CVE-2024-27316 and its like)."""
    talk = serve(answers=False)
    limits = HTTP2_LIMITS
    assert limits.header_block == 65_536
    text = block(GET)
    # Size updates are the only thing that grows a block and not its section.
    text = b"\x20" * (size - len(text)) + text
    talk.say(raw(0x1, 0x1, 1, text[:16_384]))
    for begin in range(16_384, size, 16_384):
        piece = text[begin : begin + 16_384]
        talk.say(continuation(1, piece, whole=begin + 16_384 >= size))
    assert talk.reasons == ([reason] if reason else [])
    assert any(isinstance(event, RequestReceived) for event in talk.events) is not bool(reason)


@pytest.mark.parametrize(("frames", "reason"), [(64, ""), (65, "http2-header-bomb")])
def test_a_header_block_comes_in_so_many_frames(frames: int, reason: str) -> None:
    """Each of one octet would cost the sender ten."""
    talk = serve(answers=False)
    text = block(GET)
    assert len(text) < frames
    pieces = [text[at : at + 1] for at in range(len(text) - 1)]
    pieces += [b""] * (frames - len(pieces) - 1)
    pieces.append(text[-1:])
    talk.say(raw(0x1, 0x1, 1, pieces[0]))
    for number, piece in enumerate(pieces[1:], 2):
        talk.say(continuation(1, piece, whole=number == frames))
    assert talk.reasons == ([reason] if reason else [])


def test_a_continuation_flood_ends_the_connection() -> None:
    """CVE-2024-28182: frames that never end a block."""
    talk = serve(answers=False)
    talk.say(headers(1, whole=False))
    taken = ended_after(talk, lambda number: continuation(1, b"\x00", whole=False), 200)
    assert taken == HTTP2_LIMITS.header_frames - 1
    assert talk.goaway == ENHANCE_YOUR_CALM


def padded_request(size: int) -> bytes:
    """Return a request whose field section counts ``size`` octets."""
    used = sum(len(name) + len(value) + 32 for name, value in GET)
    fields = list(GET)
    left = size - used
    while left:
        step = min(left, 8_000)
        if left - step and left - step < 40:
            step -= 40
        fields.append((b"x", b"a" * (step - 33)))
        left -= step
    assert sum(len(name) + len(value) + 32 for name, value in fields) == size
    text = block(fields)
    frames = [raw(0x1, 0x1 | (0x4 if len(text) <= 16_384 else 0), 1, text[:16_384])]
    for begin in range(16_384, len(text), 16_384):
        whole = begin + 16_384 >= len(text)
        frames.append(continuation(1, text[begin : begin + 16_384], whole=whole))
    return b"".join(frames)


def test_fields_past_the_announced_size_are_answered() -> None:
    """RFC 9113 §10.5.1: 16,384 are taken, one octet more gets 431, and the connection lives."""
    talk = serve()
    talk.say(padded_request(16_384))
    assert talk.answered == [1]
    assert talk.sections[-1][1][0] == (b":status", b"200")
    talk = serve()
    talk.say(padded_request(16_385))
    assert talk.sections[-1][1][0] == (b":status", b"431")
    assert talk.reasons == ["http2-header-list"]
    assert talk.resets == []
    talk.say(headers(3))
    assert talk.answered == [1, 3]


def test_fields_past_the_announced_size_with_content_are_answered_and_reset() -> None:
    """What the client still sends is dropped."""
    talk = serve()
    fields = [*POST, *[(b"x", b"a" * 4_000)] * 5]
    text = block(fields)
    talk.say(raw(0x1, 0, 1, text[:16_384]) + continuation(1, text[16_384:]))
    assert talk.sections[-1][1][0] == (b":status", b"431")
    assert talk.resets == [(1, 0)]
    talk.say(data(1, bytes(1_000)))
    talk.say(headers(3))
    assert talk.answered == [1, 3]


def test_an_hpack_bomb_ends_the_connection() -> None:
    """One entry of 4 KiB, named again and again: 64 KiB of fields, no further."""
    for count, reasons in ((15, ["http2-header-list"]), (16, ["http2-header-bomb"])):
        talk = serve(answers=False)
        bomb = literal(b"x", b"a" * 4_000, 0x40) + b"\xbe" * count
        used = sum(len(name) + len(value) + 32 for name, value in GET) + (count + 1) * 4_033
        assert (used > HTTP2_LIMITS.header_list_hard) is (count == 16)
        talk.say(raw(0x1, 0x5, 1, block(GET) + bomb))
        assert talk.reasons == reasons
        assert talk.codec.is_ended is (count == 16)


def test_a_response_s_fields_have_the_same_bound() -> None:
    """There is nobody to answer: the stream ends."""
    talk = call()
    fields = [*OK, *[(b"x", b"a" * 4_000)] * 5]
    text = block(fields)
    talk.say(raw(0x1, 0x1, 1, text[:16_384]) + continuation(1, text[16_384:]))
    assert talk.reasons == ["http2-header-list"]
    assert talk.resets == [(1, 1)]


@pytest.mark.parametrize(("size", "reasons"), [(65_535, []), (65_536, ["http2-window-exceeded"])])
def test_a_stream_s_window_is_kept(size: int, reasons: list[str]) -> None:
    """RFC 9113 §6.9: nothing is acknowledged here, so 65,535 octets are all."""
    server = Server()
    talk = Talk(server, answers=False)
    server.feed(PREFACE + settings() + headers(1, POST, ends=False), 0.0)
    for begin in range(0, size, 16_384):
        talk.events += server.feed(data(1, bytes(min(16_384, size - begin)), ends=False), 0.0)
    talk.read()
    assert talk.reasons == reasons
    assert talk.resets == ([(1, 3)] if reasons else [])
    assert not server.is_ended


@pytest.mark.parametrize(("more", "ended"), [(0, False), (1, True)])
def test_the_connection_s_window_is_kept(more: int, ended: bool) -> None:
    """1,048,576 octets on all streams together, padding included, and not one more."""
    server = Server()
    server.feed(PREFACE + settings(), 0.0)
    left = HTTP2_LIMITS.connection_window + more
    stream = -1
    while left and not server.is_ended:
        stream += 2
        server.feed(headers(stream, POST, ends=False), 0.0)
        for size in (16_384, 16_384, 16_384, 16_383):
            step = min(size, left)
            left -= step
            if step:
                padded = raw(0x0, 0x8, stream, b"\x00" + bytes(step - 1))
                server.feed(padded if step > 1 else data(stream, b"x", ends=False), 0.0)
    assert server.is_ended is ended


def test_a_window_that_stays_shut_ends_the_stream() -> None:
    """After 300 s in which nothing moved; until then its content waits, bounded."""
    talk = serve()
    talk.say(settings((4, 0)))
    talk.say(headers(1))
    assert talk.codec.on_time(100.0) == []
    assert talk.codec.on_time(399.9) == []
    talk.events += talk.codec.on_time(400.0)
    talk.read()
    assert talk.reasons == ["http2-stalled"]
    assert talk.resets == [(1, ENHANCE_YOUR_CALM)]
    assert talk.codec.active == 0


def test_a_window_that_opens_a_little_keeps_the_stream() -> None:
    """One octet is a sign of life."""
    talk = serve()
    talk.say(settings((4, 0)))
    talk.say(headers(1))
    talk.codec.on_time(100.0)
    talk.say(window(1, 1))
    assert talk.codec.on_time(400.0) == []
    assert talk.codec.on_time(699.0) == []
    assert len(talk.codec.on_time(700.0)) == 1


def test_closed_streams_are_forgotten_after_a_while() -> None:
    """256 resets are remembered, whatever comes, and nothing of streams that end as they should."""
    talk = serve()
    for number in range(300):
        talk.say(headers(2 * number + 1))
    assert talk.codec.codec._closed._resets == {}
    for number in range(300, 600):
        talk.say(headers(2 * number + 1, POST, ends=False) + reset(2 * number + 1))
    assert len(talk.codec.codec._closed._resets) == 256
    assert talk.codec.active == 0
    assert talk.codec.codec._streams == {}


def test_a_client_has_a_bound_of_its_own_for_streams() -> None:
    """Whatever the server allows; and 100 until it has spoken."""
    client = Client(Http2Limits(streams=200))
    for _ in range(100):
        client.send_request(tuple(GET), (), ends=True)
    assert not client.can_open
    client.feed(settings(), 0.0)
    for _ in range(100):
        client.send_request(tuple(GET), (), ends=True)
    assert not client.can_open
    client.feed(settings((3, 10**6)), 0.0)
    assert not client.can_open
    with pytest.raises(ValueError, match="no stream"):
        client.send_request(tuple(GET), (), ends=True)
