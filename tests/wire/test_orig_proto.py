"""HTTP/1 on HTTP/2 between sidecars: marks, forms, versions, and what must not go along."""

from __future__ import annotations

import pytest

from proxy.wire.http1_head import parse_request_head, parse_response_head
from proxy.wire.http1_writer import write_request_head
from proxy.wire.http_field import Fields, value_of
from proxy.wire.http_message import HTTP_2, HTTP_10, HTTP_11, NONE_SENSITIVE, Form, RequestHead
from proxy.wire.orig_proto import (
    Http1Request,
    alight,
    can_ride,
    has_ridden,
    mark_of,
    ride,
    ride_back,
)
from proxy.wire.orig_proto_field import MARK
from tests.wire.http2_end import Client, Server
from tests.wire.http2_event import RequestReceived, ResponseReceived

GET = b"GET /x?y HTTP/1.1\r\nHost: a:8080\r\n"


def carried(head: bytes, *, ended: bool = True) -> tuple[RequestHead, Http1Request]:
    """Return a request as the inbound side gets it, over two real codecs, and as the app does."""
    pseudo, fields = ride(parse_request_head(head), b"10.0.0.1:80")
    client, server = Client(), Server()
    client.send_request(pseudo, fields, ends=ended)
    events = server.feed(client.take(), 0.0)
    (request,) = [event for event in events if isinstance(event, RequestReceived)]
    return request.head, alight(request.head, ended=ended)


def test_a_marked_connect_has_not_ridden() -> None:
    """A mark is a peer's word: it must not make a CONNECT of HTTP/2 a line of HTTP/1."""
    client, server = Client(), Server()
    pseudo = ((b":method", b"CONNECT"), (b":authority", b"a:80"))
    client.send_request(pseudo, ((MARK, b"HTTP/1.1"),), ends=False)
    events = server.feed(client.take(), 0.0)
    (request,) = [event for event in events if isinstance(event, RequestReceived)]
    assert mark_of(request.head) is not None
    assert not has_ridden(request.head)


@pytest.mark.parametrize(
    ("line", "mark", "target", "version"),
    [
        (b"GET /x HTTP/1.1\r\nHost: a\r\n", b"HTTP/1.1", b"/x", HTTP_11),
        (
            b"GET http://a/x HTTP/1.1\r\nHost: a\r\n",
            b"HTTP/1.1; absolute-form",
            b"http://a/x",
            HTTP_11,
        ),
        (
            b"GET https://a HTTP/1.1\r\nHost: a\r\n",
            b"HTTP/1.1; absolute-form",
            b"https://a/",
            HTTP_11,
        ),
        (b"GET /x HTTP/1.0\r\n", b"HTTP/1.0", b"/x", HTTP_10),
        (b"GET http://a/x HTTP/1.0\r\n", b"HTTP/1.0; absolute-form", b"http://a/x", HTTP_10),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n", b"HTTP/1.1", b"*", HTTP_11),
        (
            b"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n",
            b"HTTP/1.1; absolute-form",
            b"http://a",
            HTTP_11,
        ),
    ],
)
def test_a_request_arrives_in_the_form_and_version_it_had(
    line: bytes, mark: bytes, target: bytes, version: int
) -> None:
    """Linkerd's four marks."""
    head, request = carried(line)
    assert mark_of(head) == mark
    assert (request.target, request.version) == (target, version)
    assert value_of(request.fields, MARK) is None
    written = write_request_head(request.method, request.target, request.fields, request.version)
    assert parse_request_head(written[:-2]).path == parse_request_head(line).path


def test_what_speaks_of_one_connection_does_not_ride() -> None:
    """An HTTP/2 peer would reset the stream."""
    head, request = carried(
        GET + b"Connection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 3\r\nProxy-Connection: x\r\n"
        b"Upgrade: h2c\r\nTransfer-Encoding: chunked\r\nTE: deflate, trailers\r\nX-End: 2\r\n",
        ended=False,
    )
    names = [name for name, _ in head.fields]
    assert names == [b"host", b"x-end", b"te", MARK]
    assert value_of(head.fields, b"te") == b"trailers"
    assert request.fields[-1] == (b"transfer-encoding", b"chunked")
    assert request.is_chunked
    head, _ = carried(GET + b"TE: deflate\r\n")
    assert value_of(head.fields, b"te") is None


def test_a_client_s_own_mark_is_replaced() -> None:
    """It would choose how we write to the application."""
    head, _ = carried(GET + b"L5D-Orig-Proto: HTTP/1.0; absolute-form\r\n")
    assert [value for name, value in head.fields if name == MARK] == [b"HTTP/1.1"]


def test_length_and_host_ride_along() -> None:
    """Linkerd's inbound side makes up neither."""
    head, request = carried(GET + b"Content-Length: 5\r\n", ended=False)
    assert head.length == 5
    assert value_of(request.fields, b"content-length") == b"5"
    assert value_of(request.fields, b"host") == b"a:8080"
    assert not request.is_chunked


def test_a_request_that_names_no_host_gets_the_address_as_authority() -> None:
    """And still no Host towards the application, for it is 1.0."""
    head, request = carried(b"GET / HTTP/1.0\r\n")
    assert head.authority == b"10.0.0.1:80"
    assert value_of(request.fields, b"host") is None


def test_content_of_unknown_length_needs_1_1() -> None:
    """Whatever the mark says."""
    head = RequestHead(
        b"POST",
        Form.ORIGIN,
        b"http",
        b"a",
        b"/",
        HTTP_2,
        ((MARK, b"HTTP/1.0"),),
        -1,
        True,
        b"",
        False,
    )
    request = alight(head, ended=False)
    assert request.version == HTTP_11
    assert request.fields == ((b"host", b"a"), (b"transfer-encoding", b"chunked"))
    assert alight(head, ended=True) == Http1Request(
        b"POST", b"/", (), HTTP_10, is_chunked=False, is_last=True
    )


def test_who_asks_is_not_the_request_s_to_say() -> None:
    """What it says of that stays behind; what is known goes on, where something is."""
    claimed: Fields = ((b"host", b"a"), (b"l5d-client-id", b"me"), (MARK, b"HTTP/1.1"))
    head = RequestHead(
        b"GET", Form.ORIGIN, b"http", b"a", b"/", HTTP_2, claimed, 0, True, b"", False
    )
    known: Fields = ((b"l5d-client-id", b"web"),)
    assert alight(head, ended=True).fields == ((b"host", b"a"),)
    assert alight(head, known, ended=True).fields == ((b"host", b"a"), *known)


@pytest.mark.parametrize("mark", [None, b"HTTP/2", b"HTTP/1.2", b"", b"http/1.1"])
def test_a_request_without_a_known_mark_is_http2_s_own(mark: bytes | None) -> None:
    """And to an application that speaks HTTP/1 it goes as 1.1, with Host and one cookie."""
    fields: Fields = ((b"cookie", b"a=1"), (b"cookie", b"b=2"))
    fields = (*fields, (MARK, mark)) if mark is not None else fields
    head = RequestHead(
        b"GET", Form.ORIGIN, b"https", b"a", b"/", HTTP_2, fields, -1, True, b"", False
    )
    assert mark_of(head) is None
    request = alight(head, ended=True)
    assert request.target == b"/"
    assert request.version == HTTP_11
    assert request.fields == ((b"host", b"a"), (b"cookie", b"a=1; b=2"))


@pytest.mark.parametrize(
    ("head", "rides"),
    [
        (GET, True),
        (b"GET / HTTP/1.0\r\n", True),
        (GET + b"Connection: upgrade\r\nUpgrade: h2c\r\n", True),
        (GET + b"Upgrade: websocket\r\n", True),
        (GET + b"Connection: upgrade\r\nUpgrade: websocket\r\n", False),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n", False),
    ],
)
def test_upgrades_and_connect_do_not_ride(head: bytes, rides: bool) -> None:
    """They need a connection for themselves."""
    assert can_ride(parse_request_head(head)) is rides


def back(text: bytes) -> tuple[Fields, Fields]:
    """Return an answer's fields as they ride, and as they come over two real codecs."""
    head = parse_response_head(text, b"GET")
    riding = ride_back(head)
    client, server = Client(), Server()
    client.send_request(
        ((b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/")),
        (),
        ends=True,
    )
    server.feed(client.take(), 0.0)
    server.send_head(1, head.status, riding, ends=False, never_indexed=NONE_SENSITIVE)
    events = client.feed(server.take(), 0.0)
    (answer,) = [event for event in events if isinstance(event, ResponseReceived)]
    return riding, answer.head.fields


def test_an_answer_says_the_version_the_application_spoke() -> None:
    """Linkerd restores it from the mark."""
    for version in (b"HTTP/1.0", b"HTTP/1.1"):
        riding, fields = back(version + b" 200 OK\r\nX: y\r\n")
        assert riding == fields == ((b"x", b"y"), (MARK, version))


def test_an_answer_leaves_behind_what_an_http2_peer_would_reset() -> None:
    """Coding, connection and its kin; a length where none may be."""
    mark = (MARK, b"HTTP/1.1")
    _, fields = back(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive, a\r\nA: b\r\n"
        b"Keep-Alive: 1\r\nUpgrade: h2\r\nB: c\r\n"
    )
    assert fields == ((b"b", b"c"), mark)
    _, fields = back(b"HTTP/1.1 204 No\r\nContent-Length: 5\r\n")
    assert fields == (mark,)
    _, fields = back(b"HTTP/1.1 304 No\r\nContent-Length: 5\r\n")
    assert fields == ((b"content-length", b"5"), mark)
