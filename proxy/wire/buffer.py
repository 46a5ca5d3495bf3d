"""Octets in any of the forms that they are passed on in."""

from __future__ import annotations

Buffer = bytes | bytearray | memoryview


def owned(data: Buffer) -> bytes:
    """Return ``data`` as octets to be kept: a copy, unless nobody can change them anyway."""
    return data if isinstance(data, bytes) else bytes(data)
