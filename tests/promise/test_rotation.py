"""The promise: leaves, issuers and roots are exchanged, and no connection notices.

With the real issuer, real sidecars and real time: leaves of three seconds, no allowance for
clocks. ``ROTATION_SECONDS`` shortens the minute for whoever works on it; CI takes all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final, final

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from control.identity import LeafFiles, LeafRenewal
from control.issuer_client import IssuerClient
from control.launch import prepare_material
from core.clock import SystemClock
from core.errors import IdentityError
from discovery.model import Address, Endpoint
from identity.anchors import Anchors, load_anchors
from identity.authority import Authority
from identity.certify import Certifier
from identity.csr import create_csr
from identity.files import replace
from identity.generation import Generation
from identity.issuer import create_authority, read_chain
from identity.key import create_key, encode_key, read_key
from identity.ledger import read_entries
from identity.material import Material
from identity.name import Identity
from identity.pem import join_pem
from identity.request import UNAVAILABLE, CertifyRequest
from identity.rotate import Rotator
from identity.rotation import Phase, Step
from proxy.net.capture import FixedCapture
from tests.authority import Mesh, mk_identity, mk_mesh
from tests.conftest import IS_CI
from tests.session.apps import echo, exchange, serve
from tests.sidecars import Control, Pair, free_address, run_pair, run_sidecar
from tests.support.load import run_load
from tests.support.processes import wait_until
from tests.support.volume import Volume

pytestmark = pytest.mark.slow

SECONDS: Final = 60.0 if IS_CI else float(os.environ.get("ROTATION_SECONDS", "60"))
PER_SECOND: Final = 50
STAYING: Final = 50
PILLION: Final = (sys.executable, "-c", "from cli.start import main; main()")
WEB, API = mk_identity("shop/web"), mk_identity("shop/api")


@contextmanager
def run_issuer(authority: Authority, path: Path) -> Iterator[None]:
    """Serve leaves of three seconds in a process of its own."""
    log = authority.directory / "serve.log"
    with log.open("wb") as errors:
        running = subprocess.Popen(
            [
                *(*PILLION, "identity", "serve", "--authority", str(authority.directory)),
                *("--socket", str(path), "--lifetime", "3s", "--skew", "0"),
            ],
            stderr=errors,
        )
    try:
        wait_until(path.is_socket, seconds=30, what="the issuer's socket")
        yield
    finally:
        running.kill()
        running.wait(30)


async def rotate(authority: Authority, step: str) -> None:
    """Take a step as an operator does."""
    process = await asyncio.create_subprocess_exec(
        *(*PILLION, "identity", "rotate", step, "--authority", str(authority.directory)),
        stderr=subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        _, said = await process.communicate()
    assert process.returncode == 0, said.decode()


def renewal(authority: Authority, identity: Identity, directory: Path, socket: Path) -> LeafRenewal:
    """Return a sidecar's source of leaves, its directory made ready."""
    directory.mkdir(exist_ok=True)
    material = Material(directory)
    material.token.write_text(authority.create_token(identity))
    prepare_material(directory, identity)
    return LeafRenewal(
        directory,
        identity,
        certify=IssuerClient(socket, identity).certify,
        load_anchors=lambda before: load_anchors(material.anchors, "cluster.local", before),
        clock=SystemClock(),
        log=lambda level, message: None,
        min_refresh_s=0.2,
    )


@asynccontextmanager
async def meshed(
    client: LeafRenewal | LeafFiles, server: LeafRenewal | LeafFiles, app: Address
) -> AsyncIterator[Pair]:
    """Run two sidecars, each with its own source of leaves."""
    inbound = free_address(app.ip)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(each.run()) for each in (client, server)]
        near_control = Control(client.generation, client.status)
        async with (
            run_sidecar(
                None,
                FixedCapture(inbound),
                ip=app.ip,
                inbound=inbound,
                control=Control(server.generation, server.status),
            ) as far,
            run_sidecar(None, FixedCapture(app), control=near_control) as near,
        ):
            await near.until_event("serving")
            await far.until_event("serving")
            near_control.route(app, Endpoint(address=app, identity=API, direct_port=inbound.port))
            yield Pair(near, far, app)
        for task in running:
            task.cancel()


@final
class Seen:
    """What generations a source published."""

    def __init__(self, source: LeafRenewal | LeafFiles) -> None:
        self.leaves: set[str] = set()
        self.troubles: set[str] = set()
        self.roots: set[frozenset[bytes]] = set()
        self._take(source.generation.current)
        source.generation.subscribe(self._take)

    def _take(self, generation: Generation | None) -> None:
        if generation is not None:
            self.leaves.add(generation.fingerprint)
            self.roots.add(generation.anchors.roots["cluster.local"])
            self.troubles.add(generation.trouble)


async def settled(claim: Callable[[Generation], bool], *sources: LeafRenewal) -> None:
    """Wait until every sidecar's generation is so: what an operator looks for in the metrics."""
    async with asyncio.timeout(10):
        for source in sources:
            while (now := source.generation.current) is None or not claim(now):
                await source.generation.changed(source.generation.version)


async def rotate_issuer(authority: Authority, *sources: LeafRenewal) -> None:
    """Exchange the issuer, and wait until every leaf is one of the new one."""
    await rotate(authority, "issuer")
    chain = tuple(
        each.public_bytes(Encoding.DER) for each in read_chain(authority.issuer_certificate)
    )
    await settled(lambda generation: generation.credential.chain[1:] == chain, *sources)


async def rotate_root(
    authority: Authority, volume: Volume, sources: tuple[LeafRenewal, LeafRenewal]
) -> None:
    """Walk through docs/rotation.md."""

    async def hand_out() -> None:
        # The server's sidecar follows the authority's own directory, the client's a ConfigMap.
        bundle = authority.anchors / "cluster.local.pem"
        volume.publish({bundle.name: bundle.read_bytes()}, mode=0o444)
        roots = authority.load_anchors().roots["cluster.local"]
        await settled(
            lambda generation: generation.anchors.roots["cluster.local"] == roots, *sources
        )

    rotator = Rotator(authority)
    await rotate(authority, "start")
    await hand_out()
    await rotate(authority, "switch")
    async with asyncio.timeout(30):
        while rotator.read(time.time()).obstacles(Step.FINISH):
            await asyncio.sleep(0.5)
    await rotate(authority, "finish")
    await hand_out()
    assert rotator.read(time.time()).phase is Phase.IDLE


async def test_leaf_issuer_and_root_rotate_and_no_connection_notices(tmp_path: Path) -> None:
    """50 new connections a second, 50 that stay: none fails, none is reset, all is mutual TLS."""
    authority, socket = mk_mesh(tmp_path / "authority").authority, tmp_path / "issuer.sock"
    volume = Volume(tmp_path / "web" / "anchors")
    bundle = authority.anchors / "cluster.local.pem"
    volume.publish({bundle.name: bundle.read_bytes()}, mode=0o444)
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "anchors").symlink_to(authority.anchors)
    first = authority.load_anchors().roots["cluster.local"]
    rounds = 0
    with run_issuer(authority, socket):
        web = renewal(authority, WEB, tmp_path / "web", socket)
        api = renewal(authority, API, tmp_path / "api", socket)
        seen = Seen(web), Seen(api)
        async with serve(echo) as app, meshed(web, api, app) as pair:
            began = time.monotonic()
            async with (
                asyncio.timeout(4 * SECONDS + 60),
                run_load(pair.entry, per_second=PER_SECOND, staying=STAYING) as load,
            ):
                while rounds == 0 or time.monotonic() - began < SECONDS - 10:
                    rounds += 1
                    await rotate_issuer(authority, web, api)
                    await rotate_root(authority, volume, (web, api))
                # A machine too slow for the pace takes longer, and makes as many connections.
                while time.monotonic() - began < SECONDS or load.opened < PER_SECOND * SECONDS:
                    await asyncio.sleep(0.1)
                took = time.monotonic() - began
            assert pair.client.events("connect failed") == []
            assert pair.server.events("connection failed") == []
            assert dict(load.failures) == {}
            assert load.exchanges >= STAYING * took / 2
            carried = pair.server.events("connection")
            # A client that a busy machine kept silent has its server asked who speaks first.
            assert len(carried) >= load.opened + STAYING
            assert {each["client_identity"] for each in carried} == {WEB.name}
    for each, source in zip(seen, (web, api), strict=True):
        assert len(each.leaves) >= took / 4
        assert each.troubles == {""}
        # Old, both, new; from the second round on new is the next one's old.
        assert len(each.roots) == 1 + 2 * rounds
        assert source.status.current.failures == 0
        generation = source.generation.current
        assert generation is not None
        assert not generation.anchors.roots["cluster.local"] & first
    issuers = {entry.issuer for entry in read_entries(authority.ledger) if entry is not None}
    assert len(issuers) == 1 + 2 * rounds


def _write_leaf(mesh: Mesh, identity: Identity, place: Path) -> dict[str, bytes]:
    issued = mesh.leaf(identity, place, lifetime_s=3, skew_s=0)
    return {
        "chain.pem": join_pem([issued.leaf, *issued.intermediates]),
        "key.pem": (place / "key.pem").read_bytes(),
    }


async def test_files_that_others_rotate_are_followed_without_a_failure(tmp_path: Path) -> None:
    """A new key with every leaf, as a Secret is exchanged: every second, under the same load."""
    mesh = mk_mesh(tmp_path / "authority")
    volumes = {identity: Volume(tmp_path / str(identity)[:3]) for identity in (WEB, API)}

    def publish() -> None:
        for identity, volume in volumes.items():
            bundle = join_pem(mesh.anchors.roots["cluster.local"])
            leaf = _write_leaf(mesh, identity, tmp_path / "issued")
            volume.publish({**leaf, "anchors/cluster.local.pem": bundle})

    def source(identity: Identity) -> LeafFiles:
        directory = volumes[identity].directory
        files = LeafFiles(
            directory,
            identity,
            load_anchors=lambda before: load_anchors(
                directory / "anchors", "cluster.local", before
            ),
            clock=SystemClock(),
            log=lambda level, message: None,
        )
        assert files.load()
        return files

    publish()
    web, api = source(WEB), source(API)
    seen = Seen(web), Seen(api)
    rounds = int(min(SECONDS, 12))
    async with serve(echo) as app, meshed(web, api, app) as pair:
        async with run_load(pair.entry, per_second=PER_SECOND, staying=STAYING) as load:
            for _ in range(rounds):
                await asyncio.sleep(1)
                publish()
        assert pair.client.events("connect failed") == []
        assert dict(load.failures) == {}
        assert load.opened >= PER_SECOND * rounds / 2
    for each in seen:
        assert len(each.leaves) >= rounds
        assert each.troubles == {""}
    assert (web.status.current.failures, api.status.current.failures) == (0, 0)


async def _answers(pair: Pair) -> bytes:
    return await exchange(pair.entry, b"\0ping")


async def test_a_root_taken_away_counts_at_once_and_open_connections_stay(tmp_path: Path) -> None:
    """New handshakes and resumed ones fail from then on; until the root comes back."""
    mesh, other = mk_mesh(tmp_path / "authority"), mk_mesh(tmp_path / "other")
    web, api = mesh.generation("shop/web"), mesh.generation("shop/api")
    files = Material(tmp_path / "api")
    files.anchors.mkdir(parents=True)
    bundle = files.anchors / "cluster.local.pem"
    for path, data in (
        (bundle, join_pem([mesh.root])),
        (files.chain, join_pem(api.credential.chain)),
        (files.key, api.credential.key),
    ):
        replace(path, data)
    source = LeafFiles(
        files.directory,
        API,
        load_anchors=lambda before: load_anchors(files.anchors, "cluster.local", before),
        clock=SystemClock(),
        log=lambda level, message: None,
    )
    assert source.load()
    async with serve(echo) as app, asyncio.TaskGroup() as tasks:
        following = tasks.create_task(source.run())
        control = Control(source.generation, source.status)
        async with run_pair(web, api, app, server_control=control) as pair:
            assert await _answers(pair) == b"\0ping"
            reader, writer = await asyncio.open_connection(pair.entry.ip, pair.entry.port)
            writer.write(b"1")
            assert await reader.readexactly(1) == b"1"
            version = source.generation.version
            replace(bundle, join_pem([other.root]))
            async with asyncio.timeout(5):
                await source.generation.changed(version)
            assert await _answers(pair) == b""
            failed = await pair.server.until_event("connection failed")
            assert failed["code"] == "handshake"
            assert "does not verify" in failed["reason"]
            writer.write(b"2")
            assert await reader.readexactly(1) == b"2"
            version = source.generation.version
            replace(bundle, join_pem([other.root, mesh.root]))
            async with asyncio.timeout(5):
                await source.generation.changed(version)
            assert await _answers(pair) == b"\0ping"
            writer.write(b"3")
            assert await reader.readexactly(1) == b"3"
            writer.close()
            await writer.wait_closed()
        following.cancel()


async def test_nothing_outlives_an_issuer(tmp_path: Path) -> None:
    """Its leaves end with it, resumed sessions too; and it issues nothing more."""
    mesh = mk_mesh(tmp_path / "authority")
    authority, now = mesh.authority, time.time()
    (root,) = read_chain(authority.root_certificate)
    key = create_key()
    short = create_authority(
        "short",
        key,
        lifetime=timedelta(seconds=6),
        now=now,
        parent=(root, read_key(authority.root_key)),
    )
    end = short.not_valid_after_utc.timestamp()
    replace(authority.issuer_key, encode_key(key))
    replace(authority.issuer_certificate, short.public_bytes(Encoding.PEM), mode=0o644)
    web, api = mesh.generation("shop/web"), mesh.generation("shop/api")
    assert (web.not_after, api.not_after) == (end, end)
    certifier = Certifier(authority, warn=lambda message: None)
    request = CertifyRequest(
        WEB.name, authority.create_token(WEB).encode(), create_csr(create_key(), WEB)
    )
    async with serve(echo) as app, run_pair(web, api, app) as pair:
        assert await _answers(pair) == b"\0ping"
        reader, writer = await asyncio.open_connection(pair.entry.ip, pair.entry.port)
        writer.write(b"1")
        assert await reader.readexactly(1) == b"1"
        assert certifier.certify(request, time.time()).valid_until == end
        await asyncio.sleep(max(0.0, end - time.time()) + 0.05)
        assert await _answers(pair) == b""
        with pytest.raises(IdentityError, match="valid from") as refused:
            certifier.certify(request, time.time())
        assert refused.value.code == UNAVAILABLE
        writer.write(b"2")
        assert await reader.readexactly(1) == b"2"
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@pytest.mark.parametrize("side", ["client", "server"])
async def test_a_root_of_another_domain_never_speaks_for_ours(tmp_path: Path, side: str) -> None:
    """Be its subject ours, be it an anchor of a linked domain: its leaf of our name is refused."""
    mesh, linked = mk_mesh(tmp_path / "authority"), mk_mesh(tmp_path / "linked")
    both = Anchors(
        "cluster.local",
        {"cluster.local": frozenset({mesh.root}), "west.example": frozenset({linked.root})},
    )
    as_ours = Anchors("cluster.local", {"cluster.local": frozenset({mesh.root, linked.root})})
    web, api = mesh.generation("shop/web", anchors=both), mesh.generation("shop/api", anchors=both)
    if side == "client":
        web = linked.generation("shop/web", anchors=as_ours)
    else:
        api = linked.generation("shop/api", anchors=as_ours)
    async with serve(echo) as app, run_pair(web, api, app) as pair:
        assert await _answers(pair) == b""
        if side == "client":
            failed = await pair.server.until_event("connection failed")
        else:
            failed = await pair.client.until_event("connect failed")
        assert failed["code"] == "identity-root"
        assert "no anchor of cluster.local" in failed["reason"]
