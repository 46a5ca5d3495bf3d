"""Any octets, however cut, are the same responses or one refusal, and mean what they mean to h11.

Nothing but a ``ServerProtocolError`` with a known code is ever raised.
"""

from __future__ import annotations

import zlib
from typing import Final

from core.errors import OUTCOMES
from tests.fuzz.engine import Target, places_of
from tests.wire.http1_drive import cut, read_responses
from tests.wire.http1_oracle import difference, judge_response
from tests.wire.http1_response_cases import RESPONSES
from tests.wire.http1_traffic import FRAGMENTS


def run(data: bytes) -> str:
    """Check one stream; return the code and the shape of what was understood."""
    chance = zlib.adler32(data)
    method = (b"GET", b"HEAD")[chance % 2]
    eof = bool(chance & 2)
    whole = read_responses([data], [method], eof=eof)
    pieces = read_responses(cut(data, places_of(data)), [method], eof=eof)
    assert whole.messages == pieces.messages, "cut otherwise, understood otherwise"
    assert whole.code == pieces.code, f"{whole.code} whole, {pieces.code} in pieces"
    assert not whole.code or whole.code in OUTCOMES, whole.code
    why = difference(data, whole, judge_response(data, method, eof=eof))
    assert not why, why
    statuses = [(message.head, bool(message.body)) for message in whole.messages]
    return f"{method!r} {eof} {whole.code} {whole.switched} {len(statuses)}"


TARGET: Final = Target(
    "http1_response",
    run,
    [case.data for case in RESPONSES],
    (*FRAGMENTS, b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 C\r\n\r\n", b"204", b"101"),
)
