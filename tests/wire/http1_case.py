"""Rows of HTTP/1: bytes, and what must be understood from them, by section of RFC 9112.

A refused row names the code; an accepted one what is understood: for a request
``METHOD authority path body``, for a response ``status body``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from proxy.wire.http_field import Fields


@final
@dataclass(frozen=True)
class Case:
    """One stream and what it means; ``code`` is empty when it is taken."""

    section: str
    name: str
    data: bytes
    code: str = ""
    understood: tuple[str, ...] = ()
    trailers: Fields = ()
    method: bytes = b"GET"
    """What a response answers."""
    eof: bool = False


def refused(section: str, name: str, data: bytes, code: str) -> Case:
    """Return a row that is refused."""
    return Case(section, name, data, code)


def taken(section: str, name: str, data: bytes, *understood: str, trailers: Fields = ()) -> Case:
    """Return a row that is taken."""
    return Case(section, name, data, "", understood, trailers)


def request(*lines: bytes, start: bytes = b"POST /x HTTP/1.1", body: bytes = b"") -> bytes:
    """Return a request with Host and ``lines``."""
    return b"\r\n".join((start, b"Host: a", *lines, b"", body))


def answered(method: bytes, section: str, name: str, data: bytes, *understood: str) -> Case:
    """Return a row for a response to ``method`` that is taken."""
    return Case(section, name, data, "", understood, method=method)
