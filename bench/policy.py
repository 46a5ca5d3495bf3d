"""``python -m bench.policy``: what a decision costs, and how fast a change takes effect.

Costs are told as ratios to one strict match of a regular expression over a 428-byte request head
in the same run: absolute times are one machine's mood of one minute. Exit status: 0 every target
holds, 1 one does not.
"""

from __future__ import annotations

import asyncio
import gc
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, final

import click
from rich.console import Console
from rich.table import Table

from bench.cost import costs_of
from bench.record import RESULTS, record
from cli.version import core_modules, core_speed
from control.embedded import EmbeddedControl
from control.mesh import Mesh
from core.clock import SystemClock
from core.watch import Watch
from discovery.model import Metadata
from identity.name import parse_identity
from policy.decide import decide_connection, decide_request
from policy.limit import RateState
from policy.match import Request
from policy.model import (
    Client,
    ClientTls,
    InboundRoute,
    InboundRule,
    OutboundPolicy,
    OutboundRoute,
    OutboundRule,
    Permit,
    RateLimit,
    Refusal,
    ServerPolicy,
)
from policy.route import HttpMatch, PathMatch, PathMatchKind
from proxy.outbound.route import OutboundRoutes
from proxy.wire.http_message import HTTP_11, Form, RequestHead
from resources.kind import ObjectKey, Resource
from resources.manifest import parse_manifest

PODS: Final = 1_000
SERVERS: Final = 1_000
POLICIES: Final = 5_000
ROUTES: Final = 1_000
DECISIONS: Final = 1_000_000
TURNS: Final = 30
"""How often each action is timed, in turn with the others; the best counts."""

TRUST: Final = "serviceaccount.identity.linkerd.cluster.local"
ADMITTED: Final = Client("10.1.2.3", ClientTls.MESH, parse_identity(f"cli-4.app.{TRUST}"))
REFUSED: Final = Client("10.1.2.3", ClientTls.MESH, parse_identity(f"nobody.app.{TRUST}"))
REQUEST: Final = Request("GET", "/api/v1/orders/42", "orders.shop:8080", "expand=items")

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
HEAD_FORM: Final = re.compile(
    rb"(" + _TOKEN + rb") ([!-~]+) HTTP/1\.1\r\n((?:" + _TOKEN + rb":[\t -~\x80-\xff]*\r\n)+)\r\n"
)
"""One strict match over a whole head: the yardstick."""
_HEAD: Final = (
    b"GET /api/v1/orders/42?expand=items HTTP/1.1\r\nhost: orders.shop.svc.cluster.local:8080\r\n"
    b"user-agent: bench/1.0 (x86_64)\r\naccept: application/json, text/plain, */*\r\n"
    b"accept-encoding: gzip, deflate, br\r\nx-request-id: 5d2a1c1e-7e3b-4f7e-9a2d-3f1f3c1b2a77\r\n"
    b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nauthorization: "
)
HEAD: Final = _HEAD.ljust(428 - 4, b"t") + b"\r\n\r\n"


@final
@dataclass(frozen=True, slots=True)
class Row:
    """One measurement against its target."""

    name: str
    value: float
    unit: str
    must: float
    """At most this."""

    @property
    def holds(self) -> bool:
        """Whether the target is met."""
        return self.value <= self.must


def mk_objects(pods: int, servers: int, policies: int) -> Iterator[dict[str, object]]:
    """Yield manifests: every pod selected by one Server, the policies spread over the Servers."""
    for n in range(pods):
        yield {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"pod-{n}",
                "namespace": "app",
                "labels": {"app": f"app-{n % servers}"},
                "annotations": {"linkerd.io/inject": "enabled"},
            },
            "spec": {"containers": [{"name": "app", "ports": [{"containerPort": 8080}]}]},
            "status": {"podIP": f"10.1.{n >> 8}.{n & 255}"},
        }
    for n in range(servers):
        yield {
            "apiVersion": "policy.linkerd.io/v1beta3",
            "kind": "Server",
            "metadata": {"name": f"server-{n}", "namespace": "app"},
            "spec": {"podSelector": {"matchLabels": {"app": f"app-{n}"}}, "port": 8080},
        }
    each = policies // servers
    for n in range(policies):
        # The caller who is admitted is named by the last of a Server's policies.
        account = f"cli-{n // servers + 5 - each}"
        yield {
            "apiVersion": "policy.linkerd.io/v1alpha1",
            "kind": "AuthorizationPolicy",
            "metadata": {"name": f"policy-{n:05}", "namespace": "app"},
            "spec": {
                "targetRef": {
                    "group": "policy.linkerd.io",
                    "kind": "Server",
                    "name": f"server-{n % servers}",
                },
                "requiredAuthenticationRefs": [{"kind": "ServiceAccount", "name": account}],
            },
        }


def parse(manifests: Iterator[dict[str, object]]) -> list[Resource]:
    """Return the objects."""
    found = []
    for manifest in manifests:
        (document,) = parse_manifest("bench.json", json.dumps(manifest).encode()).documents
        if document.resource is not None:
            found.append(document.resource)
    return found


def build(pods: int, servers: int, policies: int) -> Mesh:
    """Return a mesh of so many objects."""
    mesh = Mesh()
    mesh.change(parse(mk_objects(pods, servers, policies)), ())
    return mesh


def policy_of(mesh: Mesh) -> ServerPolicy:
    """Return the policy of the first pod."""
    return mesh.inbound(ObjectKey("", "Pod", "app", "pod-0"), 8080, 0.0).current


def cost(*actions: Callable[[], object]) -> list[float]:
    """Return microseconds of each action: the best of many turns, taken in turn."""
    return costs_of(actions, TURNS)


def _must(holds: bool, what: str) -> None:  # noqa: FBT001 - a claim
    if not holds:
        raise AssertionError(f"the bench wants {what}")


def decision_rows(one: ServerPolicy, many: ServerPolicy) -> list[Row]:
    """Measure single decisions against the yardstick."""
    _must(HEAD_FORM.fullmatch(HEAD) is not None and len(HEAD) == 428, "a sound yardstick")
    for policy in (one, many):
        _must(isinstance(decide_connection(policy, ADMITTED), Permit), "an admitted caller")
        _must(isinstance(decide_request(policy, REFUSED, REQUEST), Refusal), "a refused caller")
    yard, *costs = cost(
        lambda: HEAD_FORM.match(HEAD),
        lambda: decide_connection(one, ADMITTED),
        lambda: decide_connection(one, REFUSED),
        lambda: decide_request(one, ADMITTED, REQUEST),
        lambda: decide_request(one, REFUSED, REQUEST),
        lambda: decide_connection(many, ADMITTED),
        lambda: decide_connection(many, REFUSED),
        lambda: decide_request(many, ADMITTED, REQUEST),
        lambda: decide_request(many, REFUSED, REQUEST),
    )
    alone, among = costs[:4], costs[4:]
    names = ("connection, admitted", "connection, refused", "request, admitted", "request, refused")
    musts = (1.25, 1.25, 2.0, 2.0)
    return [
        Row("one strict match over 428 bytes", yard, "µs", float("inf")),
        *(
            Row(f"{name}, to one match", each / yard, "ratio", must)
            for name, each, must in zip(names, alone, musts, strict=True)
        ),
        *(
            Row(f"{name}, 5,000 policies to one", more / each, "ratio", 1.5)
            for name, each, more in zip(names, alone, among, strict=True)
        ),
    ]


def route_rows(base: ServerPolicy) -> list[Row]:
    """Measure matching among many routes against one."""
    rows = []
    for kind, value in (
        (PathMatchKind.EXACT, "/api/v{}/orders/42"),
        (PathMatchKind.PREFIX, "/api/v{}/orders"),
        (PathMatchKind.REGEX, "/api/v{}/orders/[0-9]+"),
    ):
        tables = [routed(base, kind, value, count) for count in (1, ROUTES)]
        for table in tables:
            _must(isinstance(decide_request(table, ADMITTED, REQUEST), Permit), kind.value)
        alone, among = cost(
            lambda: decide_request(tables[0], ADMITTED, REQUEST),  # noqa: B023 - called at once
            lambda: decide_request(tables[1], ADMITTED, REQUEST),  # noqa: B023
        )
        name = f"request, 1,000 {kind.value} routes to one"
        rows.append(Row(name, among / alone, "ratio", 1.5))
    return rows


def outbound_rows() -> list[Row]:
    """Measure matching among many routes of a Service against one."""
    rows = []
    host = b"api.shop"
    head = RequestHead(
        method=b"GET",
        form=Form.ORIGIN,
        scheme=b"http",
        authority=host,
        path=b"/api/v1/orders/42?expand=items",
        version=HTTP_11,
        fields=((b"host", host),),
        length=0,
        keep_alive=True,
        upgrade=b"",
        expects_continue=False,
    )
    for kind, value in (
        (PathMatchKind.EXACT, "/api/v{}/orders/42"),
        (PathMatchKind.PREFIX, "/api/v{}/orders"),
    ):
        tables = [outbound_routed(kind, value, count) for count in (1, ROUTES)]
        for table in tables:
            _must(table.find(head) is not None, kind.value)
        alone, among = cost(
            lambda: tables[0].find(head),  # noqa: B023 - called at once
            lambda: tables[1].find(head),  # noqa: B023
        )
        name = f"outbound request, 1,000 {kind.value} routes to one"
        rows.append(Row(name, among / alone, "ratio", 1.5))
    return rows


def outbound_routed(kind: PathMatchKind, value: str, count: int) -> OutboundRoutes:
    """Return the table of a Service with so many routes of one kind; ``value`` holds a number."""
    routes = tuple(
        OutboundRoute(
            metadata=Metadata(kind="HTTPRoute", name=f"route-{n}"),
            rules=(OutboundRule(matches=(HttpMatch(path=PathMatch(kind, value.format(n))),)),),
        )
        for n in range(1, count + 1)
    )
    policy = OutboundPolicy(metadata=Metadata(kind="Service", name="api"), http1=routes)
    return OutboundRoutes(policy, is_http2=False)


def routed(base: ServerPolicy, kind: PathMatchKind, value: str, count: int) -> ServerPolicy:
    """Return ``base`` with so many routes of one kind; ``value`` holds a number."""
    routes = tuple(
        InboundRoute(
            metadata=Metadata(kind="HTTPRoute", name=f"route-{n}"),
            rules=(InboundRule(matches=(HttpMatch(path=PathMatch(kind, value.format(n))),)),),
        )
        for n in range(1, count + 1)
    )
    return ServerPolicy(metadata=base.metadata, authorizations=base.authorizations, routes=routes)


def limit_row() -> Row:
    """Measure one count of a rate limit."""
    limit = RateLimit(
        metadata=Metadata(kind="HTTPLocalRateLimitPolicy", name="l"),
        total=10**9,
        identity=10**9,
    )
    state = RateState(limit)
    (yard, each) = cost(
        lambda: HEAD_FORM.match(HEAD), lambda: state.hit(ADMITTED.identity, time.monotonic())
    )
    return Row("rate limit, to one match", each / yard, "ratio", 1.0)


def growth_row(policy: ServerPolicy) -> Row:
    """Count allocated blocks over a million decisions, admitted and refused."""
    clients = [
        Client(
            f"10.{n >> 8 & 255}.{n & 255}.7", ClientTls.MESH, (ADMITTED, REFUSED)[n & 1].identity
        )
        for n in range(10_000)
    ]

    def run(count: int) -> None:
        for n in range(count):
            client = clients[n % len(clients)]
            if n & 2:
                decide_connection(policy, client)
            else:
                decide_request(policy, client, REQUEST)

    run(40_000)
    gc.collect()
    before = sys.getallocatedblocks()
    run(DECISIONS)
    gc.collect()
    grown = sys.getallocatedblocks() - before
    return Row("blocks gained over a million decisions", float(grown), "blocks", 500.0)


def index_rows(mesh: Mesh) -> list[Row]:
    """Measure a change to one object until every port it concerns has its new policy."""
    first = mesh.inbound(ObjectKey("", "Pod", "app", "pod-0"), 8080, 0.0)
    one_pod = _change_ms(mesh, first, "Namespace", "app")
    started = time.perf_counter()
    watches = [
        mesh.inbound(ObjectKey("", "Pod", "app", f"pod-{n}"), 8080, 0.0) for n in range(PODS)
    ]
    compiled = (time.perf_counter() - started) / PODS * 1e6
    return [
        Row("one port compiled", compiled, "µs", float("inf")),
        Row("a policy on the namespace changed, a pod's port", one_pod, "ms", 100.0),
        Row(
            "a policy on a Server changed, 1,000 ports followed",
            _change_ms(mesh, watches[0], "Server", "server-0"),
            "ms",
            100.0,
        ),
        Row(
            "a policy on the namespace changed, 1,000 ports followed",
            _change_ms(mesh, watches[0], "Namespace", "app"),
            "ms",
            float("inf"),
        ),
    ]


def _change_ms(mesh: Mesh, watch: Watch[ServerPolicy], kind: str, name: str) -> float:
    """Return the median of some changes, in milliseconds."""
    times = []
    for n in range(9):
        (policy,) = parse(iter([_policy(kind, name, audit=n % 2 == 0)]))
        version = watch.version
        started = time.perf_counter()
        mesh.change([policy], ())
        times.append((time.perf_counter() - started) * 1e3)
        _must(watch.version > version, "something published")
    return statistics.median(times)


def _policy(kind: str, name: str, *, audit: bool) -> dict[str, object]:
    mode = "audit" if audit else "enforce"
    group = "" if kind == "Namespace" else "policy.linkerd.io"
    return {
        "apiVersion": "policy.linkerd.io/v1alpha1",
        "kind": "AuthorizationPolicy",
        "metadata": {
            "name": "changing",
            "namespace": "app",
            "annotations": {"pillion.dev/mode": mode},
        },
        "spec": {
            "targetRef": {"group": group, "kind": kind, "name": name},
            "requiredAuthenticationRefs": [],
        },
    }


async def directory_row(folder: Path) -> Row:
    """Measure from a written file to the sidecar's new policy, among files of 500 objects."""
    objects = list(mk_objects(PODS, SERVERS, POLICIES))
    for n in range(0, len(objects), 500):
        text = "\n---\n".join(json.dumps(each) for each in objects[n : n + 500])
        (folder / f"{n:05}.yaml").write_text(text)
    control = EmbeddedControl(str(folder), "app", "pod-0", SystemClock())
    await control.start()
    watch = control.inbound(8080)
    times = []
    async with asyncio.TaskGroup() as group:
        task = group.create_task(control.run())
        await asyncio.sleep(1.0)
        for n in range(9):
            version = watch.version
            started = time.perf_counter()
            temporary = folder / ".new"
            temporary.write_text(json.dumps(_policy("Server", "server-0", audit=n % 2 == 0)))
            temporary.rename(folder / "zz-changing.json")
            async with asyncio.timeout(20):
                await watch.changed(version)
            times.append((time.perf_counter() - started) * 1e3)
            await asyncio.sleep(0.3)
        task.cancel()
    return Row("a file written to the policy in force", statistics.median(times), "ms", 100.0)


def measure(*, with_directory: bool) -> list[Row]:
    """Run everything."""
    one, many = build(1, 1, 1), build(PODS, SERVERS, POLICIES)
    rows = [
        *decision_rows(policy_of(one), policy_of(many)),
        *route_rows(policy_of(one)),
        *outbound_rows(),
        limit_row(),
        growth_row(policy_of(many)),
        *index_rows(many),
    ]
    if with_directory:
        with tempfile.TemporaryDirectory(prefix="pillion-bench-") as folder:
            rows.append(asyncio.run(directory_row(Path(folder))))
    return rows


def render(rows: Sequence[Row]) -> Table:
    """Return the table."""
    table = Table(title=f"policy, core {core_speed(core_modules())}", title_justify="left")
    for name in ("what", "measured", "must be at most", "holds"):
        table.add_column(name, justify="left" if name == "what" else "right")
    for row in rows:
        must = "" if row.must == float("inf") else f"{row.must:g} {row.unit}"
        holds = "" if row.must == float("inf") else ("yes" if row.holds else "no")
        table.add_row(row.name, f"{row.value:.2f} {row.unit}", must, holds)
    return table


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--no-directory", is_flag=True, help="Leave out the row that writes files and waits.")
@click.option("--save", is_flag=True, help="Write JSON to bench/results as well.")
def main(*, as_json: bool, no_directory: bool, save: bool) -> None:
    """Measure decisions and changes of policy on this machine."""
    rows = measure(with_directory=not no_directory)
    data = {
        "core": core_speed(core_modules()),
        "rows": [
            {**asdict(row), "must": None if row.must == float("inf") else row.must}
            | {"holds": row.holds}
            for row in rows
        ],
    }
    if save:
        click.echo(f"wrote {record('policy', data, RESULTS)}", err=True)
    if as_json:
        click.echo(json.dumps(data, indent=2))
    else:
        Console(width=120).print(render(rows))
    sys.exit(0 if all(row.holds for row in rows) else 1)


if __name__ == "__main__":
    main()
