"""The promise: where everything fails, retries add a fifth and ten a second, and no more."""

from __future__ import annotations

import pytest

from tests.support.http_scene import SERVERS, run_scene, seconds

pytestmark = [
    pytest.mark.needs("root", "iptables-nft", "ip", "setpriv", "nsenter", "curl"),
    pytest.mark.slow,
]

SECONDS = 9.0
MAX_AMPLIFICATION = 1.25


def test_no_storm_when_everything_fails() -> None:
    """Three retries are asked for, every answer is a 503, and the budget is Linkerd's own."""
    annotations = {"retry.linkerd.io/http": "5xx", "retry.linkerd.io/limit": "3"}
    with run_scene(annotations, starts_apps=False) as scene:
        for name in SERVERS:
            scene.start_app(name, status=503)
        seen = scene.call(seconds(SECONDS)).result()
        attempts = sum(scene.noted().values())
        assert seen.counts == {"GET 503": seen.calls}
        amplification = attempts / seen.calls
        print(seen.calls, attempts, f"{amplification:.3f}", f"p99 {seen.p99:.3f} s")
        assert 1.1 < amplification <= MAX_AMPLIFICATION
        for name, wanted in (("requests", attempts - seen.calls), ("overflow", 1.0)):
            assert scene.metric(f"outbound_http_route_retry_{name}_total") >= wanted
