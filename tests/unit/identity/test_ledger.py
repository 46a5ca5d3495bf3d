from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import IdentityError
from identity.ledger import (
    MAX_ISSUERS,
    MAX_LINE_BYTES,
    Entry,
    InUse,
    append_entry,
    leaves_in_use,
    read_entries,
)

ENTRY = Entry("1f", "web.test", "a" * 64, 1000.0)


def test_what_is_appended_is_read_in_order(tmp_path: Path) -> None:
    """One line a leaf, for the owner alone; a ledger that is not there is empty."""
    path = tmp_path / "ledger.jsonl"
    assert list(read_entries(path)) == []
    second = replace(ENTRY, serial="20")
    append_entry(path, ENTRY)
    append_entry(path, second)
    assert list(read_entries(path)) == [ENTRY, second]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes().count(b"\n") == 2


def test_a_line_cut_short_by_a_crash_costs_only_itself(tmp_path: Path) -> None:
    """The next entry begins a line of its own."""
    path = tmp_path / "ledger.jsonl"
    append_entry(path, ENTRY)
    path.write_bytes(path.read_bytes()[:-20])
    append_entry(path, ENTRY)
    assert list(read_entries(path)) == [None, ENTRY]


@pytest.mark.parametrize(
    "line",
    [
        b"garbage",
        b"{}",
        b"[]",
        b"null",
        b'{"serial":1,"identity":"a","issuer":"b","not_after":1}',
        b'{"serial":"1","identity":"a","issuer":"b","not_after":"1"}',
        b'{"serial":"1","identity":"a","issuer":"b","not_after":true}',
        b'{"serial":"1","identity":"a","issuer":"b","not_after":1,"more":2}',
        b"[" * 4000,
        b"\xff\xfe",
        b"x" * (MAX_LINE_BYTES - 1),
        b"x" * MAX_LINE_BYTES,
        b"x" * (3 * MAX_LINE_BYTES),
    ],
    ids=range(13),
)
def test_a_broken_line_is_one_broken_line(tmp_path: Path, line: bytes) -> None:
    """However long it is, what stands around it is read."""
    path = tmp_path / "ledger.jsonl"
    append_entry(path, ENTRY)
    with path.open("ab") as file:
        file.write(line + b"\n")
    append_entry(path, ENTRY)
    assert list(read_entries(path)) == [ENTRY, None, ENTRY]
    assert leaves_in_use(path, 0) == ({ENTRY.issuer: InUse(2, 1000.0)}, 1)


def test_lines_are_bounded_when_written(tmp_path: Path) -> None:
    """At the bound it is written and read, one past it neither."""
    path = tmp_path / "ledger.jsonl"
    spare = MAX_LINE_BYTES - _length(tmp_path, ENTRY)
    longest = replace(ENTRY, identity=ENTRY.identity + "x" * spare)
    append_entry(path, longest)
    assert list(read_entries(path)) == [longest]
    with pytest.raises(IdentityError, match="ledger line"):
        append_entry(path, replace(longest, identity=longest.identity + "x"))
    assert list(read_entries(path)) == [longest]


def _length(directory: Path, entry: Entry) -> int:
    path = directory / "one"
    append_entry(path, entry)
    return path.stat().st_size


def test_leaves_in_use_are_counted_by_issuer(tmp_path: Path) -> None:
    """A leaf counts until the second it ends."""
    path = tmp_path / "ledger.jsonl"
    for issuer, not_after in (("a", 10.0), ("a", 30.0), ("b", 20.0), ("c", 5.0)):
        append_entry(path, replace(ENTRY, issuer=issuer, not_after=not_after))
    assert leaves_in_use(path, 5.0) == ({"a": InUse(2, 30.0), "b": InUse(1, 20.0)}, 0)
    assert leaves_in_use(path, 10.0) == ({"a": InUse(1, 30.0), "b": InUse(1, 20.0)}, 0)
    assert leaves_in_use(path, 30.0) == ({}, 0)


def test_issuers_told_apart_are_bounded(tmp_path: Path) -> None:
    """At the bound all are counted; one more is an error and not a wrong answer."""
    path = tmp_path / "ledger.jsonl"
    line = '{"serial":"1","identity":"a","issuer":"%d","not_after":9}\n'
    path.write_text("".join(line % number for number in range(MAX_ISSUERS)))
    assert len(leaves_in_use(path, 0)[0]) == MAX_ISSUERS
    with path.open("a") as file:
        file.write(line % MAX_ISSUERS)
    with pytest.raises(IdentityError, match="issuers"):
        leaves_in_use(path, 0)


def test_a_ledger_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    """No directory to write to; a directory in its place."""
    with pytest.raises(IdentityError, match="cannot write"):
        append_entry(tmp_path / "missing" / "ledger", ENTRY)
    with pytest.raises(IdentityError, match="cannot read"):
        list(read_entries(tmp_path))
