"""The promise: one process holds the issuer's key, and every workload gets and renews its leaf.

With the real command, real processes and real time: leaves of three seconds.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from control.identity import LeafRenewal
from control.issuer_client import IssuerClient
from control.launch import prepare_material
from core.clock import SystemClock
from identity.files import replace
from identity.issuer import create_authority, read_chain
from identity.key import create_key, encode_key, read_key
from identity.ledger import read_entries
from identity.material import Material
from tests.authority import Mesh, mk_identity, mk_mesh
from tests.handshake import shake_hands
from tests.support.processes import wait_until

PILLION = (sys.executable, "-c", "from cli.start import main; main()")
WEB = mk_identity("shop/web")

pytestmark = pytest.mark.slow


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return path.exists() and probe.connect_ex(str(path)) == 0


@contextmanager
def _issuer(mesh: Mesh, path: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    command = (*PILLION, "identity", "serve", "--authority", str(mesh.authority.directory))
    log = mesh.authority.directory / "serve.log"
    with log.open("ab") as errors:
        running = subprocess.Popen([*command, "--socket", str(path), *options], stderr=errors)
    try:
        wait_until(
            lambda: _listens(path) and running.poll() is None,
            seconds=30,
            what=f"the issuer's socket ({log.read_text()})",
        )
        yield running
    finally:
        if running.poll() is None:
            running.kill()
        running.wait(30)


def _renewal(mesh: Mesh, directory: Path, path: Path) -> LeafRenewal:
    directory.mkdir()
    Material(directory).token.write_text(mesh.authority.create_token(WEB))
    prepare_material(directory, WEB)
    return LeafRenewal(
        directory,
        WEB,
        certify=IssuerClient(path, WEB).certify,
        load_anchors=mesh.authority.load_anchors,
        clock=SystemClock(),
        log=lambda level, message: None,
        min_refresh_s=0.2,
    )


async def test_a_leaf_of_three_seconds_is_renewed_and_always_good(tmp_path: Path) -> None:
    """Over several of its lives, a new handshake succeeds at any moment; each leaf is recorded."""
    mesh, path = mk_mesh(tmp_path / "authority"), tmp_path / "issuer.sock"
    with _issuer(mesh, path, "--lifetime", "3s", "--skew", "0"):
        renewal = _renewal(mesh, tmp_path / "web", path)
        seen: set[str] = set()
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            running = tasks.create_task(renewal.run())
            await renewal.generation.changed(0)
            while len(seen) < 4:
                generation = renewal.generation.current
                assert generation is not None
                shake_hands(
                    generation.server_context(direct=False), generation.client_context(direct=False)
                )
                seen.add(generation.fingerprint)
                await asyncio.sleep(0.1)
            running.cancel()
    assert renewal.status.current.failures == 0
    entries = [entry for entry in read_entries(mesh.authority.ledger) if entry is not None]
    assert len(entries) >= len(seen)
    assert {entry.identity for entry in entries} == {WEB.name}


async def test_an_issuer_killed_and_started_again_is_found_again(tmp_path: Path) -> None:
    """Meanwhile the sidecar keeps the leaf it has, and says why there is no new one."""
    mesh, path = mk_mesh(tmp_path / "authority"), tmp_path / "issuer.sock"
    with _issuer(mesh, path) as first:
        renewal = _renewal(mesh, tmp_path / "web", path)
        await renewal.refresh()
        before = renewal.generation.current
        assert before is not None
        first.kill()
        first.wait(30)
    assert path.exists()
    await renewal.refresh()
    assert renewal.generation.current is before
    assert "cannot reach the issuer" in renewal.status.current.last_error
    with _issuer(mesh, path) as second:
        await renewal.refresh()
        assert renewal.generation.current is not before
        second.send_signal(signal.SIGTERM)
        assert second.wait(30) == 0
    assert not path.exists()


def test_a_second_issuer_does_not_take_the_first_one_s_socket(tmp_path: Path) -> None:
    """It ends with status 2 and says who is in the way."""
    mesh, path = mk_mesh(tmp_path / "authority"), tmp_path / "issuer.sock"
    with _issuer(mesh, path) as first:
        again = subprocess.run(
            [
                *PILLION,
                *("identity", "serve", "--authority", str(mesh.authority.directory)),
                *("--socket", str(path)),
            ],
            capture_output=True,
            timeout=60,
            check=False,
            text=True,
        )
        assert again.returncode == 2
        assert "another issuer listens" in again.stderr
        assert first.poll() is None
        assert path.is_socket()


def test_an_issuer_says_what_is_about_to_end(tmp_path: Path) -> None:
    """When it starts, in its log: itself in thirty days."""
    mesh, path, now = mk_mesh(tmp_path / "authority"), tmp_path / "issuer.sock", time.time()
    authority, key = mesh.authority, create_key()
    (root,) = read_chain(authority.root_certificate)
    parent = (root, read_key(authority.root_key))
    short = create_authority("short", key, lifetime=timedelta(days=30), now=now, parent=parent)
    replace(authority.issuer_key, encode_key(key))
    replace(authority.issuer_certificate, short.public_bytes(Encoding.PEM), mode=0o644)
    with _issuer(mesh, path):
        log = authority.directory / "serve.log"
        wait_until(lambda: "in less than 60 days" in log.read_text(), seconds=30, what="a warning")
        assert log.read_text().count("warn: the issuer ends at") == 1


def test_a_leaf_is_issued_by_the_command(tmp_path: Path) -> None:
    """From the running issuer to a directory, as mode `files` and other programs take it."""
    mesh, path = mk_mesh(tmp_path / "authority"), tmp_path / "issuer.sock"
    out = tmp_path / "web"
    with _issuer(mesh, path):
        environment = {key: os.environ[key] for key in os.environ if key != "PILLION_DEV_ISSUER"}
        subprocess.run(
            [
                *(*PILLION, "identity", "issue", "shop/web", "--out", str(out)),
                *("--authority", str(mesh.authority.directory), "--socket", str(path)),
            ],
            env=environment,
            timeout=60,
            check=True,
        )
    shown = subprocess.run(
        [*PILLION, "identity", "inspect", str(out), "-o", "short"],
        capture_output=True,
        timeout=60,
        check=True,
        text=True,
    )
    assert f"DNS:{WEB.name} valid 1.0d" in shown.stdout
    assert "issued" in (mesh.authority.directory / "serve.log").read_text()
