"""What policy does to requests on their way to the application: filters, changes, audits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from core.watch import Watch
from discovery.model import Address, Endpoint, EndpointSet, Metadata, Target, default_metadata
from identity.generation import Generation
from policy.model import (
    AUDIT,
    Backend,
    Balancer,
    FirstAvailable,
    Forward,
    InboundRoute,
    InboundRule,
    OutboundPolicy,
    OutboundRoute,
    OutboundRule,
    OutboundTls,
    Protocol,
    RateLimit,
    ServerPolicy,
    TlsAuthenticated,
)
from policy.route import (
    FailureInjector,
    Filter,
    HeaderModifier,
    HttpMatch,
    InvalidFilter,
    PathMatch,
    PathMatchKind,
    PathRewrite,
    PathRewriteKind,
    Redirect,
    RequestHeaders,
)
from proxy.net.capture import FixedCapture
from proxy.telemetry.exposition import expose
from tests.session.admin import Reply, read_reply, samples
from tests.session.apps import echo, exchange, serve
from tests.session.client import CLUSTER_IP, run_client
from tests.session.http_apps import hello
from tests.sidecars import OPEN, Control, Running, run_pair, run_sidecar

ROUTE = Metadata(group="gateway.networking.k8s.io", kind="HTTPRoute", namespace="a", name="r")
SERVER = Metadata(group="policy.linkerd.io", kind="server", namespace="a", name="srv")
POLICY = Metadata(
    group="policy.linkerd.io", kind="authorizationpolicy", namespace="a", name="tried"
)
AUTHENTICATED = replace(
    OPEN,
    authorizations=(
        replace(OPEN.authorizations[0], authentication=TlsAuthenticated(suffixes=((),))),
    ),
)


def filtering(*filters: Filter, prefix: str = "/old") -> ServerPolicy:
    """Return a policy with one route of one prefix."""
    match = HttpMatch(path=PathMatch(PathMatchKind.PREFIX, prefix))
    rule = InboundRule(matches=(match,), filters=filters)
    return replace(OPEN, metadata=SERVER, routes=(InboundRoute(metadata=ROUTE, rules=(rule,)),))


class Caller:
    """One HTTP/1 connection to a sidecar."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def get(self, path: str = "/", method: str = "GET") -> Reply:
        """Make one request."""
        self._writer.write(f"{method} {path} HTTP/1.1\r\nhost: api.shop:8080\r\n\r\n".encode())
        return await read_reply(self._reader, head=method == "HEAD")


@asynccontextmanager
async def calling(address: Address) -> AsyncIterator[Caller]:
    """Open a connection."""
    reader, writer = await asyncio.open_connection(address.ip, address.port)
    try:
        yield Caller(reader, writer)
    finally:
        writer.close()


@asynccontextmanager
async def served(api: Generation, policy: ServerPolicy) -> AsyncIterator[tuple[Running, Caller]]:
    """Run a sidecar with an HTTP application, and a plaintext client of it."""
    control = Control(Watch(api), policy=policy)
    async with (
        serve(hello) as app,
        run_sidecar(api, FixedCapture(app), ip="127.0.0.2", control=control) as running,
        calling(running.config.inbound_listen) as caller,
    ):
        yield running, caller


def publish(running: Running, policy: ServerPolicy) -> None:
    """Change the policy of every port asked for."""
    for watch in running.control.policies.values():
        watch.publish(policy)


def counted(running: Running, name: str, **labels: str) -> float:
    """Return the sum of what a family has counted under some labels."""
    found = samples(b"".join(expose(running.sidecar.runtime.metrics.families()))).get(name, {})
    return sum(value for at, value in found.items() if labels.items() <= set(at))


async def test_a_request_s_headers_are_edited(api: Generation) -> None:
    """The application sees the edited ones; who called is not the policy's to say."""
    edits = HeaderModifier(
        set=(("X-Set", "new"), ("l5d-client-id", "forged")), add=(("X-Add", "1"),), remove=("Host",)
    )
    async with served(api, filtering(RequestHeaders(edits))) as (_, caller):
        reply = await caller.get("/old")
        lines = reply.body.lower().split(b"\r\n")
        assert {b"x-set: new", b"x-add: 1", b"host: api.shop:8080"} <= set(lines)
        assert b"l5d-client-id" not in reply.body


async def test_a_redirect_is_answered_by_the_sidecar(api: Generation) -> None:
    """With every field; counted as let in and answered 302, and the connection goes on."""
    redirect = Redirect(
        scheme="https",
        host="new.example",
        port=8443,
        path=PathRewrite(PathRewriteKind.PREFIX, "/new"),
    )
    async with served(api, filtering(redirect)) as (running, caller):
        for method in ("GET", "HEAD"):
            reply = await caller.get("/old/a?b=c", method)
            assert reply.status == 302
            assert reply.headers["location"] == "https://new.example:8443/new/a?b=c"
        assert (await caller.get("/other")).status == 404
        allowed = "inbound_http_authz_allow_total"
        assert counted(running, allowed, route_name="r", srv_name="srv") == 2
        assert counted(running, "inbound_http_statuses_total", status="302") == 2
        assert counted(running, "inbound_http_route_not_found_total", srv_name="srv") == 1


async def test_a_redirect_comes_after_the_decision(api: Generation) -> None:
    """Who may not call learns nothing of where it went."""
    policy = replace(filtering(Redirect()), authorizations=AUTHENTICATED.authorizations)
    async with served(api, policy) as (_, caller):
        reply = await caller.get("/old")
        assert (reply.status, "location" in reply.headers) == (403, False)


async def test_a_redirect_is_not_counted_by_the_rate_limit(api: Generation) -> None:
    """Only what goes to the application is (filters run before it)."""
    limit = RateLimit(metadata=replace(POLICY, kind="HTTPLocalRateLimitPolicy"), total=1)
    policy = replace(filtering(Redirect()), rate_limit=limit)
    async with served(api, policy) as (running, caller):
        assert [(await caller.get("/old")).status for _ in range(3)] == [302] * 3
        publish(running, replace(filtering(), rate_limit=limit))
        assert [(await caller.get("/old")).status for _ in range(2)] == [200, 429]
        limited = "inbound_http_local_ratelimit_total"
        assert counted(running, limited, ratelimit_name="tried", ratelimit_scope="total") == 1


@pytest.mark.parametrize(
    ("filter_", "code", "said"),
    [
        (FailureInjector(status=418, message="tea"), "injected", "tea"),
        (InvalidFilter("no such filter"), "filter-invalid", "invalid server policy: no such"),
    ],
)
async def test_a_filter_that_fails_is_500(
    web: Generation, api: Generation, filter_: Filter, code: str, said: str
) -> None:
    """Meshed clients are told why; it is counted, and the connection goes on."""
    control = Control(Watch(api), policy=filtering(filter_))
    async with (
        serve(hello) as app,
        run_pair(web, api, app, server_control=control) as pair,
        calling(pair.entry) as caller,
    ):
        assert (await caller.get("/old")).status == 500
        assert (await caller.get("/old")).status == 500
        failed = (await pair.server.until_event("request failed"))["reason"]
        assert said in failed
        assert counted(pair.server, "inbound_http_errors_total", error=code) == 2


async def test_an_open_connection_follows_policy_by_the_request(api: Generation) -> None:
    """Denied, admitted again, opaque (404), invalid (403): always on the same connection."""
    async with served(api, OPEN) as (running, caller):
        assert (await caller.get()).status == 200
        for policy, status in (
            (AUTHENTICATED, 403),
            (OPEN, 200),
            (replace(OPEN, protocol=Protocol.OPAQUE), 404),
            (filtering(), 404),
            (replace(OPEN, invalid="it cannot be read"), 403),
            (OPEN, 200),
        ):
            publish(running, policy)
            assert (await caller.get()).status == status
        assert len(running.sidecar.runtime.connections) == 1
        assert counted(running, "inbound_tcp_authz_terminate_total") == 0
        assert [each["code"] for each in running.events("request denied")] == [
            "unauthorized",
            "route-not-found",
            "route-not-found",
            "policy-invalid",
        ]


async def test_what_has_become_opaque_is_bytes_for_who_comes_anew(api: Generation) -> None:
    """The kind of a connection is settled when it begins."""
    async with served(api, OPEN) as (running, caller):
        assert (await caller.get()).status == 200
        publish(running, replace(OPEN, protocol=Protocol.OPAQUE))
        raw = b"GET / HTTP/1.1\r\nhost: x\r\nx-raw:  two blanks\r\n\r\n"
        assert b"x-raw:  two blanks" in await exchange(running.config.inbound_listen, raw)
        assert (await caller.get()).status == 404


async def test_the_audit_policy_logs_what_it_lets_in(api: Generation) -> None:
    """One line a request, and for bytes the authorization in the connection's own."""
    audit = replace(OPEN, authorizations=(replace(OPEN.authorizations[0], metadata=AUDIT),))
    async with served(api, replace(audit, metadata=AUDIT)) as (running, caller):
        assert (await caller.get("/a")).status == 200
        (told,) = running.events("request allowed")
        assert (told["authorization"], told["server"]) == ("default:audit", "default:audit")
        assert (told["method"], told["path"], told["route"]) == ("GET", "/a", "default:default")
        assert (told["client_ip"], told["tls"], told["level"]) == ("127.0.0.1", "none", "info")
        publish(running, OPEN)
        assert (await caller.get("/b")).status == 200
        assert len(running.events("request allowed")) == 1
        allowed = "inbound_http_authz_allow_total"
        assert counted(running, allowed, authz_name="audit", authz_kind="default") == 1


async def test_policies_in_audit_mode_are_counted(web: Generation, api: Generation) -> None:
    """By request with its route, by connection without; the verdict is what it would be."""
    tried = replace(AUTHENTICATED.authorizations[0], metadata=POLICY, is_audit=True)
    control = Control(
        Watch(api), policy=replace(OPEN, authorizations=(*OPEN.authorizations, tried))
    )
    labels = {"authz_name": "tried", "authz_kind": "authorizationpolicy"}
    deny, allow = "pillion_inbound_audit_deny_total", "pillion_inbound_audit_allow_total"
    for app_kind, request, route in (
        (hello, b"GET / HTTP/1.0\r\nhost: x\r\n\r\n", "default"),
        (echo, b"\0bytes", ""),
    ):
        async with (
            serve(app_kind) as app,
            run_pair(web, api, app, server_control=control) as pair,
            run_sidecar(api, FixedCapture(app), ip="127.0.0.2", control=control) as plain,
        ):
            assert await exchange(plain.config.inbound_listen, request) != b""
            assert await exchange(pair.entry, request) != b""
            none = {**labels, "tls": "no_identity", "srv_name": "all-unauthenticated"}
            mesh = {**labels, "tls": "true", "client_id": web.identity.name}
            by_route = {"route_name": route} if route else {}
            assert counted(plain, deny, **none, **by_route) == 1
            assert counted(plain, allow) == 0
            assert counted(pair.server, allow, **mesh, **by_route) == 1
            assert counted(pair.server, deny) == 0


async def test_a_rate_limit_in_audit_mode_is_counted(api: Generation) -> None:
    """Nothing is refused; what would have been is told."""
    meta = replace(POLICY, kind="HTTPLocalRateLimitPolicy")
    limit = RateLimit(metadata=meta, total=2, is_audit=True)
    async with served(api, replace(OPEN, rate_limit=limit)) as (running, caller):
        assert [(await caller.get()).status for _ in range(3)] == [200] * 3
        labels = {"authz_name": "tried", "route_name": "default"}
        assert counted(running, "pillion_inbound_audit_deny_total", **labels) >= 1
        both = ("pillion_inbound_audit_deny_total", "pillion_inbound_audit_allow_total")
        assert sum(counted(running, each, **labels) for each in both) == 3


async def test_probes_come_in_without_identity(api: Generation) -> None:
    """Whatever the port demands of others; not beyond their path, nor by another method."""
    probe = default_metadata("probe")
    routes = (
        InboundRoute(metadata=default_metadata("default"), rules=(InboundRule(),)),
        InboundRoute(
            metadata=probe,
            authorizations=(replace(OPEN.authorizations[0], metadata=probe),),
            rules=(
                InboundRule(
                    matches=(HttpMatch(path=PathMatch(PathMatchKind.EXACT, "/live"), method="GET"),)
                ),
            ),
        ),
    )
    async with served(api, replace(AUTHENTICATED, routes=routes)) as (running, caller):
        assert (await caller.get("/live?full=1")).status == 200
        assert (await caller.get("/live/extra")).status == 403
        assert (await caller.get("/live", "POST")).status == 403
        labels = {"authz_name": "probe", "route_name": "probe", "tls": "no_identity"}
        assert counted(running, "inbound_http_authz_allow_total", **labels) == 1


@pytest.mark.parametrize("is_one_endpoint", [False, True], ids=["Service", "endpoint"])
async def test_no_request_leaves_in_plaintext_where_that_is_forbidden(
    web: Generation, is_one_endpoint: bool
) -> None:
    """Refused by name, never sent; a policy that turns strict counts for the next request."""
    target = Target("api.shop.svc.cluster.local", 80)
    heads: list[bytes] = []

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                heads.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async with serve(record) as app:
        endpoint = Endpoint(address=app)
        dispatcher = Forward(endpoint) if is_one_endpoint else Balancer(target=target)
        backend = Backend(metadata=default_metadata("b"), dispatcher=dispatcher)
        rule = OutboundRule(distribution=FirstAvailable((backend,)))
        route = OutboundRoute(metadata=default_metadata("r"), rules=(rule,))
        lenient = OutboundPolicy(metadata=default_metadata("api"), http1=(route,), http2=(route,))
        strict = replace(lenient, tls_mode=OutboundTls.REQUIRED)
        control = Control(Watch(web))
        watch: Watch[OutboundPolicy | None] = Watch(lenient)
        control.outbound_policies[CLUSTER_IP] = watch
        control.sets[target] = Watch(EndpointSet(endpoints=(endpoint,), exists=True))
        async with (
            run_client(web, control=control) as client,
            calling(client.config.outbound_listen) as caller,
        ):
            assert (await caller.get()).status == 200
            for policy, status in ((strict, 403), (strict, 403), (lenient, 200), (strict, 403)):
                watch.publish(policy)
                assert (await caller.get()).status == status
            assert counted(client, "outbound_http_errors_total", error="mtls-required") == 3
    assert len(heads) == 2


async def upgraded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Leave HTTP at the first request, and send back what comes."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n")
        while data := await reader.read(65_536):
            writer.write(data)
    writer.close()


@pytest.mark.parametrize(
    ("policy", "is_kept"),
    [
        (replace(OPEN, metadata=SERVER), True),
        (AUTHENTICATED, False),
        (filtering(prefix="/chat"), True),
        (filtering(prefix="/other"), False),
        (replace(OPEN, protocol=Protocol.OPAQUE), True),
        (replace(AUTHENTICATED, protocol=Protocol.OPAQUE), False),
        (replace(OPEN, invalid="it cannot be read"), False),
    ],
    ids=["open", "denied", "route", "no route", "opaque", "opaque, denied", "invalid"],
)
async def test_what_has_left_http_follows_policy_too(
    api: Generation, policy: ServerPolicy, is_kept: bool
) -> None:
    """An upgraded connection is cut as any other of bytes, when its request would be refused."""
    control = Control(Watch(api), policy=OPEN)
    async with (
        serve(upgraded) as app,
        run_sidecar(api, FixedCapture(app), ip="127.0.0.2", control=control) as running,
    ):
        address = running.config.inbound_listen
        reader, writer = await asyncio.open_connection(address.ip, address.port)
        ask = "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n"
        writer.write(ask.encode())
        async with asyncio.timeout(10):
            assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
            writer.write(b"one")
            assert await reader.readexactly(3) == b"one"
            publish(running, policy)
            if is_kept:
                writer.write(b"two")
                assert await reader.readexactly(3) == b"two"
            else:
                with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                    await reader.readexactly(1)
        terminated = counted(running, "inbound_tcp_authz_terminate_total", tls="no_identity")
        told = running.events("connection terminated due to policy change")
        assert (terminated, len(told)) == ((0, 0) if is_kept else (1, 1))
        writer.transport.abort()
        async with asyncio.timeout(10):
            while running.sidecar.runtime.connections:
                await asyncio.sleep(0.01)
        assert not any(watch.is_watched for watch in control.policies.values())


async def test_half_a_request_line_gets_past_no_route(api: Generation) -> None:
    """Silence behind ``GE`` makes bytes of a connection elsewhere; where routes decide it waits."""
    control = Control(Watch(api), policy=filtering(prefix="/only"))
    async with (
        serve(hello) as app,
        run_sidecar(api, FixedCapture(app), ip="127.0.0.2", control=control) as running,
    ):
        address = running.config.inbound_listen
        reader, writer = await asyncio.open_connection(address.ip, address.port)
        writer.write(b"GE")
        await asyncio.sleep(0.5)
        writer.write(b"T /other HTTP/1.1\r\nhost: api\r\n\r\n")
        async with asyncio.timeout(5):
            assert (await read_reply(reader)).status == 404
        writer.close()
