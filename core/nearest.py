"""The existing name nearest to a mistyped one, for messages that help."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest_name(wrong: str, names: Iterable[str]) -> str | None:
    """Return the name most like ``wrong``, or None when none is near."""
    found = difflib.get_close_matches(wrong, list(names), n=1, cutoff=0.7)
    return found[0] if found else None
