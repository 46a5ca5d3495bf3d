"""Trust anchors by trust domain: ``<directory>/<trust domain>.pem``, one bundle a domain.

OpenSSL verifies against the union of all bundles, because a context has one store. Which domain
a chain's root may speak for is decided afterwards, from here: the root of another domain never
vouches for a name of ours. Two roots of equal subject stand side by side in every rotation.

Bundles are read again while they are in force. What has become broken by then keeps the roots
that it had, so that half a file never takes trust away; a bundle that is whole and lacks a root
takes it away at once, and so does the removal of a linked domain's file.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import field
from pathlib import Path
from types import MappingProxyType
from typing import Final, final

from core.errors import IdentityError
from core.record import dataclass
from identity.files import Stamp, read_bounded, read_settled, stamp_of
from identity.name import Identity, is_trust_domain
from identity.pem import split_pem
from identity.validity import certificate_seconds

MAX_DOMAINS: Final = 64
"""Bundles read from one directory: our own trust domain and those of linked clusters."""
MAX_ROOTS: Final = 64
"""Roots in one bundle; a rotation needs two."""
MAX_ENTRIES: Final = 1024
"""Directory entries looked at before the rest is given up on."""
_SUFFIX: Final = ".pem"
NOT_NAMED: Final[Mapping[str, str]] = MappingProxyType({})


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


@final
@dataclass(frozen=True, slots=True)
class Bundle:
    """One bundle as it was read."""

    roots: frozenset[bytes]
    """The usable ones, DER."""
    problems: tuple[str, ...]
    """What is not usable, a sentence each."""
    is_broken: bool
    """Whether part of it cannot be read at all, as when the file is half written."""


def load_anchors(
    directory: Path,
    own_domain: str,
    before: Anchors | None = None,
    named: Mapping[str, str] = NOT_NAMED,
) -> Anchors:
    """Read every ``<trust domain>.pem`` of ``directory``, all from one state of it.

    ``named`` says of trust domains whose roots are in another file of ``directory`` which; such
    a file counts for its domain alone. It is never said of ``own_domain``.
    What cannot be used is left out and named in ``problems``; with ``before``, the anchors in
    force, a bundle that has become broken keeps its roots. Raises IdentityError when the bundle
    of ``own_domain`` is missing, too long, or has no usable root, and there is no ``before``.
    """
    own = own_domain.lower()
    if not is_trust_domain(own):
        raise IdentityError(
            f"{own_domain[:80]!r} cannot be a trust domain; it has to be a DNS name"
        )
    try:
        return read_settled(
            lambda: _load(directory, own, before, named),
            lambda: anchors_stamp(directory),
            directory,
        )
    except IdentityError as error:
        if before is None:
            raise
        kept = f"{error}; the anchors in force stay"
        return Anchors(before.own_domain, before.roots, (kept,))


def anchors_stamp(directory: Path) -> Stamp:
    """Return what changes when any bundle of ``directory`` does."""
    return stamp_of([directory, *(directory / f"{name}{_SUFFIX}" for name in _names(directory))])


def bundle_paths(directory: Path) -> list[Path]:
    """Return the files of ``directory`` that are read as bundles."""
    return [directory / f"{name}{_SUFFIX}" for name in sorted(_names(directory))]


def parse_roots(pem: bytes, source: str) -> Bundle:
    """Return the usable roots of a PEM bundle, and a sentence for everything else in it.

    A root is usable when OpenSSL takes it as a certificate authority. Raises IdentityError when
    there are more than ``MAX_ROOTS``.
    """
    blocks, broken = split_pem(pem)
    problems = [f"{source}: {broken} PEM blocks cannot be decoded"] if broken else []
    distinct = list(dict.fromkeys(blocks))
    if len(distinct) > MAX_ROOTS:
        raise IdentityError(f"{source} holds {len(distinct)} roots; {MAX_ROOTS} at most are used")
    store, unparsable = _store(distinct)
    # OpenSSL lists authorities only, in its own encoding, which a verified chain's root will be
    # compared in: a block with bytes after its certificate is not among them.
    usable = frozenset(store.get_ca_certs(binary_form=True)) & frozenset(distinct)
    for number, der in enumerate(distinct, start=1):
        if der not in usable:
            fault = "cannot be parsed" if der in unparsable else "is no certificate authority"
            problems.append(f"{source}: certificate {number} {fault}")
    return Bundle(usable, tuple(problems), bool(broken or unparsable))


def authority_ends(authorities: Iterable[bytes]) -> dict[bytes, float]:
    """Return when each authority (DER) ends, in seconds since the epoch.

    What OpenSSL does not take as a certificate authority is left out.
    """
    store, _ = _store(authorities)
    return ends_in(store)


def ends_in(context: ssl.SSLContext) -> dict[bytes, float]:
    """Return when each authority (DER) that ``context`` trusts ends, in seconds since the epoch."""
    return {
        der: certificate_seconds(str(facts["notAfter"]))
        for der, facts in zip(
            context.get_ca_certs(binary_form=True), context.get_ca_certs(), strict=True
        )
    }


def short_fingerprint(certificate: bytes) -> str:
    """Return the first 16 hex digits of a certificate's SHA-256: what people tell roots apart by.

    All that is shown to people or in metrics uses these; comparisons use the certificate.
    """
    return hashlib.sha256(certificate).hexdigest()[:16]


def _store(certificates: Iterable[bytes]) -> tuple[ssl.SSLContext, set[bytes]]:
    store = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unparsable = set()
    for der in certificates:
        try:
            store.load_verify_locations(cadata=der)
        except (ssl.SSLError, ValueError):
            unparsable.add(der)
    return store, unparsable


def _load(directory: Path, own: str, before: Anchors | None, named: Mapping[str, str]) -> Anchors:
    problems: list[str] = []
    bundle = _load_bundle(directory, own, own + _SUFFIX, problems, before)
    if not bundle:
        raise IdentityError(
            f"no usable trust anchor for {own} in {directory / (own + _SUFFIX)}"
            + (f": {'; '.join(problems)}" if problems else "")
        )
    found: dict[str, frozenset[bytes]] = {own: bundle}
    for domain, file in _bundles(directory, named, problems).items():
        if domain == own:
            continue
        if len(found) >= MAX_DOMAINS:
            problems.append(
                f"{directory} holds more than {MAX_DOMAINS} bundles; {domain} is not read"
            )
            continue
        try:
            roots = _load_bundle(directory, domain, file, problems, before)
        except IdentityError as error:
            problems.append(str(error))
            roots = before.roots.get(domain, frozenset()) if before is not None else frozenset()
        if roots:
            found[domain] = roots
    return Anchors(own, MappingProxyType(found), tuple(problems))


def _load_bundle(
    directory: Path, domain: str, file: str, problems: list[str], before: Anchors | None
) -> frozenset[bytes]:
    path = directory / file
    bundle = parse_roots(read_bounded(path), str(path))
    problems.extend(bundle.problems)
    kept = before.roots.get(domain) if before is not None else None
    if kept and (bundle.is_broken or not bundle.roots):
        problems.append(f"{path} is broken or empty; the roots in force stay")
        return kept
    return bundle.roots


def _bundles(directory: Path, named: Mapping[str, str], problems: list[str]) -> dict[str, str]:
    """Return the file of each trust domain, by domain."""
    names = set(_names(directory, problems))
    found = {domain: file for domain, file in named.items() if file.removesuffix(_SUFFIX) in names}
    problems.extend(
        f"{directory / file}, the roots of {domain}, is not there"
        for domain, file in sorted(named.items())
        if domain not in found
    )
    names -= {file.removesuffix(_SUFFIX) for file in named.values()}
    domains = {name for name in names if is_trust_domain(name)}
    problems.extend(
        f"{name}{_SUFFIX} is not named after a trust domain" for name in sorted(names - domains)
    )
    for domain in sorted(domains):
        found.setdefault(domain, domain + _SUFFIX)
    return found


def _names(directory: Path, problems: list[str] | None = None) -> list[str]:
    names: list[str] = []
    fault = ""
    try:
        with os.scandir(directory) as entries:
            # A mounted ConfigMap keeps its versions in entries that begin with two dots.
            names += (
                entry.name[: -len(_SUFFIX)]
                for entry in itertools.islice(entries, MAX_ENTRIES)
                if entry.name.endswith(_SUFFIX) and not entry.name.startswith(".")
            )
            if next(entries, None) is not None:
                fault = f"{directory} has more than {MAX_ENTRIES} entries"
    except OSError as error:
        fault = f"cannot list {directory}: {error.strerror}"
    if fault and problems is not None:
        problems.append(fault)
    return names
