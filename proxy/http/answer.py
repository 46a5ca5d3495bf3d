"""What a client is told when we answer in the server's place.

The shapes are linkerd2-proxy's (app/core/src/errors/respond.rs): a status without content, for
gRPC 200 with the status in the head. The words go only to whoever may know them.
"""

from __future__ import annotations

from typing import Final

from core.errors import MeshError, outcome_of
from proxy.wire.http_field import Field, Fields, safe_value
from proxy.wire.http_message import ResponseHead

PROXY_ERROR: Final = b"l5d-proxy-error"
PROXY_CONNECTION: Final = b"l5d-proxy-connection"
_GRPC: Final = b"application/grpc"
_NO_CONTENT: Final[Field] = (b"content-length", b"0")
_GRPC_NOT_FOUND: Final = 5
_GRPC_FAILED_PRECONDITION: Final = 9


def answer_for(version: int, error: MeshError, *, is_grpc: bool, informs: bool) -> ResponseHead:
    """Return the response that ``error`` makes for a client of ``version``.

    ``informs``: with its words.
    """
    outcome = outcome_of(error)
    fields: list[Field] = []
    if is_grpc:
        status = 200
        fields.append((b"content-type", _GRPC))
        fields.append((b"grpc-status", b"%d" % outcome.grpc))
        if informs:
            fields.append((b"grpc-message", _percent(str(error))))
    else:
        status = outcome.http
    fields.append(_NO_CONTENT)
    if informs:
        fields.append((PROXY_ERROR, safe_value(str(error))))
        if outcome.close:
            fields.append((PROXY_CONNECTION, b"close"))
    return ResponseHead(status, b"", version, tuple(fields), 0, not outcome.close)


def redirect_answer(version: int, status: int, location: bytes, *, is_grpc: bool) -> ResponseHead:
    """Return the answer that sends a client elsewhere; gRPC knows none and is told NOT_FOUND."""
    if is_grpc:
        return _grpc_answer(version, _GRPC_NOT_FOUND, "redirected")
    return ResponseHead(
        status, b"", version, ((b"location", location), _NO_CONTENT), 0, keep_alive=True
    )


def injected_answer(
    version: int, status: int, message: str, *, is_grpc: bool, is_code: bool
) -> ResponseHead:
    """Return a failure that was asked for: an HTTP status, or a gRPC code where ``is_code``."""
    if is_grpc or is_code:
        return _grpc_answer(version, status if is_code else _GRPC_FAILED_PRECONDITION, message)
    fields = (_NO_CONTENT, (PROXY_ERROR, safe_value(message))) if message else (_NO_CONTENT,)
    return ResponseHead(status, b"", version, fields, 0, keep_alive=True)


def _grpc_answer(version: int, code: int, message: str) -> ResponseHead:
    fields = (
        (b"content-type", _GRPC),
        (b"grpc-status", b"%d" % code),
        (b"grpc-message", _percent(message)),
        _NO_CONTENT,
    )
    return ResponseHead(200, b"", version, fields, 0, keep_alive=True)


def trailers_for(error: MeshError, *, informs: bool) -> Fields:
    """Return the trailers that end a gRPC response which ``error`` breaks off."""
    status: Field = (b"grpc-status", b"%d" % outcome_of(error).grpc)
    return (status, (b"grpc-message", _percent(str(error)))) if informs else (status,)


def _percent(text: str) -> bytes:
    """Return ``text`` as a grpc-message (gRPC over HTTP/2, Status-Message)."""
    return b"".join(
        bytes((octet,)) if 0x20 <= octet <= 0x7E and octet != 0x25 else b"%%%02X" % octet
        for octet in text.encode("utf-8", "replace")
    )
