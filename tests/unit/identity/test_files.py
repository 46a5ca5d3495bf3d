from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import IdentityError
from identity.files import (
    exposure,
    make_directory,
    open_private,
    read_bounded,
    read_private,
    read_settled,
    replace,
    stamp_of,
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


def _found(mode: int, owner: int = 2102, group: int = 2102) -> os.stat_result:
    return os.stat_result((stat.S_IFREG | mode, 1, 1, 1, owner, group, 6, 0, 0, 0))


@pytest.mark.parametrize("mode", [0o604, 0o660, 0o601, 0o777, 0o610, 0o650, 0o644, 0o444, 0o642])
def test_a_key_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    """Any permission of others, and of a group anything but reading; with the way back."""
    path = tmp_path / "key"
    path.write_bytes(b"secret")
    path.chmod(mode)
    with pytest.raises(IdentityError, match="chmod 600") as refused:
        read_private(path)
    assert "secret" not in str(refused.value)
    assert exposure(_found(mode), 2102, {2102})


@pytest.mark.parametrize(
    ("mode", "owner", "group", "is_private"),
    [
        (0o640, 0, 2102, True),  # a Secret, mounted for a pod with fsGroup
        (0o440, 0, 2102, True),
        (0o640, 2102, 2102, True),
        (0o640, 2102, 4000, True),
        (0o640, 0, 100, False),  # a group that is not ours
        (0o640, 1000, 2102, False),  # somebody else decides what is in it
        (0o600, 1000, 100, True),  # only root gets this far
    ],
)
def test_a_group_of_ours_may_read_what_root_or_we_own(
    mode: int, owner: int, group: int, *, is_private: bool
) -> None:
    """For a process of user 2102 and groups 2102 and 4000."""
    assert (exposure(_found(mode, owner, group), 2102, {2102, 4000}) == "") is is_private


def test_the_group_of_a_key_is_looked_up(tmp_path: Path) -> None:
    """Our own group may read, as any supplementary one."""
    path = tmp_path / "key"
    path.write_bytes(b"secret")
    os.chown(path, -1, os.getegid())
    path.chmod(0o640)
    assert read_private(path) == b"secret"


@pytest.mark.needs("root")
def test_a_key_that_a_foreign_group_may_read_is_refused(tmp_path: Path) -> None:
    """The message says whose group it is."""
    path = tmp_path / "key"
    path.write_bytes(b"secret")
    os.chown(path, -1, 54_321)
    path.chmod(0o640)
    with pytest.raises(IdentityError, match="group 54321"):
        read_private(path)


def test_files_that_change_while_they_are_read_are_read_again(tmp_path: Path) -> None:
    """Two files are always of one state; what was wrong with a passing one is forgotten."""
    one, two = tmp_path / "one", tmp_path / "two"
    states = [b"b", b"c", b"d"]
    one.write_bytes(b"a")
    two.write_bytes(b"a")

    def read() -> bytes:
        first = one.read_bytes()
        if states:
            state = states.pop(0)
            replace(one, state)
            replace(two, state)
        if two.read_bytes() != first:
            raise IdentityError("torn")
        return first

    assert read_settled(read, lambda: stamp_of([one, two]), tmp_path) == b"d"


def test_files_that_never_settle_are_given_up_on(tmp_path: Path) -> None:
    """After a bounded number of readings, with a sentence of its own."""
    path, readings = tmp_path / "one", []

    def read() -> int:
        readings.append(1)
        replace(path, b"x" * len(readings))
        return 1

    with pytest.raises(IdentityError, match="changes faster"):
        read_settled(read, lambda: stamp_of([path]), tmp_path)
    assert len(readings) == 8


def test_a_fault_that_lasts_is_raised_at_once(tmp_path: Path) -> None:
    """Nothing changed meanwhile, so reading again would bring the same."""
    readings = []

    def read() -> int:
        readings.append(1)
        raise IdentityError("broken")

    with pytest.raises(IdentityError, match="broken"):
        read_settled(read, lambda: stamp_of([tmp_path / "missing"]), tmp_path)
    assert len(readings) == 1


def _overwrite(path: Path) -> None:
    path.write_bytes(b"22")


def _replace(path: Path) -> None:
    replace(path, b"1")


def _remove(path: Path) -> None:
    path.unlink()


def _swap(path: Path) -> None:
    (path.parent / "..new").symlink_to("..v2")
    (path.parent / "..new").rename(path.parent / "..data")


@pytest.mark.parametrize("change", [_overwrite, _replace, _remove, _swap])
def test_a_stamp_changes_with_the_file(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """Written in place, replaced by the same bytes, removed, or reached by another link."""
    for version in ("..v1", "..v2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "file").write_bytes(b"1")
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "file").symlink_to("..data/file")
    path = tmp_path / "file"
    before = stamp_of([path])
    assert stamp_of([path]) == before
    change(path)
    assert stamp_of([path]) != before


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
