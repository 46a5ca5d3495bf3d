"""HTTP fields as all of the data path holds them: lower-case name and value, in order, as bytes.

Counterparts: ``http1_head`` and ``http2_header`` make them, the writers and HPACK take them. What
stands here is true of fields whatever the version: their grammar (RFC 9110 §5), which of them
speak only of one connection (RFC 9110 §7.6.1), and the lists inside a value (RFC 9110 §5.6.1).
"""

from __future__ import annotations

import re
from typing import Final

Field = tuple[bytes, bytes]
"""A name in lower case and a value without blanks around it."""

Fields = tuple[Field, ...]
"""Fields in the order of the wire; never changed in place, so that they can be shared."""

TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
"""One character of a token (RFC 9110 §5.6.2), for use inside regular expressions."""

TEXT: Final = rb"[\t\x20-\x7e\x80-\xff]"
"""One octet of a field value (RFC 9110 §5.5): no controls but the tab."""

PER_CONNECTION: Final = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"upgrade"))
"""Fields that speak of one connection only, whether or not ``connection`` names them."""

_NEVER_DROPPED: Final = frozenset((b"host", b"content-length", b"transfer-encoding"))
"""What ``connection`` may name in vain: without them a message would mean something else."""

_TOLD_BY_US: Final = frozenset((b"l5d-client-id", b"forwarded"))
"""The same: a client that is known would call as nobody."""

_NOT_IN_TRAILERS: Final = PER_CONNECTION | _NEVER_DROPPED | {b"te", b"trailer", b"expect"}

_VALUE: Final = re.compile(TEXT + rb"*+")
_NOT_TEXT: Final = re.compile(rb"[^\t\x20-\x7e\x80-\xff]+")


def value_of(fields: Fields, name: bytes) -> bytes | None:
    """Return the first value of the field ``name``; None when there is none."""
    for key, value in fields:
        if key == name:
            return value
    return None


def has_any(fields: Fields, names: frozenset[bytes]) -> bool:
    """Tell whether one of the fields is named by ``names``."""
    for name, _ in fields:  # noqa: SIM110 - any() makes a generator, at three times the cost
        if name in names:
            return True
    return False


def list_members(value: bytes) -> list[bytes]:
    """Return a comma-separated value's members in lower case, empty ones left out."""
    if b"," not in value:
        member = value.strip().lower()
        return [member] if member else []
    return [member for part in value.lower().split(b",") if (member := part.strip())]


def without_fields(fields: Fields, names: frozenset[bytes]) -> Fields:
    """Return ``fields`` without those that ``names`` holds; the same object if none is there."""
    for name, _ in fields:
        if name in names:
            return tuple([field for field in fields if field[0] not in names])
    return fields


def without_hop_by_hop(fields: Fields) -> Fields:
    """Return what goes on to the next hop (RFC 9110 §7.6.1, as Linkerd does it).

    ``connection``, every field that it names, ``keep-alive``, ``proxy-connection`` and
    ``upgrade`` go; ``te`` and ``transfer-encoding`` are for whoever writes the next message. A
    ``connection`` that names the host, the framing or who asks is not followed there.
    """
    named: set[bytes] | None = None
    found = False
    for name, value in fields:
        if name == b"connection":
            found = True
            members = list_members(value)
            if members:
                named = named or set()
                named.update(members)
        elif name in PER_CONNECTION:
            found = True
    if not found:
        return fields
    if named is None:
        return without_fields(fields, PER_CONNECTION)
    return without_fields(fields, (PER_CONNECTION | named) - _NEVER_DROPPED - _TOLD_BY_US)


def may_be_trailer(name: bytes) -> bool:
    """Tell whether a field may follow the content: framing, host and connection may not.

    RFC 9110 §6.5.1; a receiver that merges trailers must not come to another end or address.
    """
    return name not in _NOT_IN_TRAILERS


def with_one_cookie(fields: Fields) -> Fields:
    """Return ``fields`` with all cookie crumbs in one field, for HTTP/1 (RFC 9113 §8.2.3)."""
    if value_of(fields, b"cookie") is None:
        return fields
    crumbs = [value for name, value in fields if name == b"cookie"]
    if len(crumbs) < 2:
        return fields
    joined: list[Field] = []
    for field in fields:
        if field[0] != b"cookie":
            joined.append(field)
        elif crumbs:
            joined.append((b"cookie", b"; ".join(crumbs)))
            crumbs = []
    return tuple(joined)


def is_value(value: bytes) -> bool:
    """Tell whether ``value`` may stand in a field: text, without blanks at its ends."""
    return _VALUE.fullmatch(value) is not None and value == value.strip(b" \t")


def safe_value(text: str) -> bytes:
    """Return ``text`` as a field value; runs of what may not stand there become a blank."""
    return _NOT_TEXT.sub(b" ", text.encode("utf-8", "replace")).strip(b" \t")
