"""What certificates say of themselves, for people: never anything of a key."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final, final

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from core.errors import IdentityError
from core.record import dataclass
from identity.files import read_bounded
from identity.pem import split_pem

MAX_FILES: Final = 256
"""Files looked at in one directory tree."""
_SUFFIXES: Final = (".pem", ".crt", ".cer")


@final
@dataclass(frozen=True, slots=True)
class Described:
    """One certificate."""

    file: str
    position: int
    """Which of the file's certificates, from 1."""
    subject: str
    names: tuple[str, ...]
    """Its SANs, as ``kind:text``."""
    issuer: str
    is_authority: bool
    serial: str
    fingerprint: str
    """SHA-256, in hex."""
    not_before: float
    not_after: float
    """Validity, in seconds since the epoch."""

    def days_left(self, now: float) -> float:
        """Return how many days it has left; negative when it is over."""
        return (self.not_after - now) / 86_400

    def state(self, now: float) -> str:
        """Return ``valid``, ``expired`` or ``not yet valid``."""
        if now < self.not_before:
            return "not yet valid"
        return "valid" if now < self.not_after else "expired"


def describe(path: Path) -> tuple[list[Described], list[str]]:
    """Describe the certificates of a file, or of every file below a directory.

    Returns them with a sentence for each file that cannot be read. Raises IdentityError when
    there is nothing to describe.
    """
    found: list[Described] = []
    problems: list[str] = []
    for file in _files(path, problems):
        try:
            found.extend(_describe_file(file))
        except IdentityError as error:
            problems.append(str(error))
    if not found and not problems:
        raise IdentityError(f"{path} holds no certificate")
    return found, problems


def _files(path: Path, problems: list[str]) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    count = 0
    for directory, directories, names in os.walk(path):
        # Mounted ConfigMaps and Secrets keep versions in hidden directories, linked from above.
        directories[:] = sorted(name for name in directories if not name.startswith("."))
        for name in sorted(names):
            if name.startswith(".") or not name.endswith(_SUFFIXES):
                continue
            count += 1
            if count > MAX_FILES:
                problems.append(f"{path} holds more than {MAX_FILES} files; the rest is left out")
                return
            yield Path(directory) / name


def _describe_file(path: Path) -> Iterator[Described]:
    data = read_bounded(path)
    if data[:1] == b"\x30":
        blocks, broken = [data], 0
    else:
        blocks, broken = split_pem(data)
    if broken:
        raise IdentityError(f"{path} holds {broken} broken PEM blocks")
    for position, block in enumerate(blocks, start=1):
        try:
            # A common name past its bound, as Go writes it, is shown without a warning.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                described = _describe_one(path, position, x509.load_der_x509_certificate(block))
        except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
            raise IdentityError(f"{path}: certificate {position} cannot be parsed") from error
        yield described


def _describe_one(path: Path, position: int, certificate: x509.Certificate) -> Described:
    names: tuple[str, ...] = ()
    is_authority = False
    for extension in certificate.extensions:
        value = extension.value
        if isinstance(value, x509.SubjectAlternativeName):
            names = tuple(_name(name) for name in value)
        elif isinstance(value, x509.BasicConstraints):
            is_authority = value.ca
    return Described(
        file=str(path),
        position=position,
        subject=certificate.subject.rfc4514_string(),
        names=names,
        issuer=certificate.issuer.rfc4514_string(),
        is_authority=is_authority,
        serial=f"{certificate.serial_number:x}",
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
    )


def _name(name: x509.GeneralName) -> str:
    if isinstance(name, x509.DNSName):
        return f"DNS:{name.value}"
    if isinstance(name, x509.UniformResourceIdentifier):
        return f"URI:{name.value}"
    if isinstance(name, x509.IPAddress):
        return f"IP:{name.value}"
    return f"{type(name).__name__}:{name.value}"
