"""SOCKS 5 by tables: every message whole, in every split, and with bytes behind it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.socks5 import (
    MAX_GREETING,
    MAX_REQUEST,
    Reply,
    SocksRefusal,
    SocksRequest,
    encode_reply,
    read_greeting,
    read_request,
)

V4 = b"\x05\x01\x00\x01\x0a\x60\x00\x0a\x1f\x90"
V6 = b"\x05\x01\x00\x04\xfd\x00" + bytes(13) + b"\x01\x00\x50"
NAME = b"\x05\x01\x00\x03\x08api.SHOP\x00\x50"
LONG = b"\x05\x01\x00\x03\xff" + b"a" * 255 + b"\xff\xff"

REQUESTS = {
    "ipv4": (V4, SocksRequest("10.96.0.10", 8080, is_name=False)),
    "ipv6": (V6, SocksRequest("fd00::1", 80, is_name=False)),
    "name, in lower case": (NAME, SocksRequest("api.shop", 80, is_name=True)),
    "longest name": (LONG, SocksRequest("a" * 255, 65535, is_name=True)),
    "shortest name": (
        b"\x05\x01\x00\x03\x01a\x00\x01",
        SocksRequest("a", 1, is_name=True),
    ),
    "reserved byte is not looked at": (
        b"\x05\x01\x7f\x01\x7f\x00\x00\x01\x00\x16",
        SocksRequest("127.0.0.1", 22, is_name=False),
    ),
}

REFUSED = {
    "bind": (b"\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x16", Reply.COMMAND_NOT_SUPPORTED),
    "udp": (b"\x05\x03\x00\x01\x7f\x00\x00\x01\x00\x16", Reply.COMMAND_NOT_SUPPORTED),
    "command 0": (b"\x05\x00", Reply.COMMAND_NOT_SUPPORTED),
    "another version": (b"\x04\x01\x00\x01\x7f\x00\x00\x01\x00\x16", Reply.FAILED),
    "address type 2": (b"\x05\x01\x00\x02\x00", Reply.ADDRESS_NOT_SUPPORTED),
    "address type 0": (b"\x05\x01\x00\x00\x00", Reply.ADDRESS_NOT_SUPPORTED),
    "port 0": (b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x00", Reply.FAILED),
    "empty name": (b"\x05\x01\x00\x03\x00\x00\x50", Reply.FAILED),
    "a NUL in the name": (b"\x05\x01\x00\x03\x03a\x00b\x00\x50", Reply.FAILED),
    "a blank in the name": (b"\x05\x01\x00\x03\x03a b\x00\x50", Reply.FAILED),
    "a byte past ASCII": (b"\x05\x01\x00\x03\x01\xe4\x00\x50", Reply.FAILED),
}


@pytest.mark.parametrize(("data", "expected"), REQUESTS.values(), ids=REQUESTS)
def test_a_request_is_read_in_every_split(data: bytes, expected: SocksRequest) -> None:
    """Nothing before the last byte, then all of it; what follows is not ours."""
    for size in range(len(data)):
        assert read_request(data[:size]) is None
    assert read_request(data) == (expected, len(data))
    assert read_request(bytearray(data + b"GET / HTTP/1.1")) == (expected, len(data))
    assert len(data) <= MAX_REQUEST


@pytest.mark.parametrize(("data", "reply"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_is_told_why(data: bytes, reply: Reply) -> None:
    """The client gets the code of RFC 1928, whatever the split, and never an answer too early."""
    outcomes = [read_request(data[:size]) for size in range(len(data) + 1)]
    found = [each for each in outcomes if each is not None]
    assert found
    assert all(isinstance(each, SocksRefusal) for each in found)
    (last,) = {each.answer for each in found if isinstance(each, SocksRefusal)}
    assert last == b"\x05" + bytes((reply,)) + b"\x00\x01" + bytes(6)


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"\x05\x01\x00", 3),
        (b"\x05\x03\x02\x01\x00", 5),
        (b"\x05\xff" + b"\x80" * 254 + b"\x00", MAX_GREETING),
    ],
)
def test_a_greeting_is_read_in_every_split(data: bytes, size: int) -> None:
    """One of the ways offered has to be none at all."""
    for part in range(len(data)):
        assert read_greeting(data[:part]) is None
    assert read_greeting(data) == size
    assert read_greeting(data + b"\x05\x01") == size


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"\x05\x00", b"\x05\xff"),
        (b"\x05\x01\x02", b"\x05\xff"),
        (b"\x05\x02\x01\x02", b"\x05\xff"),
        (b"\x04\x01\x00\x50", b""),
        (b"GET / HTTP/1.1\r\n", b""),
        (b"\x16\x03\x01", b""),
    ],
)
def test_a_greeting_that_will_not_do(data: bytes, answer: bytes) -> None:
    """Who insists on a password is told; who speaks something else is sent nothing."""
    found = read_greeting(data)
    assert isinstance(found, SocksRefusal)
    assert found.answer == answer
    assert found.reason


def test_a_reply_has_the_shape_of_the_rfc() -> None:
    """Version, code, reserved, and an address of IPv4 that says nothing."""
    assert encode_reply(Reply.SUCCEEDED) == b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_a_refusal_or_not_complete(data: bytes) -> None:
    """No input raises, and nothing is asked for past the longest message."""
    greeting, request = read_greeting(data), read_request(data)
    if len(data) >= MAX_GREETING:
        assert greeting is not None
    if len(data) >= MAX_REQUEST:
        assert request is not None
    if isinstance(request, tuple):
        assert 0 < request[1] <= len(data)
