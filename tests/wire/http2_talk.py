"""A scripted peer for the HTTP/2 codec: frames by hand, an application that answers, what came out.

What the codec sends is read by hyperframe and hpack, not by our own code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, final

import hpack
import hyperframe.frame as hf

from proxy.wire.http2_limit import HTTP2_LIMITS, Http2Limits
from tests.wire.http2_end import Client, End, Server
from tests.wire.http2_event import (
    ConnectionEnded,
    DataReceived,
    Http2Event,
    RequestReceived,
    ResponseReceived,
    StreamReset,
    TrailersReceived,
)

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
HAS_PRIORITY: Final = 0x20

Pairs = Sequence[tuple[bytes, bytes]]

GET: Final[Pairs] = (
    (b":method", b"GET"),
    (b":scheme", b"http"),
    (b":path", b"/"),
    (b":authority", b"a"),
)
POST: Final[Pairs] = ((b":method", b"POST"), *GET[1:])
OK: Final[Pairs] = ((b":status", b"200"),)


def raw(kind: int, flags: int, stream_id: int, payload: bytes = b"", size: int = -1) -> bytes:
    """Return a frame, with another size in its head if one is given."""
    length = len(payload) if size < 0 else size
    head = length.to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big")
    return head + payload


def literal(name: bytes, value: bytes, first: int = 0x00) -> bytes:
    """Return a literal field with a new name, without Huffman coding (RFC 7541 §6.2)."""
    return bytes((first,)) + string(name) + string(value)


def string(text: bytes) -> bytes:
    """Return a string literal (RFC 7541 §5.2)."""
    size = len(text)
    if size < 127:
        return bytes((size,)) + text
    out = [127]
    size -= 127
    while size >= 128:
        out.append((size & 127) | 128)
        size >>= 7
    return bytes((*out, size)) + text


def block(fields: Pairs) -> bytes:
    """Return fields as literals that leave the table alone."""
    return b"".join(literal(name, value) for name, value in fields)


def headers(
    stream_id: int, fields: Pairs = GET, *, ends: bool = True, whole: bool = True, flags: int = 0
) -> bytes:
    """Return a HEADERS frame."""
    flags |= (END_STREAM if ends else 0) | (END_HEADERS if whole else 0)
    return raw(0x1, flags, stream_id, block(fields))


def data(stream_id: int, payload: bytes = b"x", *, ends: bool = True) -> bytes:
    """Return a DATA frame."""
    return raw(0x0, END_STREAM if ends else 0, stream_id, payload)


def priority(stream_id: int, parent: int = 0, weight: int = 15) -> bytes:
    """Return a PRIORITY frame."""
    return raw(0x2, 0, stream_id, parent.to_bytes(4, "big") + bytes((weight,)))


def reset(stream_id: int, error: int = 8) -> bytes:
    """Return a RST_STREAM frame."""
    return raw(0x3, 0, stream_id, error.to_bytes(4, "big"))


def settings(*values: tuple[int, int], flags: int = 0) -> bytes:
    """Return a SETTINGS frame."""
    payload = b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in values)
    return raw(0x4, flags, 0, payload)


def ping(payload: bytes = b"12345678", flags: int = 0) -> bytes:
    """Return a PING frame."""
    return raw(0x6, flags, 0, payload)


def goaway(last: int = 0, error: int = 0, debug: bytes = b"") -> bytes:
    """Return a GOAWAY frame."""
    return raw(0x7, 0, 0, last.to_bytes(4, "big") + error.to_bytes(4, "big") + debug)


def window(stream_id: int, increment: int) -> bytes:
    """Return a WINDOW_UPDATE frame."""
    return raw(0x8, 0, stream_id, increment.to_bytes(4, "big"))


def continuation(stream_id: int, fragment: bytes, *, whole: bool = True) -> bytes:
    """Return a CONTINUATION frame."""
    return raw(0x9, END_HEADERS if whole else 0, stream_id, fragment)


@final
@dataclass
class Talk:
    """What went to and fro on one connection."""

    codec: End
    events: list[Http2Event] = field(default_factory=list)
    frames: list[hf.Frame] = field(default_factory=list)
    sections: list[tuple[int, list[tuple[bytes, bytes]], bool]] = field(default_factory=list)
    """The field sections that we sent: stream, fields, whether they ended it."""
    answers: bool = True
    """The application answers each request when it is complete."""
    body: bytes = b"hello"
    now: float = 0.0
    _out: bytes = b""
    _decoder: hpack.Decoder = field(default_factory=hpack.Decoder)
    _bodyless: set[int] = field(default_factory=set)
    _pending: list[hf.HeadersFrame | hf.ContinuationFrame] = field(default_factory=list)

    def say(self, data: bytes, *, bytewise: bool = False) -> None:
        """Let the peer say something; the application acts on all of it, the output is read."""
        pieces = [data[at : at + 1] for at in range(len(data))] if bytewise else [data]
        events = [event for piece in pieces for event in self.codec.feed(piece, self.now)]
        self.events += events
        for event in events:
            self._act(event)
        self.read()

    def read(self) -> None:
        """Read what is to be written."""
        while part := self.codec.take():
            self._out += part
        self._out = self._out.removeprefix(PREFACE)
        while len(self._out) >= 9:
            frame, length = hf.Frame.parse_frame_header(memoryview(self._out[:9]))
            assert len(self._out) >= 9 + length
            frame.parse_body(memoryview(self._out[9 : 9 + length]))
            self._out = self._out[9 + length :]
            self.frames.append(frame)
            if isinstance(frame, hf.HeadersFrame | hf.ContinuationFrame):
                self._read_block(frame)

    def _read_block(self, frame: hf.HeadersFrame | hf.ContinuationFrame) -> None:
        self._pending.append(frame)
        if "END_HEADERS" not in frame.flags:
            return
        pending, self._pending = self._pending, []
        fields = self._decoder.decode(b"".join(each.data for each in pending), raw=True)
        pairs = [(bytes(name), bytes(value)) for name, value in fields]
        self.sections.append((frame.stream_id, pairs, "END_STREAM" in pending[0].flags))

    def _act(self, event: Http2Event) -> None:
        if isinstance(event, DataReceived):
            self.codec.acknowledge(event.stream_id, event.credit)
        if isinstance(event, RequestReceived) and event.head.method == b"HEAD":
            self._bodyless.add(event.stream_id)
        if not self.answers or not isinstance(self.codec, Server):
            return
        if isinstance(event, RequestReceived | DataReceived):
            if event.ended:
                self.answer(event.stream_id)
        elif isinstance(event, TrailersReceived):
            self.answer(event.stream_id)

    def answer(self, stream_id: int) -> None:
        """Answer a request with 200 and the body."""
        assert isinstance(self.codec, Server)
        size = ((b"content-length", b"%d" % len(self.body)),)
        if stream_id in self._bodyless:
            self.codec.send_head(stream_id, 200, size, ends=True)
            return
        self.codec.send_head(stream_id, 200, size, ends=False)
        self.codec.send_data(stream_id, self.body, ends=True)

    # What came out.

    @property
    def goaway(self) -> int | None:
        """The error code of our GOAWAY; None: there was none."""
        codes = [frame.error_code for frame in self.frames if isinstance(frame, hf.GoAwayFrame)]
        return codes[-1] if codes else None

    @property
    def resets(self) -> list[tuple[int, int]]:
        """Stream and error code of our RST_STREAMs."""
        return [
            (frame.stream_id, frame.error_code)
            for frame in self.frames
            if isinstance(frame, hf.RstStreamFrame)
        ]

    @property
    def answered(self) -> list[int]:
        """The streams that we ended in order."""
        return [
            frame.stream_id
            for frame in self.frames
            if isinstance(frame, hf.DataFrame | hf.HeadersFrame) and "END_STREAM" in frame.flags
        ]

    @property
    def pongs(self) -> list[bytes]:
        """The answers to pings."""
        return [
            frame.opaque_data
            for frame in self.frames
            if isinstance(frame, hf.PingFrame) and "ACK" in frame.flags
        ]

    @property
    def acks(self) -> int:
        """How many SETTINGS we acknowledged."""
        return sum(
            isinstance(frame, hf.SettingsFrame) and "ACK" in frame.flags for frame in self.frames
        )

    @property
    def announced(self) -> dict[int, int]:
        """The settings that we announced first."""
        return next(
            dict(frame.settings)
            for frame in self.frames
            if isinstance(frame, hf.SettingsFrame) and "ACK" not in frame.flags
        )

    @property
    def updates(self) -> list[int]:
        """By how much we opened the connection's window, in order."""
        return [
            frame.window_increment
            for frame in self.frames
            if isinstance(frame, hf.WindowUpdateFrame) and frame.stream_id == 0
        ]

    @property
    def sizes(self) -> list[int]:
        """The sizes of our DATA frames."""
        return [len(frame.data) for frame in self.frames if isinstance(frame, hf.DataFrame)]

    @property
    def reasons(self) -> list[str]:
        """Why we ended streams and the connection, in order."""
        return [
            event.reason
            for event in self.events
            if isinstance(event, StreamReset | ConnectionEnded) and event.reason
        ]

    @property
    def statuses(self) -> list[int]:
        """The statuses that a client understood."""
        return [event.head.status for event in self.events if isinstance(event, ResponseReceived)]

    def received(self, stream_id: int) -> bytes:
        """Return the content that we understood on a stream."""
        return b"".join(
            event.data
            for event in self.events
            if isinstance(event, DataReceived) and event.stream_id == stream_id
        )


def serve(limits: Http2Limits = HTTP2_LIMITS, *, answers: bool = True) -> Talk:
    """Return a server behind the exchange of prefaces and settings."""
    talk = Talk(Server(limits), answers=answers)
    talk.say(PREFACE + settings() + settings(flags=ACK))
    return talk


def call(
    limits: Http2Limits = HTTP2_LIMITS, fields: Pairs = GET, *, count: int = 1, ends: bool = True
) -> Talk:
    """Return a client behind that exchange, with ``count`` requests sent."""
    codec = Client(limits)
    talk = Talk(codec)
    talk.say(settings() + settings(flags=ACK))
    for _ in range(count):
        pseudo = tuple(field for field in fields if field[0].startswith(b":"))
        others = tuple(field for field in fields if not field[0].startswith(b":"))
        codec.send_request(pseudo, others, ends=ends)
    talk.read()
    return talk
