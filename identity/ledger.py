"""The issuer's ledger: one line of JSON for every leaf, appended before the leaf is given out.

It answers what "still in use" means when an issuer or a root is to be retired.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final, final

from core.errors import IdentityError
from core.record import dataclass

MAX_LINE_BYTES: Final = 4096
"""The longest line that is read; a SPIFFE identity at its bound takes half of it."""
MAX_ISSUERS: Final = 256
"""Issuers told apart in one reading; a new one comes once a year."""


@final
@dataclass(frozen=True, slots=True)
class Entry:
    """One leaf that was issued."""

    serial: str
    """Hexadecimal."""
    identity: str
    issuer: str
    """SHA-256 of the issuing certificate, in hex."""
    not_after: float
    """Seconds since the epoch."""


@final
@dataclass(frozen=True, slots=True)
class InUse:
    """The leaves of one issuer that have not ended."""

    leaves: int
    until: float
    """When the last of them ends, in seconds since the epoch."""


def append_entry(path: Path, entry: Entry) -> None:
    """Write ``entry`` to disk. Raises IdentityError: then the leaf must not be given out."""
    line = json.dumps(asdict(entry), separators=(",", ":")).encode() + b"\n"
    if len(line) > MAX_LINE_BYTES:
        raise IdentityError(f"a ledger line of {len(line)} bytes; {MAX_LINE_BYTES} at most work")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line  # a crash cut the last line short: it stays alone
            if os.write(descriptor, line) != len(line):
                raise IdentityError(f"the ledger {path} took only part of a line")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise IdentityError(f"cannot write the ledger {path}: {error.strerror}") from error


def read_entries(path: Path) -> Iterator[Entry | None]:
    """Read the ledger line by line; None for a line that is no entry.

    Memory is bounded by one line. A ledger that is not there is empty. Raises IdentityError.
    """
    try:
        with path.open("rb") as file:
            whole = True
            while line := file.readline(MAX_LINE_BYTES):
                ends = line.endswith(b"\n")
                if whole:
                    yield _parse(line) if ends or len(line) < MAX_LINE_BYTES else None
                whole = ends
    except FileNotFoundError:
        return
    except OSError as error:
        raise IdentityError(f"cannot read the ledger {path}: {error.strerror}") from error


def leaves_in_use(path: Path, now: float) -> tuple[dict[str, InUse], int]:
    """Return issuer → its leaves that have not ended at ``now``, and the number of broken lines.

    Raises IdentityError when more than ``MAX_ISSUERS`` have leaves in use.
    """
    found: dict[str, InUse] = {}
    broken = 0
    for entry in read_entries(path):
        if entry is None:
            broken += 1
        elif entry.not_after > now:
            before = found.get(entry.issuer, InUse(0, 0.0))
            found[entry.issuer] = InUse(before.leaves + 1, max(before.until, entry.not_after))
            if len(found) > MAX_ISSUERS:
                raise IdentityError(f"the ledger {path} names more than {MAX_ISSUERS} issuers")
    return found, broken


def _parse(line: bytes) -> Entry | None:
    try:
        fields = json.loads(line)
        entry = Entry(**fields)
    except (ValueError, TypeError, RecursionError):
        return None
    texts = (entry.serial, entry.identity, entry.issuer)
    if not all(isinstance(text, str) for text in texts):
        return None
    if isinstance(entry.not_after, bool) or not isinstance(entry.not_after, int | float):
        return None
    return entry
