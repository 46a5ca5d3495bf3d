"""The existing name nearest to a mistyped one, for messages that help."""

from __future__ import annotations

from collections.abc import Iterable


def nearest_name(wrong: str, names: Iterable[str]) -> str | None:
    """Return the name most like ``wrong``, or None when none is near."""
    import difflib  # noqa: PLC0415 - most names are right

    found = difflib.get_close_matches(wrong, list(names), n=1, cutoff=0.7)
    return found[0] if found else None
