"""Request smuggling: what two readers could understand in two ways is refused, or made one way.

Each attack hides a request for /admin behind or inside another. It must be refused; and what is
taken must mean the same to whoever reads it after us: it is written as we forward it and read by
h11, which must find one message, the same.
"""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.http1_writer import write_chunk, write_last_chunk, write_request_head
from proxy.wire.http_field import value_of, without_hop_by_hop
from proxy.wire.http_message import CHUNKED, RequestHead
from proxy.wire.orig_proto import alight
from tests.wire import http2_talk as wire
from tests.wire.http1_body_cases import BODIES
from tests.wire.http1_drive import Message, read_requests
from tests.wire.http1_head_cases import HEADS
from tests.wire.http1_traffic import mutated, requests
from tests.wire.http2_event import DataReceived, RequestReceived

HIDDEN = b"GET /admin HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED_LINE = b"Transfer-Encoding: chunked\r\n"


def hiding(*lines: bytes, body: bytes = b"0\r\n\r\n" + HIDDEN) -> bytes:
    """Return a POST with ``lines`` and the hidden request in what follows it."""
    return POST + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


LENGTH = b"Content-Length: %d" % len(b"0\r\n\r\n" + HIDDEN)

ATTACKS: list[tuple[str, bytes, str]] = [
    ("CL.TE", hiding(LENGTH, b"Transfer-Encoding: chunked"), "http1-length-and-coding"),
    (
        "TE.CL",
        hiding(b"Transfer-Encoding: chunked", b"Content-Length: 3"),
        "http1-length-and-coding",
    ),
    (
        "CL.TE, unknown coding",
        hiding(LENGTH, b"Transfer-Encoding: xchunked"),
        "http1-length-and-coding",
    ),
    ("TE: xchunked", hiding(b"Transfer-Encoding: xchunked"), "http1-coding-unknown"),
    (
        "TE: chunked, identity",
        hiding(b"Transfer-Encoding: chunked, identity"),
        "http1-coding-unknown",
    ),
    (
        "TE: identity, chunked",
        hiding(b"Transfer-Encoding: identity, chunked"),
        "http1-coding-unknown",
    ),
    ("TE: chunked, cow", hiding(b"Transfer-Encoding: chunked, cow"), "http1-coding-unknown"),
    (
        "TE twice, one unknown",
        hiding(b"Transfer-Encoding: chunked", b"Transfer-Encoding: x"),
        "http1-coding-repeated",
    ),
    (
        "TE twice, one empty",
        hiding(b"Transfer-Encoding: chunked", b"Transfer-Encoding:"),
        "http1-coding-repeated",
    ),
    (
        "TE with a blank before the colon",
        hiding(LENGTH, b"Transfer-Encoding : chunked"),
        "http1-space-before-colon",
    ),
    (
        "TE with a tab before the colon",
        hiding(LENGTH, b"Transfer-Encoding\t: chunked"),
        "http1-space-before-colon",
    ),
    ("TE behind a blank", hiding(LENGTH, b" Transfer-Encoding: chunked"), "http1-obs-fold"),
    ("TE on the next line", hiding(LENGTH, b"Transfer-Encoding:", b" chunked"), "http1-obs-fold"),
    ("TE behind LF", hiding(LENGTH, b"X: x\nTransfer-Encoding: chunked"), "http1-bare-lf"),
    ("TE behind CR", hiding(LENGTH, b"X: x\rTransfer-Encoding: chunked"), "http1-bare-cr"),
    ("TE behind NUL", hiding(LENGTH, b"X: x\x00Transfer-Encoding: chunked"), "http1-control"),
    ("TE with a vertical tab", hiding(LENGTH, b"Transfer-Encoding:\x0bchunked"), "http1-control"),
    ("TE ended by LF", hiding(b"Transfer-Encoding\n: chunked"), "http1-bare-lf"),
    ("TE in quotes", hiding(LENGTH, b'Transfer-Encoding: "chunked"'), "http1-length-and-coding"),
    ("TE beyond ASCII", hiding(b"Transfer-Encoding: chunked\xff"), "http1-coding-unknown"),
    (
        "TE in 1.0",
        b"POST / HTTP/1.0\r\n" + CHUNKED_LINE + b"\r\n0\r\n\r\n" + HIDDEN,
        "http1-coding-version",
    ),
    ("CL.CL", hiding(b"Content-Length: 5", LENGTH), "http1-length-repeated"),
    ("CL.CL, equal", hiding(LENGTH, LENGTH), "http1-length-repeated"),
    ("CL as a list", hiding(b"Content-Length: 5, 35"), "http1-length-invalid"),
    ("CL with a sign", hiding(b"Content-Length: +5"), "http1-length-invalid"),
    ("CL below zero", hiding(b"Content-Length: -1"), "http1-length-invalid"),
    ("CL in hexadecimal", hiding(b"Content-Length: 0x5"), "http1-length-invalid"),
    ("CL with a blank inside", hiding(b"Content-Length: 5 5"), "http1-length-invalid"),
    ("CL with an underscore", hiding(b"Content-Length: 1_0"), "http1-length-invalid"),
    (
        "CL that wraps round 2^64",
        hiding(b"Content-Length: 18446744073709551621"),
        "http1-length-invalid",
    ),
    ("CL with an exponent", hiding(b"Content-Length: 5e0"), "http1-length-invalid"),
    ("CL behind a blank", hiding(b" Content-Length: 5"), "http1-obs-fold"),
    ("CL with a blank before the colon", hiding(b"Content-Length : 5"), "http1-space-before-colon"),
    (
        "a chunk's size that wraps round",
        hiding(b"Transfer-Encoding: chunked", body=b"10000000000000000\r\n\r\n" + HIDDEN),
        "http1-chunk-size",
    ),
    (
        "a chunk's size with a sign",
        hiding(b"Transfer-Encoding: chunked", body=b"+0\r\n\r\n" + HIDDEN),
        "http1-chunk-size",
    ),
    (
        "a chunk's size in 0x",
        hiding(b"Transfer-Encoding: chunked", body=b"0x0\r\n\r\n" + HIDDEN),
        "http1-chunk-size",
    ),
    (
        "a chunk's size ended by LF",
        hiding(b"Transfer-Encoding: chunked", body=b"0\n\r\n" + HIDDEN),
        "http1-chunk-size",
    ),
    (
        "a chunk's extension ended by LF",
        hiding(b"Transfer-Encoding: chunked", body=b"2;\nxx\r\n0\r\n\r\n" + HIDDEN),
        "http1-chunk-size",
    ),
    (
        "a chunk's extension ended by CR",
        hiding(b"Transfer-Encoding: chunked", body=b"2;a\rxx\r\n0\r\n\r\n" + HIDDEN),
        "http1-chunk-size",
    ),
    (
        "a chunk with a quoted line end",
        hiding(b"Transfer-Encoding: chunked", body=b'1;a="\r\nx\r\n0\r\n\r\n"\r\n' + HIDDEN),
        "http1-chunk-size",
    ),
    (
        "a chunk ended by LF",
        hiding(b"Transfer-Encoding: chunked", body=b"1\r\nx\n0\r\n\r\n" + HIDDEN),
        "http1-chunk-end",
    ),
    (
        "a chunk ended by two octets",
        hiding(b"Transfer-Encoding: chunked", body=b"1\r\nxyz0\r\n\r\n" + HIDDEN),
        "http1-chunk-end",
    ),
    (
        "a last chunk ended by LF",
        hiding(b"Transfer-Encoding: chunked", body=b"0\r\n\n" + HIDDEN),
        "http1-bare-lf",
    ),
    (
        "trailers that are a request",
        hiding(b"Transfer-Encoding: chunked", body=b"0\r\n" + HIDDEN),
        "http1-field-line",
    ),
    (
        "trailers with a length",
        hiding(b"Transfer-Encoding: chunked", body=b"0\r\nContent-Length: 5\r\n\r\n" + HIDDEN),
        "http1-trailer",
    ),
    (
        "CONNECT with a body",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 33\r\n\r\n" + HIDDEN,
        "http1-connect",
    ),
    (
        "h2c beside websocket",
        POST + b"Connection: upgrade\r\nUpgrade: websocket, h2c\r\n\r\n" + HIDDEN,
        "http1-upgrade",
    ),
    ("two hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + HIDDEN, "http1-host-repeated"),
    (
        "a host behind a blank",
        b"GET / HTTP/1.1\r\nHost: a\r\n Host: b\r\n\r\n" + HIDDEN,
        "http1-obs-fold",
    ),
    (
        "a host before a blank",
        b"GET / HTTP/1.1\r\n Host: b\r\nHost: a\r\n\r\n" + HIDDEN,
        "http1-obs-fold",
    ),
    (
        "a target against the host",
        b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n" + HIDDEN,
        "http1-host-conflict",
    ),
    (
        "a target with a user",
        b"GET http://a@b/ HTTP/1.1\r\nHost: b\r\n\r\n" + HIDDEN,
        "http1-target",
    ),
    (
        "a target with a fragment",
        b"GET /public#/../admin HTTP/1.1\r\nHost: a\r\n\r\n",
        "http1-target",
    ),
    (
        "a target with a blank",
        b"GET /public HTTP/1.1 /admin HTTP/1.1\r\nHost: a\r\n\r\n",
        "http1-start-line",
    ),
    ("a target with a tab", b"GET /public\t/admin HTTP/1.1\r\nHost: a\r\n\r\n", "http1-target"),
    (
        "a request line ended by LF",
        b"GET / HTTP/1.1\nX: GET /admin HTTP/1.1\r\nHost: a\r\n\r\n",
        "http1-bare-lf",
    ),
    ("HTTP/0.9 in between", POST + b"\r\nGET /admin\r\n\r\n", "http1-start-line"),
    ("HTTP/2 in between", POST + b"\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http1-version"),
]


@pytest.mark.parametrize(("name", "stream", "code"), ATTACKS, ids=[row[0] for row in ATTACKS])
def test_an_attack_is_refused(name: str, stream: bytes, code: str) -> None:
    """And the hidden request is never seen."""
    del name
    seen = read_requests([stream])
    assert seen.code == code
    paths = [
        message.head.path for message in seen.messages if isinstance(message.head, RequestHead)
    ]
    assert b"/admin" not in paths


def forwarded(message: Message) -> bytes:
    """Return a message as an HTTP/1 hop writes it."""
    head = message.head
    assert isinstance(head, RequestHead)
    fields = without_hop_by_hop(head.fields)
    target = head.path if head.method != b"CONNECT" else head.authority
    data = write_request_head(head.method, target, fields, head.version)
    if head.length == CHUNKED:
        return data + write_chunk(message.body) + write_last_chunk(message.trailers)
    return data + message.body


def check_means_the_same(message: Message) -> None:
    """Read a forwarded message with h11: one message, the same, nothing behind it."""
    head = message.head
    assert isinstance(head, RequestHead)
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=100_000)
    reader.receive_data(forwarded(message))
    request = reader.next_event()
    assert isinstance(request, h11.Request)
    assert (request.method, request.target) in {
        (head.method, head.path),
        (head.method, head.authority),
    }
    body = b""
    while isinstance(event := reader.next_event(), h11.Data):
        body += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage)
    assert body == message.body
    assert reader.trailing_data == (b"", False)


@pytest.mark.parametrize(
    "stream", [case.data for case in HEADS + BODIES if not case.code and not case.eof]
)
def test_what_is_taken_means_the_same_to_the_next_reader(stream: bytes) -> None:
    """Every good row of the tables, as it goes on."""
    for message in read_requests([stream]).messages:
        check_means_the_same(message)


@given(st.one_of(requests(), mutated(requests())))
def test_what_is_taken_of_mutated_streams_means_the_same_to_the_next_reader(stream: bytes) -> None:
    """However it was mutated."""
    for message in read_requests([stream]).messages:
        if message.ended:
            check_means_the_same(message)


@pytest.mark.parametrize("name", [b"host", b"content-length", b"transfer-encoding"])
def test_connection_cannot_strip_a_message_of_its_meaning(name: bytes) -> None:
    """``Connection: content-length`` would let the next hop read the content as a request."""
    size = b"%d" % len(HIDDEN)
    lines = b"Content-Length: " + size + b"\r\nConnection: close, " + name + b"\r\n\r\n"
    stream = POST + lines + HIDDEN
    (message,) = read_requests([stream]).messages
    kept = without_hop_by_hop(message.head.fields)
    assert value_of(kept, b"content-length") == size
    assert value_of(kept, b"host") == b"a"
    check_means_the_same(message)


HTTP2_ATTACKS: list[tuple[str, wire.Pairs, bytes, str]] = [
    (
        "H2.TE",
        [*wire.POST, (b"transfer-encoding", b"chunked")],
        b"0\r\n\r\n",
        "http2-connection-field",
    ),
    ("H2.CL, too small", [*wire.POST, (b"content-length", b"0")], HIDDEN, "http2-content-length"),
    ("H2.CL, too large", [*wire.POST, (b"content-length", b"99")], HIDDEN, "http2-content-length"),
    (
        "H2.CL twice",
        [*wire.POST, (b"content-length", b"0"), (b"content-length", b"33")],
        HIDDEN,
        "http2-content-length",
    ),
    (
        "a line end in a value",
        [*wire.POST, (b"x", b"y\r\nTransfer-Encoding: chunked")],
        b"",
        "http2-field-value",
    ),
    (
        "LF in a value",
        [*wire.POST, (b"x", b"y\nTransfer-Encoding: chunked")],
        b"",
        "http2-field-value",
    ),
    (
        "a line end in a name",
        [*wire.POST, (b"x: y\r\ntransfer-encoding", b"chunked")],
        b"",
        "http2-field-name",
    ),
    (
        "a colon in a name",
        [*wire.POST, (b"transfer-encoding: chunked\r\nx", b"y")],
        b"",
        "http2-field-name",
    ),
    (
        "a blank behind a name",
        [*wire.POST, (b"transfer-encoding ", b"chunked")],
        b"",
        "http2-field-name",
    ),
    (
        "a request in the method",
        [(b":method", b"GET /admin HTTP/1.1\r\nx:"), *wire.POST[1:]],
        b"",
        "http2-field-value",
    ),
    ("a blank in the method", [(b":method", b"GET /admin"), *wire.POST[1:]], b"", "http2-method"),
    (
        "a request in the path",
        [*wire.POST[:2], (b":path", b"/ HTTP/1.1\r\nHost: a\r\n\r\nGET /admin"), wire.POST[3]],
        b"",
        "http2-field-value",
    ),
    (
        "a blank in the path",
        [*wire.POST[:2], (b":path", b"/admin HTTP/1.1"), wire.POST[3]],
        b"",
        "http2-path",
    ),
    (
        "a path that is an address",
        [*wire.POST[:2], (b":path", b"http://b/admin"), wire.POST[3]],
        b"",
        "http2-path",
    ),
    (
        "a path that is a host",
        [*wire.POST[:2], (b":path", b"@b/admin"), wire.POST[3]],
        b"",
        "http2-path",
    ),
    (
        "a scheme that is an address",
        [wire.POST[0], (b":scheme", b"http://b/admin?"), *wire.POST[2:]],
        b"",
        "http2-scheme",
    ),
    (
        "a line end in the authority",
        [*wire.POST[:3], (b":authority", b"a\r\nx: y")],
        b"",
        "http2-field-value",
    ),
    (
        "a path in the authority",
        [*wire.POST[:3], (b":authority", b"a/admin")],
        b"",
        "http2-authority",
    ),
    ("a host against the authority", [*wire.POST, (b"host", b"b")], b"", "http2-host"),
    (
        "a host beside the host",
        [*wire.POST[:3], (b"host", b"a"), (b"host", b"b")],
        b"",
        "http2-host",
    ),
    ("a second path", [*wire.POST, (b":path", b"/admin")], b"", "http2-pseudo"),
    (
        "upgrade to a tunnel",
        [*wire.POST, (b"upgrade", b"websocket")],
        b"",
        "http2-connection-field",
    ),
    (
        "extended CONNECT",
        [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *wire.POST[1:]],
        b"",
        "http2-pseudo",
    ),
]


@pytest.mark.parametrize(
    ("name", "fields", "body", "reason"), HTTP2_ATTACKS, ids=[row[0] for row in HTTP2_ATTACKS]
)
def test_an_attack_by_http2_ends_its_stream(
    name: str, fields: wire.Pairs, body: bytes, reason: str
) -> None:
    """Before it can be written as HTTP/1; the next request is served."""
    del name
    talk = wire.serve()
    talk.say(wire.headers(1, fields, ends=False) + wire.data(1, body))
    assert talk.reasons == [reason]
    talk.say(wire.headers(3))
    assert talk.answered == [3]


_OCTETS = st.sampled_from(
    [b"", b" ", b"\t", b"\r\n", b"\n", b"\0", b":", b"A", b"/", b"#", b"\xff"]
)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 30), _OCTETS), max_size=3),
    st.binary(max_size=20),
)
def test_what_comes_by_http2_is_one_message_to_an_http1_reader(
    changes: list[tuple[int, bool, int, bytes]], body: bytes
) -> None:
    """Whatever octets stand in names and values, h11 finds one message, and our content in it."""
    fields = [*wire.POST, (b"x", b"y"), (b"cookie", b"a=b")]
    for which, in_name, place, octets in changes:
        name, value = fields[which]
        if in_name:
            name = name[:place] + octets + name[place:]
        else:
            value = value[:place] + octets + value[place:]
        fields[which] = (name, value)
    talk = wire.serve(answers=False)
    talk.say(wire.headers(1, fields, ends=False) + wire.data(1, body))
    taken = [event for event in talk.events if isinstance(event, RequestReceived)]
    if not taken:
        assert talk.reasons
        return
    request = alight(taken[0].head, ended=False)
    written = write_request_head(request.method, request.target, request.fields, request.version)
    content = b"".join(event.data for event in talk.events if isinstance(event, DataReceived))
    assert request.is_chunked
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(written + write_chunk(content) + write_last_chunk(()))
    seen = reader.next_event()
    assert isinstance(seen, h11.Request)
    assert (seen.method, seen.target) == (request.method, request.target)
    got = b""
    while isinstance(event := reader.next_event(), h11.Data):
        got += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage)
    assert got == content == body
    assert reader.trailing_data == (b"", False)
