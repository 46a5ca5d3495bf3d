"""Every decision case as traffic: a sidecar with the case's own manifests, and real callers.

The sidecar of the case's pod reads the mesh directory itself, stands at the pod's address, and is
called from the case's address, with its identity over mutual TLS; the application answers behind
it. Answers, and the metrics with all their labels, must be what the case says.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import pillion
from cli.policy.case import Case, read_cases
from core.errors import OUTCOMES
from policy.model import ClientTls, Protocol
from proxy.telemetry.exposition import expose
from tests.authority import mk_mesh
from tests.netns.standing import ADDRESSES, POD, Scene, Standing, calling, standing
from tests.session.admin import samples
from tests.support.calls import ask_bytes, ask_grpc, ask_http1
from tests.support.island import island

pytestmark = [pytest.mark.needs("root", "ip"), pytest.mark.slow]

POLICY = Path(__file__).parent.parent / "policy"
SETUPS = sorted(path.stem for path in (POLICY / "cases").glob("*.yaml"))
CODES = {
    "deny": "unauthorized",
    "not-found": "route-not-found",
    "rate-limited": "rate-limited",
    "invalid": "policy-invalid",
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One island for all, with every caller's address."""
    with island(ADDRESSES) as place:
        directory = tmp_path_factory.mktemp("mesh")
        yield Scene(place, mk_mesh(directory), tmp_path_factory.mktemp("keys"))


def labels_of(place: Standing, case: Case) -> dict[str, str]:
    """Return what every sample of the case has in common."""
    client, port = case.client, case.target.port
    labels = {"target_addr": f"{POD}:{port}", "srv_port": str(port)}
    if "server" in case.expect:
        labels |= named("srv", case.expect["server"])
    if client.tls is ClientTls.MESH:
        return {**labels, "tls": "true", "client_id": str(client.identity or "")}
    is_opaque = place.embedded.inbound(port).current.protocol is Protocol.OPAQUE
    reason = "port_skipped" if is_opaque else "no_tls_from_remote"
    return {**labels, "tls": "no_identity", "no_tls_reason": reason}


@cache
def _defaults() -> frozenset[str]:
    networks = ("all", "cluster")
    named = {f"{each}-{kind}authenticated" for each in networks for kind in ("", "un")}
    return frozenset({*named, "deny", "audit", "localhost", "probe", "default", "invalid"})


def named(prefix: str, name: object) -> dict[str, str]:
    """Return a name's labels; what is a default's also says so."""
    labels = {f"{prefix}_name": str(name)}
    if name in _defaults():
        return {**labels, f"{prefix}_kind": "default", f"{prefix}_group": ""}
    if prefix == "srv":
        labels |= {"srv_kind": "server", "srv_group": "policy.linkerd.io"}
    return labels


async def ask(scene: Scene, place: Standing, case: Case) -> None:
    """Call as the case says; answer and metrics must be as it says."""
    word = str(case.expect["verdict"])
    is_bytes = case.request is None or place.embedded.inbound(
        case.target.port
    ).current.protocol in {Protocol.OPAQUE, Protocol.TLS}
    kind = "tcp" if is_bytes else "http"
    labels = labels_of(place, case)
    family = f"inbound_{kind}_authz_{'allow' if word == 'allow' else 'deny'}_total"
    if word == "allow":
        labels |= (
            named("authz", case.expect["authorization"]) if "authorization" in case.expect else {}
        )
    elif word == "not-found":
        family = "inbound_http_route_not_found_total"
    elif word == "rate-limited":
        family = "inbound_http_local_ratelimit_total"
        labels["ratelimit_kind"] = "httplocalratelimitpolicy"
    if not is_bytes and word in {"allow", "deny"} and case.expect.get("route"):
        labels |= named("route", case.expect["route"])
    before = place.total(family, labels)
    async with (
        asyncio.timeout(20),
        calling(scene, place, case.client, case.target.port) as (reader, writer),
    ):
        if is_bytes or case.request is None:
            assert await ask_bytes(reader, writer) is (word == "allow"), case.name
        else:
            await _ask_request(case, word, reader, writer)
    counted = place.total(family, labels) - before
    assert counted >= 1, (case.name, family, labels, shown(place, family))


async def _ask_request(
    case: Case, word: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    assert case.request is not None
    if case.is_grpc:
        statuses = await ask_grpc(reader, writer, case.request, case.repeat)
        wanted = 0 if word == "allow" else OUTCOMES[CODES[word]].grpc
    else:
        statuses = await ask_http1(reader, writer, case.request, case.repeat)
        wanted = 200 if word == "allow" else OUTCOMES[CODES[word]].http
    assert len(statuses) == case.repeat, (case.name, statuses)
    assert statuses[-1] == case.expect.get("status", wanted), (case.name, statuses)


def shown(place: Standing, family: str) -> list[dict[str, str]]:
    """Return a family's label sets, for a failure's message."""
    found = samples(b"".join(expose(place.running.sidecar.runtime.metrics.families()))).get(
        family, {}
    )
    return [dict(each) for each in found]


@pytest.mark.parametrize("setup", SETUPS)
def test_decisions_are_what_callers_meet(scene: Scene, setup: str) -> None:
    """Each case of a setup, in its order."""
    cases = read_cases(str(POLICY / "cases" / f"{setup}.yaml"))
    # What one case used of a rate limit another must not miss.
    batches = [[each] for each in cases] if setup.startswith("rate-limit") else [cases]

    async def run(batch: list[Case], pod: str) -> None:
        async with standing(scene, POLICY / "meshes" / setup, pod) as place:
            for case in batch:
                if case.target.pod == pod:
                    await ask(scene, place, case)

    for batch in batches:
        for pod in sorted({each.target.pod for each in batch}):
            scene.island.run(run(batch, pod))


def test_the_audit_report_reads_what_a_sidecar_counted(scene: Scene, tmp_path: Path) -> None:
    """From traffic to ``pillion policy audit``: who would have been refused, and how often."""
    mesh = POLICY / "meshes" / "audit-mode"
    cases = read_cases(str(POLICY / "cases" / "audit-mode.yaml"))

    async def run() -> bytes:
        async with standing(scene, mesh) as place:
            for case in cases:
                await ask(scene, place, case)
            return b"".join(expose(place.running.sidecar.runtime.metrics.families()))

    page = tmp_path / "metrics"
    page.write_bytes(scene.island.run(run()))
    arguments = ["policy", "audit", "--mesh", str(mesh), "--metrics", str(page), "-o", "json"]
    ran = CliRunner().invoke(pillion, arguments)
    seen = [each["seen"] for each in json.loads(ran.stdout)["policies"]]
    assert seen
    for each in seen:
        # One request of each case is seen by each policy that is tried.
        assert sum(each["allowed"].values()) + sum(each["denied"].values()) == len(cases)
        assert each["denied"]
