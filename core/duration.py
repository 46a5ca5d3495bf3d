"""Durations as Linkerd writes them: an integer and ``ms``, ``s``, ``m``, ``h`` or ``d``; bare 0."""

from __future__ import annotations

import re
from typing import Final

_FORM: Final = re.compile(r"([0-9]{1,12})(ms|s|m|h|d)", re.ASCII)
_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def parse_duration(text: str) -> float:
    """Return seconds. Raises ValueError on fractions, signs, blanks and unknown units."""
    if text == "0":
        return 0.0
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a duration; write an integer and ms, s, m, h or d")
    return int(found[1]) * _MS[found[2]] / 1000
