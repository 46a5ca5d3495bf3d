"""``pillion check`` in a pod: without rules, with wrong ones, and beside a sidecar that serves."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.demo.mesh import Mesh
from cli.demo.pods import Rig
from cli.demo.runtime import Runtime, find_runtime
from redirect.options import PROXY_UID

pytestmark = [
    pytest.mark.needs("root", "iptables-nft", "ip", "setpriv", "nsenter", "curl"),
    pytest.mark.slow,
]


@dataclass(frozen=True)
class Scene:
    """A mesh in which nothing runs but the issuer."""

    mesh: Mesh
    runtime: Runtime

    def check(
        self, pod: str, *options: str, uid: int | None = None
    ) -> tuple[int, dict[str, dict[str, Any]]]:
        """Run the check in a pod; return exit status, and check → what was found."""
        done = self.mesh.pods[pod].host.run(
            self.runtime.pillion(
                *("check", "--mesh", str(self.mesh.directory), "--as", f"shop/{pod}"),
                *("-o", "json", *options),
            ),
            env=self.runtime.environment,
            uid=uid,
            timeout_s=60,
        )
        assert done.stdout, done.stderr
        categories = json.loads(done.stdout)["categories"]
        found = {each["name"]: each for category in categories for each in category["checks"]}
        return done.returncode, found


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """Two pods, and an issuer."""
    with tempfile.TemporaryDirectory(prefix="pillion-test-", dir="/tmp") as name, Rig() as rig:
        place = Path(name)
        place.chmod(0o755)
        runtime = find_runtime(PROXY_UID, place)
        mesh = Mesh(rig, rig.cluster("a"), runtime, place)
        mesh.workload("web-0", "web")
        mesh.workload("bare-0", "bare")
        mesh.service("web", "web", ["10.96.0.10"], {80: 8000})
        mesh.write()
        mesh.start_issuer()
        yield Scene(mesh, runtime)


def test_a_pod_without_anything(scene: Scene) -> None:
    """What is missing is said with what brings it."""
    status, found = scene.check("bare-0")
    assert status == 1
    assert found["capture-rules"]["remedy"].startswith("pillion redirect install, if ")
    assert found["ports-open"]["result"] == "error"
    assert found["sidecar-answers"]["result"] == "error"
    assert "sidecar-ready" not in found
    assert "capture-fits" not in found
    status, found = scene.check("bare-0", uid=PROXY_UID)
    assert found["capture-rules"]["result"] == "warning"
    assert "only be read by root" in found["capture-rules"]["error"]


def test_rules_for_another_sidecar_are_told(scene: Scene) -> None:
    """Ports and user have to be those of the sidecar, or nothing works."""
    scene.mesh.capture("bare-0", "--proxy-uid", "2103", "--inbound-port", "5143")
    status, found = scene.check("bare-0", "--pre")
    assert status == 1
    assert found["capture-rules"]["result"] == "success"
    fits = found["capture-fits"]
    assert fits["seen"] == [
        "they lead to 4140, 5143; the sidecar listens on 4140, 4143",
        "they exempt uid 2103; the sidecar runs as 2102",
    ]
    assert fits["remedy"].endswith("--inbound-port 4143 --outbound-port 4140 --proxy-uid 2102")


def test_a_pod_whose_sidecar_serves(scene: Scene) -> None:
    """Nothing is worse than a warning, before the start and after it."""
    scene.mesh.capture("web-0")
    status, found = scene.check("web-0", "--pre")
    assert status == 0, found
    assert found["ports-free"]["result"] == "success"
    scene.mesh.start_sidecar("web-0").await_ready()
    status, found = scene.check("web-0")
    assert status == 0, found
    for name in ("capture-rules", "capture-fits", "ports-open", "sidecar-answers", "sidecar-ready"):
        assert found[name]["result"] == "success", found[name]
    assert "web.shop.serviceaccount" in found["sidecar-certificate"]["seen"][0]
    assert "python" in found["ports-open"]["seen"][0]
    status, found = scene.check("web-0", "--pre")
    assert status == 1
    assert "(pid " in found["ports-free"]["error"]
