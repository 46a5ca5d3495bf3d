"""Policy objects in a mesh directory: in force at once, kept when broken, closed if never good."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from control.embedded import EmbeddedControl
from core.clock import SystemClock
from core.watch import T, Watch
from discovery.model import Address
from identity.name import parse_identity
from policy.decide import decide_connection
from policy.model import Client, ClientTls, OutboundTls, Permit, Protocol
from policy.outbound_tls import OUTBOUND_MTLS_ANNOTATION
from tests.support import manifests

WAIT_S = 10.0
CLI = Client(
    "10.1.0.9",
    ClientTls.MESH,
    parse_identity("cli.shop.serviceaccount.identity.linkerd.cluster.local"),
)
POLICY = "policy.linkerd.io"


def write(folder: Path, name: str, *documents: dict[str, Any]) -> None:
    """Write documents into one file."""
    (folder / name).write_text("\n---\n".join(json.dumps(each) for each in documents))


def made(kind: str, name: str, spec: dict[str, Any], version: str = "v1alpha1") -> dict[str, Any]:
    """Build a policy object of namespace shop."""
    meta = {"name": name, "namespace": "shop"}
    return {"apiVersion": f"{POLICY}/{version}", "kind": kind, "metadata": meta, "spec": spec}


SERVER = made("Server", "srv", {"podSelector": {}, "port": 8080}, "v1beta3")
ALLOW = made(
    "AuthorizationPolicy",
    "allow",
    {
        "targetRef": {"group": POLICY, "kind": "Server", "name": "srv"},
        "requiredAuthenticationRefs": [
            {"group": POLICY, "kind": "MeshTLSAuthentication", "name": "clients"}
        ],
    },
)
CLIENTS = made("MeshTLSAuthentication", "clients", {"identityRefs": [
    {"kind": "ServiceAccount", "name": "cli"}]})  # fmt: skip
POD = manifests.pod("api", "10.1.0.1", annotations=manifests.MESHED)


@asynccontextmanager
async def following(folder: Path) -> AsyncIterator[EmbeddedControl]:
    """Load a directory and follow it while the block runs."""
    control = EmbeddedControl(str(folder), "shop", "api", SystemClock())
    await control.start()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(control.run())
        try:
            yield control
        finally:
            task.cancel()


async def until(watch: Watch[T], holds: Callable[[T], bool]) -> None:
    """Wait until a live value is as wanted."""
    async with asyncio.timeout(WAIT_S):
        while not holds(watch.current):
            await watch.changed(watch.version)


async def test_policies_come_and_go_one_file_at_a_time(tmp_path: Path) -> None:
    """The port follows: default, closed by a Server, opened for one, closed again."""
    write(tmp_path, "pod.json", POD)
    async with following(tmp_path) as control:
        port = control.inbound(8080)
        assert isinstance(decide_connection(port.current, CLI), Permit)
        write(tmp_path, "server.json", SERVER)
        await until(port, lambda policy: policy.metadata.name == "srv")
        assert not isinstance(decide_connection(port.current, CLI), Permit)
        write(tmp_path, "allow.json", ALLOW)
        await until(port, lambda policy: bool(policy.void))
        assert not isinstance(decide_connection(port.current, CLI), Permit)
        write(tmp_path, "clients.json", CLIENTS)
        await until(port, lambda policy: bool(policy.authorizations))
        verdict = decide_connection(port.current, CLI)
        assert isinstance(verdict, Permit)
        assert verdict.authorization.name == "allow"
        (tmp_path / "clients.json").unlink()
        await until(port, lambda policy: not policy.authorizations)
        assert not isinstance(decide_connection(port.current, CLI), Permit)


async def test_a_policy_that_breaks_keeps_its_last_good_state(tmp_path: Path) -> None:
    """Reported by file, line and field, and in force as it was."""
    write(tmp_path, "pod.json", POD)
    write(tmp_path, "policies.json", SERVER, ALLOW, CLIENTS)
    async with following(tmp_path) as control:
        port = control.inbound(8080)
        before = port.current
        broken = {**ALLOW, "spec": {"targetRef": ALLOW["spec"]["targetRef"]}}
        write(tmp_path, "policies.json", SERVER, broken, CLIENTS)
        await until(control.problems, bool)
        (problem,) = control.problems.current
        assert (problem.path, problem.line) == ("spec.requiredAuthenticationRefs", 3)
        assert port.current == before
        assert control.unready.current == ""


async def test_a_policy_that_was_never_good_closes_its_namespace(tmp_path: Path) -> None:
    """At first load: not ready, and nobody is admitted, the pod itself neither."""
    write(tmp_path, "pod.json", POD)
    write(tmp_path, "policies.json", {**SERVER, "spec": {"port": 8080}})
    async with following(tmp_path) as control:
        port = control.inbound(8080)
        assert "podSelector" in control.unready.current
        for client in (CLI, Client("127.0.0.1")):
            verdict = decide_connection(port.current, client)
            assert not isinstance(verdict, Permit)
            assert verdict.code == "policy-invalid"
            assert "podSelector" in verdict.reason
        write(tmp_path, "policies.json", {**SERVER, "spec": {**SERVER["spec"],
              "accessPolicy": "all-authenticated"}})  # fmt: skip
        await until(control.unready, lambda reason: not reason)
        assert isinstance(decide_connection(port.current, CLI), Permit)


REQUIRED = {OUTBOUND_MTLS_ANNOTATION: "required"}
OPEN = {OUTBOUND_MTLS_ANNOTATION: "opportunistic"}
SERVICE = Address("10.2.0.1", 80)
OTHER_POD = Address("10.1.0.2", 8080)
OUTSIDE = Address("203.0.113.7", 443)


@pytest.mark.parametrize(
    ("pod", "namespace", "service", "expected"),
    [
        ({}, {}, {}, (False, None, False)),
        (REQUIRED, {}, {}, (True, True, True)),
        ({}, {}, REQUIRED, (True, None, False)),
        ({}, REQUIRED, {}, (True, True, True)),
        (OPEN, REQUIRED, {}, (True, None, False)),
        (OPEN, REQUIRED, OPEN, (False, None, False)),
        ({OUTBOUND_MTLS_ANNOTATION: "requierd"}, {}, {}, (True, True, True)),
    ],
)
async def test_where_mutual_tls_is_required_on_the_way_out(
    pod: dict[str, str],
    namespace: dict[str, str],
    service: dict[str, str],
    expected: tuple[bool, bool | None, bool],
    tmp_path: Path,
) -> None:
    """By workload, Service or namespace; a pod's own address has a policy only where it must."""
    write(
        tmp_path,
        "mesh.json",
        manifests.namespace("shop", annotations=namespace),
        manifests.pod("api", "10.1.0.1", annotations={**manifests.MESHED, **pod}),
        manifests.pod("db", "10.1.0.2", labels={"app": "db"}, ports={"db": 8080}),
        manifests.service("db", "10.2.0.1", {"port": 80}, annotations=service),
    )
    control = EmbeddedControl(str(tmp_path), "shop", "api", SystemClock())
    await control.start()
    assert control.problems.current == ()
    found: list[bool | None] = []
    for address in (SERVICE, OTHER_POD, OUTSIDE):
        policy = control.outbound(address).current
        found.append(None if policy is None else policy.tls_mode is OutboundTls.REQUIRED)
    assert tuple(found) == expected
    direct = control.outbound(OTHER_POD).current
    if direct is not None:
        assert direct.protocol is Protocol.DETECT
