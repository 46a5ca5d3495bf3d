"""The one matcher of requests and routes, with the two precedences there are.

Routes attached to a Server rank by Linkerd's order (linkerd2-proxy, http/route): host (exact
over suffix over none, longer first), number of path characters matched, number of headers, of
query parameters, whether there is a method; then the list's order. Routes attached to a Service
rank by the Gateway API's (HTTPRouteMatch): host, exact path over expression over prefix, longer
prefixes first, method, headers, query parameters; then the list's order. Where that leaves the
place of expressions open, an expression goes before every prefix. gRPC ranks the same in both:
service, method, headers.

A table finds the few alternatives a request can mean by hashing: its host, its path, and each
of the path's prefixes; so a thousand routes cost what one costs. Paths are compared as they
stand on the wire, without their query; nothing is decoded or normalized. No I/O here; this
module is compiled.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final, Protocol, final
from urllib.parse import unquote_plus

from core.record import dataclass
from policy.route import (
    GrpcMatch,
    HeaderMatch,
    HostMatch,
    HttpMatch,
    PathMatch,
    PathMatchKind,
    QueryMatch,
)
from resources.regex import Regex, literal_prefix

MAX_HOST: Final = 255
"""Longer hosts have no labels worth walking (RFC 1035 section 2.3.4)."""
MAX_QUERY_FIELDS: Final = 1024
"""Query parameters past these are not seen by matches."""

_ORDER_BITS: Final = 32


class Precedence(Enum):
    """Whose order ranks routes that match alike."""

    LINKERD = "linkerd"
    """Routes attached to a Server."""
    GATEWAY_API = "gateway-api"
    """Routes attached to a Service."""


@final
@dataclass(slots=True)
class Request:
    """What matching looks at; header names in any case."""

    method: str
    path: str
    """Without query, as it stands on the wire."""
    host: str = ""
    """The authority; a port in it is ignored."""
    query: str = ""
    headers: Sequence[tuple[bytes, bytes]] = ()


class MatchableRule(Protocol):
    """A rule of a route, of either direction."""

    @property
    def matches(self) -> tuple[HttpMatch | GrpcMatch, ...]:
        """The alternatives; none: every request."""
        ...


class Matchable(Protocol):
    """A route, of either direction."""

    @property
    def hosts(self) -> tuple[HostMatch, ...]:
        """The hosts it is for; none: every host."""
        ...

    @property
    def rules(self) -> Sequence[MatchableRule]:
        """Its rules."""
        ...


@final
class Alternative:
    """One way for a request to mean a rule: where the rule is, and what must hold."""

    __slots__ = ("grpc", "headers", "http", "method", "order", "query", "rank", "route", "rule")

    def __init__(
        self,
        route: int,
        rule: int,
        order: int,
        match: HttpMatch | GrpcMatch | None,
        precedence: Precedence,
    ) -> None:
        """Prepare a match. Raises ResourceError for an expression that cannot be used."""
        self.route: Final = route
        """Index in the table's routes."""
        self.rule: Final = rule
        """Index in the route's rules."""
        self.order: Final = order
        """Its place among all alternatives of the table."""
        self.rank: Final = _rank(match, order, precedence)
        """Greater wins among alternatives whose hosts and paths match alike."""
        self.http: Final = match if isinstance(match, HttpMatch) else None
        self.grpc: Final = match if isinstance(match, GrpcMatch) else None
        self.method: Final = match.method if isinstance(match, HttpMatch) else ""
        self.headers: Final = [Field(each) for each in match.headers] if match else []
        self.query: Final = (
            [Field(each) for each in match.query] if isinstance(match, HttpMatch) else []
        )

    def holds(self, request: Request) -> bool:
        """Whether the parts besides host and path hold."""
        if self.method and self.method != request.method:
            return False
        if self.headers:
            for header in self.headers:
                if not header.in_headers(request.headers):
                    return False
        if self.query:
            for parameter in self.query:
                if not parameter.in_query(request.query):
                    return False
        return True


@final
class Field:
    """A header or query parameter that must be there with a value."""

    __slots__ = ("length", "name", "regex", "value")

    def __init__(self, match: HeaderMatch | QueryMatch) -> None:
        is_header = isinstance(match, HeaderMatch)
        self.name: Final = (match.name.lower() if is_header else match.name).encode()
        self.length: Final = len(self.name)
        self.regex: Final = Regex(match.value) if match.is_regex else None
        self.value: Final = match.value.encode()

    def in_headers(self, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        """Whether any header of the name has the value."""
        for name, value in headers:
            if len(name) == self.length and name.lower() == self.name and self.accepts(value):
                return True
        return False

    def in_query(self, query: str) -> bool:
        """Whether any parameter of the name has the value, both decoded."""
        for parameter in query.split("&", MAX_QUERY_FIELDS)[:MAX_QUERY_FIELDS]:
            name, _, value = parameter.partition("=")
            if unquote_plus(name).encode("utf-8", "replace") == self.name and self.accepts(
                unquote_plus(value).encode("utf-8", "replace")
            ):
                return True
        return False

    def accepts(self, value: bytes) -> bool:
        """Whether this is the value, or the expression matches it."""
        if self.regex is not None:
            return self.regex.matches(value)
        return value == self.value


_EVERYTHING: Final = (HttpMatch(), HttpMatch(path=PathMatch(PathMatchKind.PREFIX, "/")))
"""Matches that every request meets."""


@final
class RouteTable:
    """Routes, ready to be found."""

    __slots__ = ("any_host", "exact_hosts", "only", "reads_headers", "suffix_hosts")

    def __init__(self, routes: Sequence[Matchable], precedence: Precedence) -> None:
        """Index ``routes``. Raises ResourceError for an expression that cannot be used."""
        self.exact_hosts: Final[dict[str, _Paths]] = {}
        self.suffix_hosts: Final[dict[str, _Paths]] = {}
        self.any_host: Final = _Paths(precedence)
        self.reads_headers = False
        """Whether any match looks at headers (then a request must bring them)."""
        order = 0
        for route_index, route in enumerate(routes):
            tables = self._tables_of(route, precedence)
            for rule_index, rule in enumerate(route.rules):
                matches: Sequence[HttpMatch | GrpcMatch | None] = rule.matches or (None,)
                for match in matches:
                    alternative = Alternative(route_index, rule_index, order, match, precedence)
                    order += 1
                    self.reads_headers = self.reads_headers or bool(alternative.headers)
                    for table in tables:
                        table.add(alternative)
        for table in (*self.exact_hosts.values(), *self.suffix_hosts.values(), self.any_host):
            table.seal()
        self.only: Final[Alternative | None] = self._sole(routes)
        """What every request meets, whatever it asks for; None: that is to be found out."""

    def find(self, request: Request) -> Alternative | None:
        """Return the alternative a request means, or None when no route is for it."""
        if self.exact_hosts or self.suffix_hosts:
            found = self._find_by_host(request)
            if found is not None:
                return found
        return self.any_host.find(request)

    def _sole(self, routes: Sequence[Matchable]) -> Alternative | None:
        """Return the one alternative there is, if it wants nothing of a request."""
        if len(routes) != 1 or routes[0].hosts or len(routes[0].rules) != 1:
            return None
        matches = routes[0].rules[0].matches
        if matches and (len(matches) > 1 or matches[0] not in _EVERYTHING):
            return None
        return self.any_host.find(Request("", "/", "", "", ()))

    def _find_by_host(self, request: Request) -> Alternative | None:
        host = _host_of(request.host)
        if not host or len(host) > MAX_HOST:
            return None
        for name in (host, host[:-1]) if host.endswith(".") else (host,):
            table = self.exact_hosts.get(name)
            if table is not None:
                found = table.find(request)
                if found is not None:
                    return found
        if not self.suffix_hosts or host[-1].isdigit() or host[-1] == "]":
            return None
        _, _, rest = host.removesuffix(".").partition(".")
        while rest:
            table = self.suffix_hosts.get(rest)
            if table is not None:
                found = table.find(request)
                if found is not None:
                    return found
            _, _, rest = rest.partition(".")
        return None

    def _tables_of(self, route: Matchable, precedence: Precedence) -> list[_Paths]:
        if not route.hosts:
            return [self.any_host]
        tables: list[_Paths] = []
        for host in dict.fromkeys(route.hosts):
            by_name = self.suffix_hosts if host.is_suffix else self.exact_hosts
            name = host.name.lower()
            if name not in by_name:
                by_name[name] = _Paths(precedence)
            tables.append(by_name[name])
        return tables


@final
class _Paths:
    """The alternatives for one host, by what they want of the path."""

    __slots__ = ("depth", "exact", "grpc", "is_linkerd", "pathless", "prefix", "regexes")

    def __init__(self, precedence: Precedence) -> None:
        self.is_linkerd: Final = precedence is Precedence.LINKERD
        self.exact: Final[dict[str, list[Alternative]]] = {}
        self.prefix: Final[dict[str, list[Alternative]]] = {}
        """By prefix without trailing slashes: the empty one is ``/``."""
        self.depth = 0
        """The most slashes in a prefix: a path is cut there before it is walked."""
        self.regexes: Final = _Regexes()
        self.pathless: Final[list[Alternative]] = []
        self.grpc: Final = _Calls()

    def add(self, alternative: Alternative) -> None:
        """Take an alternative in."""
        if alternative.grpc is not None:
            self.grpc.add(alternative, alternative.grpc)
            return
        path = alternative.http.path if alternative.http is not None else None
        if path is None and not self.is_linkerd:
            # The Gateway API's default path is "/" (HTTPRouteMatch), Linkerd's ranks below it.
            self.prefix.setdefault("", []).append(alternative)
        elif path is None:
            self.pathless.append(alternative)
        elif path.kind is PathMatchKind.EXACT:
            self.exact.setdefault(path.value, []).append(alternative)
        elif path.kind is PathMatchKind.PREFIX:
            prefix = path.value.rstrip("/")
            self.prefix.setdefault(prefix, []).append(alternative)
            self.depth = max(self.depth, prefix.count("/"))
        else:
            self.regexes.add(alternative, path.value)

    def seal(self) -> None:
        """Order what was added: first the best."""
        for bucket in (*self.exact.values(), *self.prefix.values(), self.pathless):
            bucket.sort(key=_by_rank)
        self.regexes.seal()
        self.grpc.seal()

    def find(self, request: Request) -> Alternative | None:
        """Return the best alternative for a request."""
        if self.grpc.count:
            call = self.grpc.find(request)
            if call is not None:
                return call
        path = request.path
        best = _first(self.exact.get(path), request)
        if best is not None and not self.is_linkerd:
            return best
        if self.regexes.count:
            best = _better(best, self.regexes.find(request))
        if best is None:
            best = self._find_prefix(request)
        elif self.is_linkerd:
            # A prefix that is the whole path has as many characters as the path itself.
            whole = "" if path == "/" else path
            best = _better(best, _first(self.prefix.get(whole), request))
        return _first(self.pathless, request) if best is None else best

    def _find_prefix(self, request: Request) -> Alternative | None:
        rest = request.path.rstrip("/")
        if rest.count("/") > self.depth:
            rest = "/".join(rest.split("/", self.depth + 1)[: self.depth + 1])
        while rest:
            found = _first(self.prefix.get(rest), request)
            if found is not None:
                return found
            rest = rest[: max(rest.rfind("/"), 0)]
        return _first(self.prefix.get(""), request)


@final
class _Regexes:
    """Alternatives by expression, found by the text that their paths must start with."""

    __slots__ = ("by_prefix", "count", "lengths")

    def __init__(self) -> None:
        self.by_prefix: Final[dict[str, list[tuple[Regex, Alternative]]]] = {}
        self.lengths: list[int] = []
        self.count = 0

    def add(self, alternative: Alternative, pattern: str) -> None:
        """Take an alternative in."""
        self.by_prefix.setdefault(literal_prefix(pattern), []).append((Regex(pattern), alternative))
        self.count += 1

    def seal(self) -> None:
        """Order what was added: first the best."""
        self.lengths = sorted({len(each) for each in self.by_prefix})
        for bucket in self.by_prefix.values():
            bucket.sort(key=_by_rank_of_pair)

    def find(self, request: Request) -> Alternative | None:
        """Return the best alternative whose expression the path matches."""
        best: Alternative | None = None
        path = request.path
        encoded = path.encode("utf-8", "replace")
        for length in self.lengths:
            for regex, alternative in self.by_prefix.get(path[:length], ()):
                if best is not None and best.rank > alternative.rank:
                    break
                if alternative.holds(request) and regex.matches(encoded):
                    best = alternative
                    break
        return best


@final
class _Calls:
    """The alternatives for gRPC, by service and method."""

    __slots__ = ("by_name", "count", "regexes")

    def __init__(self) -> None:
        self.by_name: Final[dict[tuple[str, str], list[Alternative]]] = {}
        self.regexes: Final[list[tuple[Regex | None, Regex | None, Alternative]]] = []
        self.count = 0

    def add(self, alternative: Alternative, match: GrpcMatch) -> None:
        """Take an alternative in."""
        self.count += 1
        if match.is_regex:
            service = Regex(match.service) if match.service else None
            method = Regex(match.method) if match.method else None
            self.regexes.append((service, method, alternative))
        else:
            self.by_name.setdefault((match.service, match.method), []).append(alternative)

    def seal(self) -> None:
        """Order what was added: first the best."""
        for bucket in self.by_name.values():
            bucket.sort(key=_by_rank)
        self.regexes.sort(key=_by_rank_of_triple)

    def find(self, request: Request) -> Alternative | None:
        """Return the best alternative for a call; a request that is none has none."""
        parts = request.path.split("/", 3)
        if request.method != "POST" or len(parts) != 3 or parts[0] or not parts[1] or not parts[2]:
            return None
        service, method = parts[1], parts[2]
        for has_service, has_method in _CALL_LEVELS:
            key = (service if has_service else "", method if has_method else "")
            best = _first(self.by_name.get(key), request)
            if self.regexes:
                best = _better(best, self._find_regex(request, has_service, has_method))
            if best is not None:
                return best
        return None

    def _find_regex(
        self,
        request: Request,
        has_service: bool,  # noqa: FBT001
        has_method: bool,  # noqa: FBT001
    ) -> Alternative | None:
        _, service, method = request.path.split("/", 2)
        for wanted_service, wanted_method, alternative in self.regexes:
            if (wanted_service is not None) is not has_service:
                continue
            if (wanted_method is not None) is not has_method:
                continue
            if wanted_service is not None and not wanted_service.matches(
                service.encode("utf-8", "replace")
            ):
                continue
            if wanted_method is not None and not wanted_method.matches(
                method.encode("utf-8", "replace")
            ):
                continue
            if alternative.holds(request):
                return alternative
        return None


_CALL_LEVELS: Final = ((True, True), (True, False), (False, True), (False, False))


def _first(bucket: list[Alternative] | None, request: Request) -> Alternative | None:
    if bucket is not None:
        for alternative in bucket:
            if alternative.holds(request):
                return alternative
    return None


def _better(one: Alternative | None, other: Alternative | None) -> Alternative | None:
    if one is None:
        return other
    if other is None or one.rank >= other.rank:
        return one
    return other


def _rank(match: HttpMatch | GrpcMatch | None, order: int, precedence: Precedence) -> int:
    earliness = (1 << _ORDER_BITS) - 1 - order
    if match is None:
        return earliness
    headers = len(match.headers)
    if isinstance(match, GrpcMatch):
        return headers << _ORDER_BITS | earliness
    query, method = len(match.query), 1 if match.method else 0
    if precedence is Precedence.LINKERD:
        specific = headers << 33 | query << 1 | method
    else:
        specific = method << 64 | headers << 32 | query
    return specific << _ORDER_BITS | earliness


def _by_rank(alternative: Alternative) -> int:
    return -alternative.rank


def _by_rank_of_pair(pair: tuple[Regex, Alternative]) -> int:
    return -pair[1].rank


def _by_rank_of_triple(triple: tuple[Regex | None, Regex | None, Alternative]) -> int:
    return -triple[2].rank


def _host_of(authority: str) -> str:
    """Return the authority's host in lower case, without user and port."""
    host = authority.rpartition("@")[2]
    if host.startswith("["):
        end = host.find("]")
        return host[: end + 1].lower() if end > 0 else ""
    return host.partition(":")[0].lower()
