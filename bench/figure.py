"""Numbers for people: three digits that mean something."""

from __future__ import annotations


def figure(value: float) -> str:
    """Return ``value`` with about three significant digits and thousands set apart."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}"
