"""Whether a connection begins with HTTP: by table, and the same however it is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.http_detect import DETECT_OCTETS, HttpKind, detect_http

HTTP1, HTTP2, NONE = HttpKind.HTTP1, HttpKind.HTTP2, HttpKind.NONE

ROWS: list[tuple[str, bytes, HttpKind | None]] = [
    ("a request", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", HTTP1),
    ("an HTTP/1.0 request", b"GET / HTTP/1.0\r\n\r\n", HTTP1),
    ("a method of one's own", b"M-SEARCH * HTTP/1.1\r\n", HTTP1),
    ("CONNECT", b"CONNECT a:443 HTTP/1.1\r\n", HTTP1),
    ("an empty line first", b"\r\nGET / HTTP/1.1\r\n", HTTP1),
    ("a version that will be refused", b"GET / HTTP/1.9\r\n", HTTP1),
    ("lines that will be refused", b"GET / HTTP/1.1\nHost: a\n", HTTP1),
    ("a target that will be refused", b"GET /\xc3\xa4 HTTP/1.1\r\n", HTTP1),
    ("the HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HTTP2),
    ("as much of it as decides", b"PRI * HTTP/2.0", HTTP2),
    ("less of it", b"PRI * HTTP/2.", None),
    ("PRI in HTTP/1", b"PRI * HTTP/1.1\r\n", HTTP1),
    ("nothing", b"", None),
    ("a letter", b"G", None),
    ("a method", b"GET", None),
    ("a method and a blank", b"GET ", None),
    ("part of a target", b"GET /a", None),
    ("a target and a blank", b"GET / ", None),
    ("part of a version", b"GET / HTTP/", None),
    ("half an empty line", b"\r", None),
    ("an empty line", b"\r\n", None),
    ("two empty lines", b"\r\n\r\n", NONE),
    ("TLS", b"\x16\x03\x01", NONE),
    ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n", NONE),
    ("SSH with a comment", b"SSH-2.0-OpenSSH_9.2 Debian-2\r\n", NONE),
    ("Redis, inline", b"PING\r\n", NONE),
    ("Redis, inline with a key", b"GET key\r\n", NONE),
    ("Redis", b"*1\r\n$4\r\nPING\r\n", NONE),
    ("memcached", b"get a b\r\n", NONE),
    ("SMTP", b"EHLO a.b\r\n", NONE),
    ("IMAP", b"a1 LOGIN u p\r\n", NONE),
    ("PostgreSQL", b"\x00\x00\x00\x08\x04\xd2\x16\x2f", NONE),
    ("MongoDB", b"\x3f\x00\x00\x00", NONE),
    ("HTTP/0.9", b"GET /\r\n", NONE),
    ("HTTP/2.0 that is no preface", b"GET / HTTP/2.0\r\n", NONE),
    ("two blanks", b"GET  / HTTP/1.1\r\n", NONE),
    ("a blank first", b" GET / HTTP/1.1\r\n", NONE),
    ("RTSP", b"OPTIONS rtsp://a RTSP/1.0\r\n", NONE),
    ("SIP", b"INVITE sip:a@b SIP/2.0\r\n", NONE),
    ("JSON", b'{"a": 1}', NONE),
    ("a proxy's header", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", NONE),
    ("a word that does not end", b"a" * 65, NONE),
    ("a word that may still be a method", b"a" * 64, None),
]


@pytest.mark.parametrize(("name", "begin", "kind"), ROWS, ids=[row[0] for row in ROWS])
def test_a_connection_is_known_by_its_first_octets(
    name: str, begin: bytes, kind: HttpKind | None
) -> None:
    """And by no more of them than it takes: every shorter beginning says the same, or nothing."""
    del name
    assert detect_http(begin) is kind
    for size in range(len(begin)):
        assert detect_http(begin[:size]) in {None, kind}


@pytest.mark.parametrize("begin", [row[1] for row in ROWS if row[2] is not None])
def test_what_follows_changes_nothing(begin: bytes) -> None:
    """A verdict stands."""
    assert detect_http(begin + b"\x00 anything HTTP/1.1\r\n") is detect_http(begin)


def test_a_long_target_is_decided_at_the_bound() -> None:
    """1,024 octets without an end can only be a target."""
    begin = b"GET /" + b"a" * (DETECT_OCTETS - 5)
    assert len(begin) == DETECT_OCTETS
    assert detect_http(begin[:-1]) is None
    assert detect_http(begin) is HTTP1
    assert detect_http(begin + b"\x00") is NONE


@given(st.binary(max_size=40), st.binary(max_size=1_200))
def test_any_octets_are_decided_in_the_end(begin: bytes, more: bytes) -> None:
    """A verdict is never taken back while octets come, and past the bound there is one."""
    kind = detect_http(begin)
    if kind is not None:
        assert detect_http(begin + more) is kind
    assert detect_http((begin + more).ljust(DETECT_OCTETS, b"x")) is not None
