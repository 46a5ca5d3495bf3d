"""How findings are shown: as a list with marks, or as data like ``linkerd check -o json``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

import click

from cli.check.finding import PAGE, Check, Finding, Result
from cli.output import Json

Found = tuple[str, Sequence[tuple[Check, Finding]]]
"""A group's name, and what each of its checks found."""

_MARKS: Final = {Result.GOOD: "√", Result.WARNING: "‼", Result.BAD: "×"}
_COLORS: Final = {Result.GOOD: "green", Result.WARNING: "yellow", Result.BAD: "red"}
_ORDER: Final = (Result.BAD, Result.WARNING, Result.GOOD)


def worst(groups: Sequence[Found]) -> Result:
    """Return the gravest result of all."""
    results = {finding.result for _, found in groups for _, finding in found}
    return next((each for each in _ORDER if each in results), Result.GOOD)


def as_table(groups: Sequence[Found]) -> str:
    """Return groups, marks and remedies for a person."""
    lines = []
    for name, found in groups:
        lines += [name, "-" * len(name)]
        for check, finding in found:
            lines.append(f"{_mark(finding.result)} {check.wanted}")
            lines += [f"    {each}" for each in finding.seen]
            if finding.result is not Result.GOOD:
                lines += [f"    try  {finding.remedy}", f"    see  {PAGE}#{check.name}"]
        lines.append("")
    lines.append(f"Status check results are {_mark(worst(groups))}")
    return "\n".join(lines)


def as_short(groups: Sequence[Found]) -> str:
    """Return a line for each check that is not good; ``ok`` when all are."""
    lines = [
        f"{finding.result.value} {check.name}: {'; '.join(finding.seen) or check.wanted}"
        for _, found in groups
        for check, finding in found
        if finding.result is not Result.GOOD
    ]
    return "\n".join(lines) or "ok"


def as_data(groups: Sequence[Found]) -> Json:
    """Return the shape of Linkerd's output, with the check's name, its remedy and all it saw."""
    return {
        "success": worst(groups) is not Result.BAD,
        "categories": [
            {
                "categoryName": name,
                "checks": [
                    {
                        "name": check.name,
                        "description": check.wanted,
                        "result": finding.result.value,
                        "hint": f"{PAGE}#{check.name}",
                        "error": "" if finding.result is Result.GOOD else "; ".join(finding.seen),
                        "seen": list(finding.seen),
                        "remedy": finding.remedy,
                    }
                    for check, finding in found
                ],
            }
            for name, found in groups
        ],
    }


def _mark(result: Result) -> str:
    mark = _MARKS[result]
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        return click.style(mark, fg=_COLORS[result], bold=True)
    return mark
