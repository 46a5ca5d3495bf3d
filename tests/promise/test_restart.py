"""A sidecar that is killed and started again: what it had is lost, nothing else is."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import pytest

from cli.demo.host import APP_UID
from cli.demo.mesh import Mesh
from cli.demo.pods import Rig
from cli.demo.runtime import find_runtime
from redirect.options import PROXY_UID
from tests.support.processes import wait_until

pytestmark = [
    pytest.mark.needs("root", "iptables-nft", "ip", "setpriv", "nsenter", "curl"),
    pytest.mark.slow,
]

STORE = "10.96.0.10"


@pytest.mark.parametrize("which", ["web-0", "store-0"])
def test_traffic_resumes_after_a_sidecar_was_killed(which: str) -> None:
    """By kill -9, on either side, started again with its key and rules as they lie there."""
    with tempfile.TemporaryDirectory(prefix="pillion-test-", dir="/tmp") as name, Rig() as rig:
        place = Path(name)
        place.chmod(0o755)
        mesh = Mesh(rig, rig.cluster("a"), find_runtime(PROXY_UID, place), place)
        mesh.workload("web-0", "web")
        mesh.workload("store-0", "store")
        mesh.service("store", "store", [STORE], {80: 8000})
        mesh.write()
        mesh.start_issuer()
        sidecars = {}
        for pod in ("web-0", "store-0"):
            mesh.capture(pod)
            sidecars[pod] = mesh.start_sidecar(pod)
        for sidecar in sidecars.values():
            sidecar.await_ready()
        www = place / "www"
        www.mkdir(mode=0o755)
        (www / "page").write_text("still here\n")
        sidecars["store-0"].pod.host.spawn(
            ["/usr/bin/python3", "-m", "http.server", "8000", "-d", str(www)], uid=APP_UID
        )
        curl = ["curl", "-sS", "-m", "5", f"http://{STORE}/page"]
        client = sidecars["web-0"].pod.host

        def answers() -> bool:
            return client.run(curl, uid=APP_UID).stdout == "still here\n"

        wait_until(answers, seconds=15, what="the store answers")
        killed = sidecars[which]
        os.kill(killed.program.pid, signal.SIGKILL)
        killed.program.wait(10)
        assert not answers()
        mesh.start_sidecar(which).await_ready()
        wait_until(answers, seconds=15, what="the store answers again")
