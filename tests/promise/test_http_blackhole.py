"""The promise: an endpoint whose packets vanish, and one that is slow, hold nobody else up."""

from __future__ import annotations

import time

import pytest

from tests.support.http_scene import run_scene, seconds

pytestmark = [
    pytest.mark.needs("root", "iptables-nft", "ip", "setpriv", "nsenter", "curl"),
    pytest.mark.slow,
]

SECONDS = 9.0
SLOW_S = 5.0
MAX_STUCK = 60
"""Requests that may go to either before it is known: those of an eighth of a second."""
P99_S = 0.25


def test_a_black_hole_and_a_slow_endpoint() -> None:
    """One server takes 5 s for everything, another's packets vanish; the third has all the load."""
    with run_scene(starts_apps=False) as scene:
        scene.start_app("api-0")
        scene.start_app("api-1")
        scene.start_app("api-2", delay_s=SLOW_S)
        length = seconds(SECONDS)
        caller = scene.call(length, patience=20.0)
        time.sleep(SECONDS / 3)
        scene.drop("api-1")
        seen = caller.result()
        print(seen.calls, dict(seen.counts), f"p99 {seen.p99:.3f}", seen.longest, seen.slow)
        assert seen.failed_of("GET") == 0, (seen.counts, seen.failed)
        assert seen.slow <= MAX_STUCK
        assert seen.p99_of_rest < P99_S
