"""The steps of a rotation, on an authority's directory. Each may be cut short and taken again.

rotation/          the new root and issuer with their keys, and what is to be retired
retired/<issuer>/  what was exchanged: certificates, by which later leaves are known, and keys

The files that others read are exchanged one by one, each whole: the issuer keeps what it has
until certificate and key fit again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from core.errors import IdentityError
from core.record import dataclass
from identity.anchors import MAX_ROOTS, parse_roots
from identity.authority import Authority, make_issuer, make_root
from identity.files import (
    make_directory,
    read_bounded,
    read_private,
    replace,
    replace_key,
    write_new,
)
from identity.issuer import check_validity, is_issued_by, read_chain
from identity.key import create_key, encode_key, read_key
from identity.ledger import leaves_in_use
from identity.pem import join_pem
from identity.rotation import IssuerInUse, Phase, Root, Rotation, Step

MAX_RETIRED: Final = 1024
"""Retired issuers that are looked at; a new one comes once a year."""
_PLAN: Final = "rotation.json"
_NAMES: Final = ("root.pem", "root.key", "issuer.key", "issuer.pem")
"""What is exchanged, in this order: a new issuer's certificate comes when its key is there."""


@final
@dataclass(frozen=True, slots=True)
class _Plan:
    """What a rotation is to retire: fingerprints of roots, and of the issuer under them."""

    retire: frozenset[str]
    issuer: str


@final
class Rotator:
    """Takes the steps for one authority."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._new = authority.directory / "rotation"
        self._retired = authority.directory / "retired"
        self._bundle = authority.anchors / f"{authority.trust_domain}.pem"

    def read(self, now: float) -> Rotation:
        """Return where things stand. Raises IdentityError when they cannot be read."""
        trusted = self._trusted()
        retire = self._plan().retire
        new = self._chain(self._new / "root.pem")
        issuer = read_chain(self._authority.issuer_certificate)
        known = {_fingerprint(each): each for each in (*trusted, *new, *self._retired_roots())}
        chains = {_fingerprint(chain[0]): chain for chain in (issuer, *self._retired_issuers())}
        in_use, broken = leaves_in_use(self._authority.ledger, now)
        current = _fingerprint(issuer[0])
        issuers = tuple(
            IssuerInUse(
                fingerprint,
                _roots_of(chains.get(fingerprint, ()), known),
                in_use[fingerprint].leaves if fingerprint in in_use else 0,
                in_use[fingerprint].until if fingerprint in in_use else 0.0,
                fingerprint == current,
            )
            for fingerprint in sorted({current, *in_use})
        )
        issuing = next(each.roots for each in issuers if each.is_current)
        trusted_fingerprints = {_fingerprint(each) for each in trusted}
        return Rotation(
            self._authority.trust_domain,
            self._phase(trusted),
            tuple(
                Root(
                    fingerprint,
                    certificate.subject.rfc4514_string(),
                    certificate.not_valid_after_utc.timestamp(),
                    is_trusted=fingerprint in trusted_fingerprints,
                    is_old=fingerprint in retire,
                    is_new=certificate in new,
                    issues=fingerprint in issuing,
                )
                for fingerprint, certificate in known.items()
                if fingerprint in trusted_fingerprints or certificate in new
            ),
            issuers,
            broken,
        )

    def start(self, now: float) -> Rotation:
        """Make a new root and issuer, and add the root to the bundle. Raises IdentityError."""
        with self._step(Step.START, now) as before:
            if before.phase is Phase.IDLE:
                self._prepare(before, now)
            (new,) = read_chain(self._new / "root.pem")
            self._write_bundle([*self._trusted(), new])
        return self.read(now)

    def switch(self, now: float) -> Rotation:
        """Let leaves come from the new root. Raises IdentityError."""
        with self._step(Step.SWITCH, now):
            self._retire_files(self._plan().issuer)
            for name in _NAMES:
                if (self._new / name).exists():
                    _copy(self._new / name, self._authority.directory / name)
            if not (self._new / "root.key").exists():
                # Taken to a safe place meanwhile; the old one must not pass for it.
                self._authority.root_key.unlink(missing_ok=True)
        return self.read(now)

    def finish(self, now: float) -> Rotation:
        """Trust the old root no longer. Raises IdentityError."""
        with self._step(Step.FINISH, now):
            retire = self._plan().retire
            self._write_bundle(
                [each for each in self._trusted() if _fingerprint(each) not in retire]
            )
            _remove(self._new)
        return self.read(now)

    def replace_issuer(self, root_key: Path | None, now: float) -> Rotation:
        """Make another issuer under the present root, and let leaves come from it.

        Nothing has to be handed out first: the root is trusted, and each leaf comes with its
        issuer. Raises IdentityError, also while a rotation of roots is under way.
        """
        with self._locked():
            phase = self.read(now).phase
            if phase is not Phase.IDLE:
                raise IdentityError(
                    f"a rotation of roots is under way ({phase.value}); it brings another issuer"
                )
            root = self._trusted_root(now)
            key = read_key(root_key or self._authority.root_key)
            if key.public_key() != root.public_key():
                raise IdentityError(
                    f"{root_key or self._authority.root_key} is not the key of "
                    f"{self._authority.root_certificate}"
                )
            issuer_key = create_key()
            issuer = make_issuer(self._authority, issuer_key, (root, key), now)
            old = read_chain(self._authority.issuer_certificate)[0]
            self._retire_files(_fingerprint(old), ("issuer.key", "issuer.pem"))
            replace_key(self._authority.issuer_key, encode_key(issuer_key))
            replace(self._authority.issuer_certificate, _pem([issuer]), mode=0o644)
        return self.read(now)

    def _prepare(self, before: Rotation, now: float) -> None:
        """Make everything new beside what is there, and put it in place in one stroke."""
        root_key, issuer_key = create_key(), create_key()
        root = make_root(self._authority, root_key, now)
        issuer = make_issuer(self._authority, issuer_key, (root, root_key), now)
        plan = {
            "retire": [each.fingerprint for each in before.roots if each.issues],
            "issuer": next(each.fingerprint for each in before.issuers if each.is_current),
        }
        draft = self._new.with_name(f".rotation.{os.urandom(6).hex()}.draft")
        make_directory(draft, mode=0o700)
        try:
            write_new(draft / "root.key", encode_key(root_key))
            write_new(draft / "root.pem", _pem([root]), mode=0o644)
            write_new(draft / "issuer.key", encode_key(issuer_key))
            write_new(draft / "issuer.pem", _pem([issuer]), mode=0o644)
            write_new(draft / _PLAN, (json.dumps(plan) + "\n").encode(), mode=0o644)
            draft.rename(self._new)
        except OSError as error:
            raise IdentityError(f"cannot make {self._new}: {error.strerror}") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _phase(self, trusted: Sequence[x509.Certificate]) -> Phase:
        new = self._chain(self._new / "root.pem")
        if not new:
            return Phase.IDLE
        if new[0] not in trusted:
            return Phase.STARTED
        for name in ("issuer.pem", "issuer.key"):
            if read_bounded(self._new / name) != read_bounded(self._authority.directory / name):
                return Phase.TRUSTED
        return Phase.SWITCHED

    @contextmanager
    def _step(self, step: Step, now: float) -> Iterator[Rotation]:
        with self._locked():
            before = self.read(now)
            obstacles = before.obstacles(step)
            if obstacles:
                raise IdentityError(
                    f"`{step.value}` is not to be done now: {'; '.join(obstacles)}",
                    hint="`pillion identity rotate status` shows where things stand",
                )
            yield before

    @contextmanager
    def _locked(self) -> Iterator[None]:
        path = self._authority.directory
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise IdentityError(f"somebody else is rotating {path} at this moment") from error
            yield
        finally:
            os.close(descriptor)

    def _trusted(self) -> list[x509.Certificate]:
        """Return the roots of our own bundle, in its order. Raises IdentityError."""
        bundle = parse_roots(read_bounded(self._bundle), str(self._bundle))
        if bundle.problems:
            raise IdentityError(
                f"the bundle has to be repaired first: {'; '.join(bundle.problems)}"
            )
        return list(dict.fromkeys(read_chain(self._bundle)))

    def _write_bundle(self, roots: Sequence[x509.Certificate]) -> None:
        if len(roots) > MAX_ROOTS:
            raise IdentityError(f"{self._bundle} would hold more than {MAX_ROOTS} roots")
        replace(self._bundle, _pem(dict.fromkeys(roots)), mode=0o644)

    def _trusted_root(self, now: float) -> x509.Certificate:
        root = read_chain(self._authority.root_certificate)[0]
        check_validity(root, now)
        if root not in self._trusted():
            raise IdentityError(f"{self._authority.root_certificate} is not in {self._bundle}")
        return root

    def _plan(self) -> _Plan:
        path = self._new / _PLAN
        if not path.exists():
            return _Plan(frozenset(), "")
        try:
            plan = json.loads(read_bounded(path))
            return _Plan(frozenset(map(str, plan["retire"])), str(plan["issuer"]))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise IdentityError(f"{path} is no JSON object of retire and issuer") from error

    def _retire_files(self, issuer: str, names: Sequence[str] = _NAMES) -> None:
        """Keep what is about to be exchanged under the old issuer's name."""
        home = self._retired / issuer[:16]
        make_directory(home, mode=0o700)
        for name in names:
            source, target = self._authority.directory / name, home / name
            # Cut short before, this may find files that are exchanged already.
            if source.exists() and not target.exists() and not _are_alike(source, self._new / name):
                _copy(source, target)

    def _retired_issuers(self) -> Iterator[list[x509.Certificate]]:
        yield from (chain for path in self._homes() if (chain := self._chain(path / "issuer.pem")))

    def _retired_roots(self) -> Iterator[x509.Certificate]:
        for path in self._homes():
            yield from self._chain(path / "root.pem")

    def _homes(self) -> list[Path]:
        with suppress(OSError):
            return sorted(self._retired.iterdir())[:MAX_RETIRED]
        return []

    def _chain(self, path: Path) -> list[x509.Certificate]:
        return read_chain(path) if path.exists() else []


def _fingerprint(certificate: x509.Certificate) -> str:
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def _pem(certificates: Sequence[x509.Certificate] | dict[x509.Certificate, None]) -> bytes:
    return join_pem(each.public_bytes(Encoding.DER) for each in certificates)


def _roots_of(
    chain: Sequence[x509.Certificate], roots: dict[str, x509.Certificate]
) -> frozenset[str]:
    if not chain:
        return frozenset()
    return frozenset(name for name, root in roots.items() if is_issued_by(chain[-1], root))


def _copy(source: Path, target: Path) -> None:
    if source.suffix == ".key":
        replace_key(target, read_private(source))
    else:
        replace(target, read_bounded(source), mode=0o644)


def _are_alike(one: Path, other: Path) -> bool:
    return other.exists() and read_bounded(one) == read_bounded(other)


def _remove(directory: Path) -> None:
    # Out of its place first: what is half removed is no rotation under way.
    draft = directory.with_name(f".{directory.name}.{os.urandom(6).hex()}.done")
    try:
        directory.rename(draft)
        shutil.rmtree(draft)
    except OSError as error:
        raise IdentityError(f"cannot remove {directory}: {error.strerror}") from error
