"""HTTP/2 frames as octets: numbers of RFC 9113 §4, §6 and §7, and the frames we send."""

from __future__ import annotations

from struct import Struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends first (RFC 9113 §3.4)."""

DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
HAS_PRIORITY: Final = 0x20

NO_ERROR: Final = 0x0
PROTOCOL_ERROR: Final = 0x1
INTERNAL_ERROR: Final = 0x2
FLOW_CONTROL_ERROR: Final = 0x3
STREAM_CLOSED: Final = 0x5
FRAME_SIZE_ERROR: Final = 0x6
REFUSED_STREAM: Final = 0x7
CANCEL: Final = 0x8
COMPRESSION_ERROR: Final = 0x9
CONNECT_ERROR: Final = 0xA
ENHANCE_YOUR_CALM: Final = 0xB
INADEQUATE_SECURITY: Final = 0xC
HTTP_1_1_REQUIRED: Final = 0xD

HEADER_TABLE_SIZE: Final = 0x1
ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5
MAX_HEADER_LIST_SIZE: Final = 0x6

FRAME_SIZE: Final = 16_384
"""The largest payload, sent or taken: the size that every peer takes (RFC 9113 §4.2)."""

DEFAULT_WINDOW: Final = 65_535
MAX_WINDOW: Final = 2**31 - 1
MAX_STREAM_ID: Final = 2**31 - 1

HEAD: Final = Struct(">HBBBI")
"""A frame's first nine octets: length as two numbers, type, flags, stream."""
_FOUR: Final = Struct(">I")
_SETTING: Final = Struct(">HI")
_EIGHT: Final = Struct(">II")

SETTINGS_ACK: Final = b"\x00\x00\x00\x04\x01\x00\x00\x00\x00"


def frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    """Return one frame."""
    size = len(payload)
    return HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream_id) + payload


def data_frame(
    stream_id: int,
    data: bytes,
    ends: bool,  # noqa: FBT001 - not every codec knows arguments by name
) -> bytes:
    """Return content as a frame."""
    return frame(DATA, END_STREAM if ends else 0, stream_id, data)


def header_frames(stream_id: int, block: bytes, *, ends: bool) -> bytes:
    """Return a header block as HEADERS and, if it is long, CONTINUATION frames."""
    flags = END_STREAM if ends else 0
    size = len(block)
    if size <= FRAME_SIZE:
        return HEAD.pack(size >> 8, size & 0xFF, HEADERS, flags | END_HEADERS, stream_id) + block
    frames = [frame(HEADERS, flags, stream_id, block[:FRAME_SIZE])]
    for begin in range(FRAME_SIZE, size, FRAME_SIZE):
        last = END_HEADERS if begin + FRAME_SIZE >= size else 0
        frames.append(frame(CONTINUATION, last, stream_id, block[begin : begin + FRAME_SIZE]))
    return b"".join(frames)


def settings_frame(values: list[tuple[int, int]]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join([_SETTING.pack(key, value) for key, value in values]))


def window_frame(stream_id: int, increment: int) -> bytes:
    """Return a WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream_id, _FOUR.pack(increment))


def reset_frame(stream_id: int, error: int) -> bytes:
    """Return a RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream_id, _FOUR.pack(error))


def goaway_frame(last_stream_id: int, error: int, debug: bytes) -> bytes:
    """Return a GOAWAY frame."""
    return frame(GOAWAY, 0, 0, _EIGHT.pack(last_stream_id, error) + debug)


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """Return the settings of a payload whose length is a multiple of six."""
    return [(key, value) for key, value in _SETTING.iter_unpack(payload)]


def read_four(payload: bytes) -> int:
    """Return the number that four octets are."""
    return int.from_bytes(payload, "big")
