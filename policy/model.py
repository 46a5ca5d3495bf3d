"""Compiled policy, in the shapes of the control API: frozen, one value per port or target.

Counterparts: ``io.linkerd.proxy.inbound.Server`` and ``io.linkerd.proxy.outbound.OutboundPolicy``.
A decision about a connection or request is a ``Permit`` or a ``Refusal``: evidence, never a
bare bool. Both say which rule spoke, so log, metrics and explanation use the same words.
"""

from __future__ import annotations

from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final, final

from core.record import dataclass
from discovery.model import Endpoint, Metadata, RetryBudget, Target, default_metadata
from identity.name import Identity
from policy.route import Filter, GrpcMatch, HostMatch, HttpMatch, SniMatch

Network = IPv4Network | IPv6Network

ALL_NETWORKS: Final[tuple[Network, ...]] = (ip_network("0.0.0.0/0"), ip_network("::/0"))
CLUSTER_NETWORKS: Final[tuple[Network, ...]] = tuple(
    ip_network(each)
    for each in ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8")
)
"""Linkerd's default ``clusterNetworks``."""
DETECT_TIMEOUT_S: Final = 10.0
"""Linkerd's detection timeout."""


class Protocol(Enum):
    """What a port speaks (``ProxyProtocol``)."""

    DETECT = "detect"
    HTTP1 = "http/1"
    HTTP2 = "http/2"
    GRPC = "grpc"
    OPAQUE = "opaque"
    TLS = "tls"


@final
@dataclass(frozen=True, slots=True)
class NetworkMatch:
    """Addresses in ``network`` and in none of ``exceptions``."""

    network: Network
    exceptions: tuple[Network, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class Unauthenticated:
    """Anyone, with or without TLS."""


@final
@dataclass(frozen=True, slots=True)
class TlsUnauthenticated:
    """Mesh TLS terminated by us, with or without a client identity."""


@final
@dataclass(frozen=True, slots=True)
class TlsAuthenticated:
    """A client identity that is listed or ends in a listed suffix.

    A suffix is a tuple of labels; the empty one stands for any DNS identity. URIs match only
    exactly (linkerd2-proxy, server-policy/src/authz.rs).
    """

    identities: frozenset[Identity] = frozenset()
    suffixes: tuple[tuple[str, ...], ...] = ()


Authentication = Unauthenticated | TlsUnauthenticated | TlsAuthenticated


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """Admits a client whose address is in a network and whose authentication satisfies."""

    metadata: Metadata
    networks: tuple[NetworkMatch, ...]
    authentication: Authentication
    is_audit: bool = False
    """Evaluated and counted, never enforced (annotation ``pillion.dev/mode: audit``)."""
    note: str = ""
    """What a person should know of it when it speaks."""


class RouteKind(Enum):
    """What kind of requests a route is for."""

    HTTP = "http"
    GRPC = "grpc"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class InboundRule:
    """One rule of a route attached to a Server."""

    matches: tuple[HttpMatch | GrpcMatch, ...] = ()
    filters: tuple[Filter, ...] = ()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class InboundRoute:
    """A route attached to a Server, with the authorizations that are its own."""

    metadata: Metadata
    kind: RouteKind = RouteKind.HTTP
    hosts: tuple[HostMatch, ...] = ()
    authorizations: tuple[Authorization, ...] = ()
    denials: tuple[Authorization, ...] = ()
    """DenyPolicy on this route alone."""
    rules: tuple[InboundRule, ...] = ()
    void: tuple[Attempt, ...] = ()
    """Authorizations of this route that cannot be used, and why: they admit nobody."""


@final
@dataclass(frozen=True, slots=True)
class RateLimitOverride:
    """A rate shared by the named clients."""

    requests_per_second: int
    clients: frozenset[Identity]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """``HttpLocalRateLimit``: requests per second; None is no limit."""

    metadata: Metadata
    total: int | None = None
    identity: int | None = None
    overrides: tuple[RateLimitOverride, ...] = ()
    is_audit: bool = False
    """Counted, never enforced."""


DEFAULT_ROUTE: Final = default_metadata("default")
"""Every request, where no route is attached."""
PROBE: Final = default_metadata("probe")
"""The route of the kubelet's probes, and the authorization on it."""
AUDIT: Final = default_metadata("audit")
"""The authorization of the default policy ``audit``: admits everyone, and is logged."""
LOCALHOST: Final = Authorization(
    metadata=default_metadata("localhost"),
    networks=(
        NetworkMatch(ip_network("127.0.0.1/32")),
        NetworkMatch(ip_network("::1/128")),
    ),
    authentication=Unauthenticated(),
)
"""What the proxy adds to every policy (linkerd2-proxy, server-policy/src/lib.rs)."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPolicy:
    """Everything that decides about one inbound port (``inbound.Server``)."""

    metadata: Metadata
    protocol: Protocol = Protocol.DETECT
    detect_timeout_s: float = DETECT_TIMEOUT_S
    authorizations: tuple[Authorization, ...] = ()
    localhost: Authorization | None = LOCALHOST
    """Whom the pod itself calls from: tried last, and never denied. None only before any policy
    is known (Linkerd adds none to the proxy's own default)."""
    denials: tuple[Authorization, ...] = ()
    """DenyPolicy: beats every authorization but ``localhost`` and probes."""
    void: tuple[Attempt, ...] = ()
    """Authorizations that cannot be used, and why: they admit nobody."""
    routes: tuple[InboundRoute, ...] = ()
    rate_limit: RateLimit | None = None
    invalid: str = ""
    """Why the policy cannot be used; then it refuses everyone."""


class OutboundTls(Enum):
    """Whether an endpoint without identity may be dialled (``pillion.dev/outbound-mtls``)."""

    OPPORTUNISTIC = "opportunistic"
    REQUIRED = "required"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """``ExponentialBackoff``, in seconds; the defaults are for retries."""

    min_s: float = 0.025
    max_s: float = 0.25
    jitter: float = 1.0
    respect_retry_after: bool = False


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PeakEwma:
    """Load by peak-EWMA latency, in seconds."""

    default_rtt_s: float = 0.03
    decay_s: float = 10.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PenaltyPeakEwma:
    """Peak-EWMA that also counts failures as latency."""

    default_rtt_s: float = 0.03
    decay_s: float = 10.0
    penalty_s: float = 5.0
    max_retry_after_s: float = 300.0
    penalty_decay_s: float = 10.0


@final
@dataclass(frozen=True, slots=True)
class Queue:
    """How many wait for an endpoint, and for how long (seconds)."""

    capacity: int = 100
    failfast_timeout_s: float = 3.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Balancer:
    """``BalanceP2c``: the endpoints of ``target``, chosen by load."""

    target: Target
    load: PeakEwma | PenaltyPeakEwma = PeakEwma()


@final
@dataclass(frozen=True, slots=True)
class Forward:
    """One endpoint, dialled as it stands."""

    endpoint: Endpoint


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """Where a route's requests go; without dispatcher they fail with 502."""

    metadata: Metadata
    dispatcher: Balancer | Forward | None
    queue: Queue = Queue()
    filters: tuple[Filter, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class WeightedBackend:
    """A backend and its share."""

    backend: Backend
    weight: int


@final
@dataclass(frozen=True, slots=True)
class FirstAvailable:
    """In order, the first that is ready."""

    backends: tuple[Backend, ...]


@final
@dataclass(frozen=True, slots=True)
class RandomAvailable:
    """By weight among those that are ready."""

    backends: tuple[WeightedBackend, ...]


@final
@dataclass(frozen=True, slots=True)
class NoBackends:
    """Nothing to send to."""


Distribution = FirstAvailable | RandomAvailable | NoBackends


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """In seconds; None is no bound."""

    request_s: float | None = None
    response_s: float | None = None
    idle_s: float | None = None
    backend_request_s: float | None = None


@final
@dataclass(frozen=True, slots=True)
class StatusRange:
    """HTTP statuses ``low`` to ``high``, both included."""

    low: int
    high: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """When and how often a request is made again."""

    max_retries: int = 1
    max_request_bytes: int = 65_536
    statuses: tuple[StatusRange, ...] = ()
    grpc_codes: frozenset[int] = frozenset()
    timeout_s: float | None = None
    backoff: Backoff = Backoff()
    on_reset: bool = False
    """A connection that breaks before the response is a reason too (Gateway API, GEP-1731)."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundRule:
    """One rule of a route attached to a Service."""

    matches: tuple[HttpMatch | GrpcMatch, ...] = ()
    filters: tuple[Filter, ...] = ()
    distribution: Distribution = NoBackends()
    timeouts: Timeouts = Timeouts()
    retry: Retry | None = None
    allow_l5d_request_headers: bool = False


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundRoute:
    """A route attached to a Service."""

    metadata: Metadata
    kind: RouteKind = RouteKind.HTTP
    hosts: tuple[HostMatch, ...] = ()
    rules: tuple[OutboundRule, ...] = ()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class OpaqueRoute:
    """Where connections go that carry bytes, or TLS of the given names."""

    metadata: Metadata
    snis: tuple[SniMatch, ...] = ()
    filters: tuple[Filter, ...] = ()
    distribution: Distribution = NoBackends()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ConsecutiveFailures:
    """Break after so many failures in a row."""

    max_failures: int = 7
    backoff: Backoff = Backoff(min_s=1.0, max_s=60.0, jitter=0.5)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class UnifiedFailures:
    """Break on a low success rate, or on failures in a row."""

    success_rate_threshold: float = 0.8
    decay_s: float = 10.0
    min_requests: int = 5
    max_consecutive_failures: int = 7
    backoff: Backoff = Backoff(min_s=1.0, max_s=60.0, jitter=0.5)


FailureAccrual = ConsecutiveFailures | UnifiedFailures


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundPolicy:
    """Everything that decides about one outbound target (``outbound.OutboundPolicy``).

    ``http1``, ``http2`` and ``grpc`` routes are those of the like-named protocols; with
    ``DETECT`` the http1 or http2 ones and ``opaque`` are used by what is found.
    """

    metadata: Metadata
    protocol: Protocol = Protocol.DETECT
    detect_timeout_s: float = DETECT_TIMEOUT_S
    http1: tuple[OutboundRoute, ...] = ()
    http2: tuple[OutboundRoute, ...] = ()
    grpc: tuple[OutboundRoute, ...] = ()
    opaque: tuple[OpaqueRoute, ...] = ()
    tls: tuple[OpaqueRoute, ...] = ()
    failure_accrual: FailureAccrual | None = None
    retry_budget: RetryBudget | None = None
    safe_retries: bool = True
    """Whether what cannot do harm is retried without a rule that says so."""
    tls_mode: OutboundTls = OutboundTls.OPPORTUNISTIC


class ClientTls(Enum):
    """What the client's connection was, as labels name it."""

    MESH = "mesh"
    """Mesh TLS, terminated by us; there may be no client identity."""
    FOREIGN = "foreign"
    """TLS for another name, passed through."""
    NONE = "none"


@final
@dataclass(frozen=True, slots=True)
class Client:
    """The client of a connection, as evidence."""

    ip: str
    tls: ClientTls = ClientTls.NONE
    identity: Identity | None = None
    sni: str = ""
    """The server name of foreign TLS."""


class Clause(Enum):
    """The part of an authorization that a client can fail."""

    NETWORK = "network"
    TLS = "tls"
    IDENTITY = "identity"
    REFERENCE = "reference"
    """The authorization names something that does not exist, so it admits nobody."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An authorization that was tried, and the first clause of it that failed."""

    authorization: Metadata
    clause: Clause
    failed: str
    """What the clause wants, as a sentence about the caller."""


@final
@dataclass(frozen=True, slots=True)
class Audit:
    """What a policy in audit mode would have said, had it been enforced."""

    authorization: Metadata
    would_allow: bool


class LimitScope(Enum):
    """Which bucket was empty, as the metric's label says it."""

    TOTAL = "total"
    IDENTITY = "identity"
    """A client's own, or the one an override gives it."""


@final
@dataclass(frozen=True, slots=True)
class LimitHit:
    """A rate limit that was reached."""

    metadata: Metadata
    scope: LimitScope
    requests_per_second: int
    is_override: bool = False


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """Who let this through: the server, the route (requests only), the authorization."""

    server: Metadata
    authorization: Metadata
    route: Metadata | None = None
    match: HttpMatch | GrpcMatch | None = None
    """What the request matched; a redirect of its prefix needs it."""
    filters: tuple[Filter, ...] = ()
    """What the matched rule does to the request, after this and before any rate limit."""
    is_audit: bool = False
    """Only the default ``audit`` authorization admits it: to be logged."""
    audits: tuple[Audit, ...] = ()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Who said no and why; ``code`` is an error code of ``core.errors``."""

    code: str
    server: Metadata
    reason: str
    route: Metadata | None = None
    attempts: tuple[Attempt, ...] = ()
    denial: Metadata | None = None
    """The DenyPolicy that spoke, if one did."""
    limit: LimitHit | None = None
    """The rate limit that was reached, if one was."""
    audits: tuple[Audit, ...] = ()
    hint: str = ""


Verdict = Permit | Refusal
