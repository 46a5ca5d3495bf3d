"""Requests towards the workload: each is decided, told who calls, carried to the application."""

from __future__ import annotations

from collections.abc import Callable
from random import random
from typing import Final, final

from core.errors import MeshError, RefusedError, UnreachableError
from core.watch import Watch
from discovery.model import Address, Labels
from policy.decide import decide_any, decide_connection, decide_request, reads_headers
from policy.limit import RateState, decide_rate
from policy.match import Request
from policy.model import Client, Permit, Protocol, RateLimit, Refusal, ServerPolicy, Verdict
from proxy.http.exchange import Case, Exchange, Service
from proxy.http.filter import filter_request
from proxy.http.pool import Http1Pool, Http2Pool, Pool
from proxy.inbound.journal import Journal, Record
from proxy.net.connection import Tallies
from proxy.net.inbox import Inbox
from proxy.net.stream import Stream
from proxy.runtime import Runtime
from proxy.telemetry.denial import facts_of, log_denial
from proxy.telemetry.http import InboundClient, InboundCounts
from proxy.telemetry.transport import Cache, SideSlots
from proxy.wire.http_field import Field, Fields
from proxy.wire.http_message import HTTP_2, Form, RequestHead, ResponseHead
from proxy.wire.native import without_fields
from proxy.wire.orig_proto_field import CLIENT_ID, FROM_SIDECARS

_CLIENT_ID_ONLY: Final = frozenset((CLIENT_ID,))
_AUTHORITY_FORM: Final = Form.AUTHORITY
REPEATABLE: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE"))
"""Methods that ask for nothing to be done (RFC 9110 §9.2.1)."""


@final
class AppPools:
    """The connections to the application, by its address and what it is spoken to in."""

    def __init__(self, runtime: Runtime, labels: Labels) -> None:
        self._runtime = runtime
        self._labels = labels
        self._slots: SideSlots | None = None
        self._pools: dict[tuple[str, int, bool], Pool] = {}
        self._targets: dict[Pool, Address] = {}
        self._tallies = Tallies()
        self.dropped = 0
        """Pools let go so far: what somebody has kept of ``of`` counts while there are no more."""
        runtime.ticker.add(self)
        runtime.on_end.append(self._tallies.abort)

    def of(self, target: Address, *, is_http2: bool) -> Pool:
        """Return the pool for an application's port."""
        key = (target.ip, target.port, is_http2)
        pool = self._pools.get(key)
        if pool is None:
            poller = self._runtime.poller
            pool = Http2Pool(poller, self) if is_http2 else Http1Pool(poller, self)
            self._pools[key] = pool
            self._targets[pool] = target
        return pool

    def dial(self, pool: Pool) -> None:
        """Connect to the application."""
        self._runtime.spawn(self._dial(pool))

    async def _dial(self, pool: Pool) -> None:
        runtime = self._runtime
        try:
            sock = await runtime.connector.connect(
                runtime.app(self._targets[pool]), runtime.limits.inbound_connect_s
            )
        except MeshError as error:
            pool.dial_failed(error)
            return
        except Exception as error:
            pool.dial_failed(UnreachableError(f"the dial broke: {error!r}", code="internal"))
            raise
        pool.dialled(Stream(runtime.poller, sock, Inbox(runtime.loop)))

    def far_opened(self, pool: Pool, stream: Stream) -> None:
        """Count a connection."""
        if self._slots is None:
            self._slots = SideSlots(self._runtime.metrics, self._labels)
        self._tallies.open(stream, self._slots)

    def far_closed(self, pool: Pool, stream: Stream, error: Exception | None) -> None:
        """Count its end."""
        self._tallies.close(stream, error)

    def on_tick(self, now: float) -> None:
        """Look after the pools, and count the ends of connections that had left HTTP."""
        for key, pool in list(self._pools.items()):
            pool.on_tick(now)
            if pool.is_idle:
                del self._pools[key]
                del self._targets[pool]
                self.dropped += 1
        self._tallies.on_tick()


@final
class InboundCase(Case):
    """Requests that were let in; one alone where there is a record of it."""

    __slots__ = ("_is_repeated", "_service", "counts", "pool", "record")

    def __init__(
        self,
        service: InboundRequests,
        pool: Pool,
        counts: InboundCounts,
        record: Record | None,
        *,
        is_repeated: bool = False,
    ) -> None:
        self._service = service
        self.pool: Final = pool
        self.counts: Final = counts
        self.record: Final = record
        self._is_repeated = is_repeated

    def on_response(self, exchange: Exchange, head: ResponseHead) -> ResponseHead:
        """Pass the application's head on as it is, but for what only sidecars say."""
        if self.record is not None:
            self.record.answered()
        if exchange.is_riding:
            # It is taken off as the answer rides back.
            return head
        fields = without_fields(head.fields, FROM_SIDECARS)
        return head if fields is head.fields else head.with_fields(fields)

    def on_failure(self, exchange: Exchange, error: MeshError, *, reused: bool) -> bool:
        """Repeat what met a connection that had died while idle, or was refused unread."""
        if self._is_repeated or not exchange.is_whole:
            return False
        is_unread = error.code == "http2-refused"
        if not is_unread and not (reused and exchange.head.method in REPEATABLE):
            return False
        record = self.record
        if record is not None:
            record.attempts += 1
        exchange.case = InboundCase(self._service, self.pool, self.counts, record, is_repeated=True)
        self.pool.carry(exchange)
        return True

    def on_done(self, exchange: Exchange, error: MeshError | None) -> None:
        """Count it."""
        code = "" if error is None else error.code
        now = exchange.over_at
        first = exchange.first_at if exchange.first_at >= 0 else now
        self.counts.response(
            (exchange.status, exchange.grpc_status, code),
            first - exchange.began,
            now - exchange.began,
            now - exchange.ended_at,
        )
        if self.record is not None:
            self.record.write(exchange, code)
        if error is not None:
            self._service.failed(error)


@final
class InboundRequests(Service):
    """The requests of one client's connection."""

    __slots__ = (
        "_any",
        "_asked",
        "_client",
        "_counts",
        "_cut",
        "_forget",
        "_given",
        "_http1",
        "_http1_dropped",
        "_identity",
        "_journal",
        "_limit",
        "_log",
        "_plain",
        "_plain_case",
        "_policy",
        "_pools",
        "_read_for",
        "_reads_headers",
        "_target",
    )

    def __init__(
        self,
        runtime: Runtime,
        policy: Watch[ServerPolicy],
        client: Client,
        target: Address,
        pools: AppPools,
        counts: InboundClient,
        limits: RateLimits,
        journal: Journal | None,
    ) -> None:
        self._log = runtime.log
        self._journal = journal
        self._policy = policy
        self._client = client
        self._target = target
        self._pools = pools
        self._counts = counts
        self._limit = limits
        self._identity: Field | None = None
        if client.identity is not None:
            self._identity = (CLIENT_ID, client.identity.name.encode("ascii"))
        self._given: Fields = () if self._identity is None else (self._identity,)
        self._read_for: ServerPolicy | None = None
        self._reads_headers = False
        self._any: Verdict | None = None
        """What the policy says of all requests of this client alike; None: that depends."""
        self._plain: Permit | None = None
        """The same, where it lets them in as they are, and there is nothing more to it."""
        self._plain_case: InboundCase | None = None
        """That of the last request without gRPC that it let in, and most often of the next."""
        self._http1: Pool | None = None
        """Where requests go on in HTTP/1, while so many pools have been dropped."""
        self._http1_dropped = 0
        self._asked: RequestHead | None = None
        """The request that asked to leave HTTP, last."""
        self._cut: Callable[[MeshError], None] | None = None
        self._forget: Callable[[], None] | None = None

    def begin(self, exchange: Exchange) -> None:
        """Decide about a request, and carry it to the application or refuse it."""
        head = exchange.head
        exchange.informs = self._identity is not None
        policy = self._policy.current
        if policy is not self._read_for:
            self._read(policy)
        plain = self._plain
        if plain is not None and self._journal is None and not exchange.is_grpc:
            pool = self._pool_for(exchange)
            case = self._plain_case
            if case is None or case.pool is not pool:
                counts = self._counts.permitted(plain, is_grpc=False)
                case = self._plain_case = InboundCase(self, pool, counts, None)
            self._carry(exchange, head, case)
            return
        verdict = self._any
        if verdict is None:
            verdict = decide_request(policy, self._client, self._as_matched(head))
        going: RequestHead | ResponseHead | RefusedError = head
        if isinstance(verdict, Permit):
            if verdict.filters:
                going = _filtered(exchange, verdict)
            if policy.rate_limit is not None and isinstance(going, RequestHead):
                state = self._limit.of(policy.rate_limit)
                verdict = decide_rate(state, verdict, self._client.identity, exchange.began)
        if verdict.audits:
            self._counts.audited(verdict)
        journal = self._journal
        record = None if journal is None else journal.begin(head, verdict)
        if isinstance(verdict, Refusal):
            self._refuse(exchange, verdict)
            if record is not None:
                record.write(exchange, verdict.code)
            return
        if verdict.is_audit:
            self._log_allowed(head, verdict)
        counts = self._counts.permitted(verdict, is_grpc=exchange.is_grpc)
        case = InboundCase(self, self._pool_for(exchange), counts, record)
        if isinstance(going, RequestHead):
            self._carry(exchange, going, case)
        else:
            counts.request()
            exchange.case = case
            _settle(exchange, going)

    def _carry(self, exchange: Exchange, going: RequestHead, case: InboundCase) -> None:
        """Send a request on that was let in, told who asks."""
        case.counts.request()
        exchange.case = case
        head = exchange.head
        if head.upgrade or head.form is _AUTHORITY_FORM:
            self._asked = head
        if exchange.is_riding:
            # It is told when it alights, which makes its fields anew in any case.
            exchange.client_id = self._given
        else:
            fields = without_fields(going.fields, _CLIENT_ID_ONLY)
            if self._given:
                fields += self._given
            going = going if fields is going.fields else going.with_fields(fields)
        exchange.head = going
        if case.record is not None:
            case.record.carried()
        case.pool.carry(exchange)

    def _pool_for(self, exchange: Exchange) -> Pool:
        """Return the connections that carry a request like this one."""
        if exchange.head.version == HTTP_2 and not exchange.is_riding:
            return self._pools.of(self._target, is_http2=True)
        pool = self._http1
        if pool is None or self._http1_dropped != self._pools.dropped:
            self._http1 = pool = self._pools.of(self._target, is_http2=False)
            self._http1_dropped = self._pools.dropped
        return pool

    def _read(self, policy: ServerPolicy) -> None:
        """Find out once what need not be found out for each request."""
        self._read_for = policy
        self._reads_headers = reads_headers(policy)
        verdict = decide_any(policy, self._client)
        self._any = verdict
        self._plain = None
        self._plain_case = None
        if isinstance(verdict, Permit) and policy.rate_limit is None:
            is_bare = not verdict.filters and not verdict.audits and not verdict.is_audit
            self._plain = verdict if is_bare else None

    def _as_matched(self, head: RequestHead) -> Request:
        """Return what the routes look at; fields only where one of them does."""
        path, _, query = head.path.decode("latin-1").partition("?")
        return Request(
            head.method.decode("ascii"),
            path,
            head.authority.decode("ascii"),
            query,
            head.fields if self._reads_headers else (),
        )

    def _refuse(self, exchange: Exchange, refusal: Refusal) -> None:
        self._counts.refused(refusal)
        self._log_refusal("request denied", exchange.head, refusal)
        exchange.fail(RefusedError(refusal.reason, code=refusal.code))

    def _log_refusal(self, event: str, head: RequestHead, refusal: Refusal) -> None:
        log_denial(
            self._log,
            event,
            refusal,
            self._client,
            self._target,
            direction="inbound",
            method=head.method,
            path=head.path,
        )

    def _log_allowed(self, head: RequestHead, permit: Permit) -> None:
        """Tell of a request that the default policy ``audit`` alone let in, as Linkerd does."""
        facts = facts_of(
            permit,
            self._client,
            self._target,
            direction="inbound",
            method=head.method,
            path=head.path,
        )
        self._log.info("request allowed", authorization=str(permit.authorization), **facts)

    def refused(self, code: str) -> None:
        """Count a message that breaks the protocol's rules."""
        self._counts.failed(code, self._policy.current.metadata)

    def left_http(self, cut: Callable[[MeshError], None]) -> None:
        """Follow policy while the connection carries bytes, as any other that does."""
        self._cut = cut
        self._forget = self._policy.subscribe(self._decide_again)
        if self._policy.current is not self._read_for:
            # It changed after the request was let in.
            self._decide_again(self._policy.current)

    def ended(self) -> None:
        """Follow policy no more, and let go of what knows this, so that both are freed at once."""
        forget, self._forget, self._cut = self._forget, None, None
        self._plain_case = None
        if forget is not None:
            forget()

    def _decide_again(self, policy: ServerPolicy) -> None:
        """Cut a connection whose request to leave HTTP would not be let in any more."""
        head, cut = self._asked, self._cut
        if head is None or cut is None:
            return
        self._read(policy)
        if policy.protocol in {Protocol.OPAQUE, Protocol.TLS}:
            verdict = decide_connection(policy, self._client)
        else:
            verdict = decide_request(policy, self._client, self._as_matched(head))
        if isinstance(verdict, Refusal):
            self._counts.terminated(verdict)
            self._log_refusal("connection terminated due to policy change", head, verdict)
            cut(RefusedError(verdict.reason, code=verdict.code))

    def failed(self, error: MeshError) -> None:
        """Count and tell a request that was let in and could not be answered."""
        self._counts.failed(error.code, self._policy.current.metadata)
        self._log.debug(
            "request failed",
            direction="inbound",
            code=error.code,
            target=str(self._target),
            reason=str(error),
        )


def _settle(exchange: Exchange, given: ResponseHead | RefusedError) -> None:
    """Answer a request that a filter keeps from going on."""
    if isinstance(given, ResponseHead):
        exchange.answer(given)
    else:
        exchange.fail(given)


def _filtered(exchange: Exchange, permit: Permit) -> RequestHead | ResponseHead | RefusedError:
    """Return a request as it goes on, what answers it, or why it cannot go on."""
    try:
        return filter_request(
            permit.filters,
            permit.match,
            exchange.head,
            random(),  # noqa: S311  # which share of requests fails is no secret
            is_grpc=exchange.is_grpc,
            injects=False,
        )
    except RefusedError as error:
        return error


@final
class RateLimits:
    """How much of each rate limit is used; one limit is shared by all connections to its port."""

    def __init__(self, workers: int = 1) -> None:
        """Admit our share of each limit, as one of so many ``workers``."""
        self._workers = workers
        self._states: Cache[RateLimit, RateState] = Cache()

    def of(self, limit: RateLimit) -> RateState:
        """Return the state of a limit, full when it is new."""
        found = self._states.get(limit)
        return found or self._states.put(limit, RateState(limit, self._workers))
