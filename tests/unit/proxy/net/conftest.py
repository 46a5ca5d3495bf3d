"""Both event loops, and two identities, for tests on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from proxy.net.loop import poller_of
from proxy.net.poller import Poller
from proxy.wire.tls_library import TlsLibrary, choose_library
from tests.session.conftest import api, mesh, pytest_asyncio_loop_factories, tls_engine, web

__all__ = ["api", "mesh", "poller", "pytest_asyncio_loop_factories", "tls_engine", "web"]


@pytest.fixture
async def poller() -> AsyncIterator[Poller]:
    """Return what watches sockets in this test's loop."""
    poller = poller_of(asyncio.get_running_loop())
    yield poller
    poller.close()


@pytest.fixture
def tls(tls_engine: str) -> TlsLibrary:
    """Return each TLS library."""
    return choose_library(tls_engine, resume=True, hybrid=False)
