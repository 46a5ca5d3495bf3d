"""What the ends of an HTTP/2 connection tell each other besides content: settings, sizes, marks."""

from __future__ import annotations

from proxy.wire.http2_limit import Http2Limits
from proxy.wire.http_field import Fields
from tests.wire import http2_talk as wire
from tests.wire.http2_end import Client, Server
from tests.wire.http2_event import RequestReceived, SettingsChanged, TrailersReceived
from tests.wire.http2_talk import Talk, call, headers, serve

GET: Fields = tuple(wire.GET)
POST: Fields = tuple(wire.POST)


def test_settings_are_told_and_followed() -> None:
    """How many streams, how large a field section, how large a table."""
    talk = call()
    assert isinstance(talk.codec, Client)
    assert talk.codec.peer_header_list == -1
    talk.say(wire.settings((3, 1), (6, 8_000), (1, 0)))
    assert SettingsChanged() in talk.events
    assert talk.codec.peer_header_list == 8_000
    assert not talk.codec.can_open
    talk.say(headers(1, wire.OK))
    assert talk.codec.can_open


def test_a_header_block_longer_than_a_frame_is_continued() -> None:
    """And read by others."""
    talk = call(fields=(*GET, *[(b"x-%d" % number, b"a" * 4_000) for number in range(9)]))
    (sent,) = talk.sections
    assert len(sent[1]) == 13
    assert sent[2]
    assert len(talk.frames) > 3


def test_windows_of_one_s_own_are_announced() -> None:
    """The defaults are not: everybody knows them."""
    talk = Talk(Server(Http2Limits(stream_window=70_000, connection_window=65_535)))
    talk.say(wire.PREFACE + wire.settings())
    assert talk.announced[4] == 70_000
    assert talk.updates == []
    usual = Talk(Server())
    usual.say(wire.PREFACE + wire.settings())
    assert 4 not in usual.announced
    assert usual.updates == [1_048_576 - 65_535]
    client = Talk(Client(Http2Limits(stream_window=70_000)))
    client.read()
    assert client.announced[4] == 70_000
    assert client.announced[2] == 0


def test_a_leniency_lets_host_and_authority_differ() -> None:
    """Between sidecars, where a filter may have changed one of them."""
    fields = [*wire.GET, (b"host", b"b")]
    strict = serve()
    strict.say(headers(1, fields))
    assert strict.reasons == ["http2-host"]
    lenient = Talk(Server(host_may_differ=True))
    lenient.say(wire.PREFACE + wire.settings() + headers(1, fields))
    (request,) = [event for event in lenient.events if isinstance(event, RequestReceived)]
    assert request.head.authority == b"a"
    assert (b"host", b"b") in request.head.fields


def test_what_must_not_be_indexed_is_marked_on_the_way() -> None:
    """RFC 7541 §6.2.3: an intermediary keeps the mark."""
    talk = serve()
    secret = wire.literal(b"x-secret", b"s3cret", 0x10)
    talk.say(wire.raw(0x1, 0x5, 1, wire.block(wire.GET) + secret))
    (request,) = [event for event in talk.events if isinstance(event, RequestReceived)]
    assert request.head.never_indexed == {(b"x-secret", b"s3cret")}
    client = Client()
    client.feed(wire.settings(), 0.0)
    while client.take():
        pass
    for _ in range(4):
        head = request.head
        client.send_request(GET, head.fields, ends=True, never_indexed=head.never_indexed)
        out = client.take()
        assert b"\x10\x08x-secret\x06s3cret" in out


def test_the_mark_of_trailers_is_kept_too() -> None:
    """They are fields like others."""
    talk = serve(answers=False)
    talk.say(headers(1, POST, ends=False))
    talk.say(wire.raw(0x1, 0x5, 1, wire.literal(b"x-secret", b"s3cret", 0x10)))
    (trailers,) = [event for event in talk.events if isinstance(event, TrailersReceived)]
    assert trailers.never_indexed == {(b"x-secret", b"s3cret")}
    client = Client()
    client.feed(wire.settings(), 0.0)
    for _ in range(4):
        stream = client.send_request(POST, (), ends=False)
        while client.take():
            pass
        client.send_trailers(stream, trailers.fields, never_indexed=trailers.never_indexed)
        assert b"\x10\x08x-secret\x06s3cret" in client.take()
