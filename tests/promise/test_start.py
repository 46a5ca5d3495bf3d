"""The promise: a sidecar loads what its first connection needs, and most of the rest never.

Time is measured in bench/; what costs it is held here: what is imported, and when.
"""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path
from typing import Final

import pytest

from identity.files import write_new
from identity.pem import join_pem
from tests.authority import mk_mesh
from tests.sidecars import free_address
from tests.support.sockets import ENVIRONMENT, PILLION

MANIFEST: Final = """\
apiVersion: v1
kind: Pod
metadata: {{name: web-0, namespace: shop, labels: {{linkerd.io/control-plane-ns: linkerd}}}}
spec: {{serviceAccountName: web, containers: [{{name: web, image: web}}]}}
status: {{phase: Running, podIP: {ip}, podIPs: [{{ip: {ip}}}]}}
"""
NEVER: Final = (
    "uvloop",
    *("click", "rich", "structlog", "google", "prometheus_client", "grpc", "re2"),
    *("cryptography.x509", "cryptography.exceptions", "cryptography.hazmat.primitives"),
    *("cli.main", "cli.proxy", "cli.version", "control.issuer_client", "control.dev_issuer"),
    *("cli.workers", "cli.worker", "proxy.net.sibling", "proxy.net.loads", "proxy.admin.joined"),
    *("difflib", "_strptime", "encodings.idna", "unittest", "distutils", "importlib.metadata"),
)
"""What a sidecar whose leaf others renew has no use for until somebody asks."""
LATER: Final = ("h11", "proxy.admin", "policy.explain", "policy.describe")
"""What comes after it accepts connections."""
SECONDS: Final = 60


@pytest.fixture(name="imports", scope="module")
def _imports(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str]]:
    """Return what a real sidecar imports before it serves, and afterwards."""
    place = tmp_path_factory.mktemp("start")
    mesh = mk_mesh(place / "authority")
    identity, leaf = mesh.identity("shop/web"), place / "leaf"
    issued = mesh.leaf(identity, leaf)
    write_new(leaf / "chain.pem", join_pem([issued.leaf, *issued.intermediates]), mode=0o644)
    (leaf / "anchors").mkdir()
    for each in mesh.authority.anchors.iterdir():
        (leaf / "anchors" / each.name).write_bytes(each.read_bytes())
    ip = "127.0.0.1"
    (place / "mesh").mkdir()
    (place / "mesh" / "pod.yaml").write_text(MANIFEST.format(ip=ip))
    return _started(place, leaf, ip)


def _started(place: Path, leaf: Path, ip: str) -> tuple[list[str], list[str]]:
    settings = {
        "PILLION_POD": "shop/web-0",
        "PILLION_MESH_DIR": str(place / "mesh"),
        "PILLION_IDENTITY_DIR": str(leaf),
        "PILLION_CAPTURE": "explicit",
        "PILLION_LOG_FORMAT": "json",
        **{
            f"PILLION_{name}_LISTEN_ADDR": str(free_address(ip))
            for name in ("INBOUND", "OUTBOUND", "ADMIN")
        },
    }
    log = place / "log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [*PILLION, "proxy"],
            env={**ENVIRONMENT, **settings, "PYTHONPROFILEIMPORTTIME": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    try:
        _wait_for(log, "proxy.admin.server")
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0, log.read_text()[-2000:]
    finally:
        process.kill()
        process.communicate()
    before, serving, after = log.read_text().partition('"event": "serving"')
    assert serving, before[-2000:]
    first, second = (re.findall(r"\| +([\w.]+)$", part, re.MULTILINE) for part in (before, after))
    return first, second


def _wait_for(log: Path, text: str) -> None:
    subprocess.run(
        ["sh", "-c", 'until grep -q "$0" "$1"; do sleep 0.05; done', text, str(log)],
        timeout=SECONDS,
        check=True,
    )


def _under(names: list[str], tops: tuple[str, ...]) -> list[str]:
    return [name for name in names if any(f"{name}.".startswith(f"{top}.") for top in tops)]


def test_a_sidecar_never_loads_what_it_does_not_use(imports: tuple[list[str], list[str]]) -> None:
    """Each of these is milliseconds of every start, and memory beside every pod."""
    before, after = imports
    assert _under([*before, *after], NEVER) == []


def test_the_first_connection_does_not_wait_for_the_admin_port(
    imports: tuple[list[str], list[str]],
) -> None:
    """It is loaded once there is time, before anybody asks."""
    before, after = imports
    assert _under(before, LATER) == []
    assert "proxy.admin.server" in after


def test_the_look_at_imports_sees_them(imports: tuple[list[str], list[str]]) -> None:
    """Nothing above passes because nothing was seen."""
    assert {"proxy.app", "proxy.net.loop", "yaml", "cli.sidecar"} <= set(imports[0])
