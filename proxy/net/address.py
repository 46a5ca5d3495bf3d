"""Addresses as sockets tell them, and as policy and discovery write them."""

from __future__ import annotations

_MAPPED = "::ffff:"


def plain_ip(ip: str) -> str:
    """Return an address without disguise: IPv4 mapped into IPv6 as IPv4, and without a zone.

    A socket that listens for both families names its IPv4 peers in IPv6 (RFC 4291, 2.5.5.2).
    """
    if ":" not in ip:
        return ip
    if ip.startswith(_MAPPED) and "." in ip:
        return ip[len(_MAPPED) :]
    return ip.partition("%")[0]
