"""Reading and writing identity material: bounded, atomic, private where it must be.

Every file of this room is small and hostile until read: only regular files are opened, only so
many bytes are taken, and a key that others may read is refused rather than used. Files that
belong together are read from one state of them, however they are replaced meanwhile.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from core.errors import IdentityError

T = TypeVar("T")
Stamp = tuple[tuple[str, int, int, int, int, int] | tuple[str], ...]
"""What changes when one of some files is written, replaced, removed or linked anew."""

MAX_FILE_BYTES: Final = 256 * 1024
"""The longest PEM file that is read: some 150 certificates."""
MAX_KEY_BYTES: Final = 16 * 1024
"""The longest private key that is read; a P-256 key takes 241 bytes."""
_READINGS: Final = 8
"""Readings of files that change while they are read."""


def read_bounded(path: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """Return a regular file's bytes. Raises IdentityError when it cannot be read or is longer."""
    return _read(_open(path), path, limit)


def open_private(path: Path) -> BinaryIO:
    """Open a private key for reading; the caller closes it.

    Raises IdentityError when anybody but the owner may touch the file; a group of ours may read
    it where the owner is root or we ourselves.
    """
    file = _open(path)
    found = os.fstat(file.fileno())
    fault = exposure(found, os.geteuid(), {os.getegid(), *os.getgroups()})
    if fault:
        file.close()
        raise IdentityError(f"{path} {fault}", hint=f"chmod 600 {path}")
    return file


def exposure(found: os.stat_result, user: int, groups: Collection[int]) -> str:
    """Say why a private file is not private enough for a process of ``user`` and ``groups``.

    Empty when it is. A group may read where it is one of ours and the owner is root or ourselves:
    so a cluster mounts a Secret for a pod with ``fsGroup``.
    """
    mode = stat.S_IMODE(found.st_mode)
    if not mode & 0o077:
        return ""
    if mode & 0o037 or found.st_gid not in groups or found.st_uid not in {0, user}:
        return (
            f"has mode {mode:04o}, owner {found.st_uid}, group {found.st_gid}; a private key must "
            "be its owner's alone, or at most read by a group of this process"
        )
    return ""


def read_private(path: Path, limit: int = MAX_KEY_BYTES) -> bytes:
    """Return a private file's bytes. Raises IdentityError as ``open_private`` does."""
    return _read(open_private(path), path, limit)


def stamp_of(paths: Iterable[Path]) -> Stamp:
    """Return what changes when one of these files does; links are followed."""
    return tuple(_stamp(path) for path in paths)


def read_settled(read: Callable[[], T], stamp: Callable[[], Stamp], what: Path) -> T:
    """Return what ``read`` returns, read anew while files changed under it.

    Raises what ``read`` raises of files that stay as they are, and IdentityError when they do not.
    """
    for _ in range(_READINGS):
        before = stamp()
        try:
            found = read()
        except IdentityError:
            if stamp() == before:
                raise
            continue
        if stamp() == before:
            return found
    raise IdentityError(f"{what} changes faster than it can be read")


def write_new(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file that must not exist yet, whole or not at all. Raises IdentityError.

    The file appears under its name only when complete: a reader never sees half a key.
    """
    draft = _write_draft(path, data, mode)
    try:
        os.link(draft, path)
    except FileExistsError as error:
        raise IdentityError(f"{path} exists and is not overwritten") from error
    except OSError as error:
        raise _cannot("write", path, error) from error
    finally:
        draft.unlink(missing_ok=True)


def replace(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file over what is there, whole or not at all. Raises IdentityError.

    Where root replaces somebody's file, it stays that somebody's.
    """
    draft = _write_draft(path, data, mode, _found(path))
    try:
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise _cannot("write", path, error) from error


def replace_key(path: Path, data: bytes) -> None:
    """Write a private key over what is there; who could read that can read this.

    Raises IdentityError.
    """
    found = _found(path)
    replace(path, data, mode=0o600 | (found.st_mode & 0o040 if found is not None else 0))


def make_directory(path: Path, mode: int = 0o755) -> None:
    """Make a directory with its parents unless it is there. Raises IdentityError."""
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot("make", path, error) from error


def _open(path: Path) -> BinaryIO:
    try:
        # Non-blocking: a FIFO under this name must not hold us up before it is refused.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise _cannot("read", path, error) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise IdentityError(f"{path} is not a regular file")
    return os.fdopen(descriptor, "rb")


def _read(file: BinaryIO, path: Path, limit: int) -> bytes:
    with file:
        try:
            data = file.read(limit + 1)
        except OSError as error:
            raise _cannot("read", path, error) from error
    if len(data) > limit:
        raise IdentityError(f"{path} is longer than {limit} bytes")
    return data


def _found(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (OSError, ValueError):
        return None


def _write_draft(path: Path, data: bytes, mode: int, like: os.stat_result | None = None) -> Path:
    # Several sidecars may share a directory, each of them process 1 of its own container.
    draft = path.with_name(f".{path.name}.{os.urandom(6).hex()}.draft")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            if like is not None and os.geteuid() == 0:
                os.fchown(descriptor, like.st_uid, like.st_gid)
            os.fchmod(descriptor, mode)  # whatever the process's umask says
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise _cannot("write", path, error) from error
    return draft


def _stamp(path: Path) -> tuple[str, int, int, int, int, int] | tuple[str]:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return (str(path),)
    return (
        str(path),
        found.st_dev,
        found.st_ino,
        found.st_mtime_ns,
        found.st_ctime_ns,
        found.st_size,
    )


def _cannot(verb: str, path: Path, error: Exception) -> IdentityError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return IdentityError(f"cannot {verb} {path}: {reason}")
