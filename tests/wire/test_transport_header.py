"""The transport header against Linkerd's byte vectors, split anywhere, garbled, at its bounds."""

from __future__ import annotations

import random

import pytest

from core.errors import TransportHeaderError
from proxy.wire.transport_header import (
    MAX_MESSAGE_BYTES,
    PREFACE,
    SessionProtocol,
    TransportHeader,
    encode_header,
    read_header,
)

_VECTORS = [
    (TransportHeader(8080, "", SessionProtocol.HTTP2), "08903f1a021200"),
    (TransportHeader(8080, "", SessionProtocol.HTTP1), "08903f1a020a00"),
    (TransportHeader(5432), "08b82a"),
    (TransportHeader(1), "0801"),
    (TransportHeader(65535), "08ffff03"),
    (
        TransportHeader(443, "web.shop.svc.cluster.local"),
        "08bb03121a" + b"web.shop.svc.cluster.local".hex(),
    ),
]


def framed(message: bytes) -> bytes:
    """Return ``message`` behind preface and length."""
    return PREFACE + len(message).to_bytes(4, "big") + message


@pytest.mark.parametrize(("header", "message"), _VECTORS, ids=[row[1] for row in _VECTORS])
def test_headers_are_written_and_read_as_linkerd_does(
    header: TransportHeader, message: str
) -> None:
    """The vectors of the wire, both ways; what follows is left alone."""
    wire = framed(bytes.fromhex(message))
    assert encode_header(header) == wire
    assert read_header(wire + b"application") == (header, len(wire))


@pytest.mark.parametrize(("header", "message"), _VECTORS, ids=[row[1] for row in _VECTORS])
def test_a_header_is_undecided_at_every_split(header: TransportHeader, message: str) -> None:
    """However it is cut, nothing is decided before the last byte."""
    del header
    wire = framed(bytes.fromhex(message))
    for size in range(len(wire)):
        assert read_header(wire[:size]) is None


@pytest.mark.parametrize(
    "message",
    [
        "",
        "0800",
        "08808004",
        "08f0a204",
        "08ffffffffffffffffff01",
        "08",
        "0890",
        "08ffffffffffffffffffff01",
        "08903f1205616200",
        "08903f1a",
        "08903f1a05",
        "08903f1a0208",
        "08903f1a020a05",
        "08903f1203612e2e",
        "08903f1201e9",
        "08903f1202612f",
        "0b",
        "09000000",
    ],
)
def test_garbled_messages_are_refused(message: str) -> None:
    """Port 0, 65536, 70000, negative and missing; cut fields; bad names; unknown wire types."""
    with pytest.raises(TransportHeaderError):
        read_header(framed(bytes.fromhex(message)))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("08903f1200", TransportHeader(8080)),
        ("08903f1204612e622e", TransportHeader(8080, "a.b")),
        ("08903f1a00", TransportHeader(8080)),
        ("08903f1a021a00", TransportHeader(8080)),
        ("08010890" + "3f", TransportHeader(8080)),
        ("20011d000000002903000000000000003a026f6b08903f", TransportHeader(8080)),
    ],
)
def test_unknown_fields_are_skipped_and_the_last_value_counts(
    message: str, expected: TransportHeader
) -> None:
    """Protobuf's rules for readers that know less than the writer."""
    wire = framed(bytes.fromhex(message))
    assert read_header(wire) == (expected, len(wire))


@pytest.mark.parametrize("data", [b"X", b"transport.l5d.io/v2\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"])
def test_a_wrong_preface_is_refused_at_its_first_wrong_byte(data: bytes) -> None:
    """No need to wait for 27 bytes that will not come."""
    with pytest.raises(TransportHeaderError, match="does not begin"):
        read_header(data)


def test_the_message_is_bounded() -> None:
    """A length at the bound waits for its bytes; one past it is refused at once."""
    at_bound = PREFACE + MAX_MESSAGE_BYTES.to_bytes(4, "big")
    past = PREFACE + (MAX_MESSAGE_BYTES + 1).to_bytes(4, "big")
    assert read_header(at_bound) is None
    with pytest.raises(TransportHeaderError, match="at most"):
        read_header(past)


def test_garbage_is_a_header_or_an_error_and_nothing_else() -> None:
    """Mutated headers never raise anything but TransportHeaderError."""
    source = random.Random(11)
    for _ in range(5_000):
        wire = bytearray(encode_header(_VECTORS[source.randrange(len(_VECTORS))][0]))
        for _ in range(source.randrange(1, 4)):
            wire[source.randrange(len(PREFACE), len(wire))] = source.randrange(256)
        try:
            found = read_header(wire)
        except TransportHeaderError:
            continue
        assert found is None or 1 <= found[0].port <= 65_535
