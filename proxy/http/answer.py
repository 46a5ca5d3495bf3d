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
