"""bench.mesh: the manifests that pillion's hops read."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.candidate import Carried, Hop, Side
from bench.certificate import make_credentials
from bench.mesh import write_mesh
from discovery.model import Address
from resources.manifest import parse_manifest


@pytest.mark.parametrize("is_declared", [True, False])
@pytest.mark.parametrize("side", list(Side))
def test_the_mesh_is_ten_manifests_without_a_mistake(
    tmp_path: Path, side: Side, is_declared: bool
) -> None:
    """The memory row speaks of ten."""
    entry, inner = Address("127.9.9.1", 4140), Address("127.9.9.2", 4143)
    backend = Address("127.9.9.2", 8080)
    credentials = make_credentials(tmp_path)
    hop = Hop(side, entry, inner, backend, credentials, resumes=False, is_declared=is_declared)
    write_mesh(hop, tmp_path)
    parsed = parse_manifest("mesh.yaml", (tmp_path / "mesh.yaml").read_bytes())
    assert [document.problems for document in parsed.documents] == [()] * 10
    assert all(document.resource is not None for document in parsed.documents)


@pytest.mark.parametrize("side", list(Side))
def test_the_mesh_of_plaintext_leaves_the_backend_outside(tmp_path: Path, side: Side) -> None:
    """Nobody is asked for a certificate, and neither hop looks into the bytes."""
    entry, inner = Address("127.9.9.1", 4140), Address("127.9.9.2", 4143)
    backend = Address("127.9.9.2", 8080)
    credentials = make_credentials(tmp_path)
    hop = Hop(side, entry, inner, backend, credentials, resumes=False, carried=Carried.PLAIN)
    write_mesh(hop, tmp_path)
    text = (tmp_path / "mesh.yaml").read_text()
    parsed = parse_manifest("mesh.yaml", text.encode())
    assert [document.problems for document in parsed.documents] == [()] * 7
    assert "linkerd.io/inject: disabled" in text
    assert "defaultInboundPolicy: all-unauthenticated" in text
    assert 'opaque-ports: "8080,4143"' in text
