"""The promise: a rolling restart of every endpoint is not noticed: no 5xx, no lost request."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.support.http_scene import SERVERS, Scene, run_scene, seconds

pytestmark = [
    pytest.mark.needs("root", "iptables-nft", "ip", "setpriv", "nsenter", "curl"),
    pytest.mark.slow,
]

SECONDS = 9.0


def test_a_rolling_restart_costs_nothing() -> None:
    """Each pod ends as Kubernetes ends it, its removal and its signal at the same moment."""
    with run_scene() as scene:
        length = seconds(SECONDS)
        caller = scene.call(length, posts=5)
        began = time.monotonic()
        time.sleep(0.5)
        restarts = 0
        while time.monotonic() - began < length - 2 or restarts < len(SERVERS):
            _restart(scene, SERVERS[restarts % len(SERVERS)])
            restarts += 1
        seen = caller.result()
        assert restarts >= len(SERVERS)
        assert seen.errors == 0, (seen.counts, seen.failed)
        assert max(scene.noted().values()) == 1
        print(seen.calls, dict(seen.counts), restarts, f"p99 {seen.p99:.3f} s", seen.longest)


def _restart(scene: Scene, name: str) -> None:
    sidecar, app = scene.sidecars[name].program, scene.apps[name]
    scene.announce(*(each for each in SERVERS if each != name))
    os.kill(sidecar.pid, signal.SIGTERM)
    assert sidecar.wait(20) == 0
    # The container of the server ends after its sidecar has drained, as with a native sidecar.
    app.terminate()
    app.wait(10)
    scene.start_app(name)
    scene.start_sidecar(name)
    scene.announce(*SERVERS)
