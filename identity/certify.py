"""The issuer's decision about one request, in the order of Linkerd's identity controller.

    1  the issuer is loaded, in force, and hangs on today's anchors   else issuer-unavailable
    2  identity, token and CSR are there and can be read              else certify-invalid
    3  the CSR is for that identity and nothing else                  else certify-refused
    4  the token proves that very identity                            else certify-refused

What was issued is in the ledger before the caller learns it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import final

from core.errors import IdentityError
from identity.anchors import Anchors
from identity.authority import Authority
from identity.csr import read_csr
from identity.issuer import DEFAULT_LIFETIME, DEFAULT_SKEW, Issuer
from identity.ledger import Entry, append_entry
from identity.name import Identity, parse_identity
from identity.request import INVALID, REFUSED, UNAVAILABLE, Certified, CertifyRequest, refusal
from identity.token import read_token

_Stamp = tuple[tuple[int, int, int], ...]


@final
class Certifier:
    """Decides requests with one authority's issuer, which it loads anew when its files change."""

    __slots__ = ("_authority", "_issuer", "_lifetime", "_skew", "_stamp", "_warn")

    def __init__(
        self,
        authority: Authority,
        *,
        warn: Callable[[str], None],
        lifetime: timedelta = DEFAULT_LIFETIME,
        skew: timedelta = DEFAULT_SKEW,
    ) -> None:
        self._authority = authority
        self._warn = warn
        self._lifetime = lifetime
        self._skew = skew
        self._issuer: Issuer | None = None
        self._stamp: _Stamp = ()

    def certify(self, request: CertifyRequest, now: float) -> Certified:
        """Return a leaf, entered in the ledger. Raises IdentityError with a code of REFUSALS."""
        try:
            issuer, anchors = self._load()
            issuer.not_after(anchors, now)
            secret = self._authority.load_token_secret()
        except IdentityError as error:
            raise refusal(UNAVAILABLE, str(error)) from error
        identity = _read_identity(request)
        try:
            read_csr(request.csr, identity)
            proved = read_token(secret, request.token, now)
            if proved != identity:
                raise refusal(REFUSED, f"the token is {proved}'s; the request is for {identity}")
            issued = issuer.issue(request.csr, identity, anchors, now)
        except IdentityError as error:
            raise refusal(REFUSED, str(error)) from error
        try:
            append_entry(
                self._authority.ledger,
                Entry(f"{issued.serial:x}", identity.name, issuer.fingerprint, issued.not_after),
            )
        except IdentityError as error:
            raise refusal(UNAVAILABLE, str(error)) from error
        return Certified(issued.leaf, issued.intermediates, issued.not_after)

    def check(self, now: float) -> float:
        """Return when the issuer's chain ends, in seconds since the epoch. Raises IdentityError."""
        issuer, anchors = self._load()
        return issuer.not_after(anchors, now)

    def _load(self) -> tuple[Issuer, Anchors]:
        anchors = self._authority.load_anchors()
        stamp = _stamp_of(self._authority.issuer_certificate, self._authority.issuer_key)
        if self._issuer is None or stamp != self._stamp:
            try:
                issuer = self._authority.load_issuer(lifetime=self._lifetime, skew=self._skew)
            except IdentityError as error:
                # Certificate and key are swapped one by one; in between they do not fit.
                if self._issuer is None:
                    raise
                self._warn(f"the new issuer is not taken, the old one stays: {error}")
            else:
                self._issuer, self._stamp = issuer, stamp
        return self._issuer, anchors


def _read_identity(request: CertifyRequest) -> Identity:
    missing = [
        name
        for name, value in (
            ("identity", request.identity),
            ("token", request.token),
            ("CSR", request.csr),
        )
        if not value
    ]
    if missing:
        raise refusal(INVALID, f"the request lacks its {' and its '.join(missing)}")
    try:
        return parse_identity(request.identity)
    except IdentityError as error:
        raise refusal(INVALID, str(error)) from error


def _stamp_of(*paths: Path) -> _Stamp:
    try:
        found = [path.stat() for path in paths]
    except OSError as error:
        raise IdentityError(f"cannot read {error.filename}: {error.strerror}") from error
    return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in found)
