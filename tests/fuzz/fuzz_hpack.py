"""Any blocks mean the same to the HPACK that runs and to its reference, until one cannot be read.

Where the kernel is built with AddressSanitizer, it also reads nothing but its input.
"""

from __future__ import annotations

from typing import Final

from proxy.wire.http2_header import Section
from tests.fuzz.engine import Target, places_of
from tests.fuzz.fuzz_http2_server import FRAGMENTS
from tests.wire.hpack_pair import DecoderPair, EncoderPair
from tests.wire.http1_drive import cut
from tests.wire.http2_message_cases import HPACK_ROWS
from tests.wire.http2_talk import GET, block, literal


def run(data: bytes) -> str:
    """Check one connection's worth of blocks; return what came of them."""
    pair = DecoderPair(600, 1_200)
    encoders = EncoderPair()
    said: list[str] = []
    for piece in [each for each in cut(data, places_of(data)) for _ in range(2)]:
        section = pair.decode(piece)
        if not isinstance(section, Section):
            said.append(section)
            break
        for _ in range(2):
            encoders.encode((), section.fields, section.never_indexed)
        encoders.resize(len(piece) * 16)
        said.append(f"{section.fault}{min(len(section.fields), 2)}")
    return " ".join(said[-2:])


TARGET: Final = Target(
    "hpack",
    run,
    [
        block(GET),
        literal(b"x", b"1", 0x40) * 3 + b"\xbe\xbf",
        literal(b"host", b"[::1]:80") + literal(b"content-length", b"12", 0x10),
        *(b"".join(row.steps) for row in HPACK_ROWS if sum(map(len, row.steps)) < 1_000),
    ],
    FRAGMENTS,
)
