"""Is this TLS, and for whom? Reads a ClientHello from the first bytes of a connection.

The rules are those of linkerd2-proxy (tls/src/server/client_hello.rs): one record holds the
whole hello, and anything that is not exactly a ClientHello is not TLS. Nothing is consumed;
the caller keeps the bytes and hands them to whoever comes next. RFC 8446 section 4.1.2,
RFC 6066 section 3.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, final

from core.record import dataclass

MAX_RECORD_BYTES: Final = 5 + 16_384
"""A plaintext record at its largest, with its head (RFC 8446 section 5.1)."""
_MAX_VECTOR_BYTES: Final = 8_192
_HANDSHAKE: Final = 0x16
_CLIENT_HELLO: Final = 0x01
_SERVER_NAME: Final = 0x0000
_HOST_NAME: Final = 0x00
_NAME: Final = re.compile(rb"[A-Za-z0-9._-]{1,253}")
"""A host name becomes a metric's label: no longer than DNS has it, and nothing that it has not."""


class HelloState(Enum):
    """What the bytes so far are."""

    NEED_MORE = "need-more"
    NOT_TLS = "not-tls"
    HELLO = "hello"


@final
@dataclass(frozen=True, slots=True)
class Hello:
    """What was found; ``sni`` is the server name in lower case, empty when there is none."""

    state: HelloState
    sni: str = ""


_MORE: Final = Hello(HelloState.NEED_MORE)
_OTHER: Final = Hello(HelloState.NOT_TLS)


def read_client_hello(data: bytes | bytearray) -> Hello:
    """Judge ``data``, a connection's first bytes; never raises.

    A hello is judged only once its whole record is there; what can no longer become one is
    NOT_TLS at the first byte that says so.
    """
    size = len(data)
    if size == 0:
        return _MORE
    if data[0] != _HANDSHAKE or (size > 1 and data[1] != 0x03):
        return _OTHER
    if size > 2 and data[2] not in (0x01, 0x03):
        return _OTHER
    if size > 5 and data[5] != _CLIENT_HELLO:
        return _OTHER
    if size < 9:
        return _MORE
    record = (data[3] << 8) | data[4]
    length = (data[6] << 16) | (data[7] << 8) | data[8]
    if record + 5 > MAX_RECORD_BYTES or length + 4 > record:
        return _OTHER
    if (size > 9 and data[9] != 0x03) or (size > 10 and data[10] != 0x03):
        return _OTHER
    if size < record + 5:
        return _MORE
    return _read_body(bytes(data[9 : 9 + length]))


def _read_body(body: bytes) -> Hello:
    """Read a whole ClientHello's body: version, random, three vectors, extensions."""
    at = 2 + 32
    if len(body) < at + 1:
        return _OTHER
    at += 1 + body[at]
    for width in (2, 1):
        if len(body) < at + width:
            return _OTHER
        vector = int.from_bytes(body[at : at + width], "big")
        if vector > _MAX_VECTOR_BYTES:
            return _OTHER
        at += width + vector
    if at == len(body):
        return Hello(HelloState.HELLO)
    if len(body) < at + 2:
        return _OTHER
    end = at + 2 + int.from_bytes(body[at : at + 2], "big")
    if end != len(body):
        return _OTHER
    at += 2
    while at < end:
        if end - at < 4:
            return _OTHER
        kind = int.from_bytes(body[at : at + 2], "big")
        extension = int.from_bytes(body[at + 2 : at + 4], "big")
        at += 4
        if at + extension > end:
            return _OTHER
        if kind == _SERVER_NAME:
            return _read_server_name(body[at : at + extension])
        at += extension
    return Hello(HelloState.HELLO)


def _read_server_name(extension: bytes) -> Hello:
    """Read the first host name of a server_name extension."""
    if len(extension) < 5 or int.from_bytes(extension[:2], "big") + 2 != len(extension):
        return _OTHER
    length = int.from_bytes(extension[3:5], "big")
    name = extension[5 : 5 + length]
    if extension[2] != _HOST_NAME or len(name) != length or not _NAME.fullmatch(name):
        return _OTHER
    return Hello(HelloState.HELLO, name.decode("ascii").lower())
