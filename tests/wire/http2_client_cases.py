"""HTTP/2, a client's end: what servers may send, and what ends a stream or the connection.

The client has sent one GET without content on stream 1, unless a row says otherwise. ``h2spec``
names the cases of the suite's client part.
"""

from __future__ import annotations

from typing import Final

from tests.wire.http2_case import Row, breaks, ends
from tests.wire.http2_talk import (
    ACK,
    END_HEADERS,
    END_STREAM,
    GET,
    HAS_PRIORITY,
    OK,
    PADDED,
    POST,
    Pairs,
    block,
    continuation,
    data,
    goaway,
    headers,
    literal,
    ping,
    priority,
    raw,
    reset,
    settings,
    window,
)

_OK: Final = block(OK)
_DUMMY: Final = literal(b"x-dummy", b"a" * 100)
_PONG: Final = (b"12345678",)


def reads(
    section: str,
    name: str,
    *steps: bytes,
    statuses: tuple[int, ...] = (200,),
    content: bytes = b"",
    h2spec: str = "",
    pongs: tuple[bytes, ...] = (),
    fields: Pairs = GET,
) -> Row:
    """Return a row in which all is well."""
    return Row(
        section,
        name,
        steps,
        statuses=statuses,
        content=content,
        h2spec=tuple(h2spec.split()),
        pongs=pongs,
        fields=fields,
    )


def answer(fields: Pairs = OK, *, last: bool = True) -> bytes:
    """Return a response's head on stream 1."""
    return headers(1, fields, ends=last)


def malformed(section: str, name: str, reason: str, fields: Pairs) -> Row:
    """Return a response that breaks its stream alone."""
    return breaks(section, name, reason, answer(fields))


CLIENT_ROWS: Final[list[Row]] = [
    reads("3.4", "settings and an answer", settings(), answer(), h2spec="client/1/1"),
    reads(
        "4.1",
        "an unknown type",
        raw(0x16, 0, 0, b"abc"),
        ping(),
        pongs=_PONG,
        statuses=(),
        h2spec="client/4.1/1 client/5.5/1",
    ),
    reads(
        "4.1",
        "unknown flags",
        raw(0x6, 0x16, 0, b"12345678"),
        pongs=_PONG,
        statuses=(),
        h2spec="client/4.1/2",
    ),
    reads(
        "4.1",
        "a reserved bit",
        raw(0x6, 0, 1 << 31, b"12345678"),
        pongs=_PONG,
        statuses=(),
        h2spec="client/4.1/3",
    ),
    reads(
        "4.2",
        "the largest frame",
        answer(last=False),
        data(1, bytes(16_384)),
        content=bytes(16_384),
        h2spec="client/4.2/1",
    ),
    ends(
        "4.2",
        "a larger frame",
        "http2-frame-size",
        answer(last=False),
        data(1, bytes(16_385)),
        h2spec="client/4.2/2",
    ),
    ends(
        "4.2",
        "a larger header block",
        "http2-frame-size",
        raw(0x1, 5, 1, b"", 16_385),
        h2spec="client/4.2/3",
    ),
    ends(
        "4.3",
        "a block that is not HPACK",
        "http2-compression",
        raw(0x1, 5, 1, b"\x00\x00\x01\x00\x00\x40"),
        h2spec="client/4.3/1",
    ),
    ends("5.1", "idle: DATA", "http2-idle-stream", data(3), h2spec="client/5.1/1"),
    ends(
        "5.1", "idle: RST_STREAM", "http2-idle-stream", reset(3), h2spec="client/5.1/2 client/6.4/2"
    ),
    ends("5.1", "idle: WINDOW_UPDATE", "http2-idle-stream", window(3, 100), h2spec="client/5.1/3"),
    ends(
        "5.1",
        "idle: CONTINUATION",
        "http2-continuation",
        continuation(3, _DUMMY),
        h2spec="client/5.1/4",
    ),
    ends("5.1", "idle: HEADERS", "http2-idle-stream", headers(3, OK)),
    breaks("5.1", "reset: DATA", "http2-closed-stream", reset(1) + data(1), h2spec="client/5.1/5"),
    ends(
        "5.1", "reset: HEADERS", "http2-closed-stream", reset(1) + answer(), h2spec="client/5.1/6"
    ),
    ends(
        "5.1",
        "reset: CONTINUATION",
        "http2-continuation",
        reset(1) + continuation(1, _DUMMY),
        h2spec="client/5.1/7",
    ),
    ends(
        "5.1",
        "closed: DATA",
        "http2-closed-stream",
        answer() + data(1),
        h2spec="client/5.1/8 client/6.1/2",
    ),
    ends(
        "5.1", "closed: HEADERS", "http2-closed-stream", answer() + answer(), h2spec="client/5.1/9"
    ),
    ends(
        "5.1",
        "closed: CONTINUATION",
        "http2-continuation",
        answer() + continuation(1, _DUMMY),
        h2spec="client/5.1/10",
    ),
    reads(
        "5.1",
        "closed: WINDOW_UPDATE, RST_STREAM and PRIORITY",
        answer(),
        window(1, 1),
        reset(1),
        priority(1),
    ),
    ends(
        "5.1.1",
        "an even number that was not promised",
        "http2-idle-stream",
        headers(2, OK),
        h2spec="client/5.1.1/1",
    ),
    breaks(
        "5.3",
        "HEADERS that depend on themselves",
        "http2-self-dependency",
        raw(0x1, END_HEADERS | HAS_PRIORITY, 1, b"\x00\x00\x00\x01\xff" + _OK),
    ),
    ends(
        "5.4.1", "a broken frame, the end", "http2-frame-size", ping(b""), h2spec="client/5.4.1/1"
    ),
    ends(
        "5.4.1",
        "a broken frame, GOAWAY",
        "http2-frame-size",
        raw(0x6, 0, 0, bytes(7)),
        answer(),
        h2spec="client/5.4.1/2",
    ),
    ends(
        "5.5",
        "an unknown type inside a block",
        "http2-continuation",
        headers(1, OK, whole=False),
        raw(0x16, 0, 0, b"abc"),
    ),
    ends("6.1", "DATA on stream 0", "http2-stream-zero", data(0), h2spec="client/6.1/1"),
    ends(
        "6.1",
        "more padding than payload",
        "http2-padding",
        answer(last=False),
        raw(0x0, END_STREAM | PADDED, 1, b"\x06\x54\x65\x73\x74"),
        h2spec="client/6.1/3",
    ),
    reads(
        "6.1",
        "padding",
        answer(last=False),
        raw(0x0, END_STREAM | PADDED, 1, b"\x05test" + bytes(5)),
        content=b"test",
    ),
    ends(
        "6.2",
        "PRIORITY inside a block",
        "http2-continuation",
        headers(1, OK, whole=False),
        priority(1),
        h2spec="client/6.2/1",
    ),
    ends("6.2", "HEADERS on stream 0", "http2-stream-zero", headers(0, OK), h2spec="client/6.2/2"),
    ends(
        "6.2",
        "more padding than payload",
        "http2-padding",
        raw(0x1, END_HEADERS | PADDED, 1, b"\xff" + _OK),
        h2spec="client/6.2/3",
    ),
    ends("6.3", "PRIORITY on stream 0", "http2-stream-zero", priority(0), h2spec="client/6.3/1"),
    ends(
        "6.3",
        "PRIORITY of another length",
        "http2-frame-size",
        raw(0x2, 0, 1, bytes(4)),
        h2spec="client/6.3/2",
    ),
    ends("6.4", "RST_STREAM on stream 0", "http2-stream-zero", reset(0), h2spec="client/6.4/1"),
    ends(
        "6.4",
        "RST_STREAM of another length",
        "http2-frame-size",
        raw(0x3, 0, 1, bytes(3)),
        h2spec="client/6.4/3",
    ),
    Row("6.4", "a server that gives up", (reset(1, 7), ping()), pongs=_PONG, given_up=(1,)),
    ends(
        "6.5",
        "an acknowledgment with payload",
        "http2-frame-size",
        raw(0x4, ACK, 0, b"\x00"),
        h2spec="client/6.5/1",
    ),
    ends(
        "6.5",
        "SETTINGS on a stream",
        "http2-stream-zero",
        raw(0x4, 0, 1, bytes(6)),
        h2spec="client/6.5/2",
    ),
    ends(
        "6.5",
        "not a multiple of six",
        "http2-frame-size",
        raw(0x4, 0, 0, bytes(3)),
        h2spec="client/6.5/3",
    ),
    ends("6.5.2", "ENABLE_PUSH 1", "http2-setting", settings((2, 1))),
    ends(
        "6.5.2",
        "a window past the largest",
        "http2-setting-window",
        settings((4, 2**31)),
        h2spec="client/6.5.2/1",
    ),
    ends(
        "6.5.2",
        "frames below the least",
        "http2-setting",
        settings((5, 16_383)),
        h2spec="client/6.5.2/2",
    ),
    ends(
        "6.5.2",
        "frames above the most",
        "http2-setting",
        settings((5, 2**24)),
        h2spec="client/6.5.2/3",
    ),
    reads(
        "6.5.2",
        "an unknown setting",
        settings((0xFF, 1)),
        ping(),
        pongs=_PONG,
        statuses=(),
        h2spec="client/6.5.2/4",
    ),
    reads(
        "6.5.3", "settings are acknowledged", settings((3, 100)), answer(), h2spec="client/6.5.3/1"
    ),
    ends("6.6", "a push", "http2-push", raw(0x5, END_HEADERS, 1, b"\x00\x00\x00\x02" + block(GET))),
    reads("6.7", "a ping", ping(), pongs=_PONG, statuses=(), h2spec="client/6.7/1"),
    reads(
        "6.7",
        "an answer is not answered",
        ping(b"invalid!", ACK),
        ping(),
        pongs=_PONG,
        statuses=(),
        h2spec="client/6.7/2",
    ),
    ends(
        "6.7",
        "a ping on a stream",
        "http2-stream-zero",
        raw(0x6, 0, 1, bytes(8)),
        h2spec="client/6.7/3",
    ),
    ends(
        "6.7",
        "a ping of another length",
        "http2-frame-size",
        raw(0x6, 0, 0, bytes(6)),
        h2spec="client/6.7/4",
    ),
    ends(
        "6.8",
        "GOAWAY on a stream",
        "http2-stream-zero",
        raw(0x7, 0, 1, bytes(8)),
        h2spec="client/6.8/1",
    ),
    reads("6.8", "GOAWAY behind our stream", goaway(1), answer()),
    Row("6.8", "GOAWAY before our stream", (goaway(0), ping()), pongs=_PONG, given_up=(1,)),
    ends("6.9", "0 for the connection", "http2-window-zero", window(0, 0), h2spec="client/6.9/1"),
    breaks("6.9", "0 for a stream", "http2-window-zero", window(1, 0), h2spec="client/6.9/2"),
    ends(
        "6.9", "another length", "http2-frame-size", raw(0x8, 0, 0, bytes(3)), h2spec="client/6.9/3"
    ),
    ends(
        "6.9.1",
        "the connection's past the largest",
        "http2-window-overflow",
        window(0, 2**31 - 1),
        h2spec="client/6.9.1/1",
    ),
    breaks(
        "6.9.1",
        "a stream's past the largest",
        "http2-window-overflow",
        window(1, 2**31 - 1),
        h2spec="client/6.9.1/2",
    ),
    reads(
        "6.10",
        "a block in many frames",
        headers(1, OK, whole=False),
        continuation(1, _DUMMY, whole=False),
        continuation(1, _DUMMY),
        h2spec="client/6.10/1",
    ),
    ends(
        "6.10",
        "another frame between",
        "http2-continuation",
        headers(1, OK, whole=False),
        continuation(1, _DUMMY, whole=False),
        data(1),
        h2spec="client/6.10/2",
    ),
    ends(
        "6.10",
        "stream 0",
        "http2-continuation",
        headers(1, OK, whole=False),
        continuation(0, _DUMMY),
        h2spec="client/6.10/3",
    ),
    ends(
        "6.10",
        "behind a whole block",
        "http2-continuation",
        answer() + continuation(1, _DUMMY),
        h2spec="client/6.10/4",
    ),
    ends(
        "6.10",
        "behind the end of a block",
        "http2-continuation",
        headers(1, OK, whole=False) + continuation(1, _DUMMY) + continuation(1, _DUMMY),
        h2spec="client/6.10/5",
    ),
    ends(
        "6.10",
        "behind DATA",
        "http2-continuation",
        answer(last=False),
        data(1),
        continuation(1, _DUMMY),
        h2spec="client/6.10/6",
    ),
    # 8.1: responses
    reads(
        "8.1",
        "content and trailers",
        answer(last=False),
        data(1, b"ab", ends=False),
        headers(1, [(b"x", b"y")]),
        content=b"ab",
    ),
    reads(
        "8.1",
        "interim heads",
        answer([(b":status", b"103")], last=False),
        answer([(b":status", b"100")], last=False),
        answer(),
        statuses=(103, 100, 200),
    ),
    reads(
        "8.1",
        "an answer before the request has ended",
        answer(last=False),
        reset(1, 0),
        fields=POST,
    ),
    reads(
        "8.1.1",
        "a length in the answer to HEAD",
        answer([*OK, (b"content-length", b"5")]),
        fields=((b":method", b"HEAD"), *GET[1:]),
    ),
    reads(
        "8.1.1",
        "a length in a 304",
        answer([(b":status", b"304"), (b"content-length", b"5")]),
        statuses=(304,),
    ),
    breaks(
        "8.1.1",
        "content in the answer to HEAD",
        "http2-content-length",
        answer([(b":status", b"204")], last=False),
        data(1),
    ),
    breaks(
        "8.1.1",
        "less content than said",
        "http2-content-length",
        answer([*OK, (b"content-length", b"2")], last=False),
        data(1),
    ),
    breaks(
        "8.1.1",
        "more content than said",
        "http2-content-length",
        answer([*OK, (b"content-length", b"1")], last=False),
        data(1, b"ab", ends=False),
    ),
    breaks(
        "8.1.1",
        "a length and no content",
        "http2-content-length",
        answer([*OK, (b"content-length", b"1")]),
    ),
    breaks("8.1", "content before a head", "http2-no-head", data(1)),
    breaks(
        "8.1",
        "content behind an interim head",
        "http2-no-head",
        answer([(b":status", b"100")], last=False),
        data(1),
    ),
    breaks("8.1", "an interim head that ends", "http2-interim", answer([(b":status", b"100")])),
    breaks(
        "8.1",
        "trailers that do not end",
        "http2-trailers",
        answer(last=False),
        headers(1, [(b"x", b"y")], ends=False),
    ),
    breaks("8.1", "a second status", "http2-pseudo", answer(last=False), answer()),
    malformed("8.2.1", "a name in upper case", "http2-field-name", [*OK, (b"X", b"y")]),
    malformed(
        "8.2.1", "a value with CR LF", "http2-field-value", [*OK, (b"x", b"a\r\nset-cookie: b")]
    ),
    malformed(
        "8.2.2", "a coding", "http2-connection-field", [*OK, (b"transfer-encoding", b"chunked")]
    ),
    malformed("8.3", "a request's pseudo-header field", "http2-pseudo", [*OK, (b":path", b"/")]),
    malformed("8.3", "a status behind a field", "http2-pseudo", [(b"x", b"y"), *OK]),
    malformed("8.3.2", "no status", "http2-status", [(b"x", b"y")]),
    malformed("8.3.2", "a status of two digits", "http2-status", [(b":status", b"20")]),
    malformed("8.3.2", "a status that is a name", "http2-status", [(b":status", b"200 OK")]),
    malformed("8.3.2", "a status below 100", "http2-status", [(b":status", b"099")]),
    malformed("8.6", "101", "http2-status", [(b":status", b"101")]),
    malformed("8.3.1", "two hosts", "http2-host", [*OK, (b"host", b"a"), (b"host", b"a")]),
]
