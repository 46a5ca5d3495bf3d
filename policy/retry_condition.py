"""Which responses are asked for again, as Linkerd's annotations and headers write them.

Statuses: ``5xx``, ``gateway-error`` (502 to 504), ``429``, ``500-502``; gRPC statuses by name.
Both are lists with commas between (linkerd2, policy-controller; linkerd2-proxy, http/retry).
"""

from __future__ import annotations

from typing import Final

from core.nearest import nearest_name
from policy.model import StatusRange

GRPC_CODES: Final = {
    "cancelled": 1,
    "deadline-exceeded": 4,
    "resource-exhausted": 8,
    "internal": 13,
    "unavailable": 14,
}
"""The gRPC statuses that may be named."""

_NAMED: Final = {"5xx": StatusRange(500, 599), "gateway-error": StatusRange(502, 504)}
_LOWEST: Final = 100
_HIGHEST: Final = 599
MAX_CONDITIONS: Final = 100
"""Conditions of one list."""


def parse_statuses(text: str) -> tuple[StatusRange, ...]:
    """Return the statuses that ``text`` names; raises ValueError."""
    return tuple(dict.fromkeys(_statuses(each) for each in _items(text)))


def parse_grpc_codes(text: str) -> frozenset[int]:
    """Return the gRPC statuses that ``text`` names; raises ValueError."""
    return frozenset(_grpc_code(each) for each in _items(text))


def _items(text: str) -> list[str]:
    items = [each.strip() for each in text.split(",")]
    if len(items) > MAX_CONDITIONS:
        raise ValueError(f"it lists {len(items)} conditions; at most {MAX_CONDITIONS}")
    return items


def _statuses(text: str) -> StatusRange:
    named = _NAMED.get(text)
    if named is not None:
        return named
    low, dash, high = text.partition("-")
    if _is_status(low) and (not dash or _is_status(high)):
        first, last = int(low), int(high or low)
        if first <= last:
            return StatusRange(first, last)
    raise ValueError(
        f"{text[:80]!r} names no statuses; write 5xx, gateway-error, 503 or 500-502, "
        f"from {_LOWEST} to {_HIGHEST}"
    )


def _is_status(text: str) -> bool:
    return len(text) == 3 and text.isascii() and text.isdigit() and _LOWEST <= int(text) <= _HIGHEST


def _grpc_code(text: str) -> int:
    code = GRPC_CODES.get(text)
    if code is None:
        near = nearest_name(text, GRPC_CODES)
        advice = f"did you mean {near}?" if near else f"known are {', '.join(GRPC_CODES)}"
        raise ValueError(f"{text[:80]!r} names no gRPC status that is retried; {advice}")
    return code
