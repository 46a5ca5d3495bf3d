from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from core.errors import IdentityError
from identity import anchors as anchors_module
from identity.anchors import (
    MAX_DOMAINS,
    MAX_ENTRIES,
    MAX_ROOTS,
    Anchors,
    authority_ends,
    load_anchors,
    parse_roots,
)
from identity.files import MAX_FILE_BYTES, read_bounded
from identity.issuer import ROOT_LIFETIME, create_authority
from identity.key import create_key
from identity.name import parse_identity
from identity.pem import join_pem
from tests.authority import Mesh

GARBAGE = join_pem([b"garbage"])
KEY = create_key()


@cache
def _root(number: int = 0) -> bytes:
    made = create_authority("root", KEY, lifetime=ROOT_LIFETIME, now=1_700_000_000 + number)
    return made.public_bytes(Encoding.DER)


def test_bundles_are_read_by_trust_domain(mesh: Mesh, foreign: Mesh, tmp_path: Path) -> None:
    """One file a domain, named after it; other files and hidden ones are left alone."""
    (tmp_path / "cluster.local.pem").write_bytes(join_pem([mesh.root]))
    (tmp_path / "west.example.pem").write_bytes(join_pem([foreign.root]))
    (tmp_path / "README").write_text("hello")
    (tmp_path / "..2026.pem").write_bytes(GARBAGE)
    anchors = load_anchors(tmp_path, "Cluster.Local")
    assert anchors == Anchors(
        "cluster.local",
        {
            "cluster.local": frozenset({mesh.root}),
            "west.example": frozenset({foreign.root}),
        },
    )
    assert anchors.problems == ()
    assert anchors.vouches(mesh.root, "cluster.local")
    assert not anchors.vouches(mesh.root, "west.example")
    assert not anchors.vouches(mesh.root, "unknown.example")
    assert anchors.domain_of(parse_identity("spiffe://west.example/a")) == "west.example"
    assert anchors.domain_of(parse_identity("plain.test")) == "cluster.local"
    assert anchors.domain_of(None) == "cluster.local"


def test_a_file_that_is_named_counts_for_its_domain_alone(
    mesh: Mesh, foreign: Mesh, tmp_path: Path
) -> None:
    """Not under its own name, and not beside the file that is named after the domain."""
    (tmp_path / "cluster.local.pem").write_bytes(join_pem([mesh.root]))
    (tmp_path / "west.example.pem").write_bytes(join_pem([_root()]))
    (tmp_path / "roots-of-west.pem").write_bytes(join_pem([foreign.root]))
    named = {"west.example": "roots-of-west.pem"}
    anchors = load_anchors(tmp_path, "cluster.local", named=named)
    assert anchors.problems == ()
    assert dict(anchors.roots) == {
        "cluster.local": frozenset({mesh.root}),
        "west.example": frozenset({foreign.root}),
    }
    missing = load_anchors(tmp_path, "cluster.local", named={"south.example": "south-roots.pem"})
    assert not missing.vouches(foreign.root, "south.example")
    (problem,) = [each for each in missing.problems if "south.example" in each]
    assert "is not there" in problem


def test_a_configmap_s_links_are_followed(mesh: Mesh, tmp_path: Path) -> None:
    """A mounted ConfigMap is a directory of links into a hidden version."""
    version = tmp_path / "..2026_01_01"
    version.mkdir()
    (version / "cluster.local.pem").write_bytes(join_pem([mesh.root]))
    (tmp_path / "..data").symlink_to(version.name)
    (tmp_path / "cluster.local.pem").symlink_to("..data/cluster.local.pem")
    assert load_anchors(tmp_path, "cluster.local").roots["cluster.local"] == {mesh.root}


def test_unusable_certificates_are_left_out_and_named(mesh: Mesh, tmp_path: Path) -> None:
    """One broken certificate does not take the good ones with it."""
    leaf = mesh.leaf(mesh.identity("shop/web"), tmp_path / "leaf").leaf
    long = base64.b64encode(mesh.root + b"tail")
    tail = b"-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n" % long
    odd = b"-----BEGIN CERTIFICATE-----\nA===\n-----END CERTIFICATE-----\n"
    cut = b"-----BEGIN CERTIFICATE-----\nAAAA"
    pem = b"a comment\n" + GARBAGE + tail + join_pem([leaf, mesh.root, mesh.root]) + odd + cut
    bundle = parse_roots(pem, "bundle")
    assert bundle.roots == {mesh.root}
    assert bundle.is_broken
    assert bundle.problems == (
        "bundle: 2 PEM blocks cannot be decoded",
        "bundle: certificate 1 cannot be parsed",
        "bundle: certificate 2 cannot be parsed",
        "bundle: certificate 3 is no certificate authority",
    )


def test_two_roots_of_equal_subject_are_two(mesh: Mesh) -> None:
    """They differ in their keys; in a rotation both are needed."""
    other = _root()
    bundle = parse_roots(join_pem([mesh.root, other, _root(1)]), "bundle")
    assert len(bundle.roots) == 3
    assert bundle.problems == ()
    assert not bundle.is_broken


def _missing(path: Path) -> None:
    path.unlink()


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _garbage(path: Path) -> None:
    path.write_bytes(GARBAGE)


def _too_long(path: Path) -> None:
    path.write_bytes(path.read_bytes().ljust(MAX_FILE_BYTES + 1))


def _too_many(path: Path) -> None:
    path.write_bytes(join_pem(_root(number) for number in range(MAX_ROOTS + 1)))


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [_missing, _empty, _garbage, _too_long, _too_many, _directory])
def test_our_own_bundle_has_to_be_usable(
    mesh: Mesh, foreign: Mesh, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """Ours broken is an error; a linked domain's is a problem, and the rest goes on."""
    own, linked = tmp_path / "cluster.local.pem", tmp_path / "west.example.pem"
    own.write_bytes(join_pem([mesh.root]))
    linked.write_bytes(join_pem([foreign.root]))
    spoil(linked)
    anchors = load_anchors(tmp_path, "cluster.local")
    assert set(anchors.roots) == {"cluster.local"}
    assert bool(anchors.problems) == (spoil not in (_missing, _empty))
    spoil(own)
    with pytest.raises(IdentityError, match=r"cluster\.local"):
        load_anchors(tmp_path, "cluster.local")


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _one_broken(path: Path) -> None:
    path.write_bytes(join_pem([_root()]) + GARBAGE)


SPOILS = [_missing, _empty, _garbage, _too_long, _too_many, _directory, _truncated, _one_broken]


@pytest.mark.parametrize("spoil", SPOILS)
def test_a_bundle_that_becomes_broken_keeps_its_roots(
    mesh: Mesh, foreign: Mesh, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """Ours or a linked one; the other is followed all the same, and the fault is said."""
    own, linked = tmp_path / "cluster.local.pem", tmp_path / "west.example.pem"
    for broken, whole in ((own, linked), (linked, own)):
        own.write_bytes(join_pem([mesh.root]))
        linked.write_bytes(join_pem([foreign.root]))
        before = load_anchors(tmp_path, "cluster.local")
        spoil(broken)
        if broken is linked:
            whole.write_bytes(join_pem([mesh.root, _root(1)]))
        now = load_anchors(tmp_path, "cluster.local", before)
        if spoil is _missing and broken is linked:
            assert "west.example" not in now.roots
            assert now.problems == ()
            continue
        domain = broken.name.removesuffix(".pem")
        assert now.roots[domain] == before.roots[domain]
        assert any("in force stay" in problem or str(broken) in problem for problem in now.problems)
        if broken is linked:
            assert now.roots["cluster.local"] == {mesh.root, _root(1)}
        if broken.is_dir():
            broken.rmdir()
        broken.unlink(missing_ok=True)


def test_a_whole_bundle_takes_a_root_away(mesh: Mesh, tmp_path: Path) -> None:
    """Keeping what is broken never keeps what was removed."""
    own = tmp_path / "cluster.local.pem"
    own.write_bytes(join_pem([mesh.root, _root()]))
    before = load_anchors(tmp_path, "cluster.local")
    own.write_bytes(join_pem([_root()]))
    now = load_anchors(tmp_path, "cluster.local", before)
    assert now.roots["cluster.local"] == {_root()}
    assert now != before


def test_a_leaf_among_the_roots_is_left_out_and_breaks_nothing(mesh: Mesh, tmp_path: Path) -> None:
    """A mistake of who wrote the bundle, but no sign of half a file."""
    leaf = mesh.leaf(mesh.identity("shop/web"), tmp_path / "leaf").leaf
    own = tmp_path / "cluster.local.pem"
    own.write_bytes(join_pem([mesh.root]))
    before = load_anchors(tmp_path, "cluster.local")
    own.write_bytes(join_pem([_root(), leaf]))
    now = load_anchors(tmp_path, "cluster.local", before)
    assert now.roots["cluster.local"] == {_root()}
    assert len(now.problems) == 1


def test_bundles_are_of_one_version(
    mesh: Mesh, foreign: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ConfigMap that is exchanged while it is read is read again as a whole."""
    for version, roots in (("..v1", (mesh.root, foreign.root)), ("..v2", (_root(), _root(1)))):
        (tmp_path / version).mkdir()
        for name, root in zip(("cluster.local.pem", "west.example.pem"), roots, strict=True):
            (tmp_path / version / name).write_bytes(join_pem([root]))
    (tmp_path / "..data").symlink_to("..v1")
    for name in ("cluster.local.pem", "west.example.pem"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    swaps = ["..v2"]

    def swap_after_reading(path: Path) -> bytes:
        data = read_bounded(path)
        if swaps:
            (tmp_path / "..tmp").symlink_to(swaps.pop())
            (tmp_path / "..tmp").rename(tmp_path / "..data")
        return data

    monkeypatch.setattr(anchors_module, "read_bounded", swap_after_reading)
    anchors = load_anchors(tmp_path, "cluster.local")
    assert anchors.roots == {"cluster.local": {_root()}, "west.example": {_root(1)}}


def test_the_ends_of_authorities_are_read(mesh: Mesh, tmp_path: Path) -> None:
    """Only of authorities: what is none is left out."""
    leaf = mesh.leaf(mesh.identity("shop/web"), tmp_path / "leaf").leaf
    ends = authority_ends([_root(), leaf, b"garbage"])
    assert ends == {_root(): 1_700_000_000 + ROOT_LIFETIME.total_seconds()}


def test_bounds_hold_at_and_past_them(mesh: Mesh, tmp_path: Path) -> None:
    """As many roots, bytes and domains as stated, and one more."""
    bundle = parse_roots(join_pem(_root(number) for number in range(MAX_ROOTS)), "bundle")
    assert len(bundle.roots) == MAX_ROOTS
    own = tmp_path / "cluster.local.pem"
    own.write_bytes(join_pem([mesh.root]).ljust(MAX_FILE_BYTES))
    for number in range(MAX_DOMAINS - 1):
        (tmp_path / f"d{number:03}.example.pem").write_bytes(join_pem([mesh.root]))
    anchors = load_anchors(tmp_path, "cluster.local")
    assert len(anchors.roots) == MAX_DOMAINS
    assert anchors.problems == ()
    (tmp_path / "e.example.pem").write_bytes(join_pem([mesh.root]))
    anchors = load_anchors(tmp_path, "cluster.local")
    assert len(anchors.roots) == MAX_DOMAINS
    assert len(anchors.problems) == 1
    assert "e.example" in anchors.problems[0]


def test_a_directory_of_too_many_entries_is_reported(mesh: Mesh, tmp_path: Path) -> None:
    """At the bound all are looked at; past it our own bundle still counts."""
    (tmp_path / "cluster.local.pem").write_bytes(join_pem([mesh.root]))
    for number in range(MAX_ENTRIES - 1):
        (tmp_path / f"note-{number}").touch()
    assert load_anchors(tmp_path, "cluster.local").problems == ()
    (tmp_path / "one-more").touch()
    anchors = load_anchors(tmp_path, "cluster.local")
    assert anchors.vouches(mesh.root, "cluster.local")
    assert anchors.problems == (f"{tmp_path} has more than {MAX_ENTRIES} entries",)


def test_the_union_holds_every_root_once(mesh: Mesh, foreign: Mesh) -> None:
    """Clusters may share a root; OpenSSL is given it once."""
    anchors = Anchors(
        "a.test",
        {
            "a.test": frozenset({mesh.root, foreign.root}),
            "b.test": frozenset({mesh.root}),
        },
    )
    assert anchors.union in {mesh.root + foreign.root, foreign.root + mesh.root}


@pytest.mark.parametrize("domain", ["", "../etc", "a b", "x" * 300])
def test_a_trust_domain_is_a_name_and_no_path(tmp_path: Path, domain: str) -> None:
    """The file's name is made from it."""
    with pytest.raises(IdentityError, match="trust domain"):
        load_anchors(tmp_path, domain)


def test_a_file_not_named_after_a_domain_is_reported(mesh: Mesh, tmp_path: Path) -> None:
    """A bundle under a wrong name would silently be trusted by nobody."""
    (tmp_path / "cluster.local.pem").write_bytes(join_pem([mesh.root]))
    (tmp_path / "West Example.pem").write_bytes(join_pem([mesh.root]))
    anchors = load_anchors(tmp_path, "cluster.local")
    assert set(anchors.roots) == {"cluster.local"}
    assert anchors.problems == ("West Example.pem is not named after a trust domain",)


@pytest.mark.needs("openssl")
def test_openssl_reads_the_pem_that_we_write(mesh: Mesh) -> None:
    """An independent reader finds the same certificate."""
    done = subprocess.run(
        ["openssl", "x509", "-outform", "DER"],
        input=join_pem([mesh.root]),
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert done.stdout == mesh.root
