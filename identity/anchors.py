"""Trust anchors by trust domain: ``<directory>/<trust domain>.pem``, one bundle a domain.

OpenSSL verifies against the union of all bundles, because a context has one store. Which domain
a chain's root may speak for is decided afterwards, from here: the root of another domain never
vouches for a name of ours. Two roots of equal subject stand side by side in every rotation.
"""

from __future__ import annotations

import itertools
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final, final

from core.errors import IdentityError
from identity.files import read_bounded
from identity.name import Identity, is_trust_domain
from identity.pem import split_pem

MAX_DOMAINS: Final = 64
"""Bundles read from one directory: our own trust domain and those of linked clusters."""
MAX_ROOTS: Final = 64
"""Roots in one bundle; a rotation needs two."""
MAX_ENTRIES: Final = 1024
"""Directory entries looked at before the rest is given up on."""
_SUFFIX: Final = ".pem"


@final
@dataclass(frozen=True, slots=True)
class Anchors:
    """The roots in force, each under the trust domain that it may speak for."""

    own_domain: str
    """Our trust domain; an identity without a domain of its own belongs to it."""
    roots: Mapping[str, frozenset[bytes]]
    """Trust domain → its roots as DER."""
    problems: tuple[str, ...] = field(default=(), compare=False)
    """What could not be used, a sentence each."""

    def domain_of(self, identity: Identity | None) -> str:
        """Return the trust domain that has to vouch for ``identity``."""
        return (identity.trust_domain if identity is not None else "") or self.own_domain

    def vouches(self, root: bytes, domain: str) -> bool:
        """Whether ``root`` (DER) is one of the anchors of ``domain``."""
        return root in self.roots.get(domain, ())

    @property
    def union(self) -> bytes:
        """Every root once, as concatenated DER: what OpenSSL takes as its store."""
        return b"".join(sorted({root for roots in self.roots.values() for root in roots}))


def load_anchors(directory: Path, own_domain: str) -> Anchors:
    """Read every ``<trust domain>.pem`` of ``directory``.

    What cannot be used is left out and named in ``problems``. Raises IdentityError when the
    bundle of ``own_domain`` is missing, too long, or has no usable root.
    """
    own = own_domain.lower()
    if not is_trust_domain(own):
        raise IdentityError(
            f"{own_domain[:80]!r} cannot be a trust domain; it has to be a DNS name"
        )
    problems: list[str] = []
    found: dict[str, frozenset[bytes]] = {
        own: _load_bundle(directory / f"{own}{_SUFFIX}", problems)
    }
    if not found[own]:
        raise IdentityError(
            f"no usable trust anchor for {own} in {directory / (own + _SUFFIX)}"
            + (f": {'; '.join(problems)}" if problems else "")
        )
    for domain in _domains(directory, problems):
        if domain == own:
            continue
        if len(found) >= MAX_DOMAINS:
            problems.append(
                f"{directory} holds more than {MAX_DOMAINS} bundles; {domain} is not read"
            )
            continue
        try:
            roots = _load_bundle(directory / f"{domain}{_SUFFIX}", problems)
        except IdentityError as error:
            problems.append(str(error))
            continue
        if roots:
            found[domain] = roots
    return Anchors(own, MappingProxyType(found), tuple(problems))


def parse_roots(pem: bytes, source: str) -> tuple[frozenset[bytes], list[str]]:
    """Return the usable roots of a PEM bundle, and a sentence for everything else in it.

    A root is usable when OpenSSL takes it as a certificate authority. Raises IdentityError when
    there are more than ``MAX_ROOTS``.
    """
    blocks, broken = split_pem(pem)
    problems = [f"{source}: {broken} PEM blocks cannot be decoded"] if broken else []
    distinct = list(dict.fromkeys(blocks))
    if len(distinct) > MAX_ROOTS:
        raise IdentityError(f"{source} holds {len(distinct)} roots; {MAX_ROOTS} at most are used")
    store = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unparsable = set()
    for der in distinct:
        try:
            store.load_verify_locations(cadata=der)
        except (ssl.SSLError, ValueError):
            unparsable.add(der)
    # OpenSSL lists authorities only, in its own encoding, which a verified chain's root will be
    # compared in: a block with bytes after its certificate is not among them.
    usable = frozenset(store.get_ca_certs(binary_form=True)) & frozenset(distinct)
    for number, der in enumerate(distinct, start=1):
        if der not in usable:
            fault = "cannot be parsed" if der in unparsable else "is no certificate authority"
            problems.append(f"{source}: certificate {number} {fault}")
    return usable, problems


def _load_bundle(path: Path, problems: list[str]) -> frozenset[bytes]:
    roots, found = parse_roots(read_bounded(path), str(path))
    problems.extend(found)
    return roots


def _domains(directory: Path, problems: list[str]) -> list[str]:
    names: list[str] = []
    try:
        with os.scandir(directory) as entries:
            # A mounted ConfigMap keeps its versions in entries that begin with two dots.
            names += (
                entry.name[: -len(_SUFFIX)]
                for entry in itertools.islice(entries, MAX_ENTRIES)
                if entry.name.endswith(_SUFFIX) and not entry.name.startswith(".")
            )
            if next(entries, None) is not None:
                problems.append(f"{directory} has more than {MAX_ENTRIES} entries")
    except OSError as error:
        problems.append(f"cannot list {directory}: {error.strerror}")
    domains = sorted(name for name in names if is_trust_domain(name))
    problems.extend(
        f"{name}{_SUFFIX} is not named after a trust domain"
        for name in sorted(set(names) - set(domains))
    )
    return domains
