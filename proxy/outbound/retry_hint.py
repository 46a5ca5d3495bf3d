"""What a response says about asking again: a far sidecar's error, and how long to wait.

Pure.
"""

from __future__ import annotations

from typing import Final

from proxy.outbound.retry import Happened

FAR_WORDS: Final = (
    *("connection refused", "connect-refused", "cannot be reached", "unreachable"),
    *("connect error", "connect timed out", "connect-timeout", "did not answer within"),
    *("fail-fast", "failfast", "no route to host"),
)
"""Words by which a far sidecar's ``l5d-proxy-error`` says that its application is out of reach."""


def happened_far(status: int, proxy_error: str) -> Happened:
    """Return what a response with ``l5d-proxy-error`` means, from an authenticated far sidecar.

    Not to be asked about a response whose sender is not known to be a sidecar: an application
    could set the header.
    """
    if status not in (502, 504):
        return Happened.RESPONSE
    text = proxy_error.lower()
    if any(word in text for word in FAR_WORDS):
        return Happened.UNREACHABLE
    return Happened.RESET if status == 502 else Happened.RESPONSE


def parse_pushback(text: str) -> int:
    """Return ``grpc-retry-pushback-ms``; what is no number means never again (gRFC A6)."""
    return int(text) if _is_number(text) else -1


def parse_retry_after(text: str, wall_s: float) -> float | None:
    """Return ``Retry-After`` in seconds; None when it is neither a number nor a date.

    ``wall_s`` is now, in seconds since the epoch (RFC 9110, 10.2.3).
    """
    if _is_number(text):
        return float(text)
    # Few servers send a date, and reading one takes a library.
    from email.utils import parsedate_to_datetime  # noqa: PLC0415

    try:
        return max(0.0, parsedate_to_datetime(text[:64]).timestamp() - wall_s)
    except (ValueError, OverflowError):
        return None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9
