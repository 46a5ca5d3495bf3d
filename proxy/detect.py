"""Which HTTP a connection carries, if any, once TLS is off it."""

from __future__ import annotations

import asyncio
from typing import Final

from policy.model import Protocol
from proxy.net.inbox import Inbox
from proxy.wire.http_detect import DETECT_OCTETS, HttpKind, detect_http

DECLARED: Final = {
    Protocol.HTTP1: HttpKind.HTTP1,
    Protocol.HTTP2: HttpKind.HTTP2,
    Protocol.GRPC: HttpKind.HTTP2,
    Protocol.OPAQUE: HttpKind.NONE,
    Protocol.TLS: HttpKind.NONE,
}
"""What needs no look at the bytes."""
RESULTS: Final = {HttpKind.HTTP1: "http/1", HttpKind.HTTP2: "http/2", HttpKind.NONE: "not_http"}
"""What detection found, as the metric's label says it."""


WORD_S: Final = 0.2
"""How long a client may stay silent behind a single word: it may be all that it has to say."""
LINE_S: Final = 1.0
"""The same behind what could be half of a request line; a lost packet comes again by then."""


async def detect_protocol(inbox: Inbox, timeout_s: float, otherwise: HttpKind) -> HttpKind:
    """Return what the client's first bytes begin; ``otherwise`` when they do not say it.

    They do not when the client ends or falls silent behind what could be half of a request line.

    The bytes stay in the inbox. Raises ClosedEarlyError.
    """
    kind = detect_http(bytes(inbox.data[:DETECT_OCTETS]))
    if kind is not None:
        return kind
    try:
        async with asyncio.timeout(timeout_s):
            while kind is None:
                if not await _more(inbox):
                    return otherwise
                kind = detect_http(bytes(inbox.data[:DETECT_OCTETS]))
            return kind
    except TimeoutError:
        return otherwise


async def _more(inbox: Inbox) -> bool:
    """Wait for more bytes; False when what has come may be all that the client has to say."""
    seen = len(inbox.data)
    if not seen:
        return await inbox.more(seen)
    try:
        async with asyncio.timeout(LINE_S if b" " in inbox.data else WORD_S):
            return await inbox.more(seen)
    except TimeoutError:
        return False
