"""The promise: an endpoint of three at ten times the latency gets less than a tenth of the load.

At full length haproxy, with ``leastconn`` and no sidecars, has the same load beside it.
"""

from __future__ import annotations

import os
import time

import pytest

from tests.support.http_scene import APP_PORT, SERVERS, Scene, run_scene, seconds

pytestmark = [
    pytest.mark.needs("root", "iptables-nft", "ip", "setpriv", "nsenter", "curl", "haproxy"),
    pytest.mark.slow,
]

SECONDS = 8.0
FAST_S, SLOW_S = 0.01, 0.1
MAX_SHARE = 0.1
HAPROXY_PORT = 9000
OTHERS = 1_000_000
"""Where the numbers of haproxy's requests begin."""


def test_a_slow_endpoint_gets_little() -> None:
    """500 requests a second, of 10 ms at two endpoints and 100 ms at the third."""
    with run_scene(starts_apps=False) as scene:
        for name in SERVERS:
            scene.start_app(name, delay_s=SLOW_S if name == "api-2" else FAST_S)
        seen = scene.call(seconds(SECONDS)).result()
        noted = scene.noted("api-2")
        share = sum(noted.values()) / seen.calls
        print(f"{seen.calls} requests, share {share:.1%}, p50 {seen.p50:.3f}, p99 {seen.p99:.3f} s")
        assert set(seen.counts) == {"GET 200"}
        assert 0 < share < MAX_SHARE
        if os.environ.get("PILLION_FULL_LENGTH"):
            _beside_haproxy(scene)


def _beside_haproxy(scene: Scene) -> None:
    lines = ["defaults", "mode http", "timeout connect 1s", "timeout client 9s"]
    lines += ["timeout server 9s", "listen api", f"bind 127.0.0.1:{HAPROXY_PORT}"]
    lines += ["balance leastconn"]
    lines += [f"server {name} {scene.mesh.pods[name].ip}:{APP_PORT}" for name in SERVERS]
    file = scene.place / "haproxy.cfg"
    file.write_text("\n".join([*lines, ""]))
    # As the sidecar's own user, whose connections are not captured.
    scene.mesh.pods["web-0"].host.spawn(["haproxy", "-f", str(file)], uid=2102)
    time.sleep(1.0)
    seen = scene.call(seconds(SECONDS), first=OTHERS, to=("127.0.0.1", HAPROXY_PORT)).result()
    slow = sum(number >= OTHERS for number in scene.noted("api-2"))
    assert set(seen.counts) == {"GET 200"}
    print(f"haproxy: share {slow / seen.calls:.1%}, p50 {seen.p50:.3f}, p99 {seen.p99:.3f} s")
