"""The transport header: which port (and name) bytes on a direct connection are for.

Framing and message are linkerd2-proxy's (transport-header/): a preface, a big-endian length,
a protobuf ``transport.l5d.io.Header``; what follows is the application's. The message is three
fields, read here by hand so that the data path depends on no message library.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, final

from core.errors import TransportHeaderError
from core.record import dataclass

ALPN: Final = "transport.l5d.io/v1"
PREFACE: Final = b"transport.l5d.io/v1\r\n\r\n"
MAX_MESSAGE_BYTES: Final = 65_536 - len(PREFACE) - 4
"""Linkerd reads a header through a 64 KiB buffer."""
MAX_NAME_BYTES: Final = 253
_HEAD_BYTES: Final = len(PREFACE) + 4
_MAX_VARINT_BYTES: Final = 10

_LABEL_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")


class SessionProtocol(Enum):
    """What the stream after the header speaks."""

    HTTP1 = "http/1"
    HTTP2 = "http/2"


@final
@dataclass(frozen=True, slots=True)
class TransportHeader:
    """A target port, optionally a name (for gateways) and the protocol that follows."""

    port: int
    name: str = ""
    session: SessionProtocol | None = None


def encode_header(header: TransportHeader) -> bytes:
    """Return the framed header."""
    message = b"\x08" + _varint(header.port)
    if header.name:
        name = header.name.encode()
        message += b"\x12" + _varint(len(name)) + name
    if header.session is SessionProtocol.HTTP1:
        message += b"\x1a\x02\x0a\x00"
    elif header.session is SessionProtocol.HTTP2:
        message += b"\x1a\x02\x12\x00"
    return PREFACE + len(message).to_bytes(4, "big") + message


def read_header(data: bytes | bytearray) -> tuple[TransportHeader, int] | None:
    """Return the header at the start of ``data`` and its length; None: more bytes are needed.

    Raises TransportHeaderError as soon as the bytes cannot become a header.
    """
    preface = bytes(data[: len(PREFACE)])
    if preface != PREFACE[: len(preface)]:
        raise TransportHeaderError(
            "the connection does not begin with a transport header",
            hint="a direct connection must negotiate ALPN and send its header first",
        )
    if len(data) < _HEAD_BYTES:
        return None
    length = int.from_bytes(data[len(PREFACE) : _HEAD_BYTES], "big")
    if length > MAX_MESSAGE_BYTES:
        raise TransportHeaderError(
            f"the transport header says {length} bytes; at most {MAX_MESSAGE_BYTES} are taken"
        )
    end = _HEAD_BYTES + length
    if len(data) < end:
        return None
    return _read_message(bytes(data[_HEAD_BYTES:end])), end


def _read_message(message: bytes) -> TransportHeader:
    port = 0
    name = ""
    session: SessionProtocol | None = None
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        field, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _read_varint(message, at)
            if field == 1:
                port = value
        elif wire == 2:
            size, at = _read_varint(message, at)
            if at + size > len(message):
                raise TransportHeaderError("the transport header is cut short")
            content = message[at : at + size]
            at += size
            if field == 2:
                name = _read_name(content)
            elif field == 3:
                session = _read_session(content)
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
            if at > len(message):
                raise TransportHeaderError("the transport header is cut short")
        else:
            raise TransportHeaderError(f"the transport header has a field of wire type {wire}")
    if not 1 <= port <= 65_535:
        raise TransportHeaderError(f"the transport header names port {port}, not 1 to 65535")
    return TransportHeader(port, name, session)


def _read_name(content: bytes) -> str:
    """Check a DNS name; an empty one counts as absent."""
    try:
        name = content.decode("ascii").lower()
    except UnicodeDecodeError:
        name = "\0"
    bare = name.removesuffix(".")
    if not name:
        return ""
    if len(bare) <= MAX_NAME_BYTES and all(
        0 < len(label) <= 63 and _LABEL_CHARACTERS.issuperset(label) for label in bare.split(".")
    ):
        return bare
    raise TransportHeaderError("the transport header's name is no DNS name")


def _read_session(content: bytes) -> SessionProtocol | None:
    """Read the oneof: the last member present counts; an unknown one means raw bytes."""
    session: SessionProtocol | None = None
    at = 0
    while at < len(content):
        key, at = _read_varint(content, at)
        if key & 7 != 2:
            raise TransportHeaderError("the transport header's session protocol is garbled")
        size, at = _read_varint(content, at)
        at += size
        if at > len(content):
            raise TransportHeaderError("the transport header is cut short")
        if key >> 3 == 1:
            session = SessionProtocol.HTTP1
        elif key >> 3 == 2:
            session = SessionProtocol.HTTP2
    return session


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index in range(_MAX_VARINT_BYTES):
        if at + index >= len(message):
            raise TransportHeaderError("the transport header is cut short")
        byte = message[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise TransportHeaderError("the transport header has a number of more than ten bytes")


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
