"""Any talk over TLS comes to the same with the kernel and without it.

Where that is built with AddressSanitizer, it also touches nothing but what it was given.
"""

from __future__ import annotations

from typing import Final

from tests.fuzz.engine import Target
from tests.wire.tls_pair import compared


def run(data: bytes) -> str:
    """Check one talk; return what kinds of things happened."""
    told = compared(data)
    kinds = sorted({" ".join(each.split()[:2]) if each[0] in "01" else each[:6] for each in told})
    return " ".join(kinds)


TARGET: Final = Target(
    "tls_records",
    run,
    [bytes.fromhex(each) for each in ("00100310", "00ff03ff", "001006000320", "0010051003ff")],
    (b"\x00\x10\x03\xff", b"\x01\x20\x02\xff", b"\x05\x03", b"\x04\x30", b"\x06\x00", b"\x07\x00"),
)
