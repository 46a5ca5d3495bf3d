"""The steps on disk: what each changes, what it refuses, and how it goes on after a crash."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import IdentityError
from identity import rotate as rotate_module
from identity.certify import Certifier
from identity.csr import create_csr
from identity.files import replace
from identity.issuer import read_chain
from identity.key import create_key, read_key
from identity.ledger import Entry, append_entry
from identity.pem import join_pem
from identity.request import CertifyRequest
from identity.rotate import Rotator
from identity.rotation import Phase, Rotation
from tests.authority import Mesh, mk_identity, mk_mesh

WEB = mk_identity("shop/web")
KEY = create_key()
DAY = 86_400.0


@pytest.fixture
def own(tmp_path: Path) -> Mesh:
    """An authority to rotate."""
    return mk_mesh(tmp_path / "authority")


def _issue(mesh: Mesh, now: float) -> None:
    request = CertifyRequest(
        WEB.name, mesh.authority.create_token(WEB).encode(), create_csr(KEY, WEB)
    )
    Certifier(mesh.authority, warn=lambda message: None).certify(request, now)


def _files(mesh: Mesh) -> dict[str, bytes]:
    directory = mesh.authority.directory
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def _trusted(mesh: Mesh) -> frozenset[bytes]:
    return mesh.anchors.roots["cluster.local"]


def test_a_whole_rotation(own: Mesh) -> None:
    """Both are trusted, then the new one issues, then the old one goes, when its leaves ended."""
    rotator, now = Rotator(own.authority), time.time()
    old_root, old_issuer = own.root, own.authority.load_issuer().fingerprint
    _issue(own, now)
    assert rotator.read(now).phase is Phase.IDLE

    assert rotator.start(now).phase is Phase.TRUSTED
    assert old_root in _trusted(own)
    (new_root,) = _trusted(own) - {old_root}
    assert own.authority.load_issuer().fingerprint == old_issuer
    _issue(own, now)

    assert rotator.switch(now).phase is Phase.SWITCHED
    assert _trusted(own) == {old_root, new_root}
    new_issuer = own.authority.load_issuer()
    assert new_issuer.fingerprint != old_issuer
    assert new_issuer.not_after(own.anchors, now) > now
    assert read_key(own.authority.root_key).public_key() == (
        read_chain(own.authority.root_certificate)[0].public_key()
    )
    _issue(own, now)
    with pytest.raises(IdentityError, match=f"2 leaves of the old issuer {old_issuer[:16]}"):
        rotator.finish(now)
    with pytest.raises(IdentityError, match="old issuer"):
        rotator.finish(now + DAY + 19)
    assert _trusted(own) == {old_root, new_root}

    done = rotator.finish(now + DAY + 21)
    assert done.phase is Phase.IDLE
    assert _trusted(own) == {new_root}
    assert [(root.is_old, root.is_new, root.issues) for root in done.roots] == [
        (False, False, True)
    ]
    assert not (own.authority.directory / "rotation").exists()
    retired = own.authority.directory / "retired" / old_issuer[:16]
    assert sorted(path.name for path in retired.iterdir()) == [
        "issuer.key",
        "issuer.pem",
        "root.key",
        "root.pem",
    ]
    assert own.authority.create_token(WEB)


def test_the_new_root_bears_the_old_one_s_name(own: Mesh) -> None:
    """The hard case, and the usual one: two anchors of equal subject, told apart by their keys."""
    rotator, now = Rotator(own.authority), time.time()
    roots = rotator.start(now).roots
    assert len({root.subject for root in roots}) == 1
    assert len({root.fingerprint for root in roots}) == 2


def test_rotating_again_and_again_works(own: Mesh) -> None:
    """Each rotation leaves its own entry behind, and only one root in the bundle."""
    rotator, now = Rotator(own.authority), time.time()
    seen = {own.root}
    for _ in range(3):
        rotator.start(now)
        rotator.switch(now)
        rotator.finish(now)
        seen.add(own.root)
    assert len(seen) == 4
    assert len(list((own.authority.directory / "retired").iterdir())) == 3


def test_leaves_of_an_issuer_nobody_knows_block(own: Mesh) -> None:
    """As of one that was exchanged by hand: what it hung on cannot be told."""
    rotator, now = Rotator(own.authority), time.time()
    append_entry(own.authority.ledger, Entry("1", WEB.name, "f" * 64, now + 100))
    rotator.start(now)
    rotator.switch(now)
    with pytest.raises(IdentityError, match="unknown issuer ffffffffffffffff"):
        rotator.finish(now)
    assert rotator.finish(now + 100).phase is Phase.IDLE


def test_other_roots_of_the_bundle_stay(own: Mesh, tmp_path: Path) -> None:
    """Clusters may share anchors: only the root that our issuer hung on is retired."""
    other = mk_mesh(tmp_path / "other").root
    bundle = own.authority.anchors / "cluster.local.pem"
    old = own.root
    replace(bundle, join_pem([other, old]), mode=0o644)
    rotator, now = Rotator(own.authority), time.time()
    rotator.start(now)
    rotator.switch(now)
    rotator.finish(now)
    assert other in _trusted(own)
    assert old not in _trusted(own)
    assert len(_trusted(own)) == 2


def test_an_authority_that_is_over_can_be_rotated(own: Mesh) -> None:
    """An expired root is a reason to rotate, and no obstacle to it."""
    rotator, late = Rotator(own.authority), time.time() + 5000 * DAY
    rotator.start(late)
    assert rotator.switch(late).phase is Phase.SWITCHED
    assert own.authority.load_issuer().not_after(own.anchors, late) > late
    rotator.finish(late)


def test_a_key_taken_to_a_safe_place_is_not_missed(own: Mesh) -> None:
    """Neither the old root's nor the new one's; an old key never lies beside a new root."""
    rotator, now = Rotator(own.authority), time.time()
    own.authority.root_key.unlink()
    rotator.start(now)
    (own.authority.directory / "rotation" / "root.key").unlink()
    rotator.switch(now)
    assert not own.authority.root_key.exists()
    rotator.finish(now)
    rotator.start(now)
    (own.authority.directory / "rotation" / "root.key").rename(
        own.authority.directory.parent / "safe"
    )
    rotator.switch(now)
    assert not own.authority.root_key.exists()
    rotator.finish(now)
    rotator.replace_issuer(own.authority.directory.parent / "safe", now)


STEPS: list[Callable[[Rotator, float], Rotation]] = [
    Rotator.start,
    Rotator.switch,
    Rotator.finish,
]


@pytest.mark.parametrize("number", range(3), ids=["start", "switch", "finish"])
def test_a_step_cut_short_anywhere_is_taken_again(
    own: Mesh, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """After a crash at any write: what issues still works, and the same step completes."""
    rotator, now = Rotator(own.authority), time.time()
    for step in STEPS[:number]:
        step(rotator, now)
    writes = allowed = 0
    for name in ("replace", "replace_key", "write_new", "_remove"):
        real = getattr(rotate_module, name)

        def cut(*arguments: object, real: Callable[..., None] = real, **settings: object) -> None:
            nonlocal writes
            writes += 1
            if writes > allowed:
                raise KeyboardInterrupt
            real(*arguments, **settings)

        monkeypatch.setattr(rotate_module, name, cut)
    for allowed in range(20):  # noqa: B007  read by ``cut``
        writes = 0
        try:
            STEPS[number](rotator, now)
        except KeyboardInterrupt:
            _issuer_goes_on(own, now)
            continue
        break
    assert allowed in range(1, 19)
    expected = [Phase.TRUSTED, Phase.SWITCHED, Phase.IDLE][number]
    assert rotator.read(now).phase is expected
    for step in STEPS[number + 1 :]:
        allowed = 100
        step(rotator, now + 2 * DAY)
    assert rotator.read(now).phase is Phase.IDLE
    assert len(_trusted(own)) == 1
    _issue(own, now)


def _issuer_goes_on(mesh: Mesh, now: float) -> None:
    """One started now works, unless key and certificate do not fit; a running one always does."""
    fault = ""
    try:
        _issue(mesh, now)
    except IdentityError as error:
        fault = str(error)
    assert not fault or "does not match" in fault


def test_what_is_refused_changes_nothing(own: Mesh) -> None:
    """No file is written by a step out of its turn."""
    rotator, now = Rotator(own.authority), time.time()
    for step in (None, *STEPS[:2]):
        if step is not None:
            step(rotator, now)
        _issue(own, now)
        before = _files(own)
        for other in STEPS:
            if other is not STEPS[([None, *STEPS]).index(step)] or other is Rotator.finish:
                with pytest.raises(IdentityError, match="not to be done now"):
                    other(rotator, now)
        assert _files(own) == before


def test_one_hand_at_a_time(own: Mesh) -> None:
    """Who finds another one at work says so and does nothing."""
    rotator, now = Rotator(own.authority), time.time()
    descriptor = os.open(own.authority.directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for step in (rotator.start, lambda now: rotator.replace_issuer(None, now)):
            with pytest.raises(IdentityError, match="somebody else"):
                step(now)
    finally:
        os.close(descriptor)
    rotator.start(now)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"retire": 1, "issuer": ""}', "\xff"])
def test_a_broken_plan_is_said(own: Mesh, text: str) -> None:
    """Which roots are to go must not be guessed."""
    rotator, now = Rotator(own.authority), time.time()
    rotator.start(now)
    (own.authority.directory / "rotation" / "rotation.json").write_text(text)
    with pytest.raises(IdentityError, match=r"rotation\.json"):
        rotator.switch(now)


def test_a_broken_bundle_has_to_be_repaired_first(own: Mesh) -> None:
    """Written anew, it would lose what could not be read."""
    rotator, now = Rotator(own.authority), time.time()
    bundle = own.authority.anchors / "cluster.local.pem"
    bundle.write_bytes(bundle.read_bytes() + join_pem([b"garbage"]))
    for act in (rotator.read, rotator.start, lambda now: rotator.replace_issuer(None, now)):
        with pytest.raises(IdentityError, match="repaired first"):
            act(now)


def test_the_issuer_alone_is_exchanged_in_one_step(own: Mesh) -> None:
    """The root stays, the old leaves stay good, and the next leaf is the new issuer's."""
    rotator, now = Rotator(own.authority), time.time()
    _issue(own, now)
    root, old = own.root, own.authority.load_issuer().fingerprint
    rotation = rotator.replace_issuer(None, now)
    assert own.root == root
    new = own.authority.load_issuer()
    assert new.not_after(own.anchors, now) > now
    found = {each.fingerprint: each for each in rotation.issuers}
    assert found[old].leaves == 1
    assert found[old].roots == found[new.fingerprint].roots
    assert found[new.fingerprint].is_current
    assert (own.authority.directory / "retired" / old[:16] / "issuer.key").exists()
    _issue(own, now)


def test_leaves_of_a_replaced_issuer_block_the_end_of_its_root(own: Mesh) -> None:
    """What hangs on a root is known even when its issuer was exchanged before the rotation."""
    rotator, now = Rotator(own.authority), time.time()
    _issue(own, now)
    old = own.authority.load_issuer().fingerprint
    rotator.replace_issuer(None, now)
    rotator.start(now)
    rotator.switch(now)
    with pytest.raises(IdentityError, match=f"1 leaf of the old issuer {old[:16]}"):
        rotator.finish(now)


def test_an_issuer_is_not_exchanged_while_roots_are(own: Mesh) -> None:
    """It would come under the root that is to go."""
    rotator, now = Rotator(own.authority), time.time()
    rotator.start(now)
    with pytest.raises(IdentityError, match="under way"):
        rotator.replace_issuer(None, now)


def test_an_issuer_needs_its_root_and_the_root_s_key(own: Mesh, tmp_path: Path) -> None:
    """Another key, a root that is not trusted, one that is over: each with its sentence."""
    rotator, now = Rotator(own.authority), time.time()
    other = mk_mesh(tmp_path / "other")
    with pytest.raises(IdentityError, match="is not the key of"):
        rotator.replace_issuer(other.authority.root_key, now)
    with pytest.raises(IdentityError, match="valid from"):
        rotator.replace_issuer(None, now + 5000 * DAY)
    bundle = own.authority.anchors / "cluster.local.pem"
    replace(bundle, join_pem([other.root]), mode=0o644)
    with pytest.raises(IdentityError, match="is not in"):
        rotator.replace_issuer(None, now)


@pytest.mark.needs("root")
def test_files_stay_their_owner_s(own: Mesh) -> None:
    """An operator is root, the issuer need not be: it can read its new key as it could the old."""
    rotator, now = Rotator(own.authority), time.time()
    for path in (own.authority.issuer_key, own.authority.issuer_certificate):
        os.chown(path, 2102, 2102)
    own.authority.issuer_key.chmod(0o640)
    os.chown(own.authority.issuer_key, 0, os.getegid())
    rotator.start(now)
    rotator.switch(now)
    found = own.authority.issuer_certificate.stat()
    assert (found.st_uid, found.st_gid) == (2102, 2102)
    found = own.authority.issuer_key.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (0, os.getegid(), 0o640)


def test_the_plan_names_what_is_retired(own: Mesh) -> None:
    """For a person who looks into the directory."""
    rotator, now = Rotator(own.authority), time.time()
    old = own.authority.load_issuer().fingerprint
    rotator.start(now)
    plan = json.loads((own.authority.directory / "rotation" / "rotation.json").read_text())
    assert plan["issuer"] == old
    assert len(plan["retire"]) == 1
