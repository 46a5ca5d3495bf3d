"""The issuer's decision about one request, in the order of Linkerd's identity controller.

    1  the issuer is loaded, in force, and hangs on today's anchors   else issuer-unavailable
    2  identity, token and CSR are there and can be read              else certify-invalid
    3  the CSR is for that identity and nothing else                  else certify-refused
    4  the token proves that very identity                            else certify-refused

What was issued is in the ledger before the caller learns it. A new issuer is taken up when its
files change and it could issue; until then the old one goes on for as long as it may.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final, final

from core.errors import IdentityError
from identity.anchors import Anchors, authority_ends, short_fingerprint
from identity.authority import Authority
from identity.csr import read_csr
from identity.expiry import AUTHORITY_WARNING_S, authority_warning
from identity.files import Stamp, stamp_of
from identity.issuer import DEFAULT_LIFETIME, DEFAULT_SKEW, Issuer
from identity.ledger import Entry, append_entry
from identity.name import Identity, parse_identity
from identity.request import INVALID, REFUSED, UNAVAILABLE, Certified, CertifyRequest, refusal
from identity.token import read_token

_ATTEMPTS: Final = 3
"""Leaves made for one request while the issuer is being exchanged."""


@final
class Certifier:
    """Decides requests with one authority's issuer, which it loads anew when its files change."""

    __slots__ = (
        "_anchors",
        "_authority",
        "_issuer",
        "_lifetime",
        "_said",
        "_skew",
        "_stamp",
        "_warn",
    )

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
        self._stamp: Stamp = ()
        self._anchors: Anchors | None = None
        self._said: tuple[str, ...] = ()
        """Faults of the files that were warned about and still hold."""

    def certify(self, request: CertifyRequest, now: float) -> Certified:
        """Return a leaf, entered in the ledger. Raises IdentityError with a code of REFUSALS."""
        for _ in range(_ATTEMPTS):
            stamp = self._files()
            certified = self._certify(request, now)
            # Once the issuer's files are exchanged, no leaf of the old one may be given out that
            # whoever exchanged them could not see in the ledger.
            if self._files() == stamp:
                return certified
        raise refusal(UNAVAILABLE, "the issuer is being exchanged")

    def check(self, now: float) -> float:
        """Return when the issuer's chain ends, in seconds since the epoch. Raises IdentityError."""
        issuer, anchors = self._load(now)
        return issuer.not_after(anchors, now)

    def warnings(self, now: float) -> list[str]:
        """Return what is to be said about the ends of issuer and anchors; never raises."""
        try:
            issuer, anchors = self._load(now)
        except IdentityError as error:
            return [f"nothing is issued: {error}"]
        found = [
            *(("the issuer", end) for end in issuer.ends),
            *(
                (f"the trust anchor {short_fingerprint(root)} of {domain}", end)
                for domain, roots in sorted(anchors.roots.items())
                for root, end in sorted(authority_ends(roots).items())
            ),
        ]
        return [
            authority_warning(what, end, now)
            for what, end in found
            if end - now < AUTHORITY_WARNING_S
        ]

    def _certify(self, request: CertifyRequest, now: float) -> Certified:
        try:
            issuer, anchors = self._load(now)
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

    def _load(self, now: float) -> tuple[Issuer, Anchors]:
        self._anchors = anchors = self._authority.load_anchors(self._anchors)
        faults = list(anchors.problems)
        stamp = self._files()
        if self._issuer is None or stamp != self._stamp:
            try:
                issuer = self._authority.load_issuer(lifetime=self._lifetime, skew=self._skew)
                if self._issuer is not None:
                    issuer.not_after(anchors, now)
            except IdentityError as error:
                # Certificate and key are swapped one by one; in between they do not fit. A root
                # that is not trusted yet may follow.
                if self._issuer is None:
                    raise
                faults.append(f"the new issuer is not taken, the old one stays: {error}")
            else:
                self._issuer, self._stamp = issuer, stamp
        for fault in faults:
            if fault not in self._said:
                self._warn(fault)
        self._said = tuple(faults)
        return self._issuer, anchors

    def _files(self) -> Stamp:
        return stamp_of([self._authority.issuer_certificate, self._authority.issuer_key])


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
