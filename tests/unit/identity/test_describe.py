from __future__ import annotations

import time
from pathlib import Path

import pytest

from core.errors import IdentityError
from identity.describe import MAX_FILES, describe
from identity.pem import join_pem
from tests.authority import Mesh, mk_identity


def test_a_chain_is_described_in_order(mesh: Mesh, tmp_path: Path) -> None:
    """Who it is for, who issued it, and how long it is good."""
    now = time.time()
    issued = mesh.leaf(mk_identity("shop/web"), tmp_path / "key", now=now)
    path = tmp_path / "chain.pem"
    path.write_bytes(join_pem([issued.leaf, *issued.intermediates]))
    (leaf, issuer), problems = describe(path)
    assert problems == []
    assert (leaf.position, issuer.position) == (1, 2)
    assert leaf.names == (f"DNS:{mk_identity('shop/web')}",)
    assert leaf.issuer == issuer.subject == "CN=identity.linkerd.cluster.local"
    assert (leaf.is_authority, issuer.is_authority) == (False, True)
    assert leaf.serial == f"{issued.serial:x}"
    assert leaf.not_after == issued.not_after
    assert leaf.days_left(now) == pytest.approx(1, abs=0.01)
    assert leaf.state(now) == "valid"
    assert leaf.state(leaf.not_before - 1) == "not yet valid"
    assert leaf.state(leaf.not_after) == "expired"


def test_a_spiffe_leaf_and_der_are_described_too(mesh: Mesh, tmp_path: Path) -> None:
    """A file of DER is told from PEM by its first byte."""
    issued = mesh.leaf(mesh.identity("spiffe://cluster.local/vm"), tmp_path / "key")
    path = tmp_path / "leaf.der"
    path.write_bytes(issued.leaf)
    (leaf,), _ = describe(path)
    assert leaf.subject == ""
    assert leaf.names == ("URI:spiffe://cluster.local/vm",)


def test_a_directory_is_described_without_its_keys(mesh: Mesh) -> None:
    """Certificates of every file below; of keys, secrets and tokens nothing."""
    found, problems = describe(mesh.authority.directory)
    assert problems == []
    files = {Path(each.file).relative_to(mesh.authority.directory) for each in found}
    assert {Path("root.pem"), Path("issuer.pem"), Path("anchors/cluster.local.pem")} <= files
    shown = repr(found)
    for path in mesh.authority.directory.rglob("*.key"):
        for line in path.read_text().splitlines():
            assert line not in shown


def test_what_cannot_be_read_is_a_problem_and_the_rest_is_shown(mesh: Mesh, tmp_path: Path) -> None:
    """A broken file does not hide the others; hidden files are left out."""
    (tmp_path / "good.pem").write_bytes(join_pem([mesh.root]))
    (tmp_path / "bad.pem").write_bytes(join_pem([b"garbage"]))
    (tmp_path / "cut.crt").write_bytes(join_pem([mesh.root])[:100])
    (tmp_path / ".hidden.pem").write_bytes(join_pem([b"garbage"]))
    found, problems = describe(tmp_path)
    assert [each.file for each in found] == [str(tmp_path / "good.pem")]
    assert len(problems) == 2
    (tmp_path / "empty").mkdir()
    with pytest.raises(IdentityError, match="no certificate"):
        describe(tmp_path / "empty")
    assert "cannot read" in describe(tmp_path / "missing")[1][0]


def test_the_files_looked_at_are_bounded(mesh: Mesh, tmp_path: Path) -> None:
    """At the bound all are shown; one more is said to be left out."""
    for number in range(MAX_FILES):
        (tmp_path / f"{number:04}.pem").write_bytes(join_pem([mesh.root]))
    assert (len(describe(tmp_path)[0]), describe(tmp_path)[1]) == (MAX_FILES, [])
    (tmp_path / "one-more.pem").write_bytes(join_pem([mesh.root]))
    found, problems = describe(tmp_path)
    assert (len(found), len(problems)) == (MAX_FILES, 1)
