"""The session tests' identities and loops, for peers that are programs."""

from __future__ import annotations

from tests.session.conftest import api, mesh, pytest_asyncio_loop_factories, tls_engine, web

__all__ = ["api", "mesh", "pytest_asyncio_loop_factories", "tls_engine", "web"]
