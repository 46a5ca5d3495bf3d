"""The HTTP/1 heads that are read against their reference: any octets mean the same to both."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.wire import native
from proxy.wire.http1_limit import LENIENCY, LIMITS, STRICT, Http1Leniency, Http1Limits
from proxy.wire.http1_reader import RequestReader
from proxy.wire.http_message import RequestHead, ResponseHead
from tests.wire.http1_body_cases import BODIES
from tests.wire.http1_head_cases import HEADS
from tests.wire.http1_pair import lines_of, request_of, response_of
from tests.wire.http1_response_cases import RESPONSES
from tests.wire.http1_traffic import mutated, requests, responses

GET = b"GET /a?b HTTP/1.1\r\nHost: a.b:80\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
METHODS = (b"GET", b"HEAD", b"CONNECT", b"POST")
_NAMES = st.sampled_from(
    [
        *(b"Host", b"host", b"Hosts", b"Content-Length", b"content-length", b"Content-Lengths"),
        *(b"Transfer-Encoding", b"Connection", b"Upgrade", b"Expect", b"Cookie", b"X-Api-Key"),
        *(b"Authorization", b"Proxy-Authorization", b"Set-Cookie", b"X", b"x-Y", b"TE", b"a b"),
        *(b"n" * 62, b"n" * 63, b"N" * 64, b"n" * 65, b"n" * 300, b"", b"x\xff", b"*"),
    ]
)
_VALUES = st.one_of(
    st.sampled_from(
        [
            *(b"", b"a", b"a:1", b"a:", b"a:123456", b":1", b"[::1]", b"a%20", b"a b", b"A.b:80"),
            *(b"0", b"007", b"12", b"1" * 18, b"1" * 19, b"9223372036854775807", b"1" * 20, b"+1"),
            *(b"9223372036854775808", b"-1", b"1,1", b"0x1", b"1 1"),
            *(b"chunked", b"CHUNKED", b"gzip, chunked", b"identity", b"chunked,chunked"),
            *(b"close", b"Close", b"keep-alive", b"Keep-Alive", b"close, x", b"upgrade", b"x"),
            *(b"websocket", b"h2c", b"100-continue", b"a\tb", b"\ta\t \t", b" \t ", b"a\rb", b"\0"),
            *(b"v" * 7, b"v" * 8, b"v" * 9, b"v" * 250, b"v" * 256, b"v" * 5_000, b"\x7f", b"\x80"),
        ]
    ),
    st.binary(max_size=20),
)
_BLANKS = st.sampled_from([b"", b" ", b"\t", b"  \t"])
_LINES = st.builds(
    lambda name, one, value, two: name + b":" + one + value + two + b"\r\n",
    _NAMES,
    _BLANKS,
    _VALUES,
    _BLANKS,
)
_FIELD_LINES = st.lists(_LINES, max_size=6).map(b"".join)
_HOST = st.sampled_from([b"", b"Host: a\r\n", b"hOST:a:80 \r\n"])
_STARTS = st.builds(
    lambda method, target, version: b" ".join((method, target, version)) + b"\r\n",
    st.sampled_from([b"GET", b"get", b"POST", b"OPTIONS", b"CONNECT", b"G T", b"", b"x" * 40]),
    st.sampled_from(
        [b"/", b"/a?b", b'/"[]', b"/#", b"/\x80", b"*", b"http://a/b", b"a:1", b"", b"/a b"]
    ),
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b""]),
)
_STATUS_LINES = st.builds(
    lambda version, status, reason: version + b" " + status + reason + b"\r\n",
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2"]),
    st.sampled_from(
        [b"200", b"100", b"101", b"199", b"204", b"304", b"404", b"999", b"099", b"20", b"2000"]
    ),
    st.sampled_from(
        [b"", b" ", b" OK", b" Not Found", b"  x\t", b" \x80", b" \x7f", b"\t", b" O\r"]
    ),
)
_LENIENCIES = st.sampled_from([LENIENCY, STRICT])


def test_the_kernels_run_where_they_are_expected() -> None:
    """With EXPECT_COMPILED=1 or EXPECT_KERNELS=1; elsewhere as they were built."""
    expected = "1" in (os.environ.get("EXPECT_COMPILED"), os.environ.get("EXPECT_KERNELS"))
    assert not expected or (native.read_request and native.read_response)


@pytest.mark.parametrize("leniency", [LENIENCY, STRICT], ids=["lenient", "strict"])
def test_the_tables_mean_the_same(leniency: Http1Leniency) -> None:
    """Every row of requests and of responses that has a head."""
    taken = 0
    for case in HEADS + BODIES:
        lines = lines_of(case.data)
        if lines and len(lines) + 2 <= LIMITS.head:
            found = request_of(lines, LIMITS, leniency)
            taken += isinstance(found, RequestHead)
    assert taken > 20
    for case in RESPONSES:
        for method in METHODS:
            response_of(lines_of(case.data), method)


@settings(max_examples=300)
@given(_STARTS, _HOST, _FIELD_LINES, _LENIENCIES)
def test_requests_mean_the_same(
    start: bytes, host: bytes, lines: bytes, leniency: Http1Leniency
) -> None:
    """Made of what has meaning, and of what nearly has."""
    made = lines_of(start + host + lines)
    if made:
        request_of(made, LIMITS, leniency)


@settings(max_examples=300)
@given(_STATUS_LINES, _FIELD_LINES, st.sampled_from(METHODS), _LENIENCIES)
def test_responses_mean_the_same(
    start: bytes, lines: bytes, method: bytes, leniency: Http1Leniency
) -> None:
    """To every method."""
    made = lines_of(start + lines)
    response_of(made, method, LIMITS, leniency)


@settings(max_examples=300)
@given(st.one_of(mutated(requests()), mutated(responses()), st.binary(max_size=60)))
def test_broken_heads_mean_the_same(data: bytes) -> None:
    """And octets that are no head."""
    lines = lines_of(data)
    if lines:
        request_of(lines)
        response_of(lines)


@pytest.mark.parametrize("leniency", [LENIENCY, STRICT], ids=["lenient", "strict"])
def test_every_octet_means_the_same_everywhere(leniency: Http1Leniency) -> None:
    """In the start line, in names and values, between them, and at their ends."""
    request = b"GET /aaaaaaaaa HTTP/1.1\r\nHost: aa\r\nX-Name:  some value  \r\n"
    response = b"HTTP/1.1 200 Fine\r\nX-Name:  some value  \r\n"
    for number in range(256):
        octet = bytes((number,))
        for at in range(1, len(request)):
            lines = lines_of(request[:at] + octet + request[at + (number & 1) :])
            if lines:
                request_of(lines, LIMITS, leniency)
        for at in range(1, len(response)):
            lines = lines_of(response[:at] + octet + response[at + (number & 1) :])
            if lines:
                response_of(lines, b"GET", LIMITS, leniency)


@pytest.mark.parametrize(("start", "line"), [(17, 30), (9, 15), (12, 11), (40, 16), (40, 13)])
def test_bounds_fall_at_the_same_octet(start: int, line: int) -> None:
    """Of the start line, of a field line and of the whole head."""
    for fields in range(4):
        limits = Http1Limits(start_line=start, field_line=line, fields=fields)
        for more in range(12):
            request_of(b"GET /%b HTTP/1.1\r\nHost: a\r\n" % (b"a" * more), limits)
            request_of(b"GET / HTTP/1.1\r\nHost: a\r\nX: %b \r\n" % (b"a" * more), limits)
            request_of(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a:\r\n" * more, limits)
            response_of(b"HTTP/1.1 200 %b\r\n" % (b"a" * more), b"GET", limits)
            response_of(OK + b"a:\r\n" * more, b"GET", limits)


def test_a_head_past_its_bound_is_not_the_kernel_s() -> None:
    """The bound counts the blank line; the reader says what is wrong."""
    size = len(GET) + 2
    for head in range(size - 2, size + 2):
        limits = Http1Limits(head=head)
        reader = RequestReader(limits)
        reader.feed(GET + b"\r\n")
        if native.read_request is not None:
            assert (native.read_request(GET + b"\r\n", 0, limits, True) is None) == (head < size)
        if head >= size:
            assert reader.read_head() is not None


@pytest.mark.parametrize("fields", [99, 100, 101, 127, 128, 129, 300])
def test_many_fields_mean_the_same(fields: int) -> None:
    """Also where the bound is beyond what the kernel has room for."""
    for limits in (LIMITS, Http1Limits(fields=1_000)):
        lines = GET + b"".join(b"x-%d: %d\r\n" % (each, each) for each in range(fields - 1))
        found = request_of(lines, limits)
        assert isinstance(found, RequestHead) == (fields <= limits.fields)


@pytest.mark.parametrize("size", [*range(20), 62, 63, 64, 65, 200, 255, 256, 257, 4_000])
def test_names_and_values_of_every_size_mean_the_same(size: int) -> None:
    """Also around eight octets at a time, and where lines are no longer kept."""
    for odd in (b"", b"\t", b"\x80", b"\x7f", b"\0", b"\x1f"):
        for at in {0, size // 2, max(size - 1, 0), size}:
            value = b"v" * at + odd + b"v" * (size - at)
            request_of(GET + b"X: " + value + b"\r\n")
            response_of(OK + b"X:" + value + b"\r\n")
            response_of(b"HTTP/1.1 200 " + value + b"\r\n")
    request_of(GET + b"N" * size + b": v\r\n")
    response_of(OK + b"n" * size + b": v\r\n")


def test_what_is_plain_is_the_kernel_s() -> None:
    """A request of a browser's, one with content, and what a server answers."""
    if native.read_request is None or native.read_response is None:
        assert native.read_request is None
        assert native.read_response is None
        return
    for lines in (b"", b"Connection: keep-alive\r\nCookie: a=b\r\n", b"Content-Length: 5\r\n"):
        assert native.read_request(GET + lines + b"\r\n", 0, LIMITS, True) is not None
        assert native.read_response(OK + lines + b"\r\n", 0, LIMITS, True, b"GET") is not None
    for start in (-1, 1_000):
        assert native.read_request(GET + b"\r\n", start, LIMITS, True) is None
        assert native.read_response(OK + b"\r\n", start, LIMITS, True, b"GET") is None


def test_lines_kept_at_hand_read_as_they_did_the_first_time() -> None:
    """However many there were in between, and secrets are not kept."""
    secrets = b"Authorization: c\r\nCookie: d\r\nProxy-Authorization: e\r\nX-API-Key: f\r\n"
    lines = GET + b"X-A:  b \r\n" + secrets + b"X-Long: " + b"d" * 300 + b"\r\n"
    wanted = request_of(lines)
    assert isinstance(wanted, RequestHead)
    for number in range(3_000):
        found = request_of(GET + b"X-N: %d\r\n" % (number // 2))
        assert isinstance(found, RequestHead)
        assert found.fields[1] == (b"x-n", b"%d" % (number // 2))
        if number % 10 == 0:
            assert request_of(lines) == wanted
    heads: list[RequestHead] = []
    for _ in range(4):
        reader = RequestReader()
        reader.feed(lines + b"\r\n")
        head = reader.read_head()
        assert head is not None
        heads.append(head)
    assert heads[2].fields[0] is heads[3].fields[0]
    for place in range(2, 7):
        assert heads[2].fields[place] == heads[3].fields[place]
        assert heads[2].fields[place] is not heads[3].fields[place]


def test_secrets_of_answers_are_not_kept_either() -> None:
    """Set-Cookie."""
    heads = [response_of(OK + b"Set-Cookie: a=b\r\nX: y\r\n") for _ in range(4)]
    first, second = heads[2], heads[3]
    assert isinstance(first, ResponseHead)
    assert isinstance(second, ResponseHead)
    assert first.fields[0] is not second.fields[0]
