"""A leaf that others rotate, in plain files and in mounted volumes (control.identity)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from control import identity as identity_module
from control.identity import LeafFiles
from identity.anchors import load_anchors
from identity.files import read_private, replace
from identity.generation import Generation
from identity.material import Material, read_chain
from identity.pem import join_pem
from tests.authority import Mesh, mk_identity, mk_mesh
from tests.support.clock import FakeClock
from tests.support.volume import Volume

WEB = mk_identity("shop/web")


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Mesh:
    """An authority to issue from."""
    return mk_mesh(tmp_path_factory.mktemp("files") / "authority")


def _files(mesh: Mesh, directory: Path) -> tuple[LeafFiles, Material, list[tuple[str, str]]]:
    log: list[tuple[str, str]] = []
    material = Material(directory)
    leaf = LeafFiles(
        directory,
        WEB,
        load_anchors=lambda before: load_anchors(material.anchors, "cluster.local", before),
        clock=FakeClock(),
        log=lambda level, message: log.append((level, message)),
    )
    return leaf, material, log


def _trust(material: Material, *roots: bytes) -> None:
    material.anchors.mkdir(parents=True, exist_ok=True)
    replace(material.anchors / "cluster.local.pem", join_pem(roots), mode=0o644)


def _rotate(mesh: Mesh, material: Material) -> None:
    issued = mesh.leaf(WEB, material.directory)
    replace(material.chain, join_pem([issued.leaf, *issued.intermediates]), mode=0o644)


def test_a_leaf_that_others_rotate_is_taken_from_its_files(mesh: Mesh, tmp_path: Path) -> None:
    """Loaded, loaded again after a rotation, and kept when the files are broken."""
    leaf, material, log = _files(mesh, tmp_path)
    assert not leaf.load()
    assert "cannot read" in leaf.status.current.last_error
    _trust(material, mesh.root)
    _rotate(mesh, material)
    assert leaf.load()
    first = leaf.generation.current
    assert leaf.load()
    assert leaf.generation.current is first
    _rotate(mesh, material)
    assert leaf.load()
    second = leaf.generation.current
    assert first is not None
    assert second is not None
    assert second.fingerprint != first.fingerprint
    whole = material.chain.read_bytes()
    material.chain.write_bytes(whole[:100])
    for _ in range(2):
        assert not leaf.load()
    assert leaf.generation.current is second
    status = leaf.status.current
    assert (status.refreshes, status.failures, status.next_refresh) == (2, 3, 0.0)
    assert status.expires == second.not_after
    assert "broken PEM" in status.warnings[0]
    assert [level for level, _ in log] == ["warn", "info", "info", "warn"]
    material.chain.write_bytes(whole)
    assert leaf.load()
    assert leaf.generation.current is second
    assert (leaf.status.current.last_error, leaf.status.current.warnings) == ("", ())


def test_half_a_rotation_is_none(mesh: Mesh, tmp_path: Path) -> None:
    """A new key beside the old chain, until the new chain is there too."""
    leaf, material, _ = _files(mesh, tmp_path)
    _trust(material, mesh.root)
    _rotate(mesh, material)
    assert leaf.load()
    before = leaf.generation.current
    old = material.chain.read_bytes()
    _rotate(mesh, material)
    new = material.chain.read_bytes()
    material.chain.write_bytes(old)
    assert not leaf.load()
    assert leaf.generation.current is before
    material.chain.write_bytes(new)
    assert leaf.load()
    assert leaf.generation.current is not before


def test_anchors_count_while_the_leaf_s_files_are_broken(mesh: Mesh, tmp_path: Path) -> None:
    """The leaf in use goes on under the anchors as they are now."""
    other = mk_mesh(tmp_path / "other")
    leaf, material, _ = _files(mesh, tmp_path / "web")
    _trust(material, mesh.root)
    _rotate(mesh, material)
    assert leaf.load()
    material.key.unlink()
    _trust(material, mesh.root, other.root)
    assert not leaf.load()
    generation = leaf.generation.current
    assert generation is not None
    assert len(generation.anchors.roots["cluster.local"]) == 2
    assert generation.trouble == ""


def _publish(volume: Volume, mesh: Mesh, *roots: bytes) -> None:
    """Exchange leaf, key and anchors at once."""
    place = mesh.authority.directory / "issued"
    issued = mesh.leaf(WEB, place)
    volume.publish(
        {
            "chain.pem": join_pem([issued.leaf, *issued.intermediates]),
            "key.pem": (place / "key.pem").read_bytes(),
            "anchors/cluster.local.pem": join_pem(roots),
        }
    )


async def test_a_mounted_secret_is_followed(mesh: Mesh, tmp_path: Path) -> None:
    """Each version at once and whole, also when its root is a new one."""
    other = mk_mesh(tmp_path / "other")
    volume = Volume(tmp_path / "web")
    _publish(volume, mesh, mesh.root)
    leaf, _, _ = _files(mesh, tmp_path / "web")
    assert leaf.load()
    seen: list[Generation | None] = []
    leaf.generation.subscribe(seen.append)
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(leaf.run())
        for number, (issuer, roots) in enumerate(
            [
                (mesh, (mesh.root, other.root)),
                (other, (mesh.root, other.root)),
                (other, (other.root,)),
                (mesh, (mesh.root,)),
            ],
            start=1,
        ):
            _publish(volume, issuer, *roots)
            generation = await leaf.generation.changed(number)
            assert generation is not None
            assert generation.anchors.roots["cluster.local"] == set(roots)
            assert generation.trouble == ""
        running.cancel()
    assert len(seen) == 4
    assert leaf.status.current.failures == 0


def test_a_version_exchanged_while_it_is_read_is_read_again(
    mesh: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the chain and the key: the pair that counts is the new one, and no fault is seen."""
    volume = Volume(tmp_path / "web")
    _publish(volume, mesh, mesh.root)
    leaf, _, _ = _files(mesh, tmp_path / "web")
    swaps = [1]

    def swap_before_reading(path: Path) -> bytes:
        if swaps:
            swaps.pop()
            _publish(volume, mesh, mesh.root)
        return read_private(path)

    monkeypatch.setattr(identity_module, "read_private", swap_before_reading)
    assert leaf.load()
    assert leaf.status.current.failures == 0
    generation = leaf.generation.current
    assert generation is not None
    assert generation.credential.chain == read_chain(tmp_path / "web" / "chain.pem")
