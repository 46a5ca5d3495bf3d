"""Routes as values: matches and filters that inbound and outbound policies share.

Counterparts: ``io.linkerd.proxy.http_route``, ``grpc_route``, ``tls_route``, ``opaque_route``,
``http_types``. Filters that the control API lacks (URL rewrite, mirror, CORS) follow the
Gateway API's own fields.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, final

from core.record import dataclass
from discovery.model import Metadata, Target

DEFAULT_REDIRECT_STATUS: Final = 302
"""What the route CRDs default a redirect's status to."""


@final
@dataclass(frozen=True, slots=True)
class HostMatch:
    """A request's host: exact, or one or more labels in front of ``name``."""

    name: str
    is_suffix: bool = False


class PathMatchKind(Enum):
    """How a path is compared (Gateway API PathMatchType)."""

    EXACT = "Exact"
    PREFIX = "PathPrefix"
    REGEX = "RegularExpression"


@final
@dataclass(frozen=True, slots=True)
class PathMatch:
    """A request's path."""

    kind: PathMatchKind
    value: str


ANY_PATH: Final = PathMatch(PathMatchKind.PREFIX, "/")


@final
@dataclass(frozen=True, slots=True)
class HeaderMatch:
    """A header whose value equals, or wholly matches a regular expression."""

    name: str
    value: str
    is_regex: bool = False


@final
@dataclass(frozen=True, slots=True)
class QueryMatch:
    """A query parameter whose value equals, or wholly matches a regular expression."""

    name: str
    value: str
    is_regex: bool = False


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class HttpMatch:
    """One alternative of a rule; all of its parts must hold. Without parts it matches all."""

    path: PathMatch | None = None
    headers: tuple[HeaderMatch, ...] = ()
    query: tuple[QueryMatch, ...] = ()
    method: str = ""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcMatch:
    """A gRPC call; an empty service or method stands for any."""

    service: str = ""
    method: str = ""
    is_regex: bool = False
    headers: tuple[HeaderMatch, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class SniMatch:
    """A TLS server name: exact, or one or more labels in front of ``name``."""

    name: str
    is_suffix: bool = False


Headers = tuple[tuple[str, str], ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderModifier:
    """Header edits: ``set`` replaces, ``add`` appends, ``remove`` drops."""

    set: Headers = ()
    add: Headers = ()
    remove: tuple[str, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class RequestHeaders:
    """Edit the request's headers."""

    modifier: HeaderModifier


@final
@dataclass(frozen=True, slots=True)
class ResponseHeaders:
    """Edit the response's headers."""

    modifier: HeaderModifier


class PathRewriteKind(Enum):
    """What part of a path is replaced."""

    FULL = "ReplaceFullPath"
    PREFIX = "ReplacePrefixMatch"


@final
@dataclass(frozen=True, slots=True)
class PathRewrite:
    """Replace the whole path or the matched prefix."""

    kind: PathRewriteKind
    value: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """Answer with a redirect; empty parts keep the request's."""

    scheme: str = ""
    host: str = ""
    path: PathRewrite | None = None
    port: int | None = None
    status: int = DEFAULT_REDIRECT_STATUS


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class UrlRewrite:
    """Send the request with another host or path."""

    host: str = ""
    path: PathRewrite | None = None


@final
@dataclass(frozen=True, slots=True)
class Ratio:
    """How often something is done."""

    numerator: int
    denominator: int = 100


ALWAYS: Final = Ratio(1, 1)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FailureInjector:
    """Answer with a failure: an HTTP status, or a gRPC code where ``is_grpc``."""

    status: int
    message: str = ""
    ratio: Ratio = ALWAYS
    is_grpc: bool = False


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """Send a copy of the request elsewhere and forget its response."""

    target: Target
    backend: Metadata
    ratio: Ratio = ALWAYS


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Cors:
    """Cross-origin rules (Gateway API HTTPCORSFilter)."""

    allow_origins: tuple[str, ...] = ()
    allow_credentials: bool = False
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age_s: int = 5


@final
@dataclass(frozen=True, slots=True)
class InvalidFilter:
    """A filter that cannot be carried out: requests fail and say why."""

    message: str


@final
@dataclass(frozen=True, slots=True)
class ForbiddenFilter:
    """Connections on this route are closed (undeclared ports, denied egress)."""


Filter = (
    RequestHeaders
    | ResponseHeaders
    | Redirect
    | UrlRewrite
    | FailureInjector
    | Mirror
    | Cors
    | InvalidFilter
    | ForbiddenFilter
)
