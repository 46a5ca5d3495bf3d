"""SOCKS 5 without authentication, the server's side (RFC 1928): bytes in, meaning out.

A client greets with the ways it can authenticate and is told to use none; then it names one
destination. Only CONNECT is served. What is refused comes as a value with the bytes that tell
the client so; a stream that is no SOCKS 5 at all gets none.
"""

from __future__ import annotations

from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Final, final

from core.record import dataclass

VERSION: Final = 5
NO_AUTHENTICATION: Final = b"\x05\x00"
"""The answer to a greeting that offers it."""
MAX_GREETING: Final = 2 + 255
MAX_REQUEST: Final = 4 + 1 + 255 + 2
_NONE_ACCEPTABLE: Final = b"\x05\xff"
_CONNECT: Final = 1
_IPV4: Final = 1
_NAME: Final = 3
_IPV6: Final = 4
_NAME_BYTES: Final = frozenset(range(0x21, 0x7F))


class Reply(IntEnum):
    """What a client is told about its request (RFC 1928, section 6)."""

    SUCCEEDED = 0
    FAILED = 1
    NOT_ALLOWED = 2
    HOST_UNREACHABLE = 4
    COMMAND_NOT_SUPPORTED = 7
    ADDRESS_NOT_SUPPORTED = 8


@final
@dataclass(frozen=True, slots=True)
class SocksRequest:
    """Where the client wants to go."""

    host: str
    """A name, or an IP address in its shortest form."""
    port: int
    is_name: bool


@final
@dataclass(frozen=True, slots=True)
class SocksRefusal:
    """Why a stream goes no further, and what its client is sent before it is closed."""

    answer: bytes
    reason: str


def read_greeting(data: bytes | bytearray) -> int | SocksRefusal | None:
    """Return how many bytes the greeting is long; None when it is not complete."""
    if not data:
        return None
    if data[0] != VERSION:
        return SocksRefusal(b"", f"the first byte is 0x{data[0]:02x}; wanted SOCKS 5 (0x05)")
    if len(data) < 2:
        return None
    size = 2 + data[1]
    if len(data) < size:
        return None
    if b"\x00" not in data[2:size]:
        return SocksRefusal(
            _NONE_ACCEPTABLE, "the client insists on authenticating; wanted none (0x00)"
        )
    return size


def read_request(data: bytes | bytearray) -> tuple[SocksRequest, int] | SocksRefusal | None:
    """Return the request and how many bytes it is long; None when it is not complete."""
    if len(data) >= 1 and data[0] != VERSION:
        return _refusal(Reply.FAILED, f"the request's version is {data[0]}; wanted {VERSION}")
    if len(data) >= 2 and data[1] != _CONNECT:
        return _refusal(Reply.COMMAND_NOT_SUPPORTED, f"command {data[1]}; only CONNECT (1) is")
    if len(data) < 5:
        return None
    kind = data[3]
    if kind == _IPV4:
        start, size = 4, 4
    elif kind == _IPV6:
        start, size = 4, 16
    elif kind == _NAME:
        start, size = 5, data[4]
    else:
        return _refusal(Reply.ADDRESS_NOT_SUPPORTED, f"address type {kind}; wanted 1, 3 or 4")
    end = start + size
    if len(data) < end + 2:
        return None
    port = (data[end] << 8) | data[end + 1]
    if port == 0:
        return _refusal(Reply.FAILED, "port 0; wanted 1 to 65535")
    raw = bytes(data[start:end])
    if kind == _IPV4:
        return SocksRequest(str(IPv4Address(raw)), port, is_name=False), end + 2
    if kind == _IPV6:
        return SocksRequest(str(IPv6Address(raw)), port, is_name=False), end + 2
    if not raw or not _NAME_BYTES.issuperset(raw):
        return _refusal(Reply.FAILED, "the name is empty, or has bytes that no name has")
    return SocksRequest(raw.decode("ascii").lower(), port, is_name=True), end + 2


def encode_reply(reply: Reply) -> bytes:
    """Return the answer to a request; where we dial from is not told (0.0.0.0:0)."""
    return bytes((VERSION, reply, 0, _IPV4, 0, 0, 0, 0, 0, 0))


def _refusal(reply: Reply, reason: str) -> SocksRefusal:
    return SocksRefusal(encode_reply(reply), reason)
