"""A question about policy, as a person puts it: who calls, and what they ask for. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final

from core.errors import ConfigError
from identity.name import Identity
from policy.match import Request
from policy.model import Client, ClientTls

DEFAULT_IP: Final = "10.0.0.1"
"""Where a caller is who is only named."""
TLS_WORDS: Final = ("mesh", "no-identity", "none")
"""Mesh TLS with an identity or without one, and plaintext."""


def asked_client(source: str, identity: Identity | None, ip: str, tls: str) -> Client:
    """Return a caller; empty texts are what the rest implies. Raises ConfigError."""
    if not is_ip(ip or DEFAULT_IP):
        raise ConfigError(f"{ip[:80]!r} is no IP address")
    if not tls:
        tls = "mesh" if identity is not None else "none"
    if tls not in TLS_WORDS:
        raise ConfigError(f"{tls[:80]!r} is no kind of TLS; wanted one of {', '.join(TLS_WORDS)}")
    if tls == "mesh" and identity is None:
        raise ConfigError(f"{source} has no identity: say no-identity or none for its TLS")
    return Client(
        ip or DEFAULT_IP,
        ClientTls.NONE if tls == "none" else ClientTls.MESH,
        identity if tls == "mesh" else None,
    )


def asked_request(
    method: str, path: str, headers: Sequence[str], *, is_grpc: bool
) -> Request | None:
    """Return a request with headers written as NAME:VALUE; None: a bare connection.

    Raises ConfigError for what is no header.
    """
    method = method or ("POST" if is_grpc else "")
    if not method:
        if headers or path:
            raise ConfigError("a path or header belongs to a request: give METHOD and PATH")
        return None
    found = []
    for each in headers:
        name, colon, value = each.partition(":")
        if not colon or not name.strip():
            raise ConfigError(f"{each[:80]!r} is no header; wanted NAME:VALUE")
        found.append((name.strip().lower(), value.strip()))
    path, _, query = (path or "/").partition("?")
    host = next((value for name, value in found if name == "host"), "")
    return Request(
        method.upper(),
        path,
        host,
        query,
        tuple((name.encode(), value.encode()) for name, value in found),
    )


def is_ip(text: str) -> bool:
    """Whether ``text`` is an IP address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
