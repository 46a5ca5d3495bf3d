"""What a workload asks its issuer, what the issuer answers, and how it refuses."""

from __future__ import annotations

from dataclasses import field
from typing import Final, final

from core.errors import IdentityError
from core.record import dataclass

UNAVAILABLE: Final = "issuer-unavailable"
"""The issuer cannot issue now: not loaded, expired, or off its anchors."""
INVALID: Final = "certify-invalid"
"""The request is not one that could ever be granted as it stands."""
REFUSED: Final = "certify-refused"
"""The request is understood and not granted: names or token do not fit."""
REFUSALS: Final = frozenset({UNAVAILABLE, INVALID, REFUSED})


@final
@dataclass(frozen=True, slots=True)
class CertifyRequest:
    """A workload's request for a leaf."""

    identity: str
    token: bytes = field(repr=False)
    csr: bytes = field(repr=False)
    """DER."""


@final
@dataclass(frozen=True, slots=True)
class Certified:
    """An issuer's answer: a leaf with what a peer needs to verify it."""

    leaf: bytes = field(repr=False)
    """DER."""
    intermediates: tuple[bytes, ...] = field(repr=False)
    """DER, the leaf's own issuer first, without the root."""
    valid_until: float
    """Seconds since the epoch."""


def refusal(code: str, message: str, hint: str = "") -> IdentityError:
    """Return the error that an issuer refuses with; ``code`` is one of ``REFUSALS``."""
    return IdentityError(message, code=code, hint=hint)
