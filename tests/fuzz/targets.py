"""Every fuzz target, by name."""

from __future__ import annotations

from typing import Final

from tests.fuzz import (
    fuzz_der,
    fuzz_hpack,
    fuzz_http1_heads,
    fuzz_http1_request,
    fuzz_http1_response,
    fuzz_http2_client,
    fuzz_http2_server,
    fuzz_tls_records,
)
from tests.fuzz.engine import Target

TARGETS: Final[dict[str, Target]] = {
    module.TARGET.name: module.TARGET
    for module in (
        fuzz_http1_request,
        fuzz_http1_response,
        fuzz_http2_server,
        fuzz_http2_client,
        fuzz_hpack,
        fuzz_http1_heads,
        fuzz_tls_records,
        fuzz_der,
    )
}
