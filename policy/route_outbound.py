"""Routes attached to a Service's port, as the policy of who calls it. Pure.

The Gateway API's rules (HTTPRoute, GRPCRoute; GEP-1731, GEP-1742): a port with routes answers 404
where none is for a request, 500 for the share of a backend that cannot be used and for a rule
without any. In ``policy.linkerd.io`` a rule without backends means the Service itself, as in
Linkerd. Hostnames are not looked at: who is called decides, not what is written in Host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, final

from core.record import dataclass
from discovery.model import Metadata, Target
from policy.model import (
    Backend,
    Backoff,
    Balancer,
    Distribution,
    FirstAvailable,
    NoBackends,
    OutboundPolicy,
    OutboundRoute,
    OutboundRule,
    Protocol,
    RandomAvailable,
    Retry,
    RouteKind,
    StatusRange,
    Timeouts,
    WeightedBackend,
)
from policy.route import (
    Cors,
    FailureInjector,
    Filter,
    Mirror,
    Ratio,
    RequestHeaders,
    ResponseHeaders,
    UrlRewrite,
)
from policy.route_attach import FindService, bad_backend
from policy.route_compile import compile_headers, compile_match, compile_path, compile_redirect
from policy.traffic import Traffic, traffic_of
from resources.authorization_policy import POLICY_GROUP
from resources.route import (
    BackendRef,
    CorsFilter,
    HeaderEdit,
    MirrorFilter,
    RedirectFilter,
    RewriteFilter,
    Route,
    RouteFilter,
    RouteRetry,
    RouteRule,
)
from resources.service import Service

HostOf = Callable[[str, str], str]
"""Returns a Service's full name by namespace and name."""

_UNAVAILABLE: Final = 14
_MAX_BACKOFF: Final = 10
"""How many times its least wait a retry may wait."""
_MAX_RETRIES: Final = 65_535


@final
@dataclass(frozen=True, slots=True)
class Surroundings:
    """What routes refer to."""

    find: FindService
    host_of: HostOf


def routed_policy(
    plain: OutboundPolicy, service: Service, routes: Sequence[Route], around: Surroundings
) -> OutboundPolicy:
    """Return the policy of a Service's port with the routes that hold for it, oldest first.

    ``plain`` is its policy without routes. A port that is declared or annotated as opaque keeps
    it: nothing there is read.
    """
    if not routes or plain.protocol is Protocol.OPAQUE:
        return plain
    own = traffic_of(service.meta.annotations)
    found = tuple(_Compiler(plain, own, each, around).route() for each in routes)
    if routes[0].is_grpc:
        return replace(plain, protocol=Protocol.GRPC, http1=(), http2=(), grpc=found, opaque=())
    return replace(
        plain,
        http1=found if plain.protocol is not Protocol.HTTP2 else (),
        http2=found if plain.protocol is not Protocol.HTTP1 else (),
    )


@final
class _Compiler:
    """Makes one route."""

    def __init__(
        self, plain: OutboundPolicy, own: Traffic, route: Route, around: Surroundings
    ) -> None:
        self._parent = plain.metadata
        self._own = own
        self._route = route
        self._around = around
        self._traffic = traffic_of(route.meta.annotations)

    def route(self) -> OutboundRoute:
        key = self._route.meta.key
        return OutboundRoute(
            metadata=Metadata(
                group=key.group, kind=key.kind, namespace=key.namespace, name=key.name
            ),
            kind=RouteKind.GRPC if self._route.is_grpc else RouteKind.HTTP,
            rules=tuple(self._rule(each) for each in self._route.rules),
        )

    def _rule(self, rule: RouteRule) -> OutboundRule:
        return OutboundRule(
            matches=tuple(compile_match(each) for each in rule.matches),
            filters=self._filters(rule.filters),
            distribution=self._distribution(rule),
            timeouts=self._timeouts(rule),
            retry=self._traffic.retry or _retry(rule.retry) or self._own.retry,
            allow_l5d_request_headers=self._own.allows_headers or self._traffic.allows_headers,
        )

    def _timeouts(self, rule: RouteRule) -> Timeouts:
        """Return each limit as the route's annotation, the rule, or the Service's sets it."""
        route, own = self._traffic.timeouts, self._own.timeouts
        request = route.request_s
        if request is None:
            request = own.request_s if rule.request_timeout_s is None else rule.request_timeout_s
        return Timeouts(
            request_s=request or None,
            response_s=route.response_s or own.response_s,
            idle_s=route.idle_s or own.idle_s,
            backend_request_s=rule.backend_timeout_s or None,
        )

    def _distribution(self, rule: RouteRule) -> Distribution:
        if not rule.backends and self._route.meta.key.group == POLICY_GROUP:
            return FirstAvailable((self._backend(self._parent, ()),))
        if any(isinstance(each, RedirectFilter) for each in rule.filters):
            return NoBackends()
        weighted = [each for each in rule.backends if each.weight]
        if not weighted:
            what = "weighs more than nothing" if rule.backends else "is named"
            return FirstAvailable((self._broken(self._parent, f"no backend {what}"),))
        return RandomAvailable(
            tuple(WeightedBackend(self._referred(each), each.weight) for each in weighted)
        )

    def _referred(self, given: BackendRef) -> Backend:
        metadata = _metadata(given)
        _, wrong = bad_backend(given, self._around.find)
        if wrong:
            return self._broken(metadata, wrong)
        return self._backend(metadata, self._filters(given.filters))

    def _backend(self, metadata: Metadata, filters: tuple[Filter, ...]) -> Backend:
        return Backend(
            metadata=metadata,
            dispatcher=Balancer(target=self._target(metadata), load=self._own.load),
            filters=filters,
        )

    def _broken(self, metadata: Metadata, message: str) -> Backend:
        return Backend(metadata=metadata, dispatcher=None, filters=(self._failure(message),))

    def _failure(self, message: str) -> FailureInjector:
        is_grpc = self._route.is_grpc
        key = self._route.meta.key
        return FailureInjector(
            status=_UNAVAILABLE if is_grpc else 500,
            message=f"{key.kind} {key.namespace}/{key.name}: {message}",
            is_grpc=is_grpc,
        )

    def _target(self, metadata: Metadata) -> Target:
        return Target(self._around.host_of(metadata.namespace, metadata.name), metadata.port)

    def _filters(self, given: Sequence[RouteFilter]) -> tuple[Filter, ...]:
        return tuple(found for each in given for found in self._filter(each))

    def _filter(self, given: RouteFilter) -> tuple[Filter, ...]:
        if isinstance(given, HeaderEdit):
            kind = ResponseHeaders if given.is_response else RequestHeaders
            return (kind(compile_headers(given)),)
        if isinstance(given, RedirectFilter):
            return (compile_redirect(given),)
        if isinstance(given, RewriteFilter):
            return (UrlRewrite(host=given.hostname, path=compile_path(given.path)),)
        if isinstance(given, MirrorFilter):
            return self._mirror(given)
        if isinstance(given, CorsFilter):
            return (_cors(given),)
        return (self._failure(f"nobody here can carry out {given.type}"),)

    def _mirror(self, given: MirrorFilter) -> tuple[Filter, ...]:
        """Return a mirror; one that leads nowhere is left out, and harms no request."""
        if bad_backend(given.backend, self._around.find)[1] or not given.numerator:
            return ()
        metadata = _metadata(given.backend)
        ratio = Ratio(given.numerator, given.denominator)
        return (Mirror(target=self._target(metadata), backend=metadata, ratio=ratio),)


def _metadata(given: BackendRef) -> Metadata:
    return Metadata(
        group=given.group or "core",
        kind=given.kind,
        namespace=given.namespace,
        name=given.name,
        port=given.port or 0,
    )


def _cors(given: CorsFilter) -> Cors:
    return Cors(
        allow_origins=given.allow_origins,
        allow_credentials=given.allow_credentials,
        allow_methods=given.allow_methods,
        allow_headers=given.allow_headers,
        expose_headers=given.expose_headers,
        max_age_s=given.max_age_s,
    )


def _retry(given: RouteRetry | None) -> Retry | None:
    """Return a rule's own retries; ``backoff`` is the least wait, of which they wait more."""
    if given is None:
        return None
    backoff = Backoff()
    if given.backoff_s:
        backoff = Backoff(min_s=given.backoff_s, max_s=given.backoff_s * _MAX_BACKOFF)
    return Retry(
        max_retries=min(given.attempts or 1, _MAX_RETRIES),
        statuses=tuple(StatusRange(each, each) for each in given.codes),
        backoff=backoff,
        on_reset=True,
    )
