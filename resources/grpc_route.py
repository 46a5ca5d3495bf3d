"""GRPCRoute (gateway.networking.k8s.io)."""

from __future__ import annotations

import re
from typing import Final

from resources.fields import Fields
from resources.kind import Meta
from resources.route import CallCondition, Route, RouteRule
from resources.route_fields import (
    MAX_ALL_MATCHES,
    MAX_ITEMS,
    MAX_MATCHES,
    MAX_RULES,
    bounded,
    check_regex,
    parse_backend,
    parse_hostnames,
    parse_parents,
    parse_values,
)
from resources.route_filter import GRPC_FILTERS, parse_filters

_MAX_NAME: Final = 1024
_SERVICE: Final = re.compile(r"\.?[a-zA-Z_][a-zA-Z_0-9]*(?:\.[a-zA-Z_][a-zA-Z_0-9]*)*", re.ASCII)
_METHOD: Final = re.compile(r"[A-Za-z_][A-Za-z_0-9]*", re.ASCII)


def parse_grpc_route(meta: Meta, body: Fields) -> Route:
    """Read a GRPCRoute."""
    spec = body.map("spec", required=True)
    rules = tuple(_rule(each, meta) for each in bounded(spec, "rules", MAX_RULES))
    matches = sum(len(each.matches) for each in rules)
    if matches > MAX_ALL_MATCHES:
        spec.problem("rules", f"have {matches} matches together; at most {MAX_ALL_MATCHES}")
    return Route(
        meta=meta,
        parents=parse_parents(spec, meta),
        hostnames=parse_hostnames(spec),
        rules=rules,
    )


def _rule(fields: Fields, meta: Meta) -> RouteRule:
    return RouteRule(
        name=fields.text("name"),
        matches=tuple(_match(each) for each in bounded(fields, "matches", MAX_MATCHES))
        or (CallCondition(),),
        filters=parse_filters(fields, meta, GRPC_FILTERS),
        backends=tuple(
            parse_backend(each, meta, lambda own: parse_filters(own, meta, GRPC_FILTERS))
            for each in bounded(fields, "backendRefs", MAX_ITEMS)
        ),
    )


def _match(fields: Fields) -> CallCondition:
    call = fields.map("method")
    kind = call.choice("type", ("Exact", "RegularExpression"), "Exact")
    is_regex = kind == "RegularExpression"
    found = {}
    for name, form in (("service", _SERVICE), ("method", _METHOD)):
        found[name] = value = call.text(name)
        if len(value) > _MAX_NAME:
            call.problem(name, f"has {len(value)} characters; at most {_MAX_NAME}")
        elif value and is_regex:
            check_regex(call, name)
        elif value and not form.fullmatch(value):
            call.problem(name, f"{value[:80]!r} is no gRPC {name}'s name")
    if fields.has("method") and not any(found.values()):
        call.problem("", "wanted service, method or both")
    return CallCondition(
        service=found["service"],
        method=found["method"],
        is_regex=is_regex,
        headers=parse_values(fields, "headers", is_header=True),
    )
