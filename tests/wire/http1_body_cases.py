"""Requests by section of RFC 9112, 6 to 8: framing, chunks, trailers, ends."""

from __future__ import annotations

from typing import Final

from tests.wire.http1_case import Case, refused, request, taken

_GET: Final = b"GET / HTTP/1.1\r\nHost: a\r\n"
_CHUNKED: Final = b"Transfer-Encoding: chunked"

BODIES: Final[list[Case]] = [
    # 6.1: Transfer-Encoding
    taken(
        "6.1",
        "in any case",
        request(b"transfer-ENCODING: Chunked", body=b"0\r\n\r\n"),
        "POST a /x ",
    ),
    refused(
        "6.1",
        "with Content-Length",
        request(_CHUNKED, b"Content-Length: 3"),
        "http1-length-and-coding",
    ),
    refused(
        "6.1",
        "with Content-Length before it",
        request(b"Content-Length: 3", _CHUNKED),
        "http1-length-and-coding",
    ),
    refused(
        "6.1",
        "in 1.0",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "http1-coding-version",
    ),
    refused("6.1", "twice", request(_CHUNKED, _CHUNKED), "http1-coding-repeated"),
    refused(
        "6.1",
        "chunked, chunked",
        request(b"Transfer-Encoding: chunked, chunked"),
        "http1-coding-repeated",
    ),
    refused(
        "6.1", "gzip, chunked", request(b"Transfer-Encoding: gzip, chunked"), "http1-coding-unknown"
    ),
    refused(
        "6.1", "chunked, gzip", request(b"Transfer-Encoding: chunked, gzip"), "http1-coding-unknown"
    ),
    refused("6.1", "identity", request(b"Transfer-Encoding: identity"), "http1-coding-unknown"),
    refused("6.1", "empty", request(b"Transfer-Encoding:"), "http1-coding-unknown"),
    refused(
        "6.1", "chunked in quotes", request(b'Transfer-Encoding: "chunked"'), "http1-coding-unknown"
    ),
    refused(
        "6.1",
        "chunked with a parameter",
        request(b"Transfer-Encoding: chunked;a=b"),
        "http1-coding-unknown",
    ),
    refused("6.1", "xchunked", request(b"Transfer-Encoding: xchunked"), "http1-coding-unknown"),
    # 6.2: Content-Length
    taken("6.2", "a length", request(b"Content-Length: 3", body=b"abc"), "POST a /x abc"),
    taken("6.2", "a length of 0", request(b"Content-Length: 0"), "POST a /x "),
    taken("6.2", "leading zeros", request(b"Content-Length: 003", body=b"abc"), "POST a /x abc"),
    taken("6.2", "on a GET", _GET + b"Content-Length: 2\r\n\r\nab", "GET a / ab"),
    refused(
        "6.2", "twice", request(b"Content-Length: 3", b"Content-Length: 3"), "http1-length-repeated"
    ),
    refused(
        "6.2",
        "two lengths",
        request(b"Content-Length: 3", b"Content-Length: 4"),
        "http1-length-repeated",
    ),
    refused("6.2", "a list", request(b"Content-Length: 3, 3"), "http1-length-invalid"),
    refused("6.2", "plus", request(b"Content-Length: +3"), "http1-length-invalid"),
    refused("6.2", "minus", request(b"Content-Length: -3"), "http1-length-invalid"),
    refused("6.2", "hexadecimal", request(b"Content-Length: 0x3"), "http1-length-invalid"),
    refused("6.2", "a fraction", request(b"Content-Length: 3.0"), "http1-length-invalid"),
    refused("6.2", "an underscore", request(b"Content-Length: 1_0"), "http1-length-invalid"),
    refused("6.2", "a blank inside", request(b"Content-Length: 1 0"), "http1-length-invalid"),
    refused("6.2", "empty", request(b"Content-Length:"), "http1-length-invalid"),
    refused(
        "6.2",
        "digits of another script",
        request(b"Content-Length: \xd9\xa3"),
        "http1-length-invalid",
    ),
    refused("6.2", "2^63", request(b"Content-Length: 9223372036854775808"), "http1-length-invalid"),
    refused(
        "6.2", "2^64 + 3", request(b"Content-Length: 18446744073709551619"), "http1-length-invalid"
    ),
    refused(
        "6.2", "20 digits", request(b"Content-Length: 00000000000000000003"), "http1-length-invalid"
    ),
    # 6.3: the end of a message
    taken(
        "6.3",
        "no framing: no content",
        b"POST /x HTTP/1.1\r\nHost: a\r\n\r\n" + _GET + b"\r\n",
        "POST a /x ",
        "GET a / ",
    ),
    taken(
        "6.3",
        "a length, then a request",
        request(b"Content-Length: 2", body=b"ab") + _GET + b"\r\n",
        "POST a /x ab",
        "GET a / ",
    ),
    taken(
        "6.3",
        "chunks, then a request",
        request(_CHUNKED, body=b"1\r\na\r\n0\r\n\r\n") + _GET + b"\r\n",
        "POST a /x a",
        "GET a / ",
    ),
    # 7.1: chunks
    taken(
        "7.1",
        "several chunks",
        request(_CHUNKED, body=b"3\r\nabc\r\n02\r\nde\r\n0\r\n\r\n"),
        "POST a /x abcde",
    ),
    taken(
        "7.1",
        "sizes in either case",
        request(_CHUNKED, body=b"A\r\n0123456789\r\na\r\n0123456789\r\n000\r\n\r\n"),
        "POST a /x 01234567890123456789",
    ),
    refused("7.1", "no size", request(_CHUNKED, body=b"\r\nabc\r\n0\r\n\r\n"), "http1-chunk-size"),
    refused("7.1", "a size that is none", request(_CHUNKED, body=b"x\r\n"), "http1-chunk-size"),
    refused(
        "7.1", "0x before a size", request(_CHUNKED, body=b"0x3\r\nabc\r\n"), "http1-chunk-size"
    ),
    refused("7.1", "a sign", request(_CHUNKED, body=b"+3\r\nabc\r\n"), "http1-chunk-size"),
    refused("7.1", "a minus", request(_CHUNKED, body=b"-1\r\n"), "http1-chunk-size"),
    refused("7.1", "an underscore", request(_CHUNKED, body=b"1_0\r\n"), "http1-chunk-size"),
    refused(
        "7.1", "a blank before a size", request(_CHUNKED, body=b" 3\r\nabc\r\n"), "http1-chunk-size"
    ),
    refused(
        "7.1", "a blank after a size", request(_CHUNKED, body=b"3 \r\nabc\r\n"), "http1-chunk-size"
    ),
    refused(
        "7.1", "a size of 2^63", request(_CHUNKED, body=b"8000000000000000\r\n"), "http1-chunk-size"
    ),
    refused(
        "7.1",
        "a size of 17 digits",
        request(_CHUNKED, body=b"00000000000000003\r\nabc\r\n"),
        "http1-chunk-size",
    ),
    refused(
        "7.1",
        "a size that wraps round 2^64",
        request(_CHUNKED, body=b"10000000000000003\r\nabc\r\n"),
        "http1-chunk-size",
    ),
    refused(
        "7.1",
        "LF alone after a size",
        request(_CHUNKED, body=b"3\nabc\r\n0\r\n\r\n"),
        "http1-chunk-size",
    ),
    refused(
        "7.1",
        "CR alone after a size",
        request(_CHUNKED, body=b"3\rabc\r\n0\r\n\r\n"),
        "http1-chunk-size",
    ),
    refused(
        "7.1",
        "LF alone after a chunk",
        request(_CHUNKED, body=b"3\r\nabc\n0\r\n\r\n"),
        "http1-chunk-end",
    ),
    refused(
        "7.1",
        "a chunk longer than its size",
        request(_CHUNKED, body=b"3\r\nabcd\r\n0\r\n\r\n"),
        "http1-chunk-end",
    ),
    refused(
        "7.1",
        "a chunk shorter than its size",
        request(_CHUNKED, body=b"4\r\nabc\r\n0\r\n\r\n"),
        "http1-chunk-end",
    ),
    # 7.1.1: chunk extensions
    taken(
        "7.1.1",
        "an extension",
        request(_CHUNKED, body=b"3;a\r\nabc\r\n0;b=c\r\n\r\n"),
        "POST a /x abc",
    ),
    taken(
        "7.1.1",
        "a quoted extension",
        request(_CHUNKED, body=b'3;a="b\\";\t";c\r\nabc\r\n0\r\n\r\n'),
        "POST a /x abc",
    ),
    taken(
        "7.1.1",
        "blanks that are bad but allowed",
        request(_CHUNKED, body=b"3 ; a = b\r\nabc\r\n0\r\n\r\n"),
        "POST a /x abc",
    ),
    refused(
        "7.1.1",
        "LF alone in an extension",
        request(_CHUNKED, body=b"3;a\nabc\r\n0\r\n\r\n"),
        "http1-chunk-size",
    ),
    refused(
        "7.1.1",
        "LF alone in a quoted extension",
        request(_CHUNKED, body=b'3;a="\n"\r\nabc\r\n'),
        "http1-chunk-size",
    ),
    refused(
        "7.1.1",
        "a quote that stays open",
        request(_CHUNKED, body=b'3;a="b\r\nabc\r\n'),
        "http1-chunk-size",
    ),
    refused(
        "7.1.1",
        "an extension without a name",
        request(_CHUNKED, body=b"3;\r\nabc\r\n"),
        "http1-chunk-size",
    ),
    refused(
        "7.1.1",
        "a blank at the end",
        request(_CHUNKED, body=b"3;a \r\nabc\r\n"),
        "http1-chunk-size",
    ),
    refused(
        "7.1.1",
        "a comma for a semicolon",
        request(_CHUNKED, body=b"3,a\r\nabc\r\n"),
        "http1-chunk-size",
    ),
    refused(
        "7.1.1",
        "an extension of 4095 octets",
        request(_CHUNKED, body=b"0;" + b"a" * 4_095 + b"\r\n\r\n"),
        "http1-chunk-extensions",
    ),
    taken(
        "7.1.1",
        "an extension of 4094 octets",
        request(_CHUNKED, body=b"0;" + b"a" * 4_094 + b"\r\n\r\n"),
        "POST a /x ",
    ),
    # 7.1.2: trailers
    taken(
        "7.1.2",
        "trailers",
        request(_CHUNKED, body=b"1\r\na\r\n0\r\nX: y\r\nGrpc-Status: 0\r\n\r\n"),
        "POST a /x a",
        trailers=((b"x", b"y"), (b"grpc-status", b"0")),
    ),
    refused("7.1.2", "LF alone", request(_CHUNKED, body=b"0\r\nX: y\n\r\n\r\n"), "http1-bare-lf"),
    refused(
        "7.1.2", "LF alone at the end", request(_CHUNKED, body=b"0\r\nX: y\r\n\n"), "http1-bare-lf"
    ),
    refused(
        "7.1.2", "a fold", request(_CHUNKED, body=b"0\r\nX: y\r\n z\r\n\r\n"), "http1-obs-fold"
    ),
    refused(
        "7.1.2",
        "no colon",
        request(_CHUNKED, body=b"0\r\nGET / HTTP/1.1\r\n\r\n"),
        "http1-field-line",
    ),
    refused(
        "7.1.2",
        "a blank before the colon",
        request(_CHUNKED, body=b"0\r\nX : y\r\n\r\n"),
        "http1-space-before-colon",
    ),
    refused(
        "7.1.2", "CR alone, and no end yet", request(_CHUNKED, body=b"0\r\nX: \ry"), "http1-bare-cr"
    ),
    refused("7.1.2", "NUL", request(_CHUNKED, body=b"0\r\nX: \0\r\n\r\n"), "http1-control"),
    refused(
        "7.1.2",
        "a length",
        request(_CHUNKED, body=b"0\r\nContent-Length: 3\r\n\r\n"),
        "http1-trailer",
    ),
    refused(
        "7.1.2",
        "a coding",
        request(_CHUNKED, body=b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        "http1-trailer",
    ),
    refused("7.1.2", "a host", request(_CHUNKED, body=b"0\r\nHost: b\r\n\r\n"), "http1-trailer"),
    # 8: incomplete messages
    Case("8", "the end inside a head", b"GET / HTTP/1.1\r\nHo", "http1-truncated", eof=True),
    Case("8", "the end inside an empty line", b"\r", "http1-truncated", eof=True),
    Case(
        "8",
        "the end inside content",
        request(b"Content-Length: 3", body=b"ab"),
        "http1-truncated",
        eof=True,
    ),
    Case("8", "the end before chunks", request(_CHUNKED), "http1-truncated", eof=True),
    Case(
        "8",
        "the end inside a chunk",
        request(_CHUNKED, body=b"3\r\nab"),
        "http1-truncated",
        eof=True,
    ),
    Case(
        "8",
        "the end behind a chunk",
        request(_CHUNKED, body=b"3\r\nabc\r"),
        "http1-truncated",
        eof=True,
    ),
    Case(
        "8",
        "the end before trailers",
        request(_CHUNKED, body=b"0\r\n"),
        "http1-truncated",
        eof=True,
    ),
    Case(
        "8",
        "the end inside trailers",
        request(_CHUNKED, body=b"0\r\nX: y\r\n"),
        "http1-truncated",
        eof=True,
    ),
    Case("8", "the end between requests", _GET + b"\r\n", "", ("GET a / ",), eof=True),
]
