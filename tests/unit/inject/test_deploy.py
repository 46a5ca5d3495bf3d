"""deploy/: what is rendered is what lies there, and it is a mesh that sidecars can read.

``UPDATE_GOLDEN=1 pytest tests/unit/inject`` writes deploy/example.yaml anew.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from cli import version
from cli.main import pillion
from resources.sources.directory import DirectorySource
from tests.conftest import IS_CI, ROOT

PLAIN = ROOT / "deploy/example.yaml"
INJECTED = ("api", "web")


def rendered() -> str:
    """Return what kustomize makes of the example; what lies there, where kubectl is not."""
    if shutil.which("kubectl") is None:
        return PLAIN.read_text()
    done = subprocess.run(
        ["kubectl", "kustomize", str(ROOT / "deploy/example")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def objects(text: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the objects of a manifest by kind and name."""
    found = [each for each in yaml.load_all(text, Loader=yaml.CSafeLoader) if each]
    return {(each["kind"], each["metadata"]["name"]): each for each in found}


def test_the_plain_manifest_is_the_example_rendered_and_injected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every character, so that neither is changed alone."""
    own = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    monkeypatch.setattr(version, "_installed", lambda distribution: own)
    result = CliRunner().invoke(pillion, ["inject", "-"], input=rendered().encode())
    assert result.exit_code == 0, result.output
    if os.environ.get("UPDATE_GOLDEN") and not IS_CI:
        PLAIN.write_text(result.stdout)
    assert result.stdout == PLAIN.read_text()


def test_the_plain_manifest_is_whole() -> None:
    """Sidecars in both workloads, all they mount, and one namespace for everything."""
    found = objects(PLAIN.read_text())
    mounted = {("ConfigMap", "pillion-mesh"), ("ConfigMap", "linkerd-identity-trust-roots")}
    assert mounted <= {*found}
    for name in INJECTED:
        spec = found["Deployment", name]["spec"]["template"]["spec"]
        assert [each["name"] for each in spec["initContainers"]] == [
            "linkerd-init",
            "linkerd-proxy",
        ]
        assert spec["serviceAccountName"] == name
        assert ("ServiceAccount", name) in found
        (projected,) = [each["projected"] for each in spec["volumes"] if "projected" in each]
        assert projected["sources"][0]["secret"]["name"] == f"{name}-tls"
    namespaces = {each["metadata"].get("namespace", "shop") for each in found.values()}
    assert namespaces == {"shop"}


def test_the_mesh_of_a_namespace_can_be_read(tmp_path: Path) -> None:
    """The ConfigMap's files, as a sidecar finds them mounted."""
    for name, text in objects(PLAIN.read_text())["ConfigMap", "pillion-mesh"]["data"].items():
        (tmp_path / name).write_text(text)
    scan = DirectorySource(str(tmp_path)).scan(datetime.now(UTC))
    assert scan.problems == ()
    assert [str(each.meta.key) for each in scan.applied] == ["ConfigMap linkerd/pillion-config"]
