"""Routes as manifests have them: HTTPRoute of both groups, and GRPCRoute.

Values only; fields that the manifest leaves out have their defaults (Gateway API v1). What is
attached where, and what of it can be carried out, is not decided here.
"""

from __future__ import annotations

from typing import Final, final

from core.record import dataclass
from resources.kind import Meta


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ParentRef:
    """What a route wants to be attached to."""

    group: str
    kind: str
    namespace: str
    name: str
    section: str = ""
    port: int | None = None

    @property
    def is_service(self) -> bool:
        """Whether it is a Service: the route is for who calls it."""
        return (self.group, self.kind) == ("", "Service")


@final
@dataclass(frozen=True, slots=True)
class PathCondition:
    """A path; ``type`` is Exact, PathPrefix or RegularExpression."""

    type: str
    value: str


ROOT_PREFIX: Final = PathCondition("PathPrefix", "/")


@final
@dataclass(frozen=True, slots=True)
class ValueCondition:
    """A header or query parameter with a value, or a whole value's expression."""

    name: str
    value: str
    is_regex: bool = False


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCondition:
    """One match of an HTTPRoute's rule."""

    path: PathCondition = ROOT_PREFIX
    headers: tuple[ValueCondition, ...] = ()
    query: tuple[ValueCondition, ...] = ()
    method: str = ""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CallCondition:
    """One match of a GRPCRoute's rule; empty parts stand for any."""

    service: str = ""
    method: str = ""
    is_regex: bool = False
    headers: tuple[ValueCondition, ...] = ()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderEdit:
    """RequestHeaderModifier, or ResponseHeaderModifier (``is_response``)."""

    is_response: bool = False
    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class PathEdit:
    """A path modifier: ReplaceFullPath or ReplacePrefixMatch."""

    type: str
    value: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RedirectFilter:
    """RequestRedirect; empty parts keep the request's."""

    scheme: str = ""
    hostname: str = ""
    path: PathEdit | None = None
    port: int | None = None
    status: int = 302


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RewriteFilter:
    """URLRewrite."""

    hostname: str = ""
    path: PathEdit | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorFilter:
    """RequestMirror: ``numerator`` of ``denominator`` requests are copied."""

    backend: BackendRef
    numerator: int = 1
    denominator: int = 1


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CorsFilter:
    """CORS (HTTPCORSFilter)."""

    allow_origins: tuple[str, ...] = ()
    allow_credentials: bool = False
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age_s: int = 5


@final
@dataclass(frozen=True, slots=True)
class UnknownFilter:
    """A filter that nobody here can carry out: ExtensionRef, ExternalAuth."""

    type: str


RouteFilter = (
    HeaderEdit | RedirectFilter | RewriteFilter | MirrorFilter | CorsFilter | UnknownFilter
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BackendRef:
    """Where requests go; ``port`` is the Service's."""

    group: str = ""
    kind: str = "Service"
    namespace: str
    name: str
    port: int | None = None
    weight: int = 1
    filters: tuple[RouteFilter, ...] = ()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRetry:
    """``retry`` of a rule: statuses, retries after the first try, wait in seconds."""

    codes: tuple[int, ...] = ()
    attempts: int | None = None
    backoff_s: float | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRule:
    """One rule; timeouts in seconds, None: not given, 0: none at all."""

    name: str = ""
    matches: tuple[HttpCondition, ...] | tuple[CallCondition, ...] = ()
    filters: tuple[RouteFilter, ...] = ()
    backends: tuple[BackendRef, ...] = ()
    request_timeout_s: float | None = None
    backend_timeout_s: float | None = None
    retry: RouteRetry | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """An HTTPRoute of either group, or a GRPCRoute: ``meta.key`` says which."""

    meta: Meta
    parents: tuple[ParentRef, ...] = ()
    hostnames: tuple[str, ...] = ()
    rules: tuple[RouteRule, ...] = ()

    @property
    def is_grpc(self) -> bool:
        """Whether it is a GRPCRoute."""
        return self.meta.key.kind == "GRPCRoute"
