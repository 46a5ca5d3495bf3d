from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from control.bootstrap import main, write_material
from control.dev_issuer import open_dev_issuer
from control.launch import prepare_material
from core.errors import ConfigError, IdentityError
from identity.csr import read_csr
from identity.key import read_key
from identity.material import Material
from identity.name import parse_identity
from tests.authority import Mesh, mk_identity, mk_mesh
from tests.support.clock import FakeClock

WEB = mk_identity("shop/web")


def test_key_and_request_are_made_once(tmp_path: Path) -> None:
    """They are for the identity, for the owner alone, and kept at the next start."""
    material = Material(tmp_path)
    write_material(tmp_path, WEB)
    assert read_csr(material.csr.read_bytes(), WEB) == read_key(material.key).public_key()
    assert material.key.stat().st_mode & 0o777 == 0o600
    before = material.key.read_bytes(), material.csr.read_bytes()
    write_material(tmp_path, WEB)
    assert (material.key.read_bytes(), material.csr.read_bytes()) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["csr.der", "key.pem"]


def test_another_identity_gets_another_request_of_the_same_key(tmp_path: Path) -> None:
    """The key stays; a request that is missing or broken is made anew."""
    material = Material(tmp_path)
    write_material(tmp_path, WEB)
    key = material.key.read_bytes()
    vm = parse_identity("spiffe://cluster.local/vm")
    write_material(tmp_path, vm)
    assert read_csr(material.csr.read_bytes(), vm) == read_key(material.key).public_key()
    material.csr.write_bytes(b"garbage")
    write_material(tmp_path, WEB)
    assert read_csr(material.csr.read_bytes(), WEB) == read_key(material.key).public_key()
    assert material.key.read_bytes() == key


def test_sidecars_that_start_at_once_agree_on_a_key(tmp_path: Path) -> None:
    """Whoever is first makes it, the others take it."""
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(write_material, tmp_path, WEB) for _ in range(16)]:
            done.result()
    write_material(tmp_path, WEB)
    material = Material(tmp_path)
    assert read_csr(material.csr.read_bytes(), WEB) == read_key(material.key).public_key()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "usage"),
        (["/nonexistent"], "usage"),
        (["/nonexistent", WEB.name], "is not there"),
        (["/nonexistent", "a..b"], "no identity"),
        (["/nonexistent", WEB.name, "more"], "usage"),
    ],
)
def test_the_command_says_what_is_wrong(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2 and a sentence on stderr."""
    assert main(arguments) == 2
    assert words in capsys.readouterr().err


def test_the_sidecar_has_them_made_by_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From any working directory, also one that holds modules of our names."""
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "control").mkdir(parents=True)
    (elsewhere / "control" / "bootstrap.py").write_text("raise SystemExit('hijacked')")
    (elsewhere / "control" / "__init__.py").touch()
    monkeypatch.chdir(elsewhere)
    directory = tmp_path / "identity"
    directory.mkdir()
    prepare_material(directory, WEB)
    material = Material(directory)
    assert read_csr(material.csr.read_bytes(), WEB) == read_key(material.key).public_key()
    before = material.csr.stat().st_mtime_ns
    prepare_material(directory, WEB)
    assert material.csr.stat().st_mtime_ns == before


def test_the_sidecar_passes_on_why_they_were_not_made(tmp_path: Path) -> None:
    """In the bootstrap's own words; an open key is refused, not replaced."""
    with pytest.raises(IdentityError, match="is not there"):
        prepare_material(tmp_path / "missing", WEB)
    prepare_material(tmp_path, WEB)
    Material(tmp_path).key.chmod(0o644)
    with pytest.raises(IdentityError, match="mode 0644"):
        prepare_material(tmp_path, WEB)


def test_nothing_that_the_sidecar_loads_imports_the_cryptography_package() -> None:
    """Renewal, launch and the issuer's client: 11 MiB are saved for the sidecar's whole life."""
    modules = "control.identity, control.launch, control.issuer_client"
    script = f"import sys, {modules}\nassert 'cryptography' not in sys.modules, 'imported'"
    done = subprocess.run([sys.executable, "-c", script], timeout=60, check=False)
    assert done.returncode == 0


async def test_the_issuer_in_the_sidecar_needs_its_switch(tmp_path: Path) -> None:
    """Only the value 1 turns it on, with a warning; requests then go the usual way."""
    mesh: Mesh = mk_mesh(tmp_path / "authority")
    directory = tmp_path / "web"
    directory.mkdir()
    write_material(directory, WEB)
    log: list[tuple[str, str]] = []
    for value in ("", "0", "true", "yes"):
        with pytest.raises(ConfigError, match="PILLION_DEV_ISSUER=1"):
            open_dev_issuer(
                mesh.authority.directory,
                directory,
                WEB,
                environment={"PILLION_DEV_ISSUER": value},
                clock=FakeClock(),
                log=lambda level, message: log.append((level, message)),
            )
    assert log == []
    certify = open_dev_issuer(
        mesh.authority.directory,
        directory,
        WEB,
        environment={"PILLION_DEV_ISSUER": "1"},
        clock=FakeClock(),
        log=lambda level, message: log.append((level, message)),
    )
    assert [level for level, _ in log] == ["warn"]
    material = Material(directory)
    assert material.token.stat().st_mode & 0o777 == 0o600
    certified = await certify(material.read_csr(), material.token.read_bytes())
    assert len(certified.intermediates) == 1
    with pytest.raises(IdentityError, match="token"):
        await certify(material.read_csr(), b"garbage")
