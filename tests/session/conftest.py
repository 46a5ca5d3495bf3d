"""Two identities of one mesh for session tests, which all run on both event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from identity.generation import Generation
from proxy.net.loop import Loop
from proxy.wire.tls_library import CRYPTOGRAPHY, PYTHON
from tests.authority import Mesh, mk_mesh
from tests.sidecars import SETTINGS


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every test here on both loops: they differ in how they treat readers and closing."""
    return {"asyncio": asyncio.new_event_loop, "ours": Loop}


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Mesh:
    """Return one trust domain."""
    directory: Path = tmp_path_factory.mktemp("mesh")
    return mk_mesh(directory)


@pytest.fixture(params=[PYTHON, CRYPTOGRAPHY])
def tls_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test's sidecars on each TLS library; returns its name."""
    name: str = request.param
    monkeypatch.setitem(SETTINGS, "PILLION_TLS_ENGINE", name)
    return name


@pytest.fixture
def web(mesh: Mesh) -> Generation:
    """Return the client's generation."""
    return mesh.generation("shop/web")


@pytest.fixture
def api(mesh: Mesh) -> Generation:
    """Return the server's generation."""
    return mesh.generation("shop/api")
