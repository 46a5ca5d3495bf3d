"""Workload identities as values: Linkerd's DNS-like names and SPIFFE URIs.

A text is read as a DNS name first, then as a URI (linkerd2-proxy, identity/src/lib.rs). Names
compare by full equality after lower-casing; a DNS name with a trailing dot is no identity, nor
is one whose last label is a number: that is an address.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, final

from core.errors import IdentityError
from core.record import dataclass

MAX_NAME_BYTES: Final = 253
"""A DNS name's longest text form (RFC 1035 section 2.3.4)."""
MAX_URI_BYTES: Final = 2048
"""A SPIFFE ID's longest form (SPIFFE ID specification, section 2.3)."""

_DNS: Final = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
    r"(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*",
    re.ASCII,
)
_NUMBER: Final = re.compile(r"(?:.*\.)?[0-9]+", re.ASCII)
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_SPIFFE: Final = re.compile(r"spiffe://([a-z0-9._-]{1,255})((?:/[A-Za-z0-9._-]+)*)", re.ASCII)


@final
@dataclass(frozen=True, slots=True)
class Identity:
    """One workload identity, as it stands in a certificate's SAN."""

    name: str
    """The DNS-like name in lower case, or the whole ``spiffe://`` URI."""
    is_uri: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def trust_domain(self) -> str:
        """The trust domain: a URI's authority, or what follows ``identity.<namespace>.``.

        A DNS name that is not of Linkerd's form has no domain of its own: the empty string.
        """
        if self.is_uri:
            return self.name[len("spiffe://") :].partition("/")[0]
        _, found, rest = self.name.partition(".serviceaccount.identity.")
        return rest.partition(".")[2] if found else ""


@final
@dataclass(frozen=True, slots=True)
class WorkloadName:
    """The parts of ``<sa>.<ns>.serviceaccount.identity.<control ns>.<trust domain>``."""

    service_account: str
    namespace: str
    control_namespace: str
    trust_domain: str

    @property
    def identity(self) -> Identity:
        """The identity with these parts."""
        return parse_identity(
            f"{self.service_account}.{self.namespace}.serviceaccount.identity."
            f"{self.control_namespace}.{self.trust_domain}"
        )


def parse_identity(text: str) -> Identity:
    """Read an identity: a DNS name first, then a SPIFFE URI. Raises IdentityError."""
    # Only ASCII is lower-cased: other letters fold into it (the Kelvin sign into k), and would
    # make two names in two certificates one identity.
    if text.isascii() and len(text) <= MAX_URI_BYTES:
        lowered = text.lower()
        if _DNS.fullmatch(lowered) and not _NUMBER.fullmatch(lowered):
            return Identity(lowered)
        found = _SPIFFE.fullmatch(text)
        if found is not None and not _dotted_segment(found[2]):
            return Identity(text, is_uri=True)
    raise IdentityError(
        f"{text[:80]!r} is no identity",
        hint="an identity is a DNS name without trailing dot, or spiffe://trust-domain/path",
    )


def try_identity(text: str) -> Identity | None:
    """Return the identity ``text`` names, or None."""
    try:
        return parse_identity(text)
    except IdentityError:
        return None


def parse_workload(identity: Identity) -> WorkloadName | None:
    """Take a Linkerd-style identity apart; None for any other form."""
    if identity.is_uri:
        return None
    who, found, rest = identity.name.partition(".serviceaccount.identity.")
    service_account, _, namespace = who.rpartition(".")
    control_namespace, _, trust_domain = rest.partition(".")
    if not (found and service_account and namespace and control_namespace and trust_domain):
        return None
    return WorkloadName(service_account, namespace, control_namespace, trust_domain)


def is_label(text: str) -> bool:
    """Whether ``text`` is a DNS-1123 label, as namespaces and service accounts are."""
    return _LABEL.fullmatch(text) is not None


def is_trust_domain(text: str) -> bool:
    """Whether ``text`` can name a trust domain: a DNS name in lower case, without trailing dot."""
    return _DNS.fullmatch(text) is not None


def _dotted_segment(path: str) -> bool:
    return any(segment in {".", ".."} for segment in path.split("/"))


def identities_of(names: Iterable[tuple[str, str]]) -> tuple[Identity, ...]:
    """Return the identities among a certificate's SANs, in its order.

    ``names`` are (kind, text) as the ``ssl`` module gives them. DNS and URI count, and of these
    the ones that parse as what they say they are.
    """
    return tuple(
        found
        for kind, text in names
        if kind in {"DNS", "URI"}
        and (found := try_identity(text)) is not None
        and found.is_uri == (kind == "URI")
    )
