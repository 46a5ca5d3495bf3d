"""What a head says besides its lines: the connection, upgrades, waiting, leniencies."""

from __future__ import annotations

import re

import pytest

from core.errors import ClientProtocolError, ServerProtocolError
from proxy.wire import http1_head
from proxy.wire.http1_head import parse_request_head, parse_response_head, parse_trailers
from proxy.wire.http1_limit import STRICT, Http1Limits
from proxy.wire.http_message import CHUNKED, HTTP_10, HTTP_11, UNTIL_CLOSE, Form

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("head", "lives"),
    [
        (GET, True),
        (GET + b"Connection: close\r\n", False),
        (GET + b"Connection: Close\r\n", False),
        (GET + b"Connection: x, CLOSE ,y\r\n", False),
        (GET + b"Connection: x\r\nConnection: close\r\n", False),
        (GET + b"Connection: closed\r\n", True),
        (GET + b"Connection:\r\n", True),
        (GET + b"Connection: close, keep-alive\r\n", False),
        (b"GET / HTTP/1.0\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n", True),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n", False),
    ],
)
def test_a_connection_lives_on_unless_it_is_said_to_end(head: bytes, lives: bool) -> None:
    """RFC 9112 §9.3: 1.1 lives on, 1.0 only when it says so, close always wins."""
    assert parse_request_head(head).keep_alive is lives


@pytest.mark.parametrize(
    ("lines", "upgrade"),
    [
        (b"Connection: upgrade\r\nUpgrade: websocket\r\n", b"websocket"),
        (b"Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n", b"websocket"),
        (b"Connection: upgrade\r\nUpgrade: a/1, b\r\nUpgrade: c\r\n", b"a/1, b, c"),
        (b"Upgrade: websocket\r\n", b""),
        (b"Connection: upgrade\r\n", b""),
        (b"Connection: upgrade\r\nUpgrade: h2c\r\n", b""),
        (b"Connection: upgrade\r\nUpgrade: H2C\r\n", b""),
    ],
)
def test_an_upgrade_is_asked_for_in_two_fields(lines: bytes, upgrade: bytes) -> None:
    """RFC 9110 §7.8: named in connection too; h2c is none."""
    assert parse_request_head(GET + lines).upgrade == upgrade
    old = b"GET / HTTP/1.0\r\n" + lines
    assert parse_request_head(old).upgrade == b""


@pytest.mark.parametrize(
    ("line", "waits"),
    [(b"100-continue", True), (b"100-Continue", True), (b"200-ok", False), (b"", False)],
)
def test_a_client_waits_for_100_when_it_says_so(line: bytes, waits: bool) -> None:
    """RFC 9110 §10.1.1: in 1.1 only."""
    assert parse_request_head(GET + b"Expect: " + line + b"\r\n").expects_continue is waits
    old = b"GET / HTTP/1.0\r\nExpect: " + line + b"\r\n"
    assert not parse_request_head(old).expects_continue


def test_lines_kept_at_hand_read_as_they_did_the_first_time() -> None:
    """However many there were in between, and secrets are not kept."""
    lines = b"Host: a\r\nX-A:  b \r\nAuthorization: c\r\n" + b"X-Long: " + b"d" * 300 + b"\r\n"
    first = parse_request_head(b"GET / HTTP/1.1\r\n" + lines)
    for number in range(600):
        parse_request_head(b"GET / HTTP/1.1\r\n" + b"Host: a\r\nX-N: %d\r\n" % number)
        again = parse_request_head(b"GET / HTTP/1.1\r\n" + lines)
        assert again == first
        assert again.fields[2] == (b"authorization", b"c")
        assert again.fields[2] is not first.fields[2]


def test_a_request_head_says_everything_once() -> None:
    """Names in lower case, values without blanks, the order kept, Host among the fields."""
    head = parse_request_head(
        b"PUT http://A:8080/x?y HTTP/1.1\r\nX-B:  c d \r\nHost: a:8080\r\nCONTENT-length: 7\r\n"
    )
    assert (head.method, head.form, head.scheme) == (b"PUT", Form.ABSOLUTE, b"http")
    assert (head.authority, head.path, head.version) == (b"A:8080", b"/x?y", HTTP_11)
    assert head.fields == ((b"x-b", b"c d"), (b"host", b"a:8080"), (b"content-length", b"7"))
    assert head.length == 7
    assert head.never_indexed == frozenset()


def test_a_response_head_says_how_its_content_ends() -> None:
    """RFC 9112 §6.3."""
    assert parse_response_head(OK, b"GET").length == UNTIL_CLOSE
    assert not parse_response_head(OK, b"GET").keep_alive
    assert parse_response_head(OK + b"Content-Length: 9\r\n", b"GET").length == 9
    assert parse_response_head(OK + b"Transfer-Encoding: chunked\r\n", b"GET").length == CHUNKED
    assert parse_response_head(OK + b"Content-Length: 9\r\n", b"HEAD").length == 0
    assert parse_response_head(OK, b"HEAD").keep_alive
    assert parse_response_head(OK, b"CONNECT").length == 0
    refused = parse_response_head(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n", b"CONNECT")
    assert refused.length == 2
    assert parse_response_head(b"HTTP/1.0 204 a\r\n", b"GET").version == HTTP_10
    assert not parse_response_head(b"HTTP/1.0 204 a\r\n", b"GET").keep_alive


@pytest.mark.parametrize(
    ("status", "final"), [(100, False), (103, False), (101, True), (200, True), (599, True)]
)
def test_heads_before_the_final_one_are_known(status: int, final: bool) -> None:
    """101 is the last word of HTTP on its connection."""
    assert parse_response_head(b"HTTP/1.1 %d x\r\n" % status, b"GET").is_final is final


@pytest.mark.parametrize("target", [b"/a[b]", b'/"', b"/a|b", b"/`", b"/{x}", b"/\\", b"/^"])
def test_raw_targets_are_a_leniency(target: bytes) -> None:
    """The switch decides about what RFC 3986 wants encoded."""
    head = b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n"
    assert parse_request_head(head).path == target
    with pytest.raises(ClientProtocolError) as caught:
        parse_request_head(head, leniency=STRICT)
    assert caught.value.code == "http1-target"


def test_strict_targets_hold_what_a_uri_may_hold() -> None:
    """RFC 3986 §3.3 and §3.4."""
    target = b"/-._~!$&'()*+,;=:@%20/?-._~!$&'()*+,;=:@%20/?aZ9"
    head = parse_request_head(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n", leniency=STRICT)
    assert head.path == target
    whole = b"GET http://a" + target + b" HTTP/1.1\r\nHost: a\r\n"
    assert parse_request_head(whole, leniency=STRICT).path == target


def test_a_bare_status_is_a_leniency() -> None:
    """RFC 9112 §4 wants the blank even before an empty reason."""
    assert parse_response_head(b"HTTP/1.1 200\r\n", b"GET").reason == b""
    assert parse_response_head(b"HTTP/1.1 200 \r\n", b"GET", leniency=STRICT).reason == b""
    with pytest.raises(ServerProtocolError) as caught:
        parse_response_head(b"HTTP/1.1 200\r\n", b"GET", leniency=STRICT)
    assert caught.value.code == "http1-start-line"


LIMITS = Http1Limits(start_line=40, field_line=60, fields=3)


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"GET /" + b"a" * 26 + b" HTTP/1.1\r\nHost: a\r\n", ""),
        (b"GET /" + b"a" * 27 + b" HTTP/1.1\r\nHost: a\r\n", "http1-target-too-long"),
        (GET + b"X: " + b"a" * 57 + b"\r\n", ""),
        (GET + b"X: " + b"a" * 58 + b"\r\n", "http1-field-too-long"),
        (GET + b"X: a\r\n" * 2, ""),
        (GET + b"X: a\r\n" * 3, "http1-too-many-fields"),
    ],
)
def test_the_bounds_of_a_request_head_are_where_they_are_said_to_be(head: bytes, code: str) -> None:
    """At the bound it is taken, one past it is not."""
    assert code_of_request(head, LIMITS) == code


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"HTTP/1.1 200 " + b"a" * 27 + b"\r\n", ""),
        (b"HTTP/1.1 200 " + b"a" * 28 + b"\r\n", "http1-head-too-large"),
        (OK + b"X: a\r\n" * 3, ""),
        (OK + b"X: a\r\n" * 4, "http1-too-many-fields"),
    ],
)
def test_the_bounds_of_a_response_head_are_where_they_are_said_to_be(
    head: bytes, code: str
) -> None:
    """At the bound it is taken, one past it is not."""
    try:
        parse_response_head(head, b"GET", LIMITS)
        seen = ""
    except ServerProtocolError as error:
        seen = error.code
    assert seen == code


def code_of_request(head: bytes, limits: Http1Limits) -> str:
    """Return the code a head is refused with; empty: it is taken."""
    try:
        parse_request_head(head, limits)
    except ClientProtocolError as error:
        return error.code
    return ""


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (b"A: b\r\n" * 3, ""),
        (b"A: b\r\n" * 4, "http1-too-many-fields"),
        (b"A: " + b"b" * 57 + b"\r\n", ""),
        (b"A: " + b"b" * 58 + b"\r\n", "http1-field-too-long"),
        (b"A\r\n", "http1-field-line"),
        (b"A: \x01\r\n", "http1-control"),
        (b"Connection: close\r\n", "http1-trailer"),
        (b"TE: trailers\r\n", "http1-trailer"),
        (b"Trailer: a\r\n", "http1-trailer"),
        (b"Expect: 100-continue\r\n", "http1-trailer"),
    ],
)
def test_trailers_are_as_strict_as_heads(lines: bytes, code: str) -> None:
    """And what frames or routes may not stand among them."""
    for is_request in (True, False):
        if not code:
            assert len(parse_trailers(lines, LIMITS, is_request=is_request)) == lines.count(b"\n")
            continue
        with pytest.raises(ClientProtocolError if is_request else ServerProtocolError) as caught:
            parse_trailers(lines, LIMITS, is_request=is_request)
        assert caught.value.code == code


def test_a_refusal_never_repeats_a_value() -> None:
    """Values may be secrets, and messages end in logs."""
    secret = b"Bearer-abc"
    for line in (b"Authorization : ", b"Cookie: \x01", b"X(: ", b"Content-Length: ", b"Host: @"):
        with pytest.raises(ClientProtocolError) as caught:
            parse_request_head(b"GET / HTTP/1.1\r\n" + line + secret + b"\r\n")
        assert secret.decode() not in str(caught.value)


def test_a_head_that_does_not_match_costs_as_much_as_one_that_does() -> None:
    """No repetition in the expressions can be split in two ways.

    Each of these would take a backtracking engine quadratic time or worse; with 200,000 octets
    that is minutes, and the whole test a matter of milliseconds.
    """
    size = 200_000
    for head in (
        GET + b"X:" + b" " * size + b"\x01\r\n",
        GET + b"X" * size + b"\r\n",
        GET + b"X: a\r\n" * (size // 6) + b"\x01\r\n",
        b"GET /" + b"a" * size + b"\x01 HTTP/1.1\r\n",
        b"G" * size + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: " + b"a" * size + b"%zz\r\n",
        b"GET / HTTP/1.1\r\nHost: " + b"%41" * size + b"@\r\n",
        GET + b"Transfer-Encoding: " + b"," * size + b"\r\n",
    ):
        big = Http1Limits(head=10**7, start_line=10**7, field_line=10**7, fields=10**6)
        assert code_of_request(head, big) != ""


def test_every_expression_agrees_with_its_plain_reading() -> None:
    """The possessive forms are only faster: one octet of every value in every place."""
    token = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-zA-Z]")
    for code in range(256):
        octet = bytes([code])
        is_token = token.fullmatch(octet) is not None
        is_text = code == 9 or (code >= 0x20 and code != 0x7F)
        named = http1_head._REQUEST.fullmatch(b"GET / HTTP/1.1\r\nA" + octet + b"B: c\r\n")
        assert (named is not None) is (is_token or octet == b":")
        valued = http1_head._REQUEST.fullmatch(b"GET / HTTP/1.1\r\nA: b" + octet + b"c\r\n")
        assert (valued is not None) is is_text
        method = http1_head._REQUEST.fullmatch(b"G" + octet + b"T / HTTP/1.1\r\n")
        assert (method is not None) is is_token
        target = http1_head._REQUEST.fullmatch(b"GET /" + octet + b" HTTP/1.1\r\n")
        assert (target is not None) is (0x21 <= code <= 0x7E)
        raw = http1_head._ORIGIN_RAW.fullmatch(b"GET /" + octet + b" HTTP/1.1\r\n")
        assert (raw is not None) is (0x21 <= code <= 0x7E and octet not in b"#<>")
