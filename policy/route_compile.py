"""A route's resource as matcher values, for routes attached to Servers.

Inbound a rule can edit request headers and redirect; an edit of response headers is left out,
and a rule that wants anything else makes its route unusable (linkerd2, policy-controller,
inbound routes). Backends, timeouts and retries mean nothing here.
"""

from __future__ import annotations

from typing import Final

from policy.model import InboundRule
from policy.route import (
    Filter,
    GrpcMatch,
    HeaderMatch,
    HeaderModifier,
    HostMatch,
    HttpMatch,
    PathMatch,
    PathMatchKind,
    PathRewrite,
    PathRewriteKind,
    QueryMatch,
    Redirect,
    RequestHeaders,
)
from resources.route import (
    CallCondition,
    CorsFilter,
    HeaderEdit,
    HttpCondition,
    MirrorFilter,
    PathEdit,
    RedirectFilter,
    RewriteFilter,
    Route,
    RouteFilter,
    UnknownFilter,
    ValueCondition,
)

_TYPES: Final[dict[type, str]] = {
    MirrorFilter: "RequestMirror",
    RewriteFilter: "URLRewrite",
    CorsFilter: "CORS",
}


def route_hosts(route: Route) -> tuple[HostMatch, ...]:
    """Return the hosts a route is for."""
    return tuple(
        HostMatch(each.removeprefix("*."), is_suffix=each.startswith("*."))
        for each in route.hostnames
    )


def inbound_rules(route: Route) -> tuple[InboundRule, ...] | None:
    """Return the rules of a route attached to a Server; None when it cannot be used there."""
    if unusable_inbound(route):
        return None
    return tuple(
        InboundRule(
            matches=tuple(compile_match(each) for each in rule.matches),
            filters=tuple(filter_ for each in rule.filters for filter_ in _inbound_filters(each)),
        )
        for rule in route.rules
    )


def unusable_inbound(route: Route) -> str:
    """Say which filter makes a route unusable on a Server; empty when none does."""
    for rule in route.rules:
        for each in rule.filters:
            if not isinstance(each, HeaderEdit | RedirectFilter):
                return each.type if isinstance(each, UnknownFilter) else _TYPES[type(each)]
    return ""


def compile_match(condition: HttpCondition | CallCondition) -> HttpMatch | GrpcMatch:
    """Return one match of a rule."""
    headers = tuple(HeaderMatch(*_value(each)) for each in condition.headers)
    if isinstance(condition, CallCondition):
        return GrpcMatch(
            service=condition.service,
            method=condition.method,
            is_regex=condition.is_regex,
            headers=headers,
        )
    return HttpMatch(
        path=PathMatch(PathMatchKind(condition.path.type), condition.path.value),
        headers=headers,
        query=tuple(QueryMatch(*_value(each)) for each in condition.query),
        method=condition.method,
    )


def compile_redirect(given: RedirectFilter) -> Redirect:
    """Return a redirect."""
    return Redirect(
        scheme=given.scheme,
        host=given.hostname,
        path=compile_path(given.path),
        port=given.port,
        status=given.status,
    )


def compile_headers(given: HeaderEdit) -> HeaderModifier:
    """Return edits of headers."""
    return HeaderModifier(set=given.set, add=given.add, remove=given.remove)


def compile_path(given: PathEdit | None) -> PathRewrite | None:
    """Return what becomes of a path; None: nothing."""
    return None if given is None else PathRewrite(PathRewriteKind(given.type), given.value)


def _inbound_filters(given: RouteFilter) -> tuple[Filter, ...]:
    if isinstance(given, RedirectFilter):
        return (compile_redirect(given),)
    if isinstance(given, HeaderEdit) and not given.is_response:
        return (RequestHeaders(compile_headers(given)),)
    return ()


def _value(given: ValueCondition) -> tuple[str, str, bool]:
    return (given.name, given.value, given.is_regex)
