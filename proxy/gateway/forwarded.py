"""The field ``forwarded`` (RFC 7239) as a gateway writes and reads it, in Linkerd's form."""

from __future__ import annotations

from typing import Final

from proxy.wire.http_field import Field, Fields

FORWARDED: Final = b"forwarded"


def forwarded(by: str, client: str, authority: bytes) -> Field:
    """Return what says who carried a request, for whom, and to what."""
    who = f"by={by};for={client};host=".encode("ascii")
    return (FORWARDED, who + authority + b";proto=https")


def has_passed(fields: Fields, by: str) -> bool:
    """Whether a request was carried by this gateway before."""
    wanted = by.lower().encode("ascii")
    for name, value in fields:
        if name != FORWARDED:
            continue
        for element in value.lower().replace(b",", b";").split(b";"):
            key, _, said = element.strip().partition(b"=")
            if key.strip() == b"by" and said.strip().strip(b'"') == wanted:
                return True
    return False


def authority_of(host: str, port: int) -> bytes:
    """Return a name and port as HTTP says them: port 80 is left out."""
    return (host if port == 80 else f"{host}:{port}").encode("ascii")
