"""Any frames, however cut, have the same meaning at a client's end, and h2's meaning for it.

Nothing is ever raised; what a connection holds stays within its bounds; after its end it is deaf.
"""

from __future__ import annotations

from typing import Final

from tests.fuzz.engine import Target, places_of
from tests.fuzz.fuzz_http2_server import FRAGMENTS
from tests.wire.http1_drive import cut
from tests.wire.http2_client_cases import CLIENT_ROWS
from tests.wire.http2_oracle import difference
from tests.wire.http2_talk import OK, block, call, headers


def run(stream: bytes) -> str:
    """Check one stream of frames; return how far it went."""
    whole, pieces = call(count=2), call(count=2)
    whole.say(stream)
    for piece in cut(stream, places_of(stream)):
        pieces.events += pieces.codec.feed(piece, 0.0)
    pieces.read()
    assert whole.events == pieces.events, "cut otherwise, understood otherwise"
    assert whole.codec.is_ended is pieces.codec.is_ended
    assert whole.codec.codec._decoder.table_size <= 4_096
    if whole.codec.is_ended:
        assert whole.codec.feed(headers(1, OK), 0.0) == []
        assert whole.codec.active == 0
    why, reached = difference(stream, is_server=False)
    assert not why, why
    return f"{reached} {whole.codec.is_ended} {whole.codec.active}"


TARGET: Final = Target(
    "http2_client",
    run,
    [b"".join(row.steps) for row in CLIENT_ROWS if sum(map(len, row.steps)) < 1_000],
    (*FRAGMENTS, block(OK), headers(1, OK), headers(3, OK, ends=False), b"\x88"),
)
