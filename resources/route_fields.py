"""What HTTPRoute and GRPCRoute have in common: parents, hostnames, backends, header matches.

The rules are those of the Gateway API's CRDs (v1, both channels) with their defaults.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from core.errors import ResourceError
from resources.authorization_policy import GATEWAY_GROUP
from resources.fields import Fields
from resources.kind import Meta
from resources.object_name import check_namespace
from resources.regex import Regex
from resources.route import BackendRef, ParentRef, RouteFilter, ValueCondition

MAX_PARENTS: Final = 32
MAX_RULES: Final = 16
MAX_MATCHES: Final = 64
"""Of one rule."""
MAX_ALL_MATCHES: Final = 128
"""Of all rules together."""
MAX_ITEMS: Final = 16
"""Hostnames, header and query matches, filters, backends: each."""
MAX_WEIGHT: Final = 1_000_000

_MAX_NAME: Final = 253
_KIND: Final = re.compile(r"[a-zA-Z](?:[-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?", re.ASCII)
_SUBDOMAIN: Final = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*", re.ASCII
)
_ADDRESS: Final = re.compile(r"[0-9.]+", re.ASCII)
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_|~`]{1,256}", re.ASCII)
_DURATION: Final = re.compile(r"(?:[0-9]{1,5}(?:h|m|s|ms)){1,4}", re.ASCII)
_STEP: Final = re.compile(r"([0-9]{1,5})(ms|h|m|s)", re.ASCII)
_MS: Final = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


def parse_parents(spec: Fields, meta: Meta) -> tuple[ParentRef, ...]:
    """Read ``parentRefs``."""
    found: list[ParentRef] = []
    for fields in bounded(spec, "parentRefs", MAX_PARENTS):
        parent = ParentRef(
            group=fields.text("group", GATEWAY_GROUP) if not _is_core(fields) else "",
            kind=check(fields, "kind", _KIND, "is no kind", "Gateway"),
            namespace=check_namespace(fields, "namespace", meta.namespace),
            name=_bounded_name(fields),
            section=check(fields, "sectionName", _SUBDOMAIN, "is no section's name"),
            port=fields.port("port"),
        )
        if parent.kind == "EgressNetwork" and parent.port is None and not fields.has("port"):
            fields.problem("port", "is missing; an EgressNetwork is attached to by port")
        if parent in found:
            fields.problem("", "is the same parent as another; give sectionName or port")
        found.append(parent)
    return tuple(found)


def parse_hostnames(spec: Fields) -> tuple[str, ...]:
    """Read ``hostnames``."""
    given = spec.texts("hostnames")
    if len(given) > MAX_ITEMS:
        spec.problem("hostnames", f"has {len(given)} entries; at most {MAX_ITEMS}")
    for name in given:
        if not is_hostname(name, may_be_wild=True):
            spec.problem("hostnames", f"{name[:80]!r} is no host's name, as x.app and *.app are")
    return given


def is_hostname(name: str, *, may_be_wild: bool = False) -> bool:
    """Whether ``name`` is a DNS name in lower case, no address, perhaps with ``*.`` in front."""
    rest = name.removeprefix("*.") if may_be_wild else name
    return bool(_SUBDOMAIN.fullmatch(rest)) and not _ADDRESS.fullmatch(rest)


def parse_backend(
    fields: Fields, meta: Meta, filters: Callable[[Fields], tuple[RouteFilter, ...]] | None = None
) -> BackendRef:
    """Read a backend reference; ``filters`` reads those that it may have."""
    group = "" if _is_core(fields) else fields.text("group")
    kind = check(fields, "kind", _KIND, "is no kind", "Service")
    port = fields.port("port")
    if (group, kind) == ("", "Service") and not fields.has("port"):
        fields.problem("port", "is missing; a Service is sent to by its port")
    weight = fields.integer("weight", 0, MAX_WEIGHT)
    return BackendRef(
        group=group,
        kind=kind,
        namespace=check_namespace(fields, "namespace", meta.namespace),
        name=_bounded_name(fields),
        port=port,
        weight=1 if weight is None else weight,
        filters=filters(fields) if filters is not None else (),
    )


def parse_values(fields: Fields, name: str, *, is_header: bool) -> tuple[ValueCondition, ...]:
    """Read header or query matches; a name may stand there once."""
    found: dict[str, ValueCondition] = {}
    for each in bounded(fields, name, MAX_ITEMS):
        kind = each.choice("type", ("Exact", "RegularExpression"), "Exact")
        given = header_name(each, "name") if is_header else each.text("name", required=True)
        value = each.text("value", required=True)
        if len(value) > 4096:
            each.problem("value", f"has {len(value)} characters; at most 4096")
        if kind == "RegularExpression":
            check_regex(each, "value")
        key = given.lower() if is_header else given
        if key in found:
            each.problem("name", f"{given[:80]!r} is matched twice")
        found.setdefault(key, ValueCondition(given, value, kind == "RegularExpression"))
    return tuple(found.values())


def header_name(fields: Fields, name: str) -> str:
    """Return the header name in field ``name`` (RFC 9110 token)."""
    return check(fields, name, _HEADER, "is no header's name", required=True)


def is_header_name(text: str) -> bool:
    """Whether ``text`` can be a header's name."""
    return _HEADER.fullmatch(text) is not None


def check_regex(fields: Fields, name: str) -> None:
    """Note what is wrong with the expression in field ``name``."""
    try:
        Regex(fields.text(name))
    except ResourceError as error:
        fields.problem(name, str(error))


def duration(fields: Fields, name: str) -> float | None:
    """Return a duration in seconds (Gateway API GEP-2257); None when absent or wrong."""
    text = fields.text(name)
    if not text:
        return None
    if not _DURATION.fullmatch(text):
        fields.problem(name, f"{text[:80]!r} is no duration, as 1m30s and 500ms are")
        return None
    return sum(int(number) * _MS[unit] for number, unit in _STEP.findall(text)) / 1000


def bounded(fields: Fields, name: str, most: int) -> list[Fields]:
    """Return a list of maps, and note when it is longer than ``most``."""
    found = fields.maps(name)
    if len(found) > most:
        fields.problem(name, f"has {len(found)} entries; at most {most}")
    return found


def check(
    fields: Fields,
    name: str,
    form: re.Pattern[str],
    complaint: str,
    default: str = "",
    *,
    required: bool = False,
) -> str:
    """Return the text in field ``name``, which must have a form when it is there."""
    text = fields.text(name, default, required=required)
    if text and not form.fullmatch(text):
        fields.problem(name, f"{text[:80]!r} {complaint}")
    return text


def _bounded_name(fields: Fields) -> str:
    text = fields.text("name", required=True)
    if len(text) > _MAX_NAME:
        fields.problem("name", f"has {len(text)} characters; at most {_MAX_NAME}")
    return text


def _is_core(fields: Fields) -> bool:
    return fields.has("group") and fields.text("group") in {"", "core"}
