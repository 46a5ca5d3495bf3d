"""The promise: GETs are answered while servers, sidecars or both are killed, and POSTs go once.

500 requests a second go to three pods, of which two are well at any time.
"""

from __future__ import annotations

import time

import pytest

from tests.support.http_scene import Scene, run_scene, seconds

pytestmark = [
    pytest.mark.needs("root", "iptables-nft", "ip", "setpriv", "nsenter", "curl"),
    pytest.mark.slow,
]

SECONDS = 10.0
POSTS = 5
"""Every fifth request is one."""
IN_FLIGHT = 25
"""POSTs that a kill may find under way: those of a quarter of a second."""


def test_a_kill_costs_no_get() -> None:
    """A server, a sidecar, then both of a pod are killed, and each is started again."""
    with run_scene() as scene:
        length = seconds(SECONDS)
        caller = scene.call(length, posts=POSTS)
        kills = 0
        began = time.monotonic()
        while time.monotonic() - began < length - SECONDS + 1:
            kills += _kill_each(scene)
        seen = caller.result()
        noted = scene.noted()
        assert seen.failed_of("GET") == 0, (seen.counts, seen.failed)
        assert seen.failed_of("POST") <= IN_FLIGHT * kills, (seen.counts, seen.failed)
        posts = {number: many for number, many in noted.items() if number % POSTS == 0}
        assert max(posts.values()) == 1
        balancer = "outbound_http_balancer"
        assert scene.metric(f"{balancer}_queue_requests_total") >= seen.calls
        assert scene.metric(f"{balancer}_endpoints") == scene.metric(f"{balancer}_p2c_endpoints")
        assert scene.metric(f"pillion_{balancer}_unreachable_total") >= kills
        assert scene.metric("outbound_http_route_retry_successes_total") >= kills
        print(seen.calls, dict(seen.counts), kills, f"p99 {seen.p99:.3f} s", seen.longest)


def _kill_each(scene: Scene) -> int:
    time.sleep(1.0)
    scene.kill_app("api-0")
    time.sleep(0.5)
    scene.start_app("api-0")
    time.sleep(0.5)
    scene.kill_sidecar("api-1")
    time.sleep(0.5)
    scene.start_sidecar("api-1")
    time.sleep(0.5)
    scene.kill_sidecar("api-2")
    scene.kill_app("api-2")
    time.sleep(0.5)
    scene.start_sidecar("api-2")
    scene.start_app("api-2")
    time.sleep(0.5)
    return 3
