"""A directory of manifests as the data plane's providers, with real files and notices."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from control.embedded import EmbeddedControl
from core.clock import SystemClock
from core.watch import T, Watch
from discovery.model import Address, Target
from policy.model import Protocol, ServerPolicy
from policy.route import InvalidFilter
from proxy.providers import DiscoveryProvider, PolicyProvider, ReadinessSource
from tests.support import manifests

WAIT_S = 10.0
"""Long past any debounce: tells a stall from none."""


def write(folder: Path, name: str, *documents: dict[str, Any]) -> Path:
    """Write documents into one file, JSON after JSON."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n---\n".join(json.dumps(each) for each in documents))
    return path


def write_mesh(folder: Path) -> None:
    """Write a server with its Service, in three files."""
    write(folder, "pods/api.json", manifests.pod("api", "10.1.0.1", labels={"app": "api"}))
    write(folder, "pods/web.json", manifests.pod("web", "10.1.0.2", annotations=manifests.MESHED))
    write(folder, "services.json", manifests.service("api", "10.2.0.1", {"port": 80}))


@asynccontextmanager
async def running(
    folder: Path, namespace: str = "shop", pod: str = "web"
) -> AsyncIterator[EmbeddedControl]:
    """Load a directory and follow it while the block runs."""
    control = EmbeddedControl(str(folder), namespace, pod, SystemClock())
    await control.start()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(control.run())
        await asyncio.sleep(0)
        try:
            yield control
        finally:
            task.cancel()


async def until(watch: Watch[T], holds: Callable[[T], bool]) -> T:
    """Wait until a live value is as wanted."""
    async with asyncio.timeout(WAIT_S):
        while not holds(watch.current):
            await watch.changed(watch.version)
    return watch.current


def test_it_is_what_the_data_plane_asks_for(tmp_path: Path) -> None:
    """By type: policy, discovery and readiness, each answering before anything was read."""
    control = EmbeddedControl(str(tmp_path), "shop", "web", SystemClock())
    policies: PolicyProvider = control
    discovery: DiscoveryProvider = control
    readiness: ReadinessSource = control
    assert "has not been read yet" in policies.inbound(80).current.invalid
    assert policies.outbound(Address("10.2.0.1", 80)).current is not None
    assert discovery.endpoints(Target("api.shop", 80)).current.exists is False
    assert readiness.unready.current


async def test_everything_is_in_force_when_start_returns(tmp_path: Path) -> None:
    """Policy, profile and endpoints of a Service; readiness."""
    write_mesh(tmp_path)
    control = EmbeddedControl(str(tmp_path), "shop", "web", SystemClock())
    assert control.unready.current
    await control.start()
    assert control.unready.current == ""
    assert control.problems.current == ()
    assert control.own_pod is not None
    assert control.own_pod.ips == ("10.1.0.2",)
    assert control.inbound(8080).current.metadata.name == "all-unauthenticated"
    address = Address("10.2.0.1", 80)
    policy, profile = control.outbound(address).current, control.profile(address).current
    assert policy is not None
    assert profile is not None
    assert policy.metadata == profile.parent
    found = control.endpoints(Target("api.shop.svc.cluster.local", 80)).current
    assert [str(each.address) for each in found.endpoints] == ["10.1.0.1:80"]
    undeclared = control.outbound(Address("10.2.0.1", 81)).current
    assert undeclared is not None
    assert undeclared.opaque[0].metadata.name == "undefined-port"
    assert control.outbound(Address("10.1.0.1", 80)).current is None
    outside = control.outbound(Address("192.0.2.1", 80)).current
    assert outside is not None
    assert outside.metadata.name == "egress-fallback"


async def test_a_change_reaches_every_provider(tmp_path: Path) -> None:
    """New, changed and deleted files; each within the debounce."""
    write_mesh(tmp_path)
    async with running(tmp_path) as control:
        endpoints = control.endpoints(Target("api.shop.svc.cluster.local", 80))
        policy = control.inbound(8080)
        new = write(
            tmp_path, "new/api-2.json", manifests.pod("api-2", "10.1.0.3", labels={"app": "api"})
        )
        await until(endpoints, lambda now: len(now.endpoints) == 2)
        new.unlink()
        await until(endpoints, lambda now: len(now.endpoints) == 1)
        write(tmp_path, "ns.json", manifests.namespace("shop", {
            "config.linkerd.io/default-inbound-policy": "deny"}))  # fmt: skip
        denied = await until(policy, lambda now: now.metadata.name == "deny")
        assert denied.authorizations == ()


async def test_an_object_moving_between_files_is_never_missing(tmp_path: Path) -> None:
    """Both halves of a rename come in one scan."""
    write_mesh(tmp_path)
    async with running(tmp_path) as control:
        address = control.profile(Address("10.2.0.1", 80))
        problems = control.problems
        (tmp_path / "services.json").rename(tmp_path / "zz.json")
        write(tmp_path, "broken.json", {})
        await until(problems, lambda now: len(now) > 0)
        assert address.version == 0


async def test_a_config_map_mount_is_followed_through_its_swap(tmp_path: Path) -> None:
    """``..data`` is replaced atomically; every object is seen once, before and after."""
    volume = tmp_path / "volume"
    for version in ("..1", "..2"):
        write_mesh(volume / version)
    write(volume / "..2", "pods/api.json",
          manifests.pod("api", "10.1.0.9", labels={"app": "api"}))  # fmt: skip
    (volume / "..data").symlink_to("..1")
    for name in ("pods", "services.json"):
        (volume / name).symlink_to(Path("..data") / name)
    async with running(volume) as control:
        assert control.problems.current == ()
        endpoints = control.endpoints(Target("api.shop.svc.cluster.local", 80))
        assert [each.address.ip for each in endpoints.current.endpoints] == ["10.1.0.1"]
        (volume / "..data_tmp").symlink_to("..2")
        (volume / "..data_tmp").rename(volume / "..data")
        shutil.rmtree(volume / "..1")
        now = await until(endpoints, lambda now: now.endpoints[0].address.ip == "10.1.0.9")
        assert len(now.endpoints) == 1
        assert control.problems.current == ()


BROKEN: dict[str, bytes] = {
    "empty": b"",
    "truncated": b'{"apiVersion": "v1", "kind": "Pod", "metadata": {"na',
    "not text": b"\xff\x00",
    "a mistake without a namespace": b'{"apiVersion": "v1", "kind": "Pod", "metadata": 3}',
    "a mistake in our namespace": (
        b'{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "namespace": "shop"}}'
    ),
    "our namespace itself": (
        b'{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": 3}}'
    ),
    "the mesh's configuration": (
        b'{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "pillion-config", '
        b'"namespace": "linkerd"}, "data": {"defaultInboundPolicy": "dney"}}'
    ),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
async def test_what_is_broken_at_first_load_closes_and_opens_when_mended(
    tmp_path: Path, data: bytes
) -> None:
    """Not ready, nobody admitted, nothing let out, and the reason said; then as if never."""
    write_mesh(tmp_path)
    (tmp_path / "x.yaml").write_bytes(data)
    async with running(tmp_path) as control:
        policy, out = control.inbound(8080), control.outbound(Address("10.2.0.1", 80))
        assert "x.yaml" in control.unready.current
        assert "x.yaml" in policy.current.invalid
        assert policy.current.authorizations == ()
        closed = out.current
        assert closed is not None
        assert closed.protocol is Protocol.OPAQUE
        assert isinstance(closed.opaque[0].filters[0], InvalidFilter)
        write(tmp_path, "x.yaml", manifests.namespace("shop"))
        await until(control.unready, lambda reason: reason == "")
        assert policy.current.invalid == ""
        now = out.current
        assert now is not None
        assert now.protocol is Protocol.DETECT
        assert control.problems.current == ()


async def test_what_is_broken_in_another_namespace_is_only_reported(tmp_path: Path) -> None:
    """Its own sidecars are the ones that wait."""
    write_mesh(tmp_path)
    write(tmp_path, "x.json", manifests.pod("x", "10.1.0.300", namespace="other"))
    async with running(tmp_path) as control:
        assert control.unready.current == ""
        assert [each.path for each in control.problems.current] == [
            "status.podIP",
            "status.podIPs[0].ip",
        ]


UNTOLD = ("empty", "truncated", "not text", "a mistake without a namespace")


@pytest.mark.parametrize("name", UNTOLD)
async def test_a_file_that_cannot_be_told_later_keeps_all_it_held(
    tmp_path: Path, name: str
) -> None:
    """Reported, and nothing else differs."""
    data = BROKEN[name]
    write_mesh(tmp_path)
    async with running(tmp_path) as control:
        endpoints = control.endpoints(Target("api.shop.svc.cluster.local", 80))
        policy, out = control.inbound(8080), control.outbound(Address("10.2.0.1", 80))
        for file in ("pods/api.json", "services.json", "pods/web.json", "new.yaml"):
            (tmp_path / file).write_bytes(data)
        await until(control.problems, lambda now: len({each.file for each in now}) == 4)
        assert (endpoints.version, policy.version, out.version) == (0, 0, 0)
        assert control.unready.current == ""
        write_mesh(tmp_path)
        (tmp_path / "new.yaml").unlink()
        await until(control.problems, lambda now: now == ())
        assert (endpoints.version, policy.version, out.version) == (0, 0, 0)


@pytest.mark.parametrize("name", [each for each in BROKEN if each not in UNTOLD])
async def test_an_object_that_is_broken_when_it_comes_changes_nothing(
    tmp_path: Path, name: str
) -> None:
    """What was in force stays in force, and is ready."""
    write_mesh(tmp_path)
    async with running(tmp_path) as control:
        policy, out = control.inbound(8080), control.outbound(Address("10.2.0.1", 80))
        (tmp_path / "new.yaml").write_bytes(BROKEN[name])
        await until(control.problems, lambda now: len(now) > 0)
        assert (policy.version, out.version) == (0, 0)
        assert control.unready.current == ""


async def test_an_object_that_breaks_keeps_its_last_good_state(tmp_path: Path) -> None:
    """Each document of its own: the one beside it in the file goes on changing."""
    write_mesh(tmp_path)
    service = manifests.service("api", "10.2.0.1", {"port": 80})
    closed = {"config.linkerd.io/default-inbound-policy": "deny"}
    async with running(tmp_path) as control:
        out, policy = control.outbound(Address("10.2.0.1", 80)), control.inbound(80)
        broken = manifests.service("api", "10.2.0.1", {"port": 0})
        write(tmp_path, "services.json", broken, manifests.namespace("shop", closed))
        await until(policy, lambda now: now.metadata.name == "deny")
        assert [each.path for each in control.problems.current] == ["spec.ports[0].port"]
        (tmp_path / "services.json").rename(tmp_path / "moved.json")
        await until(control.problems, lambda now: now[0].file.endswith("moved.json"))
        assert out.version == 0
        write(tmp_path, "moved.json", service)
        await until(control.problems, lambda now: now == ())
        assert out.version == 0


async def test_a_file_that_grows_from_empty_counts_when_it_is_whole(tmp_path: Path) -> None:
    """As a writer leaves it that opens, writes a little, and goes on later."""
    write_mesh(tmp_path)
    text = json.dumps(manifests.pod("api-2", "10.1.0.3", labels={"app": "api"}))
    async with running(tmp_path) as control:
        endpoints = control.endpoints(Target("api.shop.svc.cluster.local", 80))
        with (tmp_path / "grows.json").open("w") as file:
            await until(control.problems, lambda now: len(now) == 1)
            file.write(text[:40])
            file.flush()
            await until(control.problems, lambda now: any("is not YAML" in str(p) for p in now))
            assert endpoints.version == 0
            file.write(text[40:])
        await until(endpoints, lambda now: len(now.endpoints) == 2)
        assert control.problems.current == ()


async def _gone(folder: Path) -> None:
    shutil.rmtree(folder)


async def _renamed(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


async def _emptied(folder: Path) -> None:
    for path in folder.rglob("*.json"):
        path.unlink()


async def _a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("x")


@pytest.mark.parametrize("harm", [_renamed, _emptied, _gone, _a_file])
async def test_a_directory_that_goes_and_comes_back_keeps_its_state(
    tmp_path: Path, harm: Callable[[Path], Awaitable[None]]
) -> None:
    """Even when the folder above goes with it."""
    folder = tmp_path / "outer" / "mesh"
    write_mesh(folder)
    async with running(folder) as control:
        endpoints = control.endpoints(Target("api.shop.svc.cluster.local", 80))
        await harm(folder)
        await until(control.problems, lambda now: any(each.file == str(folder) for each in now))
        assert len(endpoints.current.endpoints) == 1
        assert control.unready.current == ""
        shutil.rmtree(folder.parent)
        write_mesh(folder)
        write(folder, "more.json", manifests.pod("api-2", "10.1.0.3", labels={"app": "api"}))
        await until(endpoints, lambda now: len(now.endpoints) == 2)
        await until(control.problems, lambda now: now == ())


async def test_a_directory_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    """Not ready until our pod's manifest is there."""
    folder = tmp_path / "a" / "b" / "mesh"
    async with running(folder) as control:
        assert "cannot be listed" in control.unready.current
        policy = control.inbound(8080)
        assert policy.current.invalid
        write(folder, "pods/api.json", manifests.pod("api", "10.1.0.1"))
        await until(control.unready, lambda reason: "Pod shop/web has no manifest" in reason)
        assert "has no manifest" in policy.current.invalid
        write_mesh(folder)
        await until(control.unready, lambda reason: reason == "")
        assert policy.current.invalid == ""


async def test_our_own_pod_going_away_changes_nothing_for_us(tmp_path: Path) -> None:
    """A pod that is being taken away finishes its work under the policy it had."""
    write_mesh(tmp_path)
    write(tmp_path, "pods/web.json", manifests.pod("web", "10.1.0.2", annotations={
        "config.linkerd.io/default-inbound-policy": "all-authenticated"}))  # fmt: skip
    async with running(tmp_path) as control:
        policy = control.inbound(8080)
        (tmp_path / "pods/web.json").unlink()
        await until(control.problems, lambda now: "no manifest any more" in "".join(map(str, now)))
        assert policy.current.metadata.name == "all-authenticated"
        assert control.unready.current == ""
        assert control.inbound(9090).current.metadata.name == "all-authenticated"


async def test_policy_turns_before_readiness_does(tmp_path: Path) -> None:
    """Whoever hears that the sidecar is ready finds the policy in force."""
    write_mesh(tmp_path)
    write(tmp_path, "x.yaml", {})
    seen: list[ServerPolicy] = []
    async with running(tmp_path) as control:
        policy = control.inbound(8080)
        control.unready.subscribe(lambda _: seen.append(policy.current))
        (tmp_path / "x.yaml").unlink()
        await until(control.unready, lambda reason: reason == "")
    assert [each.invalid for each in seen] == [""]


async def test_the_endpoints_follow_our_own_place(tmp_path: Path) -> None:
    """``internalTrafficPolicy: Local`` is about the node our pod is on now."""
    labels = {"app": "api"}
    for number, node in ((1, "n1"), (2, "n2")):
        ip = f"10.1.0.{number}"
        api = manifests.pod(f"api-{number}", ip, labels=labels, spec={"nodeName": node})
        write(tmp_path, f"{node}.json", api)
    write(tmp_path, "s.json", manifests.service(
        "api", "10.2.0.1", {"port": 80}, spec={"internalTrafficPolicy": "Local"}))  # fmt: skip
    write(tmp_path, "web.json", manifests.pod("web", "10.1.0.9", spec={"nodeName": "n1"}))
    async with running(tmp_path) as control:
        endpoints = control.endpoints(Target("api.shop.svc.cluster.local", 80))
        assert [each.address.ip for each in endpoints.current.endpoints] == ["10.1.0.1"]
        write(tmp_path, "web.json", manifests.pod("web", "10.1.0.9", spec={"nodeName": "n2"}))
        await until(endpoints, lambda now: [e.address.ip for e in now.endpoints] == ["10.1.0.2"])


@pytest.mark.needs("root")
async def test_a_directory_that_may_not_be_read_keeps_its_state(tmp_path: Path) -> None:
    """As another user than root: reported, and mended when it may be again."""
    folder = tmp_path / "mesh"
    write_mesh(folder)
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_uid == 0 and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
    os.seteuid(2102)
    try:
        async with running(folder) as control:
            endpoints = control.endpoints(Target("api.shop.svc.cluster.local", 80))
            os.seteuid(0)
            folder.chmod(0o700)
            os.seteuid(2102)
            await until(control.problems, lambda now: "cannot be listed" in "".join(map(str, now)))
            assert len(endpoints.current.endpoints) == 1
            os.seteuid(0)
            folder.chmod(0o755)
            os.seteuid(2102)
            await until(control.problems, lambda now: now == ())
    finally:
        os.seteuid(0)
