"""A directory of manifests as objects: what counts now, what changed, what is wrong.

``DIR/**/*.{yaml,yml,json}``, symbolic links followed, hidden names left out: in a mounted
ConfigMap the files are links through ``..data``, which is swapped as a whole, so each object is
seen once. A file is read again only when its size, times or inode differ. The rules:

- Of two documents for one object the first path in sorted order counts.
- A broken document keeps its object's last good state; a file whose documents cannot be told
  apart, an unreadable folder, and a root that is gone or empty keep all they held.
- A document that was broken at first load and has no last good state *blocks*: its namespace, or
  everyone when that cannot be read. Later ones do not: what was in force stays in force.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Generator, Iterator
from dataclasses import field
from datetime import datetime
from pathlib import Path
from typing import Final, final

from core.record import dataclass
from resources.config_map import CONFIG_KEY
from resources.document import MAX_FILE_BYTES, Problem
from resources.kind import ObjectKey, Resource
from resources.manifest import Document, Kinds, Manifest, parse_manifest
from resources.registry import KINDS

MAX_FILES: Final = 10_000
"""Manifest files under one root."""
MAX_FOLDER_DEPTH: Final = 16
"""Folders inside each other."""
_ENDINGS: Final = (".yaml", ".yml", ".json")
_NOWHERE: Final = frozenset((errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG))
"""What says of a link that there is nothing behind it."""
_FRESH_S: Final = 0.1
"""A file written so shortly before it was read may change once more with all its times equal."""

_Signature = tuple[int, int, int, int, int]


@final
@dataclass(frozen=True, slots=True)
class Block:
    """A document that was never good; whom it concerns (None: everyone) and why."""

    namespace: str | None
    problem: Problem


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """The outcome of looking at the directory once."""

    applied: tuple[Resource, ...] = ()
    """Objects that are new or differ from the last scan."""
    deleted: tuple[ObjectKey, ...] = ()
    problems: tuple[Problem, ...] = ()
    """Everything wrong now, sorted."""
    blocks: tuple[Block, ...] = ()
    folders: tuple[str, ...] = ()
    """Directories in which a change may matter."""
    parsed: int = 0
    """How many files were read again."""


@final
@dataclass(slots=True)
class _File:
    """What is known of one path."""

    signature: _Signature | None
    digest: bytes
    manifest: Manifest
    held: tuple[ObjectKey, ...] = ()
    """Objects it stood for before: they stay while it cannot be told what it holds."""
    was_sound: bool = False
    """Whether its documents could be told apart at some time before."""

    @property
    def is_sound(self) -> bool:
        """Whether every document of it can be told."""
        documents = self.manifest.documents
        return self.manifest.unreadable is None and all(each.key for each in documents)


@final
@dataclass(slots=True)
class _Listing:
    """One walk through the folders."""

    files: dict[str, os.stat_result] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    broken: dict[str, Problem] = field(default_factory=dict)
    """Folders that could not be listed, and entries that could not be told, by path."""
    root_problem: str = ""


@final
class DirectorySource:
    """Scans one directory again and again."""

    def __init__(self, root: str, kinds: Kinds = KINDS) -> None:
        """Prepare to read the objects of ``kinds``; others are as if they were not there."""
        self._kinds = kinds
        self.root: Final = str(Path(root).absolute())
        self._files: dict[str, _File] = {}
        self._current: dict[ObjectKey, Resource] = {}
        self._blocked: frozenset[str | None] | None = None
        """Whom the last scan blocked; None before the first."""

    def scan(self, now: datetime) -> Scan:
        """Look at the directory and return what changed."""
        steps = self.scan_steps(now)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                scan: Scan = done.value
                return scan

    def scan_steps(self, now: datetime) -> Generator[None, None, Scan]:
        """Do as ``scan``, stopping after each file that was read, so that others may run."""
        listing = _list(self.root)
        if listing.root_problem:
            return self._kept(listing)
        files: dict[str, _File] = {}
        parsed = 0
        for path in sorted(listing.files):
            known = self._files.get(path)
            fresh = self._read(path, listing.files[path], known, now)
            if fresh is not None:
                parsed += 1
                files[path] = fresh
                yield
            elif known is not None:
                files[path] = known
        for broken, problem in listing.broken.items():
            kept = {path: f for path, f in self._files.items() if path.startswith(broken + "/")}
            files.update(kept)
            known = self._files.get(broken)
            files[broken] = _anew(known, None, b"", Manifest(unreadable=problem))
        self._files = files
        return self._settle(listing, parsed)

    def _read(
        self, path: str, seen: os.stat_result, known: _File | None, now: datetime
    ) -> _File | None:
        """Return what a file holds now; None when it is as known, or gone."""
        if known is not None and known.signature == _signature(seen):
            return None
        try:
            data, status = _read_bytes(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            manifest = Manifest(unreadable=Problem(path, 0, "", f"cannot be read: {reason}"))
            return _anew(known, _signature(seen), b"", manifest)
        digest = hashlib.blake2b(data, digest_size=16).digest()
        is_settled = now.timestamp() - status.st_mtime > _FRESH_S
        signature = _signature(status) if is_settled else None
        if known is not None and known.digest == digest:
            known.signature = signature
            return None
        return _anew(known, signature, digest, parse_manifest(path, data, self._kinds))

    def _settle(self, listing: _Listing, parsed: int) -> Scan:
        """Decide which document stands for which object, and what differs."""
        problems: list[Problem] = []
        blocks: list[Block] = []
        claimed: dict[ObjectKey, tuple[str, int]] = {}
        counting: dict[ObjectKey, Resource] = {}
        for path in sorted(self._files):
            file = self._files[path]
            for block in self._take(path, file, claimed, counting, problems):
                blocks.extend(self._still_blocked(block))
        applied = tuple(
            each for key, each in counting.items() if _differs(self._current.get(key), each)
        )
        deleted = tuple(key for key in self._current if key not in counting)
        self._current = counting
        self._blocked = frozenset(block.namespace for block in blocks)
        return Scan(
            applied=applied,
            deleted=deleted,
            problems=tuple(sorted(problems)),
            blocks=tuple(blocks),
            folders=tuple(sorted(listing.folders)),
            parsed=parsed,
        )

    def _take(
        self,
        path: str,
        file: _File,
        claimed: dict[ObjectKey, tuple[str, int]],
        counting: dict[ObjectKey, Resource],
        problems: list[Problem],
    ) -> Iterator[Block]:
        """Let a file's documents claim their objects; yield those that have no good state."""
        keeps = False
        for document in _documents(file):
            problems.extend(document.problems)
            key = document.key
            if key is None:
                keeps = True
                if not file.was_sound or any(each not in self._current for each in file.held):
                    yield Block(document.namespace, document.problems[0])
                continue
            if key in claimed:
                other = claimed[key]
                place = f"{other[0]}:{other[1]}" if other[1] else other[0]
                problems.append(
                    Problem(path, document.line, "", f"{key} stands in {place} already")
                )
                continue
            claimed[key] = (path, document.line)
            resource = document.resource or self._current.get(key)
            if resource is not None:
                counting[key] = resource
            else:
                # What the mesh's own configuration would have said concerns every namespace.
                namespace = None if key == CONFIG_KEY else document.namespace
                yield Block(namespace, document.problems[0])
        for key in file.held if keeps else ():
            held = self._current.get(key)
            if held is not None and key not in claimed:
                claimed[key] = (path, 0)
                counting[key] = held

    def _still_blocked(self, block: Block) -> list[Block]:
        """Return what of a block is left once loaded: whoever was free stays free."""
        if self._blocked is None or None in self._blocked or block.namespace in self._blocked:
            return [block]
        if block.namespace is not None:
            return []
        return [Block(each, block.problem) for each in sorted(map(str, self._blocked))]

    def _kept(self, listing: _Listing) -> Scan:
        """Everything stays as it was; before the first load that is nothing, for anyone."""
        problem = Problem(self.root, 0, "", listing.root_problem)
        known = [each for file in self._files.values() for each in _documents(file)]
        return Scan(
            problems=(problem, *(each for document in known for each in document.problems)),
            blocks=tuple(self._still_blocked(Block(None, problem))),
            folders=tuple(sorted(listing.folders)),
        )


def _documents(file: _File) -> tuple[Document, ...]:
    """Return a file's documents; one that cannot be told stands for an unreadable file."""
    unreadable = file.manifest.unreadable
    if unreadable is None:
        return file.manifest.documents
    return (
        Document(
            line=unreadable.line, key=None, namespace=None, resource=None, problems=(unreadable,)
        ),
    )


def _anew(
    known: _File | None, signature: _Signature | None, digest: bytes, manifest: Manifest
) -> _File:
    """Return a path's new state, with what of its old one stays if it cannot be told."""
    if known is None:
        return _File(signature, digest, manifest)
    keys = [each.key for each in known.manifest.documents if each.key is not None]
    held = keys if known.is_sound else [*keys, *known.held]
    return _File(
        signature,
        digest,
        manifest,
        held=tuple(dict.fromkeys(held)),
        was_sound=known.was_sound or known.is_sound,
    )


def _differs(old: Resource | None, new: Resource) -> bool:
    return old is not new and old != new


def _list(root: str) -> _Listing:
    """Walk the folders, each once however it is linked; one that cannot be listed is noted."""
    listing = _Listing()
    visited: set[tuple[int, int]] = set()
    found: list[tuple[str, os.stat_result]] = []
    waiting = [(root, 0)]
    while waiting:
        folder, depth = waiting.pop(0)
        listing.folders.add(folder)
        for entry in _entries(folder, root, listing):
            status = _status(entry, listing)
            if status is None:
                continue
            if stat.S_ISDIR(status.st_mode):
                if _place(status) not in visited and depth < MAX_FOLDER_DEPTH:
                    visited.add(_place(status))
                    waiting.append((entry.path, depth + 1))
            elif entry.name.endswith(_ENDINGS):
                if entry.is_symlink():
                    listing.folders.add(str(Path(os.path.realpath(entry.path)).parent))
                found.append((entry.path, status))
        if len(found) > MAX_FILES:
            listing.root_problem = f"holds more than {MAX_FILES} manifests"
            return listing
    seen: set[tuple[int, int]] = set()
    for path, status in sorted(found, key=lambda each: each[0]):
        if _place(status) not in seen:
            seen.add(_place(status))
            listing.files[path] = status
    if not (listing.files or listing.broken or listing.root_problem):
        listing.root_problem = "holds no manifest"
    return listing


def _entries(folder: str, root: str, listing: _Listing) -> list[os.DirEntry[str]]:
    """Return what a folder shows, by name; when it cannot be listed note that and nothing."""
    try:
        with os.scandir(folder) as entries:
            shown = [each for each in entries if not each.name.startswith(".")]
    except OSError as error:
        message = f"cannot be listed: {error.strerror}"
        if folder == root:
            listing.root_problem = message
        elif not isinstance(error, FileNotFoundError):
            listing.broken[folder] = Problem(folder, 0, "", message)
        return []
    return sorted(shown, key=lambda each: each.name)


def _place(status: os.stat_result) -> tuple[int, int]:
    return (status.st_dev, status.st_ino)


def _status(entry: os.DirEntry[str], listing: _Listing) -> os.stat_result | None:
    """Return what an entry leads to; None when it leads nowhere, or that cannot be told.

    The latter is noted, of what may be a manifest or a folder: what it held before stays.
    """
    try:
        return entry.stat()
    except OSError as error:
        if error.errno in _NOWHERE:
            return None
        if entry.name.endswith(_ENDINGS) or _may_be_folder(entry):
            message = f"cannot be read: {error.strerror}"
            listing.broken[entry.path] = Problem(entry.path, 0, "", message)
        return None


def _may_be_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return True


def _read_bytes(path: str) -> tuple[bytes, os.stat_result]:
    """Return a regular file's bytes, one more than may be used at most, and its status before."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb", 0) as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is no regular file")
        chunks = []
        left = MAX_FILE_BYTES + 1
        while left > 0 and (chunk := file.read(left)):
            chunks.append(chunk)
            left -= len(chunk)
        return b"".join(chunks), status


def _signature(status: os.stat_result) -> _Signature:
    """Return what tells two states of a file apart; ctime sees mode and restored mtime too."""
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
