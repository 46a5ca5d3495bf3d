"""What we write, we read back as it was meant; so does h11."""

from __future__ import annotations

import h11
import pytest

from proxy.wire.http1_writer import (
    CONTINUE,
    LAST_CHUNK,
    reason_of,
    write_chunk,
    write_last_chunk,
    write_request_head,
    write_response_head,
)
from proxy.wire.http_message import HTTP_10, HTTP_11
from tests.wire.http1_drive import read_requests, read_responses
from tests.wire.http1_oracle import judge_requests

FIELDS = ((b"host", b"a"), (b"x", b""), (b"transfer-encoding", b"chunked"))


def test_a_request_reads_back_as_it_was_written() -> None:
    """Head, chunks, trailers."""
    data = write_request_head(b"POST", b"/a?b", FIELDS, HTTP_11)
    assert data == b"POST /a?b HTTP/1.1\r\nhost: a\r\nx: \r\ntransfer-encoding: chunked\r\n\r\n"
    data += write_chunk(b"abc") + write_chunk(b"") + write_chunk(bytes(300))
    data += write_last_chunk(((b"t", b"1"),))
    message = read_requests([data]).messages[0]
    assert message.head.fields == FIELDS
    assert message.body == b"abc" + bytes(300)
    assert message.trailers == ((b"t", b"1"),)
    assert judge_requests(data).messages[0][3] == message.body


def test_a_response_reads_back_as_it_was_written() -> None:
    """In both versions, with and without words."""
    fields = ((b"content-length", b"0"),)
    data = write_response_head(200, b"Fine", fields, HTTP_11)
    assert data == b"HTTP/1.1 200 Fine\r\ncontent-length: 0\r\n\r\n"
    assert read_responses([data], [b"GET"]).messages[0].ended
    old = write_response_head(204, b"", (), HTTP_10)
    assert old == b"HTTP/1.0 204 \r\n\r\n"
    assert read_responses([old], [b"GET"]).messages[0].ended
    assert write_request_head(b"GET", b"/", (), HTTP_10) == b"GET / HTTP/1.0\r\n\r\n"


def test_an_empty_chunk_is_not_written() -> None:
    """It would end the content."""
    assert write_chunk(b"") == b""
    assert write_last_chunk(()) == LAST_CHUNK == b"0\r\n\r\n"


def test_continue_is_an_interim_answer() -> None:
    """The final one follows."""
    seen = read_responses([CONTINUE + b"HTTP/1.1 204 a\r\n\r\n"], [b"GET"])
    assert seen.messages[0].interim == [100]


@pytest.mark.parametrize(("status", "words"), [(200, b"OK"), (431, None), (502, None), (799, b"")])
def test_statuses_have_their_usual_words(status: int, words: bytes | None) -> None:
    """HTTP/2 brings none along."""
    if words is None:
        assert reason_of(status) != b""
    else:
        assert reason_of(status) == words
    head = write_response_head(status, reason_of(status), (), HTTP_11)
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
    connection.receive_data(head)
    response = connection.next_event()
    assert isinstance(response, h11.Response)
    assert response.status_code == status
