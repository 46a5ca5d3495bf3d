"""Two identities of one mesh for session tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from identity.generation import Generation
from tests.authority import Mesh, mk_mesh


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Mesh:
    """Return one trust domain."""
    directory: Path = tmp_path_factory.mktemp("mesh")
    return mk_mesh(directory)


@pytest.fixture
def web(mesh: Mesh) -> Generation:
    """Return the client's generation."""
    return mesh.generation("shop/web")


@pytest.fixture
def api(mesh: Mesh) -> Generation:
    """Return the server's generation."""
    return mesh.generation("shop/api")
