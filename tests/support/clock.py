"""A clock that stands still until it is moved."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import final


@final
class FakeClock:
    """Time as the test says (core.clock.Clock)."""

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = float(int(time.time())) if seconds is None else seconds

    def now(self) -> datetime:
        """Return the wall time."""
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        """Return the same seconds."""
        return self.seconds
