from __future__ import annotations

import pytest

from tests.authority import Mesh, mk_mesh


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Mesh:
    """One authority for all tests that do not change it."""
    return mk_mesh(tmp_path_factory.mktemp("cluster.local") / "authority")


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Mesh:
    """The authority of another trust domain."""
    return mk_mesh(tmp_path_factory.mktemp("west.example") / "authority", "west.example")
