"""The ways that HTTP takes between two sidecars, for tests that must hold on each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from discovery.model import Address, Hint
from identity.generation import Generation
from tests.session.apps import serve
from tests.session.http1_app import Http1App
from tests.sidecars import Pair, run_pair

WAYS: Final = {
    "riding": (True, Hint.H2),
    "as-it-is": (False, Hint.UNKNOWN),
}
"""Name → is the far sidecar dialled as such?, and what discovery says of the server.

Only where it says H2 does HTTP/1 ride on HTTP/2.
"""


@asynccontextmanager
async def run_way(name: str, web: Generation, api: Generation, app: Address) -> AsyncIterator[Pair]:
    """Run both sidecars before ``app``."""
    direct, hint = WAYS[name]
    async with run_pair(web, api, app, direct=direct, hint=hint) as pair:
        yield pair


@asynccontextmanager
async def run_http1(
    name: str, web: Generation, api: Generation
) -> AsyncIterator[tuple[Pair, Http1App]]:
    """Run both sidecars before an application of HTTP/1."""
    app = Http1App()
    async with serve(app.serve) as address, run_way(name, web, api, address) as pair:
        yield pair, app
