"""Linked directories beside our own: read, followed, and never in the way of what is ours."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from control import linked, links
from control.embedded import EmbeddedControl
from core.clock import SystemClock
from core.watch import T, Watch
from discovery.model import Address, EndpointSet, PathKind, Target
from resources.sources.directory import DirectorySource, Scan
from tests.support import manifests
from tests.unit.control.test_embedded import write

WAIT_S = 20.0
"""Long past any look: tells a stall from none."""
ME = "multicluster.pillion.dev/"
HTTP = {"port": 80, "targetPort": 8080}
DIRECT = {"mirror.linkerd.io/exported": "remote-discovery"}
BY_GATEWAY = {"mirror.linkerd.io/exported": "true"}
GATEWAY = "gateway.mesh.serviceaccount.identity.linkerd.west.example"
API_WEST = Target("api-west.shop.svc.cluster.local", 80)


def link(source: Path | str, **annotations: str) -> dict[str, Any]:
    """Return the manifest of a Link to ``west``."""
    return {
        "apiVersion": "multicluster.linkerd.io/v1alpha3",
        "kind": "Link",
        "metadata": {
            "name": "west",
            "namespace": "linkerd-multicluster",
            "annotations": {
                f"{ME}source": str(source),
                f"{ME}trust-domain": "west.example",
                **{f"{ME}{key}": value for key, value in annotations.items()},
            },
        },
        "spec": {
            "targetClusterName": "west",
            "gatewayAddress": "192.0.2.1",
            "gatewayIdentity": GATEWAY,
            "probeSpec": {"path": "/ready", "port": "4191"},
            "selector": {"matchLabels": BY_GATEWAY},
            "remoteDiscoverySelector": {"matchLabels": DIRECT},
        },
    }


def api_pod(number: int) -> dict[str, Any]:
    """Return a meshed pod behind the remote Service."""
    return manifests.pod(
        f"api-{number}",
        f"10.12.0.{number}",
        labels={"app": "api"},
        annotations=manifests.MESHED,
    )


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linked, "POLL_S", 0.1)


@pytest.fixture
def west(tmp_path: Path) -> Path:
    """Return the remote cluster's directory: a Service that is exported, one that is not."""
    folder = tmp_path / "west"
    write(
        folder,
        "api.json",
        manifests.service("api", "10.96.0.1", HTTP, labels=DIRECT),
        manifests.service("own", "10.96.0.2", HTTP),
    )
    write(folder, "pod.json", api_pod(1))
    return folder


@pytest.fixture
def east(tmp_path: Path, west: Path) -> Path:
    """Return our own directory, linked to it."""
    folder = tmp_path / "east"
    write(
        folder,
        "mesh.json",
        manifests.config(trustDomain="east.example"),
        manifests.pod("web", "10.11.0.1", annotations=manifests.MESHED),
    )
    write(folder, "link.json", link(west))
    return folder


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[EmbeddedControl]:
    """Load a directory and follow it and what it is linked to."""
    control = EmbeddedControl(str(folder), "shop", "web", SystemClock())
    await control.start()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(control.run())
        await asyncio.sleep(0)
        try:
            yield control
        finally:
            task.cancel()
            control.close()


async def until(watch: Watch[T], holds: Callable[[T], bool]) -> T:
    """Return the value once it holds."""
    async with asyncio.timeout(WAIT_S):
        version = watch.version
        while not holds(watch.current):
            await watch.changed(version)
            version = watch.version
    return watch.current


def ips(found: EndpointSet) -> list[str]:
    """Return where endpoints are."""
    return [each.address.ip for each in found.endpoints]


async def test_a_linked_cluster_is_known_at_once_and_followed(east: Path, west: Path) -> None:
    """Its Services have names and addresses here, its pods are endpoints, its changes come."""
    async with running(east) as control:
        assert control.unready.current == ""
        assert control.problems.current == ()
        found = control.endpoints(API_WEST)
        assert ips(found.current) == ["10.12.0.1"]
        (endpoint,) = found.current.endpoints
        assert (endpoint.path.kind, endpoint.path.trust_domain) == (
            PathKind.DIRECT,
            "west.example",
        )
        (address,) = control.addresses("api-west.shop.svc", 80) or ()
        policy = control.outbound(address).current
        assert policy is not None
        assert policy.metadata.name == "api-west"
        assert control.addresses("own-west.shop.svc", 80) == ()
        write(west, "pod.json", api_pod(1), api_pod(2))
        await until(found, lambda each: len(each.endpoints) == 2)
        # From direct to gateway and back is one label.
        write(west, "api.json", manifests.service("api", "10.96.0.1", HTTP, labels=BY_GATEWAY))
        await until(found, lambda each: ips(each) == ["192.0.2.1"])
        assert control.addresses("api-west.shop.svc", 80) == (address,)
        write(west, "api.json", manifests.service("api", "10.96.0.1", HTTP, labels=DIRECT))
        await until(found, lambda each: len(each.endpoints) == 2)
        write(west, "api.json", manifests.service("api", "10.96.0.1", HTTP))
        await until(found, lambda each: not each.exists)


def remove(folder: Path) -> None:
    """Take a directory away."""
    folder.rename(folder.with_name("gone"))


def empty(folder: Path) -> None:
    """Leave a directory with nothing in it."""
    for each in folder.iterdir():
        each.unlink()


def corrupt(folder: Path) -> None:
    """Fill every file with what is no manifest."""
    for each in folder.iterdir():
        each.write_bytes(b"\x00\xff: [")


def truncate(folder: Path) -> None:
    """Leave every file with its first half."""
    for each in folder.iterdir():
        text = each.read_text()
        each.write_text(text[: len(text) // 2])


def replace_by_file(folder: Path) -> None:
    """Put something that is no directory in its place: it cannot be listed, by root neither."""
    shutil.rmtree(folder)
    folder.write_text("no directory")


@pytest.mark.parametrize("harm", [remove, empty, corrupt, truncate, replace_by_file])
async def test_what_is_known_outlives_the_directory(
    east: Path, west: Path, harm: Callable[[Path], None]
) -> None:
    """Traffic goes on with what is known, and the report says so; we stay ready."""
    async with running(east) as control:
        found = control.endpoints(API_WEST)
        before = found.current
        harm(west)
        problems = await until(control.problems, bool)
        assert all(str(west) in each.file for each in problems)
        # Another look would change it, if any did.
        await asyncio.sleep(2 * linked.POLL_S)
        assert found.current == before
        assert control.unready.current == ""
        await asyncio.sleep(0)
        own = manifests.pod("new", "10.11.0.9", annotations=manifests.MESHED)
        write(east, "new.json", own)
        profile = control.profile(Address("10.11.0.9", 80))
        await until(profile, lambda each: each is not None and each.endpoint is not None)


async def test_a_directory_that_comes_back_counts_again(east: Path, west: Path) -> None:
    """Ten times taken away and put back: the same at the end, and nothing left to report."""
    async with running(east) as control:
        found = control.endpoints(API_WEST)
        before = found.current
        for _ in range(3):
            west.rename(west.with_name("gone"))
            await until(control.problems, bool)
            west.with_name("gone").rename(west)
            await until(control.problems, lambda each: not each)
        assert found.current == before


@pytest.mark.parametrize("source", ["/nowhere/at/all", "/proc/self/mem"])
async def test_a_directory_that_never_was_keeps_nobody_waiting(east: Path, source: str) -> None:
    """We are ready without it, and say what is missing."""
    write(east, "link.json", link(source))
    async with running(east) as control:
        assert control.unready.current == ""
        assert not control.endpoints(API_WEST).current.exists
        problems = await until(control.problems, bool)
        assert any(source in str(each) for each in problems)


async def test_a_directory_that_hangs_holds_up_nothing(
    east: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a mount whose server is gone: we start, are ready, answer and follow our own."""
    release = threading.Event()
    scan = DirectorySource.scan

    def hang(source: DirectorySource, now: datetime) -> Scan:
        if source.root.endswith("/west"):
            release.wait(WAIT_S)
        return scan(source, now)

    monkeypatch.setattr(DirectorySource, "scan", hang)
    monkeypatch.setattr(links, "FIRST_LOOK_S", 0.1)
    monkeypatch.setattr(links, "HUNG_S", 0.2)
    try:
        async with running(east) as control:
            assert control.unready.current == ""
            found = control.endpoints(API_WEST)
            assert not found.current.exists
            await asyncio.sleep(0.3)
            own = manifests.service("shop", "10.96.0.9", HTTP)
            write(east, "new.json", own)
            policy = control.outbound(Address("10.96.0.9", 80))
            await until(policy, lambda each: each is not None and each.metadata.name == "shop")
            problems = await until(control.problems, bool)
            assert any("does not answer" in each.message for each in problems)
            release.set()
            await until(found, lambda each: ips(each) == ["10.12.0.1"])
    finally:
        release.set()


async def test_a_link_that_goes_takes_its_services_along(east: Path) -> None:
    """And a Service of ours that stood for one is itself again."""
    own = manifests.service("api-west", "10.96.0.77", HTTP, selector={})
    write(east, "own.json", own)
    async with running(east) as control:
        found = control.endpoints(API_WEST)
        assert ips(found.current) == ["10.12.0.1"]
        assert control.addresses("api-west.shop.svc", 80) == (Address("10.96.0.77", 80),)
        (east / "link.json").unlink()
        await until(found, lambda each: not each.endpoints)
        assert control.addresses("api-west.shop.svc", 80) == (Address("10.96.0.77", 80),)


async def test_what_a_linked_directory_says_of_policy_and_links_is_not_read(
    east: Path, west: Path
) -> None:
    """It has no word in who may call whom here, nor in our settings, nor may it be wrong there."""
    write(
        west,
        "evil.json",
        manifests.config(trustDomain="east.example", defaultInboundPolicy="nonsense"),
        {
            "apiVersion": "policy.linkerd.io/v1beta3",
            "kind": "AuthorizationPolicy",
            "metadata": {"name": "all", "namespace": "shop"},
            "spec": "everyone",
        },
        link("/proc"),
    )
    async with running(east) as control:
        (endpoint,) = control.endpoints(API_WEST).current.endpoints
        assert endpoint.identity is not None
        assert endpoint.identity.trust_domain == "west.example"
        assert control.problems.current == ()


async def test_gateways_are_probed_once_they_are_used(east: Path, west: Path) -> None:
    """And what the probes say takes their endpoints away and brings them back."""
    write(west, "api.json", manifests.service("api", "10.96.0.1", HTTP, labels=BY_GATEWAY))
    async with running(east) as control:
        assert not control.gateways.current
        found = control.endpoints(API_WEST)
        (gateway,) = control.gateways.current
        assert gateway.addresses == (Address("192.0.2.1", 4191),)
        assert gateway.trust_domain == "west.example"
        control.gateway_probed("west", is_usable=False)
        assert found.current.endpoints == ()
        assert found.current.exists
        control.gateway_probed("west", is_usable=True)
        assert ips(found.current) == ["192.0.2.1"]


async def test_roots_of_another_name_are_told(east: Path, west: Path) -> None:
    """The file that a link names, under the one trust domain that it counts for."""
    write(east, "link.json", link(west, anchors="roots-of-west.pem"))
    async with running(east) as control:
        assert control.anchor_files.current == (("west.example", "roots-of-west.pem"),)
