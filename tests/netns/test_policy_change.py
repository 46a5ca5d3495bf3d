"""Policy that changes, breaks or is hostile, as callers of a running sidecar meet it."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.policy import POLICIES, SERVERS, mk_objects
from discovery.model import Address
from identity.name import parse_identity
from policy.model import Client, ClientTls
from tests.authority import mk_mesh
from tests.netns.standing import ADDRESSES, Scene, Standing, calling, standing
from tests.session.admin import read_reply
from tests.support.calls import BYTES, ask_bytes
from tests.support.island import island

pytestmark = [pytest.mark.needs("root", "ip"), pytest.mark.slow]

MESHES = Path(__file__).parent.parent / "policy" / "meshes"
NAME = "cli.app.serviceaccount.identity.linkerd.cluster.local"
CALLER = Client("10.1.1.1", ClientTls.MESH, parse_identity(NAME))
PLAIN = Client("10.1.1.1")
ITSELF = Client("127.0.0.1")
MUST_S = 0.1
"""In which a change must take effect; tests allow ten times that."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One island for all, with every caller's address."""
    with island([*ADDRESSES, "10.1.0.0/32"]) as place:
        yield Scene(place, mk_mesh(tmp_path_factory.mktemp("mesh")), tmp_path_factory.mktemp("k"))


class Caller:
    """One HTTP/1 connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def get(self, path: str = "/a", header: str = "x: y") -> int:
        """Make one request; return its status."""
        self._writer.write(f"GET {path} HTTP/1.1\r\nhost: web\r\n{header}\r\n\r\n".encode())
        return (await read_reply(self._reader)).status

    async def until(self, status: int) -> float:
        """Ask until the answer is ``status``; return how many seconds that took."""
        began = time.monotonic()
        async with asyncio.timeout(10):
            while await self.get() != status:
                await asyncio.sleep(0.001)
        return time.monotonic() - began


def copy_of(setup: str, directory: Path) -> Path:
    """Copy a setup's manifests; return the file."""
    file = directory / "mesh.yaml"
    file.write_text((MESHES / setup / "mesh.yaml").read_text())
    return file


def put(file: Path, text: str) -> None:
    """Replace a file at once, as whoever writes manifests should."""
    temporary = file.with_suffix(".new")
    temporary.write_text(text)
    temporary.rename(file)


def without(text: str, kind: str) -> str:
    """Return manifests without those of a kind."""
    documents = text.split("\n---\n")
    return "\n---\n".join(each for each in documents if f"kind: {kind}\n" not in each)


def test_a_deleted_policy_ends_what_it_let_in(scene: Scene, tmp_path: Path) -> None:
    """Bytes over mutual TLS: cut, counted as terminated, and whoever comes anew is refused."""
    file = copy_of("opaque", tmp_path)

    async def run() -> None:
        async with standing(scene, tmp_path) as place:
            async with calling(scene, place, CALLER, 5432) as (reader, writer):
                writer.write(BYTES)
                assert await reader.readexactly(len(BYTES)) == BYTES
                put(file, without(file.read_text(), "AuthorizationPolicy"))
                async with asyncio.timeout(10):
                    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                        await reader.readexactly(1)
            labels = {"srv_name": "db", "client_id": NAME, "target_addr": "10.1.0.80:5432"}
            assert place.total("inbound_tcp_authz_terminate_total", labels) == 1
            async with calling(scene, place, CALLER, 5432) as (reader, writer):
                assert not await ask_bytes(reader, writer)
            assert place.total("inbound_tcp_authz_deny_total", labels) == 1

    scene.island.run(run())


def test_requests_of_an_open_connection_follow_the_directory(scene: Scene, tmp_path: Path) -> None:
    """Taken away, given back, and kept when the file breaks: on one connection."""
    file = copy_of("route", tmp_path)
    good = file.read_text()

    async def run() -> None:
        async with (
            standing(scene, tmp_path) as place,
            calling(scene, place, CALLER, 80) as (reader, writer),
        ):
            caller = Caller(reader, writer)
            assert await caller.get() == 200
            put(file, without(good, "AuthorizationPolicy"))
            assert await caller.until(403) < 10 * MUST_S
            put(file, good)
            assert await caller.until(200) < 10 * MUST_S
            for broken in ("kind: [", good.replace("identities:", "identitys:"), ""):
                put(file, broken)
                await problems(place, some=True)
                assert await caller.get() == 200
                assert await caller.get("/b") == 404
                put(file, good)
                await problems(place, some=False)
                assert await caller.get() == 200

    scene.island.run(run())


async def problems(place: Standing, *, some: bool) -> None:
    """Wait until the directory has problems, or none."""
    async with asyncio.timeout(10):
        while bool(place.embedded.problems.current) is not some:
            await place.embedded.problems.changed(place.embedded.problems.version)


def test_what_was_broken_from_the_start_lets_nobody_in(scene: Scene, tmp_path: Path) -> None:
    """Not even the pod itself; the reason is logged, and once mended all is as written."""
    good = copy_of("default-all-unauthenticated", tmp_path).read_text()
    broken = tmp_path / "broken.yaml"
    broken.write_text("kind: [")

    async def run() -> None:
        async with standing(scene, tmp_path) as place:
            assert place.embedded.unready.current
            for client in (CALLER, PLAIN, ITSELF):
                async with calling(scene, place, client, 80) as (reader, writer):
                    assert await Caller(reader, writer).get() == 403
                async with calling(scene, place, client, 5433) as (reader, writer):
                    assert not await ask_bytes(reader, writer)
            told = place.running.events("request denied")[-1]
            assert told["code"] == "policy-invalid"
            assert "broken.yaml" in told["reason"]
            async with calling(scene, place, PLAIN, 80) as (reader, writer):
                caller = Caller(reader, writer)
                assert await caller.get() == 403
                put(broken, good)
                await caller.until(200)
            assert place.embedded.unready.current == ""

    scene.island.run(run())


HOSTILE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: hostile, namespace: app}
spec:
  parentRefs: [{group: policy.linkerd.io, kind: Server, name: srv}]
  rules:
    - matches: [{path: {type: RegularExpression, value: '/(a+)+(a*)*(a|aa)+z'}}]
    - matches: [{headers: [{type: RegularExpression, name: x, value: '(a|a)*(b|b)*c'}]}]
    - matches: [{queryParams: [{type: RegularExpression, name: q, value: '(.*)*(.*a){30}z'}]}]
"""


def test_a_hostile_expression_stalls_nobody(scene: Scene, tmp_path: Path) -> None:
    """Expressions that take a backtracking engine years are matched as they come."""
    copy_of("route", tmp_path)
    (tmp_path / "hostile.yaml").write_text(HOSTILE)
    header, query = "x: " + "a" * 4_000, "q=" + "a" * 4_000

    async def run() -> None:
        async with (
            standing(scene, tmp_path) as place,
            calling(scene, place, CALLER, 80) as (reader, writer),
        ):
            caller = Caller(reader, writer)
            began = time.monotonic()
            for _ in range(10):
                assert await caller.get(f"/{'a' * 4_000}?{query}", header) == 404
            assert await caller.get(f"/{'a' * 4_000}z") == 403
            assert time.monotonic() - began < 10 * MUST_S

    scene.island.run(run())


def test_a_change_among_thousands_reaches_requests(scene: Scene, tmp_path: Path) -> None:
    """1,000 pods, 1,000 Servers, 5,000 policies: from a file written to a request answered."""
    objects = list(mk_objects(1_000, SERVERS, POLICIES))
    for n in range(0, len(objects), 500):
        text = "\n---\n".join(json.dumps(each) for each in objects[n : n + 500])
        (tmp_path / f"{n:05}.yaml").write_text(text)
    changing = tmp_path / "zz-changing.json"

    async def run() -> None:
        async with standing(scene, tmp_path, "pod-0", Address("10.1.0.0", 8080)) as place:
            # The first reading of its own loop must be over.
            await asyncio.sleep(3)
            async with calling(scene, place, PLAIN, 8080) as (reader, writer):
                caller = Caller(reader, writer)
                assert await caller.get() == 403
                times = []
                for n in range(7):
                    put(changing, json.dumps(admitting(is_audit=n % 2 == 1)))
                    times.append(await caller.until(403 if n % 2 else 200))
                    await asyncio.sleep(0.2)
        print(f"a change reaches requests in {statistics.median(times) * 1e3:.0f} ms, {times}")
        assert statistics.median(times) < 10 * MUST_S

    scene.island.run(run())


def admitting(*, is_audit: bool) -> dict[str, object]:
    """Return a policy that admits everybody, or would."""
    mode = "audit" if is_audit else "enforce"
    return {
        "apiVersion": "policy.linkerd.io/v1alpha1",
        "kind": "AuthorizationPolicy",
        "metadata": {
            "name": "changing",
            "namespace": "app",
            "annotations": {"pillion.dev/mode": mode},
        },
        "spec": {
            "targetRef": {"group": "policy.linkerd.io", "kind": "Server", "name": "server-0"},
            "requiredAuthenticationRefs": [],
        },
    }
