"""The readers of HTTP/1 streams: bounds, sharing, order of calls, what follows HTTP."""

from __future__ import annotations

import pytest

from core.errors import ClientProtocolError, ServerProtocolError
from proxy.wire.http1_limit import LIMITS, Http1Limits
from proxy.wire.http1_reader import RequestReader, ResponseReader
from tests.wire.http1_drive import bytewise, read_requests, read_responses

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def padded(size: int) -> bytes:
    """Return a request of ``size`` octets."""
    lines = GET
    while size - len(lines) > 20_000:
        lines += b"X: " + b"a" * 9_995 + b"\r\n"
    left = size - len(lines) - len(b"X: \r\nY: \r\n\r\n")
    return (
        lines + b"X: " + b"a" * (left // 2) + b"\r\nY: " + b"b" * (left - left // 2) + b"\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("size", "code"), [(LIMITS.head, ""), (LIMITS.head + 1, "http1-head-too-large")]
)
def test_a_head_has_a_bound(size: int, code: str) -> None:
    """At it a request is taken, one octet past it is not; whole or in pieces."""
    data = padded(size)
    assert len(data) == size
    assert read_requests([data]).code == code
    assert read_requests([data[at : at + 1_000] for at in range(0, size, 1_000)]).code == code
    assert read_requests([data[:-1], data[-1:]]).code == code


def test_a_head_that_never_ends_is_refused_at_the_bound() -> None:
    """And no more than the bound, and what was fed last, is ever held."""
    reader = RequestReader(Http1Limits(head=1_000, start_line=400))
    reader.feed(GET)
    fed = len(GET)
    with pytest.raises(ClientProtocolError) as caught:
        for _ in range(200):
            assert reader.read_head() is None
            assert reader.buffered == fed
            reader.feed(b"X: abcde\r\n")
            fed += 10
    assert caught.value.code == "http1-head-too-large"
    assert fed in range(1_000, 1_011)


@pytest.mark.parametrize(("size", "code"), [(400, ""), (401, "http1-target-too-long")])
def test_a_start_line_that_never_ends_is_refused_at_its_own_bound(size: int, code: str) -> None:
    """Long before the head's."""
    limits = Http1Limits(head=10_000, start_line=400)
    line = b"GET /" + b"a" * (size - len("GET / HTTP/1.1")) + b" HTTP/1.1"
    assert len(line) == size
    assert read_requests([line + b"\r\nHost: a\r\n\r\n"], limits=limits).code == code
    assert read_requests(bytewise(line + b"\r"), limits=limits).code == code
    assert read_requests([b"GET /" + b"a" * 396], limits=limits).code == ""
    assert read_requests([b"GET /" + b"a" * 397], limits=limits).code == "http1-target-too-long"


@pytest.mark.parametrize(
    ("size", "code"), [(LIMITS.trailers, ""), (LIMITS.trailers + 1, "http1-trailers-too-large")]
)
def test_trailers_have_a_bound(size: int, code: str) -> None:
    """Their empty line counts."""
    trailers = b"A: " + b"b" * (size - 7) + b"\r\n\r\n"
    data = CHUNKED + b"0\r\n" + trailers
    assert len(trailers) == size
    assert read_requests([data]).code == code
    assert read_requests([data[at : at + 100] for at in range(0, len(data), 100)]).code == code


@pytest.mark.parametrize(("size", "code"), [(50, ""), (51, "http1-chunk-extensions")])
def test_a_chunk_line_has_a_bound(size: int, code: str) -> None:
    """Extensions are nobody's content."""
    limits = Http1Limits(chunk_line=50)
    line = b"1;" + b"a" * (size - 2)
    for data in ([CHUNKED + line + b"\r\nx\r\n"], bytewise(CHUNKED + line + b"\r\nx\r\n")):
        assert read_requests(data, limits=limits).code == code
    assert read_requests([CHUNKED + line + b"\r"], limits=limits).code == code


@pytest.mark.parametrize(("count", "code"), [(10, ""), (11, "http1-chunk-extensions")])
def test_the_extensions_of_a_message_have_a_bound(count: int, code: str) -> None:
    """However many chunks they are spread over."""
    limits = Http1Limits(chunk_extensions=50)
    data = CHUNKED + b"1;abcd\r\nx\r\n" * count
    seen = read_requests([data], limits=limits)
    assert seen.code == code
    again = read_requests([data + b"0\r\n\r\n" + data], limits=limits)
    assert again.code == code


def test_content_comes_as_the_very_bytes_that_were_fed() -> None:
    """A body of known length is not copied."""
    reader = RequestReader()
    reader.feed(GET + b"Content-Length: 100000\r\n\r\n")
    assert reader.read_head() is not None
    piece = bytes(60_000)
    reader.feed(piece)
    assert reader.read_body() is piece
    assert reader.read_body() == b""
    reader.feed(bytes(40_001))
    assert len(reader.read_body()) == 40_000
    assert reader.ended
    assert reader.buffered == 1


def test_content_to_the_end_comes_as_it_was_fed() -> None:
    """And ends with the connection."""
    reader = ResponseReader()
    reader.expect(b"GET")
    reader.feed(b"HTTP/1.1 200 OK\r\n\r\n")
    head = reader.read_head()
    assert head is not None
    assert not head.keep_alive
    piece = b"abc" * 100
    reader.feed(piece)
    assert reader.read_body() is piece
    assert not reader.ended
    reader.feed_eof()
    assert reader.read_body() == b""
    assert reader.ended


def test_many_chunks_of_one_feed_come_as_one_piece() -> None:
    """One read, one write."""
    reader = RequestReader()
    reader.feed(CHUNKED)
    reader.read_head()
    reader.feed(b"3\r\nabc\r\n2\r\nde\r\n5\r\nfg")
    assert reader.read_body() == b"abcdefg"
    reader.feed(b"hij\r\n0\r\n\r\n")
    assert reader.read_body() == b"hij"
    assert reader.ended


def test_content_before_a_fault_is_given_before_the_fault_is_raised() -> None:
    """However the stream is cut, the same content has come when the error does."""
    reader = RequestReader()
    reader.feed(CHUNKED + b"3\r\nabc\r\nzz\r\n")
    reader.read_head()
    assert reader.read_body() == b"abc"
    with pytest.raises(ClientProtocolError) as caught:
        reader.read_body()
    assert caught.value.code == "http1-chunk-size"
    with pytest.raises(ClientProtocolError):
        reader.read_head()


def test_an_error_is_raised_again() -> None:
    """Nothing that follows can be understood."""
    reader = RequestReader()
    reader.feed(b"nonsense\r\n\r\n" + GET + b"\r\n")
    for _ in range(2):
        with pytest.raises(ClientProtocolError) as caught:
            reader.read_head()
        assert caught.value.code == "http1-start-line"
    with pytest.raises(ClientProtocolError):
        reader.read_body()


def test_the_next_request_waits_for_the_one_before() -> None:
    """Pipelined requests are held, one head at a time."""
    reader = RequestReader()
    reader.feed((GET + b"\r\n") * 2)
    assert reader.read_head() is not None
    assert reader.read_head() is None
    assert reader.ended
    reader.next_message()
    with pytest.raises(ValueError, match="not ended"):
        reader.next_message()
    assert reader.read_head() is not None
    assert reader.buffered == 0


def test_what_follows_connect_is_not_read_as_http() -> None:
    """The reader hands it over as it came."""
    reader = RequestReader()
    reader.feed(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n\x16\x03")
    assert reader.read_head() is not None
    assert reader.take_rest() == b"\x16\x03"
    assert reader.switched
    assert reader.read_head() is None
    assert reader.buffered == 0


@pytest.mark.parametrize(
    ("method", "upgrade", "head", "switched"),
    [
        (b"CONNECT", False, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", True),
        (b"CONNECT", False, b"HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\n", False),
        (b"GET", True, b"HTTP/1.1 101 Go\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", True),
        (b"GET", True, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", False),
    ],
)
def test_a_response_that_leaves_http_hands_over_the_rest(
    method: bytes, upgrade: bool, head: bytes, switched: bool
) -> None:
    """RFC 9110 §7.8 and §9.3.6."""
    seen = read_responses([head + b"ab"], [method], upgrade=upgrade)
    assert seen.switched is switched
    assert seen.rest == (b"ab" if switched else b"")


def test_an_idle_server_that_speaks_is_not_believed() -> None:
    """Its words would be taken for the answer to the next request."""
    reader = ResponseReader()
    reader.feed(b"HTTP/1.1 200 OK\r\n\r\n")
    with pytest.raises(ServerProtocolError) as caught:
        reader.read_head()
    assert caught.value.code == "http1-unsolicited"
    with pytest.raises(ServerProtocolError):
        reader.expect(b"GET")


def test_a_response_is_expected_once_at_a_time() -> None:
    """Nothing is pipelined to servers."""
    reader = ResponseReader()
    assert reader.read_head() is None
    reader.expect(b"GET")
    with pytest.raises(ValueError, match="not ended"):
        reader.expect(b"GET")
    reader.feed(b"HTTP/1.1 204 a\r\n\r\n")
    assert reader.read_head() is not None
    reader.expect(b"GET")
    assert reader.read_head() is None


def test_an_error_in_an_answer_is_raised_again() -> None:
    """The connection is of no more use."""
    reader = ResponseReader()
    reader.expect(b"GET")
    reader.feed(b"nonsense\r\n\r\n")
    for _ in range(2):
        with pytest.raises(ServerProtocolError) as caught:
            reader.read_head()
        assert caught.value.code == "http1-start-line"
