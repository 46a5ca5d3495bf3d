"""Scanning a directory: what is read, what counts, what stays when something breaks."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from resources.document import MAX_FILE_BYTES
from resources.kind import ObjectKey
from resources.pod import Pod
from resources.sources import directory
from resources.sources.directory import MAX_FOLDER_DEPTH, DirectorySource, Scan
from tests.support import manifests

LATER = timedelta(hours=1)
"""Long after any write of these tests: nothing is fresh then."""


class Reader:
    """A source and everything it said counts."""

    def __init__(self, root: Path) -> None:
        self.source = DirectorySource(str(root))
        self.objects: dict[ObjectKey, Any] = {}

    def scan(self, after: timedelta = LATER) -> Scan:
        """Scan, and follow the changes."""
        scan = self.source.scan(datetime.now(UTC) + after)
        for key in scan.deleted:
            del self.objects[key]
        for resource in scan.applied:
            self.objects[resource.meta.key] = resource
        return scan

    @property
    def names(self) -> list[str]:
        """The names of the objects that count."""
        return sorted(key.name for key in self.objects)

    def ip(self, name: str) -> str:
        """Return a pod's address."""
        found = self.objects[ObjectKey("", "Pod", "shop", name)]
        assert isinstance(found, Pod)
        return found.ips[0]


def write(path: Path, *documents: dict[str, Any]) -> None:
    """Write documents into a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n---\n".join(json.dumps(each) for each in documents))


def messages(scan: Scan) -> list[str]:
    """Return what is wrong, without places."""
    return [problem.message for problem in scan.problems]


def pod(name: str, number: int = 1, **more: Any) -> dict[str, Any]:
    """Return a pod at 10.1.0.<number>."""
    return manifests.pod(name, f"10.1.0.{number}", **more)


def test_manifests_are_found_in_all_folders_by_their_ending(tmp_path: Path) -> None:
    """Hidden names and other files are not manifests."""
    for name in ("a.yaml", "b.yml", "c.json", "x/d.yaml", "x/y/e.json"):
        write(tmp_path / name, pod(Path(name).stem))
    for name in (".f.yaml", ".git/g.yaml", "h.txt", "..data/i.yaml", "j.yaml.bak", "x/.k.yml"):
        write(tmp_path / name, pod(Path(name).stem.strip(".")[0]))
    reader = Reader(tmp_path)
    scan = reader.scan()
    assert reader.names == ["a", "b", "c", "d", "e"]
    assert scan.problems == ()
    assert scan.folders == tuple(
        str(tmp_path / name) if name else str(tmp_path) for name in ("", "x", "x/y")
    )


def test_only_what_changed_is_read_again(tmp_path: Path) -> None:
    """A thousand files, one touched, one rewritten, one new, one gone."""
    for number in range(1000):
        write(tmp_path / f"{number}.json", pod(f"p{number}"))
    reader = Reader(tmp_path)
    assert reader.scan().parsed == 1000
    assert reader.scan() == Scan(folders=(str(tmp_path),))
    os.utime(tmp_path / "5.json")
    assert reader.scan().parsed == 0
    write(tmp_path / "7.json", pod("p7", 7))
    write(tmp_path / "new.json", pod("new"))
    (tmp_path / "9.json").unlink()
    scan = reader.scan()
    assert scan.parsed == 2
    assert sorted(each.meta.name for each in scan.applied) == ["new", "p7"]
    assert [key.name for key in scan.deleted] == ["p9"]


def test_a_rewrite_with_equal_times_and_size_is_seen_while_fresh(tmp_path: Path) -> None:
    """File systems keep times in ticks: two writes in one tick look alike."""
    path = tmp_path / "a.json"
    write(path, pod("a", 1))
    reader = Reader(tmp_path)
    reader.scan(after=timedelta())
    status = path.stat()
    write(path, pod("a", 2))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    reader.scan(after=timedelta())
    assert reader.ip("a") == "10.1.0.2"


def test_of_two_documents_for_one_object_the_first_path_counts(tmp_path: Path) -> None:
    """The other is reported, and takes over when the first goes."""
    write(tmp_path / "b.json", pod("a", 2))
    reader = Reader(tmp_path)
    reader.scan()
    write(tmp_path / "a.json", pod("a", 1))
    scan = reader.scan()
    assert reader.ip("a") == "10.1.0.1"
    (problem,) = scan.problems
    assert (problem.file, problem.line) == (str(tmp_path / "b.json"), 1)
    assert problem.message == f"Pod shop/a stands in {tmp_path / 'a.json'}:1 already"
    assert scan.blocks == ()
    (tmp_path / "a.json").unlink()
    scan = reader.scan()
    assert reader.ip("a") == "10.1.0.2"
    assert (scan.problems, scan.deleted) == ((), ())


def test_in_one_file_the_first_document_counts(tmp_path: Path) -> None:
    """And sorting is by the whole path."""
    write(tmp_path / "a.json", pod("a", 1), pod("a", 2))
    write(tmp_path / "a/b.json", pod("a", 3))
    reader = Reader(tmp_path)
    scan = reader.scan()
    assert reader.ip("a") == "10.1.0.1"
    assert [Path(problem.file).name for problem in scan.problems] == ["a.json", "b.json"]


def test_a_first_document_that_breaks_keeps_its_place(tmp_path: Path) -> None:
    """The second does not count because the first is ill."""
    write(tmp_path / "a.json", pod("a", 1))
    write(tmp_path / "b.json", pod("a", 2))
    reader = Reader(tmp_path)
    reader.scan()
    write(tmp_path / "a.json", pod("a", 1, ports={"x": 0}))
    scan = reader.scan()
    assert reader.ip("a") == "10.1.0.1"
    assert len(scan.problems) == 2


def test_links_are_followed_and_every_file_seen_once(tmp_path: Path) -> None:
    """Whatever leads to it; loops end; a link to nowhere is nothing."""
    root = tmp_path / "root"
    write(root / "real/a.json", pod("a"))
    (root / "again").symlink_to("real")
    (root / "b.json").symlink_to("real/a.json")
    os.link(root / "real/a.json", root / "c.json")
    (root / "real/loop").symlink_to("..")
    (root / "gone.json").symlink_to("nowhere.json")
    write(tmp_path / "outside/d.json", pod("d"))
    (root / "d.json").symlink_to(tmp_path / "outside/d.json")
    reader = Reader(root)
    scan = reader.scan()
    assert reader.names == ["a", "d"]
    assert scan.problems == ()
    assert str(tmp_path / "outside") in scan.folders


def test_a_config_map_swap_is_one_change(tmp_path: Path) -> None:
    """Objects that both versions hold are never missing."""
    for version, names in (("..1", "ab"), ("..2", "bc")):
        for name in names:
            write(tmp_path / version / f"{name}.json", pod(name))
    (tmp_path / "..data").symlink_to("..1")
    for name in "abc":
        (tmp_path / f"{name}.json").symlink_to(f"..data/{name}.json")
    reader = Reader(tmp_path)
    reader.scan()
    assert reader.names == ["a", "b"]
    (tmp_path / "..tmp").symlink_to("..2")
    (tmp_path / "..tmp").rename(tmp_path / "..data")
    scan = reader.scan()
    assert [each.meta.name for each in scan.applied] == ["c"]
    assert [key.name for key in scan.deleted] == ["a"]
    assert scan.problems == ()


@pytest.mark.parametrize(
    "text", ["", "{", '{"kind": "Pod"}', "[]", json.dumps(pod("a")) + "\n---\n{"]
)
def test_a_file_that_cannot_be_told_keeps_what_it_held(tmp_path: Path, text: str) -> None:
    """Until it can be told again, and then what it does not hold is gone."""
    path = tmp_path / "a.json"
    write(path, pod("a"), pod("b"))
    reader = Reader(tmp_path)
    reader.scan()
    for _ in range(2):
        path.write_text(text)
        scan = reader.scan()
        assert scan.problems
        assert (scan.applied, scan.deleted, scan.blocks) == ((), (), ())
        path.write_text(text + " ")
    write(path, pod("b"))
    scan = reader.scan()
    assert [key.name for key in scan.deleted] == ["a"]
    assert scan.problems == ()


def test_what_was_deleted_long_ago_does_not_come_back(tmp_path: Path) -> None:
    """A file holds what it held when last good, not all it ever held."""
    path = tmp_path / "a.json"
    reader = Reader(tmp_path)
    for held in ([pod("a"), pod("b")], [pod("b")]):
        write(path, *held)
        reader.scan()
    write(tmp_path / "z.json", pod("a", 9))
    reader.scan()
    path.write_text("{")
    scan = reader.scan()
    assert reader.names == ["a", "b"]
    assert reader.ip("a") == "10.1.0.9"
    assert len(scan.problems) == 1


def test_a_document_that_breaks_keeps_its_object_beside_others_that_change(
    tmp_path: Path,
) -> None:
    """In the same file, and when it moves to another."""
    write(tmp_path / "a.json", pod("a", 1), pod("b", 1))
    reader = Reader(tmp_path)
    reader.scan()
    broken = pod("a", 2, ports={"x": 0})
    write(tmp_path / "a.json", broken, pod("b", 2))
    reader.scan()
    assert (reader.ip("a"), reader.ip("b")) == ("10.1.0.1", "10.1.0.2")
    (tmp_path / "a.json").unlink()
    write(tmp_path / "z.json", broken, pod("b", 2))
    scan = reader.scan()
    assert (reader.ip("a"), reader.ip("b")) == ("10.1.0.1", "10.1.0.2")
    assert scan.deleted == ()
    write(tmp_path / "z.json", pod("b", 2))
    reader.scan()
    assert reader.names == ["b"]


BROKEN_SHOP = pod("x", ports={"y": 0})
BROKEN_OTHER = pod("x", ports={"y": 0}, namespace="other")
BROKEN_CONFIG = manifests.config(clusterNetworks="x")
UNPLACED = {"apiVersion": "v1", "kind": "Pod"}


@pytest.mark.parametrize(
    ("document", "concerned"),
    [
        (BROKEN_SHOP, "shop"),
        (BROKEN_OTHER, "other"),
        (BROKEN_CONFIG, None),
        (UNPLACED, None),
        ({}, None),
        ({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "labels": 1}}, "n"),
    ],
)
def test_what_is_broken_at_first_load_blocks_whom_it_concerns(
    tmp_path: Path, document: dict[str, Any], concerned: str | None
) -> None:
    """As long as it stays, wherever it moves; what beside it is good counts."""
    write(tmp_path / "a.json", document, pod("good"))
    reader = Reader(tmp_path)
    for _ in range(2):
        scan = reader.scan()
        (block,) = scan.blocks
        assert block.namespace == concerned
        assert block.problem in scan.problems
        assert reader.names == ["good"]
    (tmp_path / "a.json").rename(tmp_path / "b.json")
    assert [block.namespace for block in reader.scan().blocks] == [concerned]
    write(tmp_path / "b.json", document, pod("good", 2))
    assert [block.namespace for block in reader.scan().blocks] == [concerned]
    write(tmp_path / "b.json", pod("good", 3))
    scan = reader.scan()
    assert (scan.blocks, scan.problems) == ((), ())
    write(tmp_path / "b.json", document, pod("good", 4))
    scan = reader.scan()
    assert scan.blocks == ()
    assert scan.problems
    assert reader.ip("good") == "10.1.0.4"


def test_who_was_free_after_first_load_is_not_blocked_later(tmp_path: Path) -> None:
    """Another namespace's trouble at first load is its own, whatever becomes of it."""
    write(tmp_path / "a.json", BROKEN_OTHER)
    reader = Reader(tmp_path)
    assert [block.namespace for block in reader.scan().blocks] == ["other"]
    write(tmp_path / "b.json", BROKEN_SHOP)
    assert [block.namespace for block in reader.scan().blocks] == ["other"]
    (tmp_path / "a.json").write_text("{")
    assert [block.namespace for block in reader.scan().blocks] == ["other"]
    (tmp_path / "a.json").unlink()
    assert reader.scan().blocks == ()


def test_a_root_that_is_not_there_blocks_everyone_until_it_is(tmp_path: Path) -> None:
    """An empty one too; what comes with it is a first load."""
    root = tmp_path / "mesh"
    reader = Reader(root)
    scan = reader.scan()
    assert [block.namespace for block in scan.blocks] == [None]
    assert messages(scan) == ["cannot be listed: No such file or directory"]
    root.mkdir()
    scan = reader.scan()
    assert [block.namespace for block in scan.blocks] == [None]
    assert messages(scan) == ["holds no manifest"]
    write(root / "a.json", BROKEN_SHOP)
    assert [block.namespace for block in reader.scan().blocks] == ["shop"]
    write(root / "a.json", pod("a"))
    assert reader.scan().blocks == ()
    assert reader.names == ["a"]


def test_a_root_that_goes_or_is_emptied_keeps_everything(tmp_path: Path) -> None:
    """Nobody takes the last manifest away on purpose while its sidecars run."""
    root = tmp_path / "mesh"
    write(root / "a.json", pod("a"))
    reader = Reader(root)
    reader.scan()
    (root / "a.json").unlink()
    scan = reader.scan()
    assert (scan.deleted, scan.blocks, messages(scan)) == ((), (), ["holds no manifest"])
    shutil.rmtree(root)
    scan = reader.scan()
    assert (scan.deleted, scan.blocks) == ((), ())
    assert messages(scan) == ["cannot be listed: No such file or directory"]
    write(root / "b.json", pod("b"))
    reader.scan()
    assert reader.names == ["b"]


def test_a_root_that_is_a_file_is_no_directory(tmp_path: Path) -> None:
    """Said so."""
    (tmp_path / "mesh").write_text("x")
    assert messages(Reader(tmp_path / "mesh").scan()) == ["cannot be listed: Not a directory"]


def test_what_is_no_regular_file_is_not_opened_for_long(tmp_path: Path) -> None:
    """A pipe without a writer would block; a folder with a manifest's name is a folder."""
    os.mkfifo(tmp_path / "a.yaml")
    write(tmp_path / "b.yaml" / "c.json", pod("c"))
    reader = Reader(tmp_path)
    scan = reader.scan()
    assert messages(scan) == ["cannot be read: it is no regular file"]
    assert reader.names == ["c"]


def test_a_file_past_the_bound_is_not_read_whole(tmp_path: Path) -> None:
    """At it, it is."""
    text = json.dumps(pod("a"))
    (tmp_path / "a.json").write_text(text + " " * (MAX_FILE_BYTES - len(text)))
    reader = Reader(tmp_path)
    assert reader.scan().problems == ()
    (tmp_path / "a.json").write_text(text + " " * (MAX_FILE_BYTES + 1 - len(text)))
    (message,) = messages(reader.scan())
    assert f"more than the {MAX_FILE_BYTES} bytes" in message
    assert reader.names == ["a"]


def test_more_files_than_the_bound_leave_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the bound all count; past it none that is new."""
    monkeypatch.setattr(directory, "MAX_FILES", 3)
    for name in "abc":
        write(tmp_path / f"{name}.json", pod(name))
    reader = Reader(tmp_path)
    assert reader.scan().problems == ()
    write(tmp_path / "d.json", pod("d"))
    assert messages(reader.scan()) == ["holds more than 3 manifests"]
    assert reader.names == ["a", "b", "c"]
    fresh = Reader(tmp_path).scan()
    assert [block.namespace for block in fresh.blocks] == [None]


def test_folders_are_followed_to_a_depth(tmp_path: Path) -> None:
    """Deeper ones are not looked into."""
    folder = tmp_path
    for number in range(MAX_FOLDER_DEPTH + 1):
        folder = folder / "x"
        write(folder / "a.json", pod(f"p{number + 1}"))
    reader = Reader(tmp_path)
    reader.scan()
    assert len(reader.names) == MAX_FOLDER_DEPTH


@pytest.mark.needs("root")
def test_an_unreadable_file_or_folder_keeps_what_it_held(tmp_path: Path) -> None:
    """For another user than root; a change of mode alone is seen."""
    write(tmp_path / "a.json", pod("a"))
    write(tmp_path / "x/b.json", pod("b"))
    write(tmp_path / "y/c.json", pod("c"))
    for path in (tmp_path, *tmp_path.parents):
        if path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
    os.seteuid(2102)
    try:
        reader = Reader(tmp_path)
        reader.scan()
        os.seteuid(0)
        (tmp_path / "a.json").chmod(0o600)
        (tmp_path / "x").chmod(0o700)
        (tmp_path / "y/c.json").unlink()
        os.seteuid(2102)
        scan = reader.scan()
        assert messages(scan) == [
            "cannot be read: Permission denied",
            "cannot be listed: Permission denied",
        ]
        assert scan.blocks == ()
        assert reader.names == ["a", "b"]
        fresh = Reader(tmp_path).scan()
        assert [block.namespace for block in fresh.blocks] == [None, None]
        os.seteuid(0)
        (tmp_path / "a.json").chmod(0o644)
        (tmp_path / "x").chmod(0o755)
        os.seteuid(2102)
        scan = reader.scan()
        assert (scan.problems, scan.parsed) == ((), 1)
        assert reader.names == ["a", "b"]
    finally:
        os.seteuid(0)


@pytest.mark.needs("root")
def test_what_cannot_be_told_is_not_taken_for_gone(tmp_path: Path) -> None:
    """A folder that shows names and nothing of what they are; a link into a closed one."""
    closed = tmp_path / "closed"
    write(closed / "b.json", pod("b"))
    root = tmp_path / "mesh"
    write(root / "x/a.json", pod("a"))
    write(root / "x/deep/c.json", pod("c"))
    (root / "b.json").symlink_to(closed / "b.json")
    (root / "nowhere.json").symlink_to(root / "nowhere.json")
    for path in (closed, *tmp_path.parents):
        if path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
    tmp_path.chmod(0o755)
    os.seteuid(2102)
    try:
        reader = Reader(root)
        assert reader.scan().problems == ()
        os.seteuid(0)
        (root / "x").chmod(0o744)
        closed.chmod(0o700)
        os.seteuid(2102)
        for _ in range(2):
            scan = reader.scan()
            assert set(messages(scan)) == {"cannot be read: Permission denied"}
            assert [Path(each.file).name for each in scan.problems] == ["b.json", "a.json", "deep"]
            assert scan.blocks == ()
            assert reader.names == ["a", "b", "c"]
        assert {block.namespace for block in Reader(root).scan().blocks} == {None}
        os.seteuid(0)
        write(root / "x/a.json", pod("new"))
        (root / "x").chmod(0o755)
        closed.chmod(0o755)
        os.seteuid(2102)
        assert reader.scan().problems == ()
        assert reader.names == ["b", "c", "new"]
    finally:
        os.seteuid(0)


def test_others_run_between_files(tmp_path: Path) -> None:
    """A large directory does not hold up the connections of a sidecar."""
    for number in range(10):
        write(tmp_path / f"{number}.json", pod(f"p{number}"))
    steps = DirectorySource(str(tmp_path)).scan_steps(datetime.now(UTC))
    assert sum(1 for _ in steps) == 10
