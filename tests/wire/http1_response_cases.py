"""Responses by section of RFC 9112."""

from __future__ import annotations

from typing import Final

from tests.wire.http1_case import Case, answered, refused, taken

_OK: Final = b"HTTP/1.1 200 OK\r\n"

RESPONSES: Final[list[Case]] = [
    taken("4", "a response", _OK + b"Content-Length: 2\r\n\r\nab", "200 ab"),
    taken("4", "no reason", b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", "200 "),
    taken(
        "4", "a reason beyond ASCII", b"HTTP/1.1 200 \xe4 b\r\nContent-Length: 0\r\n\r\n", "200 "
    ),
    taken("4", "no blank after the status", b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "200 "),
    taken("4", "a status of its own", b"HTTP/1.1 799 x\r\nContent-Length: 0\r\n\r\n", "799 "),
    refused("4", "a status of two digits", b"HTTP/1.1 20 OK\r\n\r\n", "http1-start-line"),
    refused("4", "a status of four digits", b"HTTP/1.1 2000 OK\r\n\r\n", "http1-start-line"),
    refused("4", "a status below 100", b"HTTP/1.1 099 x\r\n\r\n", "http1-start-line"),
    refused("4", "no status", b"HTTP/1.1  OK\r\n\r\n", "http1-start-line"),
    refused("4", "no version", b"200 OK\r\n\r\n", "http1-start-line"),
    refused("4", "HTTP/2.0", b"HTTP/2.0 200 OK\r\n\r\n", "http1-version"),
    refused("4", "ICY", b"ICY 200 OK\r\n\r\n", "http1-start-line"),
    refused("4", "an empty line before it", b"\r\n" + _OK + b"\r\n", "http1-start-line"),
    refused("4", "NUL in the reason", b"HTTP/1.1 200 \0\r\n\r\n", "http1-control"),
    refused("2.2", "LF alone", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", "http1-bare-lf"),
    refused("5.1", "a blank before the colon", _OK + b"A : b\r\n\r\n", "http1-space-before-colon"),
    refused("5.2", "a fold", _OK + b"A: b\r\n c\r\n\r\n", "http1-obs-fold"),
    refused(
        "6.1",
        "both framings",
        _OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "http1-length-and-coding",
    ),
    refused(
        "6.1",
        "a coding in 1.0",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "http1-coding-version",
    ),
    refused(
        "6.1", "another coding", _OK + b"Transfer-Encoding: gzip\r\n\r\n", "http1-coding-unknown"
    ),
    refused(
        "6.2",
        "two lengths",
        _OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "http1-length-repeated",
    ),
    refused("6.2", "a sign", _OK + b"Content-Length: +1\r\n\r\n", "http1-length-invalid"),
    answered(b"HEAD", "6.3", "HEAD with a length", _OK + b"Content-Length: 5\r\n\r\n", "200 "),
    answered(
        b"HEAD", "6.3", "HEAD with a coding", _OK + b"Transfer-Encoding: chunked\r\n\r\n", "200 "
    ),
    answered(b"HEAD", "6.3", "HEAD without framing", _OK + b"\r\n", "200 "),
    taken("6.3", "204", b"HTTP/1.1 204 No Content\r\n\r\n", "204 "),
    taken(
        "6.3", "204 with a length", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", "204 "
    ),
    taken(
        "6.3",
        "304 with a length",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        "304 ",
    ),
    taken(
        "6.3",
        "100 before 200",
        b"HTTP/1.1 100 Continue\r\n\r\n" + _OK + b"Content-Length: 1\r\n\r\na",
        "100 200 a",
    ),
    taken(
        "6.3",
        "103 twice",
        b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\n" * 2 + _OK + b"Content-Length: 0\r\n\r\n",
        "103 103 200 ",
    ),
    taken(
        "6.3",
        "1xx with a length",
        b"HTTP/1.1 102 P\r\nContent-Length: 9\r\n\r\n" + _OK + b"Content-Length: 0\r\n\r\n",
        "102 200 ",
    ),
    Case("6.3", "no framing: to the end", _OK + b"\r\nabc", "", ("200 abc",), eof=True),
    Case("6.3", "no framing, no content", _OK + b"\r\n", "", ("200 ",), eof=True),
    Case("6.3", "1.0 to the end", b"HTTP/1.0 200 OK\r\n\r\nabc", "", ("200 abc",), eof=True),
    taken(
        "7.1",
        "chunks",
        _OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: 1\r\n\r\n",
        "200 abc",
        trailers=((b"t", b"1"),),
    ),
    refused(
        "7.1", "a bad chunk", _OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "http1-chunk-size"
    ),
    refused("7.8", "101 unasked", b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", "http1-switch"),
    Case("8", "the end before the answer", b"", "http1-truncated", eof=True),
    Case("8", "the end inside a head", b"HTTP/1.1 200", "http1-truncated", eof=True),
    Case("8", "the end behind 100", b"HTTP/1.1 100 Continue\r\n\r\n", "http1-truncated", eof=True),
    Case(
        "8",
        "the end inside content",
        _OK + b"Content-Length: 3\r\n\r\nab",
        "http1-truncated",
        eof=True,
    ),
    Case(
        "8",
        "the end inside a chunk",
        _OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nab",
        "http1-truncated",
        eof=True,
    ),
    Case(
        "8",
        "the end before the last chunk",
        _OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
        "http1-truncated",
        eof=True,
    ),
    refused(
        "5.2", "a fold below a bare status", b"HTTP/1.1 200\r\nA: b\r\n c\r\n\r\n", "http1-obs-fold"
    ),
]
