"""Label selectors: every requirement must hold; without any, everything is selected."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, final

from core.record import dataclass
from resources.fields import Fields

_COMMA: Final = re.compile(r",(?![^(]*\))")
_WRITTEN: Final = re.compile(
    r"(?P<not>!)?\s*(?P<key>[A-Za-z0-9./_-]{1,317})\s*"
    r"(?:(?P<operator>==|=|!=|\bin\b|\bnotin\b)\s*"
    r"(?P<open>\()?(?P<values>[A-Za-z0-9._, -]*)(?(open)\)))?",
    re.ASCII,
)
_OPERATORS: Final = ("In", "NotIn", "Exists", "DoesNotExist")


@final
@dataclass(frozen=True, slots=True)
class Requirement:
    """One requirement on a label (Kubernetes LabelSelectorRequirement)."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether it holds of these labels; an absent label is not in any set."""
        value = labels.get(self.key)
        if self.operator == "Exists":
            return value is not None
        if self.operator == "DoesNotExist":
            return value is None
        return (value in self.values) is (self.operator == "In")


@final
@dataclass(frozen=True, slots=True)
class Selector:
    """A label selector."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether it selects an object with these labels."""
        return all(each.holds(labels) for each in self.requirements)


def selector_of(text: str) -> Selector:
    """Read a selector as kubectl takes it: ``a=b,c!=d,e,!f,g in (h,i),j notin (k)``.

    Raises ValueError.
    """
    found = []
    for each in _COMMA.split(text):
        part = each.strip()
        if not part:
            continue
        match = _WRITTEN.fullmatch(part)
        if match is None:
            raise ValueError(f"{part[:80]!r} is no requirement, as a=b, a!=b, a, !a or a in (b) is")
        key, operator = match["key"], match["operator"]
        values = frozenset(value.strip() for value in (match["values"] or "").split(","))
        if operator is None:
            found.append(Requirement(key, "DoesNotExist" if match["not"] else "Exists"))
        elif match["not"]:
            raise ValueError(f"{part[:80]!r} is no requirement; ! stands before a key alone")
        else:
            name = "NotIn" if operator in {"!=", "notin"} else "In"
            found.append(Requirement(key, name, values))
    return Selector(tuple(found))


def parse_selector(fields: Fields) -> Selector:
    """Read a label selector."""
    fields.only("matchLabels", "matchExpressions")
    found = [
        Requirement(key, "In", frozenset({value}))
        for key, value in sorted(fields.text_map("matchLabels").items())
    ]
    for each in fields.maps("matchExpressions"):
        key = each.text("key", required=True)
        operator = each.choice("operator", _OPERATORS, required=True)
        values = each.texts("values")
        if operator in {"In", "NotIn"} and not values:
            each.problem("values", f"{operator} wants one value at least")
        if operator in {"Exists", "DoesNotExist"} and values:
            each.problem("values", f"{operator} takes no values")
        found.append(Requirement(key, operator, frozenset(values)))
    return Selector(tuple(found))
