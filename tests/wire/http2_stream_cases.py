"""HTTP/2, a server's end: prefaces, frames, streams (RFC 9113 §3 to §5)."""

from __future__ import annotations

from typing import Final

from tests.wire.http2_case import Row, breaks, ends, ok
from tests.wire.http2_talk import (
    END_HEADERS,
    END_STREAM,
    GET,
    HAS_PRIORITY,
    POST,
    block,
    continuation,
    data,
    headers,
    literal,
    ping,
    priority,
    raw,
    reset,
    settings,
    window,
)

_GET: Final = block(GET)
_DUMMY: Final = literal(b"x-dummy", b"a" * 100)
_PRIORITY: Final = b"\x00\x00\x00\x00\x00"

STREAM_ROWS: Final[list[Row]] = [
    # 3.4: the preface is in every row; what breaks it stands in the tests.
    ok("3.4", "settings and a request", settings(), headers(1), h2spec="generic/1/1 http2/3.5/1"),
    # 4.1: frames
    ok(
        "4.1",
        "an unknown type",
        raw(0x16, 0, 0, b"abc"),
        ping(),
        answered=(),
        pongs=(b"12345678",),
        h2spec="http2/4.1/1 http2/5.5/1",
    ),
    ok("4.1", "an unknown type on a stream", raw(0xFF, 0xFF, 1, b"abc"), headers(1)),
    ok(
        "4.1",
        "unknown flags",
        raw(0x6, 0x16, 0, b"12345678"),
        answered=(),
        pongs=(b"12345678",),
        h2spec="http2/4.1/2",
    ),
    ok(
        "4.1",
        "a reserved bit",
        raw(0x6, 0, 1 << 31, b"12345678"),
        answered=(),
        pongs=(b"12345678",),
        h2spec="http2/4.1/3",
    ),
    # 4.2: sizes
    ok(
        "4.2",
        "the largest frame",
        headers(1, POST, ends=False),
        data(1, bytes(16_384)),
        h2spec="http2/4.2/1",
    ),
    ends(
        "4.2",
        "a larger frame",
        "http2-frame-size",
        headers(1, POST, ends=False),
        data(1, bytes(16_385)),
        h2spec="http2/4.2/2",
    ),
    ends(
        "4.2",
        "a larger header block",
        "http2-frame-size",
        headers(1, (*GET, *[(b"x", b"a" * 126)] * 128)),
        h2spec="http2/4.2/3",
    ),
    ends("4.2", "a larger frame of unknown type", "http2-frame-size", raw(0x16, 0, 0, b"", 16_385)),
    # 4.3: header blocks
    ends(
        "4.3",
        "a block that is not HPACK",
        "http2-compression",
        raw(0x1, 5, 1, b"\x00\x00\x01\x00\x00\x40"),
        h2spec="http2/4.3/1",
    ),
    ends(
        "4.3",
        "PRIORITY inside a block",
        "http2-continuation",
        headers(1, whole=False),
        priority(1),
        continuation(1, _DUMMY),
        h2spec="http2/4.3/2 http2/6.2/1",
    ),
    ends(
        "4.3",
        "another stream's block inside one",
        "http2-continuation",
        headers(1, whole=False),
        headers(3),
        h2spec="http2/4.3/3 http2/6.2/2",
    ),
    # 5.1: states
    ends("5.1", "idle: DATA", "http2-idle-stream", data(1), h2spec="http2/5.1/1"),
    ends(
        "5.1", "idle: RST_STREAM", "http2-idle-stream", reset(1), h2spec="http2/5.1/2 http2/6.4/2"
    ),
    ends("5.1", "idle: WINDOW_UPDATE", "http2-idle-stream", window(1, 100), h2spec="http2/5.1/3"),
    ends(
        "5.1",
        "idle: CONTINUATION",
        "http2-continuation",
        continuation(1, _DUMMY),
        h2spec="http2/5.1/4",
    ),
    ok("5.1", "idle: PRIORITY", priority(1), headers(1), h2spec="generic/2/1 generic/3.3/5"),
    breaks(
        "5.1",
        "half closed: DATA",
        "http2-closed-stream",
        headers(1) + data(1),
        h2spec="http2/5.1/5",
    ),
    breaks(
        "5.1",
        "half closed: HEADERS",
        "http2-closed-stream",
        headers(1) + headers(1),
        h2spec="http2/5.1/6",
    ),
    ends(
        "5.1",
        "half closed: CONTINUATION",
        "http2-continuation",
        headers(1),
        continuation(1, _DUMMY),
        h2spec="http2/5.1/7",
    ),
    breaks(
        "5.1",
        "reset: DATA",
        "http2-closed-stream",
        headers(1, POST, ends=False),
        reset(1),
        data(1),
        h2spec="http2/5.1/8",
    ),
    ends(
        "5.1",
        "reset: HEADERS",
        "http2-closed-stream",
        headers(1, POST, ends=False),
        reset(1),
        headers(1),
        h2spec="http2/5.1/9",
    ),
    ends(
        "5.1",
        "reset: CONTINUATION",
        "http2-continuation",
        headers(1, POST, ends=False),
        reset(1),
        continuation(1, _DUMMY),
        h2spec="http2/5.1/10",
    ),
    ends("5.1", "closed: DATA", "http2-closed-stream", headers(1), data(1), h2spec="http2/5.1/11"),
    ends(
        "5.1",
        "closed: HEADERS",
        "http2-closed-stream",
        headers(1),
        headers(1),
        h2spec="http2/5.1/12",
    ),
    ends(
        "5.1",
        "closed: CONTINUATION",
        "http2-continuation",
        headers(1),
        continuation(1, _DUMMY),
        h2spec="http2/5.1/13",
    ),
    ok("5.1", "closed: PRIORITY", headers(1), priority(1), h2spec="generic/2/5"),
    ok("5.1", "closed: WINDOW_UPDATE and RST_STREAM", headers(1), window(1, 1), reset(1)),
    # 5.1.1: identifiers
    ends("5.1.1", "an even number", "http2-stream-id", headers(2), h2spec="http2/5.1.1/1"),
    ends(
        "5.1.1",
        "a number below the last",
        "http2-stream-id",
        headers(5),
        headers(3),
        h2spec="http2/5.1.1/2",
    ),
    ok("5.1.1", "numbers left out", headers(1), headers(7), answered=(1, 7)),
    ends("5.1.1", "DATA on a server's number", "http2-idle-stream", data(2)),
    # 5.3: priorities are read and not followed
    breaks(
        "5.3",
        "HEADERS that depend on themselves",
        "http2-self-dependency",
        raw(0x1, END_HEADERS | END_STREAM | HAS_PRIORITY, 1, b"\x00\x00\x00\x01\xff" + _GET),
        h2spec="http2/5.3.1/1",
    ),
    ends(
        "5.3",
        "PRIORITY of an idle stream that depends on itself",
        "http2-self-dependency",
        priority(1, 1),
        h2spec="http2/5.3.1/2",
    ),
    breaks(
        "5.3",
        "PRIORITY that depends on itself",
        "http2-self-dependency",
        headers(1, POST, ends=False),
        priority(1, 1),
    ),
    # 5.4.1: the end of a connection
    ends(
        "5.4.1",
        "a broken frame, GOAWAY, the end",
        "http2-frame-size",
        ping(b""),
        headers(1),
        h2spec="http2/5.4.1/1 http2/5.4.1/2",
    ),
    # 5.5: extensions
    ends(
        "5.5",
        "an unknown type inside a block",
        "http2-continuation",
        headers(1, whole=False),
        raw(0x16, 0, 0, b"abc"),
        h2spec="http2/5.5/2",
    ),
]
