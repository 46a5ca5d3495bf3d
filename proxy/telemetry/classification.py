"""Whether a response was a success, by Linkerd's defaults, and what gRPC's statuses are called.

An HTTP status fails from 500 on; a gRPC status when it tells of the server's fault and not of the
caller's (linkerd2-proxy, app/core/src/classify.rs). Metrics and circuit breaking ask the same.
"""

from __future__ import annotations

from typing import Final

GRPC_NAMES: Final = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND"),
    *("ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"),
    *("ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"),
    "UNAUTHENTICATED",
)
"""gRPC's statuses, each at its number."""

CLIENT_CLOSED: Final = "client-closed"
UNKNOWN: Final = 2
"""What a gRPC status counts as that is missing, or is none of the known ones."""

FAILED_GRPC: Final = frozenset(
    GRPC_NAMES.index(name)
    for name in (
        *("UNKNOWN", "DEADLINE_EXCEEDED", "PERMISSION_DENIED"),
        *("INTERNAL", "UNAVAILABLE", "DATA_LOSS"),
    )
)
"""The gRPC statuses that are failures."""

_NUMBERS: Final = {str(number).encode(): number for number in range(len(GRPC_NAMES))}
_GRPC: Final = b"application/grpc"


def is_grpc_type(content_type: bytes | None) -> bool:
    """Tell whether a ``content-type`` is gRPC's (gRPC over HTTP/2, "Requests")."""
    if content_type is None or not content_type.startswith(_GRPC):
        return False
    return content_type[len(_GRPC) : len(_GRPC) + 1] in (b"", b"+", b";")


def grpc_status_of(value: bytes | None) -> int | None:
    """Return the number in a ``grpc-status``; None without one, UNKNOWN for what is no status."""
    return None if value is None else _NUMBERS.get(value, UNKNOWN)


def is_failure(status: int, grpc_status: int | None, error: str = "") -> bool:
    """Tell whether a response failed: by its error, else its gRPC status, else its HTTP status.

    ``error`` is the code of what broke it off, empty when it came to its end; a client that left
    says nothing about the server. A gRPC response that ends without its status is judged by that of
    HTTP.
    """
    if error and error != CLIENT_CLOSED:
        return True
    if grpc_status is not None:
        return grpc_status in FAILED_GRPC
    return status >= 500
