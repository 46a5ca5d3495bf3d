"""Where requests are counted: slots looked up once for all that are alike.

Each object here belongs to something that outlives a request (an inbound client, a route, a
backend, an endpoint); who holds that holds the object, and a request then only adds to numbers.
How requests end is bounded twice: so many ways for each object, so many label sets a family.
"""

from __future__ import annotations

from typing import Final, final

from discovery.model import Address, Endpoint, Labels, Metadata
from identity.name import Identity
from policy.model import DEFAULT_ROUTE, Client, ClientTls, LimitHit, Permit, Refusal, Verdict
from proxy.telemetry.classification import GRPC_NAMES, UNKNOWN, is_failure
from proxy.telemetry.http_metric import HttpMetrics, OutboundFamilies
from proxy.telemetry.metric import (
    Metrics,
    accept_labels,
    authz_labels,
    backend_labels,
    count_audits,
    dst_labels,
    inbound_route_labels,
    parent_labels,
    route_labels,
    server_labels,
    target_labels,
)
from proxy.telemetry.slot import Family, Histogram, Slot
from proxy.telemetry.transport import Cache

MAX_ENDS: Final = 64
"""Ways to end that one object tells apart; a server that makes up statuses gets no more."""
MAX_PERMITS: Final = 64
"""Permits whose counters an inbound client keeps at hand."""

End = tuple[int, int | None, str]
"""HTTP status (0: none came), gRPC status, and the code of what broke the response off."""

_Rule = tuple[Metadata, Metadata | None, Metadata, bool]
_Kind = tuple[Address, ClientTls, Identity | None, str]

_INBOUND: Final = ("direction", "inbound")
_OUTBOUND: Final = ("direction", "outbound")
_OTHER: Final = -1
_OTHER_SUCCESS: Final[End] = (_OTHER, None, "")
_OTHER_FAILURE: Final[End] = (_OTHER, None, "other")

_ERRORS: Final = {
    "client-closed": "CANCEL",
    "connect-refused": "IO",
    "connect-timeout": "IO",
    "failfast": "FAIL_FAST",
    "loadshed": "LOAD_SHED",
    "no-endpoints": "FAIL_FAST",
    "overload": "LOAD_SHED",
    "idle-timeout": "IDLE_TIMEOUT",
    "request-timeout": "REQUEST_TIMEOUT",
    "response-timeout": "RESPONSE_STREAM_TIMEOUT",
    "truncated": "IO",
    "try-timeout": "RESPONSE_HEADERS_TIMEOUT",
    "unreachable": "IO",
}
"""Our codes as Linkerd's route families name them; HTTP/2's are RESET, any other UNKNOWN."""


@final
class Responses:
    """Responses of one kind, in the families that Linkerd's dashboards draw."""

    __slots__ = ("_ends", "_labels", "_metrics", "_plain", "_status")

    def __init__(self, metrics: HttpMetrics, labels: Labels) -> None:
        self._metrics = metrics
        self._labels = labels
        self._ends: dict[End, tuple[Slot, Histogram]] = {}
        self._status = -1
        """Of the last one without an error or a gRPC status; most are like the one before."""
        self._plain: tuple[Slot, Histogram] | None = None

    def at(self, end: End) -> tuple[Slot, Histogram]:
        """Return where those are counted that ended so, and their latency in milliseconds."""
        if end[0] == self._status and end[1] is None and not end[2] and self._plain is not None:
            return self._plain
        found = self._find(end)
        if end[1] is None and not end[2]:
            self._status = end[0]
            self._plain = found
        return found

    def _find(self, end: End) -> tuple[Slot, Histogram]:
        found = self._ends.get(end)
        if found is None and len(self._ends) >= MAX_ENDS:
            end = _other(end)
            found = self._ends.get(end)
        if found is None:
            status = ("status_code", _status_text(end[0]))
            found = self._ends[end] = (
                self._metrics.responses.child((*self._labels, status, *_class_labels(end))),
                self._metrics.latency.child((*self._labels, status)),
            )
        return found


@final
class Statuses:
    """Responses of one kind, by status and error, in one family."""

    __slots__ = ("_ends", "_family", "_labels", "_last_status", "_plain", "_status")

    def __init__(self, family: Family, labels: Labels) -> None:
        self._family = family
        self._labels = labels
        self._status = next(each for each in family.labels if each.endswith("status"))
        self._ends: dict[End, Slot] = {}
        self._last_status = -1
        self._plain: Slot | None = None
        """As in ``Responses``."""

    def at(self, end: End) -> Slot:
        """Return where those are counted that ended so."""
        plain = self._plain
        if plain is not None and end[0] == self._last_status and end[1] is None and not end[2]:
            return plain
        slot = self._find(end)
        if end[1] is None and not end[2]:
            self._last_status = end[0]
            self._plain = slot
        return slot

    def _find(self, end: End) -> Slot:
        slot = self._ends.get(end)
        if slot is None and len(self._ends) >= MAX_ENDS:
            end = _other(end)
            slot = self._ends.get(end)
        if slot is None:
            status, grpc_status, error = end
            text = _status_text(status)
            if self._status == "grpc_status" and status != _OTHER:
                text = GRPC_NAMES[UNKNOWN if grpc_status is None else grpc_status]
            elif self._status == "status" and grpc_status is not None:
                text = str(grpc_status)
            labels = (*self._labels, (self._status, text))
            if "error" in self._family.labels:
                labels = (*labels, ("error", _error_name(error)))
            slot = self._ends[end] = self._family.child(labels)
        return slot


@final
class InboundCounts:
    """Requests of one client that one authorization let in on one route."""

    __slots__ = (
        *("_allowed", "_requests", "_requests_by_route", "_request_seconds"),
        *("_response_seconds", "_responses", "_statuses"),
    )

    def __init__(
        self, metrics: HttpMetrics, near: Labels, permit: Permit, port: int, *, is_grpc: bool
    ) -> None:
        route = inbound_route_labels(permit.route or DEFAULT_ROUTE)
        server = server_labels(permit.server, port)
        labels = (*near, *server, *route, *authz_labels(permit.authorization))
        routed = (*_as_parent(server), *route)
        families = metrics.inbound["grpc" if is_grpc else "http"]
        self._allowed = metrics.allow.child(labels)
        self._requests = metrics.requests.child((_INBOUND, *labels))
        self._requests_by_route = families.requests.child(routed)
        self._responses = Responses(metrics, (_INBOUND, *labels))
        self._statuses = Statuses(families.statuses, routed)
        self._request_seconds = families.request_seconds.child(routed)
        self._response_seconds = families.response_seconds.child(routed)

    def request(self) -> None:
        """Count one request, when its head has been let in."""
        self._allowed.step()
        self._requests.step()
        self._requests_by_route.step()

    def response(self, end: End, latency_s: float, request_s: float, response_s: float) -> None:
        """Count its end, in seconds: to the first content, whole, and from the request's end."""
        slot, latency = self._responses.at(end)
        slot.step()
        latency.observe(latency_s * 1000)
        self._statuses.at(end).step()
        self._request_seconds.observe(request_s)
        self._response_seconds.observe(response_s)


@final
class InboundClient:
    """Requests that come from one kind of client to one port."""

    __slots__ = ("_all", "_counts", "_metrics", "_near", "_permits", "_port", "_target", "_tls")

    def __init__(self, metrics: Metrics, target: Address, client: Client) -> None:
        self._all = metrics
        self._metrics = metrics.http
        self._port = target.port
        self._target = target_labels(target)
        self._tls = accept_labels(client)
        self._near = (*self._target, *self._tls)
        # A permit is the same object for all requests that are decided alike; it is kept beside
        # what was found for it, so that its address is nobody else's.
        self._permits: dict[tuple[int, bool], tuple[Permit, InboundCounts]] = {}
        self._counts: Cache[_Rule, InboundCounts] = Cache(MAX_PERMITS)

    def permitted(self, permit: Permit, *, is_grpc: bool) -> InboundCounts:
        """Return where a request that was let in is counted."""
        found = self._permits.get((id(permit), is_grpc))
        return found[1] if found is not None else self._meet(permit, is_grpc=is_grpc)

    def refused(self, refusal: Refusal) -> None:
        """Count a request that policy refused: denied, without a route, or past a rate limit."""
        server = server_labels(refusal.server, self._port)
        family, labels = self._metrics.deny, (*self._target, *server)
        if refusal.code == "route-not-found":
            family = self._metrics.not_found
        elif refusal.limit is not None:
            family, labels = self._metrics.limited, (*labels, *_limit_labels(refusal.limit))
        else:
            labels = (*labels, *inbound_route_labels(refusal.route or DEFAULT_ROUTE))
        family.child((*labels, *self._tls)).value += 1

    def terminated(self, refusal: Refusal) -> None:
        """Count a connection that had left HTTP, cut because policy changed."""
        labels = (*self._near, *server_labels(refusal.server, self._port))
        self._all.terminate.child(labels).value += 1

    def audited(self, verdict: Verdict) -> None:
        """Count what policies in audit mode said beside a verdict."""
        labels = (*self._near, *server_labels(verdict.server, self._port))
        count_audits(self._all, verdict, labels, is_request=True)

    def failed(self, code: str, server: Metadata) -> None:
        """Count a request that failed here, by the error's code: malformed, or not carried."""
        labels = (("error", code), *self._target, *server_labels(server, self._port))
        self._metrics.inbound_errors.child(labels).value += 1

    def _meet(self, permit: Permit, *, is_grpc: bool) -> InboundCounts:
        key = (permit.server, permit.route, permit.authorization, is_grpc)
        counts = self._counts.get(key)
        if counts is None:
            counts = self._counts.put(
                key, InboundCounts(self._metrics, self._near, permit, self._port, is_grpc=is_grpc)
            )
        if len(self._permits) >= MAX_PERMITS:
            self._permits.clear()
        self._permits[id(permit), is_grpc] = (permit, counts)
        return counts


@final
class InboundHttp:
    """The inbound families of one sidecar."""

    __slots__ = ("_all", "_clients", "_metrics")

    def __init__(self, metrics: Metrics) -> None:
        self._all = metrics
        self._metrics = metrics.http
        self._clients: Cache[_Kind, InboundClient] = Cache()

    def client(self, target: Address, client: Client) -> InboundClient:
        """Return where requests to ``target`` on a connection of ``client`` are counted."""
        key = (target, client.tls, client.identity, client.sni)
        found = self._clients.get(key)
        if found is None:
            found = self._clients.put(key, InboundClient(self._all, target, client))
        return found

    def detected(self, result: str, seconds: float, server: Metadata, port: int) -> None:
        """Count a connection whose protocol was looked for; ``result`` as its family says."""
        labels = server_labels(server, port)
        self._metrics.inbound_detect.child((("result", result), *labels)).value += 1
        self._metrics.inbound_detect_seconds.child(labels).observe(seconds)


@final
class RouteCounts:
    """Requests of the workload that one route took up."""

    __slots__ = ("_seconds", "_statuses")

    def __init__(self, families: OutboundFamilies, parent: Metadata, route: Metadata) -> None:
        # Linkerd's label for the host that was asked for stays empty unless it is switched on.
        labels = (*parent_labels(parent), *route_labels(route), ("hostname", ""))
        self._seconds = families.route_seconds.child(labels)
        self._statuses = Statuses(families.route_statuses, labels)

    def response(self, end: End, request_s: float) -> None:
        """Count what the workload got, so many seconds after its request's head."""
        self._statuses.at(end).step()
        self._seconds.observe(request_s)


@final
class RetryCounts:
    """What one route made again."""

    __slots__ = ("_limit", "_overflow", "_requests", "_successes")

    def __init__(self, families: OutboundFamilies, parent: Metadata, route: Metadata) -> None:
        labels = (*parent_labels(parent), *route_labels(route), ("hostname", ""))
        self._requests = families.retry_requests.child(labels)
        self._successes = families.retry_successes.child(labels)
        self._limit = families.retry_limit.child(labels)
        self._overflow = families.retry_overflow.child(labels)

    def decided(self, reason: str) -> None:
        """Count a verdict about another attempt, by its reason (``proxy.outbound.retry``)."""
        if reason in {"connect", "safe", "policy"}:
            self._requests.value += 1
        elif reason in {"limit", "connects"}:
            self._limit.value += 1
        elif reason == "budget":
            self._overflow.value += 1

    def succeeded(self) -> None:
        """Count a request that ended well and not at its first attempt."""
        self._successes.value += 1


@final
class BackendCounts:
    """Attempts that one route makes at one backend."""

    __slots__ = ("_requests", "_seconds", "_statuses")

    def __init__(
        self, families: OutboundFamilies, parent: Metadata, route: Metadata, backend: Metadata
    ) -> None:
        labels = (*parent_labels(parent), *route_labels(route), *backend_labels(backend))
        self._requests = families.backend_requests.child(labels)
        self._seconds = families.backend_seconds.child(labels)
        self._statuses = Statuses(families.backend_statuses, labels)

    def request(self) -> None:
        """Count one attempt, when it begins."""
        self._requests.step()

    def response(self, end: End, response_s: float) -> None:
        """Count its end, so many seconds after the request's."""
        self._statuses.at(end).step()
        self._seconds.observe(response_s)


@final
class MirrorCounts:
    """Copies of one route's requests for one backend."""

    __slots__ = ("answered", "dropped", "failed")

    def __init__(
        self, metrics: HttpMetrics, parent: Metadata, route: Metadata, backend: Metadata
    ) -> None:
        labels = (*parent_labels(parent), *route_labels(route), *backend_labels(backend))
        family = metrics.mirrored
        self.answered: Final = family.child((*labels, ("result", "answered")))
        self.failed: Final = family.child((*labels, ("result", "failed")))
        self.dropped: Final = family.child((*labels, ("result", "dropped")))


@final
class EndpointCounts:
    """Attempts at one endpoint."""

    __slots__ = ("_requests", "_responses")

    def __init__(self, metrics: HttpMetrics, labels: Labels) -> None:
        self._requests = metrics.requests.child(labels)
        self._responses = Responses(metrics, labels)

    def request(self) -> None:
        """Count one attempt, when it begins."""
        self._requests.step()

    def response(self, end: End, latency_s: float) -> None:
        """Count its end; its content began ``latency_s`` seconds after the request's head."""
        slot, latency = self._responses.at(end)
        slot.step()
        latency.observe(latency_s * 1000)


@final
class OutboundHttp:
    """The outbound families of one sidecar.

    Nothing is kept here: a route's and a backend's counters belong to the policy's rule, an
    endpoint's to its connections.
    """

    __slots__ = ("_metrics",)

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics.http

    def route(self, parent: Metadata, route: Metadata, *, is_grpc: bool) -> RouteCounts:
        """Return where a route's requests are counted."""
        return RouteCounts(self._families(is_grpc=is_grpc), parent, route)

    def retry(self, parent: Metadata, route: Metadata, *, is_grpc: bool) -> RetryCounts:
        """Return where a route's retries are counted."""
        return RetryCounts(self._families(is_grpc=is_grpc), parent, route)

    def backend(
        self, parent: Metadata, route: Metadata, backend: Metadata, *, is_grpc: bool
    ) -> BackendCounts:
        """Return where a route's attempts at a backend are counted."""
        return BackendCounts(self._families(is_grpc=is_grpc), parent, route, backend)

    def mirror(self, parent: Metadata, route: Metadata, backend: Metadata) -> MirrorCounts:
        """Return where a route's copies for a backend are counted."""
        return MirrorCounts(self._metrics, parent, route, backend)

    def endpoint(
        self,
        endpoint: Endpoint,
        *,
        authority: str,
        server: Identity | None,
        no_tls_reason: str = "",
        labels: Labels = (),
    ) -> EndpointCounts:
        """Return where attempts at an endpoint are counted.

        ``authority`` is the Service's name and port that it was resolved from, empty for none;
        ``server`` whom it proved to be, None without TLS and then ``no_tls_reason`` says why;
        ``labels`` are those of the Service's endpoints together.
        """
        tls = (("tls", "true"), ("server_id", server.name)) if server is not None else ()
        named = (("authority", authority),) if authority else ()
        return EndpointCounts(
            self._metrics,
            (
                *(_OUTBOUND, *named, *target_labels(endpoint.address)),
                *(tls or (("tls", "no_identity"), ("no_tls_reason", no_tls_reason))),
                *dst_labels(labels, endpoint.labels),
            ),
        )

    def failed(self, code: str) -> None:
        """Count a request that failed here, by the error's code."""
        self._metrics.outbound_errors.child((("error", code),)).value += 1

    def detected(self, result: str, seconds: float, parent: Metadata) -> None:
        """Count a connection whose protocol was looked for; ``result`` as its family says."""
        labels = parent_labels(parent)
        self._metrics.outbound_detect.child((("result", result), *labels)).value += 1
        self._metrics.outbound_detect_seconds.child(labels).observe(seconds)

    def _families(self, *, is_grpc: bool) -> OutboundFamilies:
        return self._metrics.outbound["grpc" if is_grpc else "http"]


def _other(end: End) -> End:
    """Return what an end is counted as where there is no room for it."""
    return _OTHER_FAILURE if is_failure(*end) else _OTHER_SUCCESS


def _status_text(status: int) -> str:
    if status == _OTHER:
        return "other"
    return str(status) if status else ""


def _class_labels(end: End) -> Labels:
    _, grpc_status, error = end
    return (
        ("classification", "failure" if is_failure(*end) else "success"),
        ("grpc_status", "" if grpc_status is None else str(grpc_status)),
        ("error", error),
    )


def _error_name(code: str) -> str:
    if not code or code == "other":
        return code
    return "RESET" if code.startswith("http2-") else _ERRORS.get(code, "UNKNOWN")


def _as_parent(server: Labels) -> Labels:
    return tuple((f"parent_{name.removeprefix('srv_')}", value) for name, value in server)


def _limit_labels(limit: LimitHit) -> Labels:
    return (
        ("ratelimit_group", limit.metadata.group),
        ("ratelimit_kind", limit.metadata.kind.lower()),
        ("ratelimit_name", limit.metadata.name),
        ("ratelimit_scope", limit.scope.value),
    )
