"""core.clock: the machine's clock."""

from __future__ import annotations

from datetime import timedelta

from core.clock import SystemClock


def test_wall_time_is_in_utc() -> None:
    """Certificates are compared in UTC."""
    assert SystemClock().now().utcoffset() == timedelta(0)


def test_monotonic_time_never_goes_back() -> None:
    """Deadlines are made of it."""
    clock = SystemClock()
    seen = [clock.monotonic() for _ in range(100)]
    assert seen == sorted(seen)
