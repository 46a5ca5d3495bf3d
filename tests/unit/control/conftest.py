"""These suites run on both event loops: watching a descriptor is where they differ."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

from proxy.net.loop import Loop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return how to make each loop."""
    return {"asyncio": asyncio.new_event_loop, "ours": Loop}
