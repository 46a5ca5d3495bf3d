"""Any frames, however cut, have the same meaning at a server's end, and h2's meaning for it.

Nothing is ever raised; what a connection holds stays within its bounds; after its end it is deaf.
"""

from __future__ import annotations

from typing import Final

from tests.fuzz.engine import Target, places_of
from tests.wire.http1_drive import cut
from tests.wire.http2_frame_cases import FRAME_ROWS
from tests.wire.http2_message_cases import HPACK_ROWS, MESSAGE_ROWS
from tests.wire.http2_oracle import difference
from tests.wire.http2_stream_cases import STREAM_ROWS
from tests.wire.http2_talk import GET, Talk, block, data, headers, ping, serve, settings, window

FRAGMENTS: Final = (
    *(b"\x00", b"\x01", b"\x04", b"\x05", b"\x08", b"\x20", b"\x2d", b"\xff", b"\x80", b"\x7f"),
    *(b"\x00\x00\x00", b"\x00\x00\x04\x08\x00", b"\x00\x00\x08\x06\x00", b"\xff\xff\xff\xff"),
    *(block(GET), b"\x82\x86\x84", b"\xbe", b"\x40\x01x\x01y", b"\x3f\xe1\x1f", b":path", b"host"),
    *(headers(1), headers(3), data(1), data(3, ends=False), ping(), settings(), window(0, 1)),
)
"""What a mutation puts in."""


def outcome(talk: Talk) -> tuple[object, ...]:
    """Return everything that came out of a conversation."""
    frames = [(frame.type, frame.stream_id, frame.body_len) for frame in talk.frames]
    return (talk.events, talk.codec.is_ended, talk.codec.active, frames)


def run(stream: bytes) -> str:
    """Check one stream of frames; return how far it went."""
    whole, pieces = serve(answers=False), serve(answers=False)
    whole.say(stream)
    for piece in cut(stream, places_of(stream)):
        for event in pieces.codec.feed(piece, 0.0):
            pieces.events.append(event)
    pieces.read()
    whole_events, pieces_events = whole.events, pieces.events
    assert whole_events == pieces_events, "cut otherwise, understood otherwise"
    assert whole.codec.is_ended is pieces.codec.is_ended
    codec = whole.codec
    assert codec.codec._decoder.table_size <= 4_096
    assert len(codec.codec._rest) < 16_384 + 9
    assert codec.codec._block_size <= 65_536
    if codec.is_ended:
        assert codec.feed(headers(99), 0.0) == []
        assert codec.active == 0
    why, reached = difference(stream, is_server=True)
    assert not why, why
    return f"{reached} {codec.is_ended} {min(codec.active, 3)}"


TARGET: Final = Target(
    "http2_server",
    run,
    [
        b"".join(row.steps)
        for row in (*STREAM_ROWS, *FRAME_ROWS, *MESSAGE_ROWS, *HPACK_ROWS)
        if sum(map(len, row.steps)) < 1_000
    ],
    FRAGMENTS,
)
