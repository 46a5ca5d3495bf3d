"""HTTP/2, a server's end: HTTP messages and HPACK (RFC 9113 §8, RFC 7541)."""

from __future__ import annotations

from typing import Final

import hpack.huffman
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from tests.wire.http2_case import Row, breaks, ends, ok
from tests.wire.http2_talk import (
    END_HEADERS,
    END_STREAM,
    GET,
    POST,
    Pairs,
    block,
    data,
    headers,
    literal,
    raw,
)

_CODER: Final = hpack.huffman.HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
_GET: Final = block(GET)


def malformed(name: str, reason: str, fields: Pairs, section: str = "8.3", h2spec: str = "") -> Row:
    """Return a request that breaks its stream alone; the next one is answered."""
    steps = (headers(1, fields), headers(3))
    cases = tuple(h2spec.split())
    return Row(section, name, steps, reason, 1, answered=(3,), h2spec=cases)


def without(name: bytes, fields: Pairs = GET) -> Pairs:
    """Return ``fields`` without one."""
    return [field for field in fields if field[0] != name]


def changed(name: bytes, value: bytes, fields: Pairs = GET) -> Pairs:
    """Return ``fields`` with another value for one."""
    return [(key, value if key == name else old) for key, old in fields]


def coded(text: bytes) -> bytes:
    """Return a string literal in Huffman code."""
    code = bytes(_CODER.encode(text))
    return bytes((0x80 | len(code),)) + code


def section(*parts: bytes) -> bytes:
    """Return a request whose block ends with ``parts``."""
    return raw(0x1, END_HEADERS | END_STREAM, 1, _GET + b"".join(parts))


_LENGTH: Final = (b"content-length", b"1")

MESSAGE_ROWS: Final[list[Row]] = [
    # 8.1: messages
    ok("8.1", "GET", headers(1), h2spec="generic/4/1"),
    ok("8.1", "HEAD", headers(1, changed(b":method", b"HEAD")), sizes=(), h2spec="generic/4/2"),
    ok("8.1", "POST", headers(1, POST, ends=False), data(1, b"test"), h2spec="generic/4/3"),
    ok(
        "8.1",
        "POST with trailers",
        headers(1, POST, ends=False),
        data(1, b"test", ends=False),
        headers(1, [(b"x-test", b"ok")]),
        h2spec="generic/4/4",
    ),
    ok(
        "8.1",
        "trailers without content",
        headers(1, POST, ends=False),
        headers(1, [(b"x-test", b"ok")]),
    ),
    breaks(
        "8.1",
        "a second head that does not end",
        "http2-trailers",
        headers(1, POST, ends=False),
        headers(1, [(b"x", b"y")], ends=False),
        data(1),
        h2spec="http2/8.1/1",
    ),
    breaks(
        "8.1",
        "trailers that frame",
        "http2-trailers",
        headers(1, POST, ends=False),
        headers(1, [(b"content-length", b"0")]),
    ),
    breaks(
        "8.1",
        "trailers that name a host",
        "http2-trailers",
        headers(1, POST, ends=False),
        headers(1, [(b"host", b"a")]),
    ),
    breaks(
        "8.1",
        "trailers about the connection",
        "http2-connection-field",
        headers(1, POST, ends=False),
        headers(1, [(b"connection", b"close")]),
    ),
    # 8.1.1: malformed messages
    ok("8.1.1", "a length that is true", headers(1, [*POST, _LENGTH], ends=False), data(1)),
    ok("8.1.1", "a length of 0 without content", headers(1, [*POST, (b"content-length", b"0")])),
    breaks(
        "8.1.1",
        "a length that is too small",
        "http2-content-length",
        headers(1, [*POST, _LENGTH], ends=False),
        data(1, b"test"),
        h2spec="http2/8.1.2.6/1",
    ),
    breaks(
        "8.1.1",
        "a length that several frames pass",
        "http2-content-length",
        headers(1, [*POST, _LENGTH], ends=False),
        data(1, b"t", ends=False),
        data(1, b"t"),
        h2spec="http2/8.1.2.6/2",
    ),
    breaks(
        "8.1.1",
        "a length that is too large",
        "http2-content-length",
        headers(1, [*POST, (b"content-length", b"5")], ends=False),
        data(1, b"test"),
    ),
    breaks(
        "8.1.1",
        "a length that trailers cut",
        "http2-content-length",
        headers(1, [*POST, _LENGTH], ends=False),
        headers(1, [(b"x", b"y")]),
    ),
    malformed("a length without content", "http2-content-length", [*POST, _LENGTH], "8.1.1"),
    malformed("two lengths", "http2-content-length", [*POST, _LENGTH, _LENGTH], "8.1.1"),
    malformed(
        "a signed length", "http2-content-length", [*POST, (b"content-length", b"+1")], "8.1.1"
    ),
    malformed(
        "a list of lengths", "http2-content-length", [*POST, (b"content-length", b"1, 1")], "8.1.1"
    ),
    malformed(
        "an empty length", "http2-content-length", [*POST, (b"content-length", b"")], "8.1.1"
    ),
    malformed(
        "a length of 2^63",
        "http2-content-length",
        [*POST, (b"content-length", b"9223372036854775808")],
        "8.1.1",
    ),
    # 8.2.1: fields
    malformed(
        "a name in upper case",
        "http2-field-name",
        [*GET, (b"X-TEST", b"ok")],
        "8.2.1",
        "http2/8.1.2/1",
    ),
    malformed("a name with a blank", "http2-field-name", [*GET, (b"x y", b"ok")], "8.2.1"),
    malformed(
        "a name with a blank at its end",
        "http2-field-name",
        [*GET, (b"content-length ", b"0")],
        "8.2.1",
    ),
    malformed("a name with a colon", "http2-field-name", [*GET, (b"x:y", b"ok")], "8.2.1"),
    malformed("a name with CR LF", "http2-field-name", [*GET, (b"x\r\ny", b"ok")], "8.2.1"),
    malformed("a name beyond ASCII", "http2-field-name", [*GET, (b"x\xe4", b"ok")], "8.2.1"),
    malformed("an empty name", "http2-field-name", [*GET, (b"", b"ok")], "8.2.1"),
    malformed("a name that is no token", "http2-field-name", [*GET, (b'"x"', b"ok")], "8.2.1"),
    malformed("a value with NUL", "http2-field-value", [*GET, (b"x", b"a\0b")], "8.2.1"),
    malformed(
        "a value with CR LF",
        "http2-field-value",
        [*GET, (b"x", b"a\r\ntransfer-encoding: chunked")],
        "8.2.1",
    ),
    malformed("a value with LF", "http2-field-value", [*GET, (b"x", b"a\nb")], "8.2.1"),
    malformed(
        "a value with another control", "http2-field-value", [*GET, (b"x", b"a\x01b")], "8.2.1"
    ),
    malformed(
        "a value that begins with a blank", "http2-field-value", [*GET, (b"x", b" a")], "8.2.1"
    ),
    malformed("a value that ends with a tab", "http2-field-value", [*GET, (b"x", b"a\t")], "8.2.1"),
    ok("8.2.1", "octets beyond ASCII in a value", headers(1, [*GET, (b"x", b"\xc3\xa4 \t\xff")])),
    # 8.2.2: fields about the connection
    *[
        malformed(f"{name.decode()}", "http2-connection-field", [*GET, (name, b"x")], "8.2.2", case)
        for name, case in (
            (b"connection", "http2/8.1.2.2/1"),
            (b"keep-alive", ""),
            (b"proxy-connection", ""),
            (b"transfer-encoding", ""),
            (b"upgrade", ""),
        )
    ],
    malformed(
        "transfer-encoding: chunked",
        "http2-connection-field",
        [*POST, (b"transfer-encoding", b"chunked")],
        "8.2.2",
    ),
    malformed(
        "TE other than trailers",
        "http2-te",
        [*GET, (b"te", b"trailers, deflate")],
        "8.2.2",
        "http2/8.1.2.2/2",
    ),
    ok("8.2.2", "TE: trailers", headers(1, [*GET, (b"te", b"trailers")])),
    # 8.3: pseudo-header fields
    malformed(
        "an unknown one", "http2-pseudo", [*GET, (b":test", b"ok")], h2spec="http2/8.1.2.1/1"
    ),
    malformed(
        "a response's", "http2-pseudo", [*GET, (b":status", b"200")], h2spec="http2/8.1.2.1/2"
    ),
    breaks(
        "8.3",
        "one in trailers",
        "http2-pseudo",
        headers(1, POST, ends=False),
        headers(1, [(b":method", b"200")]),
        h2spec="http2/8.1.2.1/3",
    ),
    malformed(
        "one behind a field",
        "http2-pseudo",
        [*GET[:3], (b"x-test", b"ok"), GET[3]],
        h2spec="http2/8.1.2.1/4",
    ),
    malformed(
        "extended CONNECT",
        "http2-pseudo",
        [*changed(b":method", b"CONNECT"), (b":protocol", b"websocket")],
    ),
    malformed("a nameless one", "http2-pseudo", [*GET, (b":", b"ok")]),
    malformed("one in upper case", "http2-pseudo", [*without(b":path"), (b":PATH", b"/")]),
    malformed("an empty path", "http2-path", changed(b":path", b""), "8.3.1", "http2/8.1.2.3/1"),
    malformed("no method", "http2-method", without(b":method"), "8.3.1", "http2/8.1.2.3/2"),
    malformed("no scheme", "http2-scheme", without(b":scheme"), "8.3.1", "http2/8.1.2.3/3"),
    malformed("no path", "http2-path", without(b":path"), "8.3.1", "http2/8.1.2.3/4"),
    malformed(
        "two methods", "http2-pseudo", [*GET, (b":method", b"GET")], "8.3.1", "http2/8.1.2.3/5"
    ),
    malformed(
        "two schemes", "http2-pseudo", [*GET, (b":scheme", b"http")], "8.3.1", "http2/8.1.2.3/6"
    ),
    malformed("two paths", "http2-pseudo", [*GET, (b":path", b"/")], "8.3.1", "http2/8.1.2.3/7"),
    malformed("two authorities", "http2-pseudo", [*GET, (b":authority", b"a")], "8.3.1"),
    malformed("no authority and no host", "http2-authority", without(b":authority"), "8.3.1"),
    malformed("an empty authority", "http2-authority", changed(b":authority", b""), "8.3.1"),
    malformed(
        "an authority with a user", "http2-authority", changed(b":authority", b"u@a"), "8.3.1"
    ),
    malformed(
        "an authority with a path", "http2-authority", changed(b":authority", b"a/b"), "8.3.1"
    ),
    malformed(
        "an authority with a blank", "http2-authority", changed(b":authority", b"a b"), "8.3.1"
    ),
    malformed(
        "an authority of a port alone", "http2-authority", changed(b":authority", b":80"), "8.3.1"
    ),
    malformed("a host other than the authority", "http2-host", [*GET, (b"host", b"b")], "8.3.1"),
    malformed("an empty host beside an authority", "http2-host", [*GET, (b"host", b"")], "8.3.1"),
    malformed("two hosts", "http2-host", [*GET, (b"host", b"a"), (b"host", b"a")], "8.3.1"),
    malformed(
        "a host that is none",
        "http2-authority",
        [*without(b":authority"), (b"host", b"a b")],
        "8.3.1",
    ),
    ok("8.3.1", "a host for the authority", headers(1, [*without(b":authority"), (b"host", b"a")])),
    ok("8.3.1", "a host like the authority", headers(1, [*GET, (b"host", b"A:80")])),
    ok("8.3.1", "fields in another order", headers(1, tuple(reversed(GET)))),
    malformed("a method that is no token", "http2-method", changed(b":method", b"GE T"), "8.3.1"),
    malformed("an empty method", "http2-method", changed(b":method", b""), "8.3.1"),
    malformed(
        "a method that is a whole request",
        "http2-field-value",
        changed(b":method", b"GET / HTTP/1.1\r\nx: y\r\n\r\n"),
        "8.3.1",
    ),
    malformed("another scheme", "http2-scheme", changed(b":scheme", b"ftp"), "8.3.1"),
    malformed(
        "a scheme that is an address", "http2-scheme", changed(b":scheme", b"http://a"), "8.3.1"
    ),
    malformed("a path without a slash", "http2-path", changed(b":path", b"a"), "8.3.1"),
    malformed("a path with a blank", "http2-path", changed(b":path", b"/a HTTP/1.1"), "8.3.1"),
    malformed("a path with a fragment", "http2-path", changed(b":path", b"/a#b"), "8.3.1"),
    malformed("a path beyond ASCII", "http2-path", changed(b":path", b"/\xc3\xa4"), "8.3.1"),
    malformed("a path in absolute form", "http2-path", changed(b":path", b"http://a/"), "8.3.1"),
    malformed("* with another method than OPTIONS", "http2-path", changed(b":path", b"*"), "8.3.1"),
    ok("8.3.1", "OPTIONS *", headers(1, changed(b":path", b"*", changed(b":method", b"OPTIONS")))),
    # 8.5: CONNECT
    Row(
        "8.5",
        "CONNECT",
        (
            headers(1, [(b":method", b"CONNECT"), (b":authority", b"a:443")], ends=False),
            data(1, b"x", ends=False),
        ),
    ),
    malformed("CONNECT with a path", "http2-pseudo", changed(b":method", b"CONNECT"), "8.5"),
    malformed("CONNECT without an authority", "http2-connect", [(b":method", b"CONNECT")], "8.5"),
    malformed(
        "CONNECT without a port",
        "http2-connect",
        [(b":method", b"CONNECT"), (b":authority", b"a")],
        "8.5",
    ),
    malformed(
        "CONNECT with a length",
        "http2-connect",
        [(b":method", b"CONNECT"), (b":authority", b"a:1"), _LENGTH],
        "8.5",
    ),
]

HPACK_ROWS: Final[list[Row]] = [
    # RFC 7541 6.1 and 6.2: representations
    ok(
        "7541-6.1",
        "indexed",
        raw(0x1, 5, 1, b"\x82\x86\x84" + literal(b":authority", b"a")),
        h2spec="generic/5/1",
    ),
    ok("7541-6.2.1", "added, name indexed", section(b"\x7a" + b"\x04test"), h2spec="generic/5/2"),
    ok(
        "7541-6.2.1",
        "added, name indexed, coded",
        section(b"\x7a" + coded(b"test")),
        h2spec="generic/5/3",
    ),
    ok(
        "7541-6.2.1",
        "added, new name",
        section(literal(b"x-test", b"test", 0x40)),
        h2spec="generic/5/4",
    ),
    ok(
        "7541-6.2.1",
        "added, new name, coded",
        section(b"\x40" + coded(b"x-test") + coded(b"test")),
        h2spec="generic/5/5",
    ),
    ok(
        "7541-6.2.2",
        "not added, name indexed",
        section(b"\x0f\x2b" + b"\x04test"),
        h2spec="generic/5/6",
    ),
    ok(
        "7541-6.2.2",
        "not added, name indexed, coded",
        section(b"\x0f\x2b" + coded(b"test")),
        h2spec="generic/5/7",
    ),
    ok(
        "7541-6.2.2",
        "not added, new name",
        section(literal(b"x-test", b"test")),
        h2spec="generic/5/8",
    ),
    ok(
        "7541-6.2.2",
        "not added, new name, coded",
        section(b"\x00" + coded(b"x-test") + coded(b"test")),
        h2spec="generic/5/9",
    ),
    ok(
        "7541-6.2.3",
        "never added, name indexed",
        section(b"\x1f\x2b" + b"\x04test"),
        h2spec="generic/5/10",
    ),
    ok(
        "7541-6.2.3",
        "never added, name indexed, coded",
        section(b"\x1f\x2b" + coded(b"test")),
        h2spec="generic/5/11",
    ),
    ok(
        "7541-6.2.3",
        "never added, new name",
        section(literal(b"x-test", b"test", 0x10)),
        h2spec="generic/5/12",
    ),
    ok(
        "7541-6.2.3",
        "never added, new name, coded",
        section(b"\x10" + coded(b"x-test") + coded(b"test")),
        h2spec="generic/5/13",
    ),
    ok("7541-6.3", "a size update", raw(0x1, 5, 1, b"\x20" + _GET), h2spec="generic/5/14"),
    ok(
        "7541-6.3",
        "two size updates",
        raw(0x1, 5, 1, b"\x20\x3f\xe1\x1f" + _GET),
        h2spec="generic/5/15",
    ),
    # What cannot be decoded ends the connection.
    ends(
        "7541-2.3.3",
        "an index beyond the table",
        "http2-compression",
        section(b"\xff\x0a"),
        h2spec="hpack/2.3.3/1",
    ),
    ends(
        "7541-2.3.3",
        "a name's index beyond the table",
        "http2-compression",
        section(b"\x7f\x40\x01a"),
    ),
    ends(
        "7541-4.2",
        "a size update behind a field",
        "http2-compression",
        section(b"\x20"),
        h2spec="hpack/4.2/1",
    ),
    ends(
        "7541-5.2",
        "padding of more than seven bits",
        "http2-compression",
        section(b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff"),
        h2spec="hpack/5.2/1",
    ),
    ends(
        "7541-5.2",
        "padding of zeros",
        "http2-compression",
        section(b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90"),
        h2spec="hpack/5.2/2",
    ),
    ends(
        "7541-5.2",
        "the end-of-string code",
        "http2-compression",
        section(b"\x00\x85\xf2\xb2\x4a\x84\xff\x87\x49\x51\xff\xff\xff\xfa\x7f"),
        h2spec="hpack/5.2/3",
    ),
    ends("7541-6.1", "index 0", "http2-compression", section(b"\x80"), h2spec="hpack/6.1/1"),
    ends(
        "7541-6.3",
        "a table larger than allowed",
        "http2-compression",
        raw(0x1, 5, 1, b"\x3f\xe2\x1f" + _GET),
        h2spec="hpack/6.3/1",
    ),
    ends(
        "7541-5.1",
        "an integer that does not end",
        "http2-compression",
        section(b"\xff" + b"\xff" * 10),
    ),
    ends("7541-5.1", "an integer cut off", "http2-compression", section(b"\xff\x80")),
    ends(
        "7541-5.2", "a string longer than its block", "http2-compression", section(b"\x00\x05abcd")
    ),
    ends("7541-6.2", "a field without its value", "http2-compression", section(b"\x00\x01a")),
]
