"""What discovery says about a destination, in the shapes of the control API.

Counterparts: ``io.linkerd.proxy.destination`` (WeightedAddr, DestinationProfile, Update) and
``io.linkerd.proxy.meta``. Every value is frozen; lists are tuples, maps are sorted pairs, so
that two equal states compare and hash equal.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, final

from core.record import dataclass
from identity.name import Identity

DEFAULT_WEIGHT: Final = 10_000
"""What Linkerd's destination controller gives every endpoint."""

Labels = tuple[tuple[str, str], ...]
"""Metric labels, sorted by key."""


@final
@dataclass(frozen=True, slots=True)
class Address:
    """An IP address in its shortest text form, and a port (1 to 65535)."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


@final
@dataclass(frozen=True, slots=True)
class Metadata:
    """What a value was made from: a resource, or a default of the given name.

    ``kind`` is ``default`` for defaults (group empty); otherwise the resource's kind in the
    case its resource has.
    """

    kind: str
    name: str
    group: str = ""
    namespace: str = ""
    section: str = ""
    port: int = 0

    def __str__(self) -> str:
        if self.kind == "default":
            return f"default:{self.name}"
        kind = f"{self.group}/{self.kind}" if self.group else self.kind
        return f"{kind}/{self.name}"


def default_metadata(name: str) -> Metadata:
    """Return the metadata of something no resource stands behind."""
    return Metadata(kind="default", name=name)


class Hint(Enum):
    """What the far sidecar can be spoken to with (``ProtocolHint.protocol``)."""

    UNKNOWN = "unknown"
    H2 = "h2"
    OPAQUE = "opaque"


class PathKind(Enum):
    """How an endpoint is reached."""

    LOCAL = "local"
    """In this cluster."""
    DIRECT = "direct"
    """In another cluster, dialled at the pod's own address."""
    GATEWAY = "gateway"
    """In another cluster, through its gateway."""


@final
@dataclass(frozen=True, slots=True)
class Path:
    """The way to an endpoint and whom to trust on it."""

    kind: PathKind = PathKind.LOCAL
    cluster: str = ""
    """The link's name; empty for this cluster."""
    trust_domain: str = ""
    """The domain whose anchors count on this path; empty: our own."""


LOCAL_PATH: Final = Path()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FlowControl:
    """``Http2ClientParams.FlowControl``: windows in bytes; None keeps the default."""

    initial_connection_window_size: int | None = None
    initial_stream_window_size: int | None = None
    adaptive: bool = False


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class KeepAlive:
    """``Http2ClientParams.KeepAlive``: pings, in seconds."""

    interval_s: float
    timeout_s: float
    while_idle: bool = False


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Internals:
    """``Http2ClientParams.Internals``: sizes in bytes; None keeps the default."""

    max_concurrent_reset_streams: int | None = None
    max_frame_size: int | None = None
    max_send_buf_size: int | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Http2Params:
    """``Http2ClientParams``: how to speak HTTP/2 to this endpoint."""

    flow_control: FlowControl | None = None
    keep_alive: KeepAlive | None = None
    internals: Internals | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One address that can be dialled (``WeightedAddr``)."""

    address: Address
    identity: Identity | None = None
    """Whom the far side must prove to be; None: plaintext."""
    server_name: str = ""
    """The SNI; empty: the identity's DNS name."""
    hint: Hint = Hint.UNKNOWN
    direct_port: int | None = None
    """The far sidecar's direct port (``opaque_transport.inbound_port``)."""
    authority_override: str = ""
    """``host:port`` a gateway is asked for."""
    http2: Http2Params | None = None
    weight: int = DEFAULT_WEIGHT
    labels: Labels = ()
    resource: Metadata | None = None
    zone: str = ""
    path: Path = LOCAL_PATH
    is_reserve: bool = False
    """In another zone or cluster: for us only when ours are not ready or overloaded."""

    @property
    def sni(self) -> str:
        """The server name to send; empty when there is none, and then no TLS."""
        if self.identity is None:
            return ""
        if self.server_name:
            return self.server_name
        return "" if self.identity.is_uri else self.identity.name


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSet:
    """All endpoints of a destination, ready ones only.

    ``exists`` is False when the destination itself is unknown (``NoEndpoints.exists``).
    """

    endpoints: tuple[Endpoint, ...] = ()
    reserve: tuple[Endpoint, ...] = ()
    """Meant for clients of other zones: for us only when ours are not ready, or overloaded."""
    exists: bool = True
    labels: Labels = ()


UNKNOWN_ENDPOINTS: Final = EndpointSet(exists=False)


@final
@dataclass(frozen=True, slots=True)
class PathRegex:
    """A request whose whole path matches."""

    regex: str


@final
@dataclass(frozen=True, slots=True)
class MethodIs:
    """A request with this method."""

    method: str


@final
@dataclass(frozen=True, slots=True)
class StatusIn:
    """A response whose status lies in ``low`` to ``high``, both included."""

    low: int
    high: int


@final
@dataclass(frozen=True, slots=True)
class AllOf:
    """Every condition holds (``Seq`` under ``all``)."""

    conditions: tuple[Condition, ...]


@final
@dataclass(frozen=True, slots=True)
class AnyOf:
    """One condition holds (``Seq`` under ``any``)."""

    conditions: tuple[Condition, ...]


@final
@dataclass(frozen=True, slots=True)
class Not:
    """The condition does not hold."""

    condition: Condition


Condition = PathRegex | MethodIs | StatusIn | AllOf | AnyOf | Not
"""A ServiceProfile's match: paths and methods on requests, statuses on responses."""


@final
@dataclass(frozen=True, slots=True)
class ResponseClass:
    """Responses that count as failures (or not)."""

    condition: Condition
    is_failure: bool


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileRoute:
    """One route of a ServiceProfile."""

    condition: Condition
    response_classes: tuple[ResponseClass, ...] = ()
    labels: Labels = ()
    is_retryable: bool = False
    timeout_s: float | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RetryBudget:
    """Retries as a share of requests; defaults are Linkerd's."""

    retry_ratio: float = 0.2
    min_retries_per_second: int = 10
    ttl_s: float = 10.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedDestination:
    """One leg of a ServiceProfile's split."""

    authority: str
    weight: int
    backend: Metadata | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What is known of a destination besides its endpoints (``DestinationProfile``)."""

    fully_qualified_name: str = ""
    opaque_protocol: bool = False
    routes: tuple[ProfileRoute, ...] = ()
    retry_budget: RetryBudget | None = None
    destination_overrides: tuple[WeightedDestination, ...] = ()
    endpoint: Endpoint | None = None
    """Set when the destination is one address, not a service."""
    parent: Metadata | None = None
    profile: Metadata | None = None


EMPTY_PROFILE: Final = Profile()


@final
@dataclass(frozen=True, slots=True)
class Target:
    """A name and port to be resolved (``GetDestination.path``), or an address as it stands."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"
