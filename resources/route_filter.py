"""Filters of routes, with the rules of the Gateway API's CRDs."""

from __future__ import annotations

from typing import Final

from resources.fields import Fields
from resources.kind import Meta
from resources.route import (
    CorsFilter,
    HeaderEdit,
    MirrorFilter,
    PathEdit,
    RedirectFilter,
    RewriteFilter,
    RouteFilter,
    UnknownFilter,
)
from resources.route_fields import (
    MAX_ITEMS,
    bounded,
    header_name,
    is_header_name,
    is_hostname,
    parse_backend,
)

HTTP_FILTERS: Final = {
    "RequestHeaderModifier": "requestHeaderModifier",
    "ResponseHeaderModifier": "responseHeaderModifier",
    "RequestMirror": "requestMirror",
    "RequestRedirect": "requestRedirect",
    "URLRewrite": "urlRewrite",
    "CORS": "cors",
    "ExternalAuth": "externalAuth",
    "ExtensionRef": "extensionRef",
}
"""Type of filter → the field that holds it."""
GRPC_FILTERS: Final = {
    kind: HTTP_FILTERS[kind]
    for kind in ("RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "ExtensionRef")
}

_REPEATABLE: Final = frozenset({"RequestMirror", "ExtensionRef"})
_STATUSES: Final = frozenset({301, 302, 303, 307, 308})
_MAX_PATH: Final = 1024
_MAX_VALUE: Final = 4096


def parse_filters(fields: Fields, meta: Meta, known: dict[str, str]) -> tuple[RouteFilter, ...]:
    """Read ``filters``, each of one of the ``known`` types."""
    found: list[RouteFilter] = []
    seen: set[str] = set()
    for each in bounded(fields, "filters", MAX_ITEMS):
        kind = each.choice("type", known, required=True)
        if not kind:
            continue
        for other, name in known.items():
            if each.has(name) is not (other == kind):
                wrong = "is missing" if other == kind else f"does not belong to a {kind}"
                each.problem(name, wrong)
        if kind in seen and kind not in _REPEATABLE:
            each.problem("type", f"{kind} stands here twice")
        seen.add(kind)
        found.append(_parse(each.map(known[kind]), meta, kind))
    if {"RequestRedirect", "URLRewrite"} <= seen:
        fields.problem("filters", "RequestRedirect and URLRewrite exclude each other")
    return tuple(found)


def replaces_prefix(filters: tuple[RouteFilter, ...]) -> bool:
    """Whether one of them replaces the prefix that was matched."""
    return any(
        isinstance(each, RedirectFilter | RewriteFilter)
        and each.path is not None
        and each.path.type == "ReplacePrefixMatch"
        for each in filters
    )


def _parse(fields: Fields, meta: Meta, kind: str) -> RouteFilter:
    if kind in {"RequestHeaderModifier", "ResponseHeaderModifier"}:
        return _header_edit(fields, is_response=kind.startswith("Response"))
    if kind == "RequestRedirect":
        return _redirect(fields)
    if kind == "URLRewrite":
        return RewriteFilter(hostname=_hostname(fields), path=_path_edit(fields))
    if kind == "RequestMirror":
        return _mirror(fields, meta)
    if kind == "CORS":
        return _cors(fields)
    return UnknownFilter(kind)


def _header_edit(fields: Fields, *, is_response: bool) -> HeaderEdit:
    removed = fields.texts("remove")
    if len(removed) > MAX_ITEMS:
        fields.problem("remove", f"has {len(removed)} entries; at most {MAX_ITEMS}")
    actions = [each.lower() for each in removed]
    for name in removed:
        if not is_header_name(name):
            fields.problem("remove", f"{name[:80]!r} is no header's name")
    pairs: dict[str, tuple[tuple[str, str], ...]] = {}
    for action in ("set", "add"):
        values = []
        for each in bounded(fields, action, MAX_ITEMS):
            name, value = header_name(each, "name"), each.text("value", required=True)
            if len(value) > _MAX_VALUE or any(ord(c) < 32 and c != "\t" for c in value):
                each.problem("value", f"is no header's value of at most {_MAX_VALUE} characters")
            values.append((name, value))
            actions.append(name.lower())
        pairs[action] = tuple(values)
    for name in sorted({each for each in actions if each and actions.count(each) > 1}):
        fields.problem("", f"header {name[:80]!r} has more than one action")
    return HeaderEdit(is_response=is_response, set=pairs["set"], add=pairs["add"], remove=removed)


def _redirect(fields: Fields) -> RedirectFilter:
    status = fields.integer("statusCode", 301, 308)
    if status is not None and status not in _STATUSES:
        fields.problem("statusCode", f"{status} is none of 301, 302, 303, 307 and 308")
    return RedirectFilter(
        scheme=fields.choice("scheme", ("http", "https")),
        hostname=_hostname(fields),
        path=_path_edit(fields),
        port=fields.port("port"),
        status=302 if status is None else status,
    )


def _hostname(fields: Fields) -> str:
    name = fields.text("hostname")
    if name and not is_hostname(name):
        fields.problem("hostname", f"{name[:80]!r} is no host's name without wildcard")
    return name


def _path_edit(fields: Fields) -> PathEdit | None:
    if not fields.has("path"):
        return None
    path = fields.map("path")
    kinds = {"ReplaceFullPath": "replaceFullPath", "ReplacePrefixMatch": "replacePrefixMatch"}
    kind = path.choice("type", kinds, required=True)
    for other, name in kinds.items():
        if kind and path.has(name) is not (other == kind):
            wrong = "is missing" if other == kind else f"does not belong to {kind}"
            path.problem(name, wrong)
    value = path.text(kinds[kind]) if kind else ""
    if len(value) > _MAX_PATH:
        path.problem(kinds[kind], f"has {len(value)} characters; at most {_MAX_PATH}")
    return PathEdit(kind, value)


def _mirror(fields: Fields, meta: Meta) -> MirrorFilter:
    if not fields.has("backendRef"):
        fields.problem("backendRef", "is missing")
    if fields.has("percent") and fields.has("fraction"):
        fields.problem("fraction", "cannot stand beside percent; keep one")
    numerator, denominator = 1, 1
    if fields.has("percent"):
        numerator, denominator = fields.integer("percent", 0, 100) or 0, 100
    elif fields.has("fraction"):
        fraction = fields.map("fraction")
        numerator = fraction.integer("numerator", 0, 2**31 - 1, required=True) or 0
        denominator = fraction.integer("denominator", 1, 2**31 - 1) or 100
        if numerator > denominator:
            fraction.problem("numerator", f"{numerator} is more than {denominator}")
    backend = parse_backend(fields.map("backendRef"), meta)
    return MirrorFilter(backend=backend, numerator=numerator, denominator=denominator)


def _cors(fields: Fields) -> CorsFilter:
    lists = {}
    for name, most in (
        ("allowOrigins", 64),
        ("allowMethods", 9),
        ("allowHeaders", 64),
        ("exposeHeaders", 64),
    ):
        given = fields.texts(name)
        if len(given) > most:
            fields.problem(name, f"has {len(given)} entries; at most {most}")
        if "*" in given and len(given) > 1 and name != "exposeHeaders":
            fields.problem(name, "* stands alone or not at all")
        lists[name] = given
    for origin in lists["allowOrigins"]:
        if origin != "*" and not origin.startswith(("http://", "https://")):
            fields.problem("allowOrigins", f"{origin[:80]!r} is no origin, as https://a.example is")
    max_age = fields.integer("maxAge", 1, 2**31 - 1)
    return CorsFilter(
        allow_origins=lists["allowOrigins"],
        allow_credentials=fields.flag("allowCredentials"),
        allow_methods=lists["allowMethods"],
        allow_headers=lists["allowHeaders"],
        expose_headers=lists["exposeHeaders"],
        max_age_s=5 if max_age is None else max_age,
    )
