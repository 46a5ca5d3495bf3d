from __future__ import annotations

import os
from pathlib import Path

import pytest

from core.errors import IdentityError
from identity.files import (
    make_directory,
    open_private,
    read_bounded,
    read_private,
    replace,
    write_new,
)


def test_reading_is_bounded(tmp_path: Path) -> None:
    """At the bound the bytes, one past it an error."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    assert read_bounded(path, 100) == b"x" * 100
    with pytest.raises(IdentityError, match="longer than 99"):
        read_bounded(path, 99)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    """A FIFO would hold the reader up, a device would never end."""
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, Path("/dev/zero")):
        with pytest.raises(IdentityError, match="not a regular file"):
            read_bounded(path)
    for path in (tmp_path / "missing", Path("a\0b")):
        with pytest.raises(IdentityError, match="cannot read"):
            read_bounded(path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601, 0o777, 0o610])
def test_a_key_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    """Any permission of group or others, with the way to take it back."""
    path = tmp_path / "key"
    path.write_bytes(b"secret")
    path.chmod(mode)
    with pytest.raises(IdentityError, match="chmod 600") as refused:
        read_private(path)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_key_of_its_owner_alone_is_read(tmp_path: Path, mode: int) -> None:
    """Read-only will do."""
    path = tmp_path / "key"
    path.write_bytes(b"secret")
    path.chmod(mode)
    assert read_private(path) == b"secret"
    with open_private(path) as file:
        assert file.read() == b"secret"


def test_a_new_file_never_takes_another_s_place(tmp_path: Path) -> None:
    """What exists stays as it was, and no draft is left behind."""
    path = tmp_path / "key"
    old = os.umask(0)
    try:
        write_new(path, b"one", mode=0o600)
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(IdentityError, match="not overwritten"):
        write_new(path, b"two")
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_replacing_keeps_the_mode_that_was_asked_for(tmp_path: Path) -> None:
    """Whatever the umask and the file before."""
    path = tmp_path / "chain"
    path.write_bytes(b"one")
    old = os.umask(0o077)
    try:
        replace(path, b"two", mode=0o644)
    finally:
        os.umask(old)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    """A missing directory, and one whose name is a file's."""
    for write in (write_new, replace):
        with pytest.raises(IdentityError, match="cannot write"):
            write(tmp_path / "missing" / "file", b"x")
    (tmp_path / "directory").mkdir()
    with pytest.raises(IdentityError, match="cannot write"):
        replace(tmp_path / "directory", b"x")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(IdentityError, match="cannot make"):
        make_directory(tmp_path / "file" / "below")
    make_directory(tmp_path / "a" / "b")
    make_directory(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
