"""Label selectors: every requirement must hold; without any, everything is selected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

from resources.fields import Fields

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
