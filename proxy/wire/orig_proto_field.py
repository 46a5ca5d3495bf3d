"""The fields of HTTP/1 that rides on HTTP/2: what stays behind, and the mark.

Walks over fields and nothing more; what they mean is ``orig_proto``'s. Callers take these by way
of ``native``.
"""

from __future__ import annotations

from typing import Final

from proxy.wire.http_field import (
    PER_CONNECTION,
    Fields,
    has_any,
    list_members,
    without_fields,
    without_hop_by_hop,
)

MARK: Final = b"l5d-orig-proto"
CLIENT_ID: Final = b"l5d-client-id"
"""Tells an application who asks; nobody but its own sidecar is believed."""
TAKEN_OFF: Final = frozenset((MARK, b"transfer-encoding", b"te", b"http2-settings"))
FROM_SIDECARS: Final = frozenset((MARK, b"l5d-proxy-error", b"l5d-proxy-connection"))
"""What one sidecar tells another with an answer; from an application it means nothing."""
RESPONSE_TAKEN_OFF: Final = FROM_SIDECARS | {b"transfer-encoding"}
NOT_RIDING: Final = TAKEN_OFF | RESPONSE_TAKEN_OFF | PER_CONNECTION
"""What stays behind, or goes on as another field than it was."""


def ride(
    method: bytes, scheme: bytes, authority: bytes, path: bytes, fields: Fields, mark: Fields
) -> tuple[Fields, Fields]:
    """Return pseudo-header fields, and all the fields that ride, with the mark behind them."""
    if has_any(fields, NOT_RIDING):
        fields = without_hop_by_hop(fields)
        accepts_trailers = any(
            name == b"te" and b"trailers" in list_members(value) for name, value in fields
        )
        fields = without_fields(fields, TAKEN_OFF)
        if accepts_trailers:
            fields = (*fields, (b"te", b"trailers"))
    pseudo = (
        (b":method", method),
        (b":scheme", scheme),
        (b":authority", authority),
        (b":path", path),
    )
    return pseudo, fields + mark


def ride_back(fields: Fields, mark: Fields) -> Fields:
    """Return an answer's fields that ride, with the mark behind them."""
    if has_any(fields, NOT_RIDING):
        fields = without_fields(without_hop_by_hop(fields), RESPONSE_TAKEN_OFF)
    return fields + mark


def land(fields: Fields, gone: frozenset[bytes]) -> tuple[Fields, bytes | None, bool, bool]:
    """Return fields, mark, whether Host is there, and whether cookies came in crumbs.

    The fields are those that ``gone`` does not name, the same object if it names none; the mark
    is the first of those that it names.
    """
    mark: bytes | None = None
    has_host = False
    crumbs = 0
    removes = False
    for name, value in fields:
        if name in gone:
            removes = True
            if mark is None and name == MARK:
                mark = value
        elif name == b"host":
            has_host = True
        elif name == b"cookie":
            crumbs += 1
    if removes:
        fields = tuple([field for field in fields if field[0] not in gone])
    return fields, mark, has_host, crumbs > 1
