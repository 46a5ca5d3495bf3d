"""HTTPRoute, of policy.linkerd.io and gateway.networking.k8s.io: the Gateway API's rules."""

from __future__ import annotations

import re
from typing import Final

from resources.fields import Fields
from resources.kind import Meta
from resources.route import (
    ROOT_PREFIX,
    HttpCondition,
    PathCondition,
    RedirectFilter,
    Route,
    RouteRetry,
    RouteRule,
)
from resources.route_fields import (
    MAX_ALL_MATCHES,
    MAX_ITEMS,
    MAX_MATCHES,
    MAX_RULES,
    bounded,
    check_regex,
    duration,
    parse_backend,
    parse_hostnames,
    parse_parents,
    parse_values,
)
from resources.route_filter import HTTP_FILTERS, parse_filters, replaces_prefix

METHODS: Final = (
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "CONNECT",
    "OPTIONS",
    "TRACE",
    "PATCH",
)

_MAX_PATH: Final = 1024
_PATH_TYPES: Final = ("Exact", "PathPrefix", "RegularExpression")
_PATH: Final = re.compile(r"/(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})*", re.ASCII)
_UNCLEAR: Final = ("//", "/./", "/../", "%2f", "%2F")


def parse_http_route(meta: Meta, body: Fields) -> Route:
    """Read an HTTPRoute."""
    spec = body.map("spec", required=True)
    rules = tuple(_rule(each, meta) for each in bounded(spec, "rules", MAX_RULES))
    matches = sum(len(each.matches) for each in rules)
    if matches > MAX_ALL_MATCHES:
        spec.problem("rules", f"have {matches} matches together; at most {MAX_ALL_MATCHES}")
    return Route(
        meta=meta,
        parents=parse_parents(spec, meta),
        hostnames=parse_hostnames(spec),
        rules=rules or (RouteRule(matches=(HttpCondition(),)),),
    )


def _rule(fields: Fields, meta: Meta) -> RouteRule:
    matches = tuple(_match(each) for each in bounded(fields, "matches", MAX_MATCHES))
    filters = parse_filters(fields, meta, HTTP_FILTERS)
    backends = tuple(
        parse_backend(each, meta, lambda own: parse_filters(own, meta, HTTP_FILTERS))
        for each in bounded(fields, "backendRefs", MAX_ITEMS)
    )
    if backends and any(isinstance(each, RedirectFilter) for each in filters):
        fields.problem("backendRefs", "cannot stand beside a RequestRedirect")
    if replaces_prefix(filters) or any(replaces_prefix(each.filters) for each in backends):
        paths = [each.path.type for each in matches] or [ROOT_PREFIX.type]
        if paths != ["PathPrefix"]:
            fields.problem("matches", "ReplacePrefixMatch wants exactly one match, a PathPrefix")
    timeouts = fields.map("timeouts")
    request, backend = duration(timeouts, "request"), duration(timeouts, "backendRequest")
    if request and backend and backend > request:
        timeouts.problem("backendRequest", "is longer than request")
    return RouteRule(
        name=fields.text("name"),
        matches=matches or (HttpCondition(),),
        filters=filters,
        backends=backends,
        request_timeout_s=request,
        backend_timeout_s=backend,
        retry=_retry(fields.map("retry")) if fields.has("retry") else None,
    )


def _match(fields: Fields) -> HttpCondition:
    return HttpCondition(
        path=_path(fields.map("path")) if fields.has("path") else ROOT_PREFIX,
        headers=parse_values(fields, "headers", is_header=True),
        query=parse_values(fields, "queryParams", is_header=False),
        method=fields.choice("method", METHODS),
    )


def _path(fields: Fields) -> PathCondition:
    kind = fields.choice("type", _PATH_TYPES, ROOT_PREFIX.type)
    value = fields.text("value", ROOT_PREFIX.value)
    if len(value) > _MAX_PATH:
        fields.problem("value", f"has {len(value)} characters; at most {_MAX_PATH}")
    elif kind == "RegularExpression":
        check_regex(fields, "value")
    elif not value.startswith("/"):
        fields.problem("value", f"{value[:80]!r} does not start with /")
    elif not _PATH.fullmatch(value) or value.endswith(("/.", "/..")):
        fields.problem("value", f"{value[:80]!r} is no path as requests carry it")
    elif any(each in value for each in _UNCLEAR):
        fields.problem("value", f"{value[:80]!r} has //, /./, /../ or an escaped /")
    return PathCondition(kind, value)


def _retry(fields: Fields) -> RouteRetry:
    codes = fields.integers("codes", 400, 599)
    if len(set(codes)) < len(codes):
        fields.problem("codes", "holds a status twice")
    return RouteRetry(
        codes=codes,
        attempts=fields.integer("attempts", 1, 2**31 - 1),
        backoff_s=duration(fields, "backoff"),
    )
