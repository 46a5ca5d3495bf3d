"""Ten thousand connections come and go; descriptors, tasks and memory are as before."""

from __future__ import annotations

import asyncio
import gc
import socket
from pathlib import Path

import pytest

from tests.authority import mk_mesh
from tests.session.apps import echo, serve
from tests.sidecars import run_pair

pytestmark = pytest.mark.slow

CYCLES = 10_000
AT_ONCE = 16
WARM_UP = 1_000
SLACK_KIB = 4_096
"""Room for what allocators keep: half a KiB a connection would be five times that."""


def resident_kib() -> int:
    """Return this process's resident memory."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


def open_descriptors() -> int:
    """Return how many descriptors this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_ten_thousand_connections_leave_nothing_behind(tmp_path: Path) -> None:
    """Both sidecars, over mutual TLS, opened, used and closed."""
    mesh = mk_mesh(tmp_path / "authority")
    loop = asyncio.get_running_loop()
    async with (
        serve(echo) as app,
        run_pair(
            mesh.generation("shop/web"),
            mesh.generation("shop/api"),
            app,
            client_settings={"PILLION_LOG": "error"},
            server_settings={"PILLION_LOG": "error"},
        ) as pair,
    ):
        entry = (pair.entry.ip, pair.entry.port)

        async def cycle(count: int) -> None:
            for _ in range(count):
                with socket.socket() as client:
                    client.setblocking(False)
                    await loop.sock_connect(client, entry)
                    await loop.sock_sendall(client, b"\0")
                    assert await loop.sock_recv(client, 16) == b"\0"

        async def burst(count: int) -> None:
            async with asyncio.timeout(300), asyncio.TaskGroup() as tasks:
                for _ in range(AT_ONCE):
                    tasks.create_task(cycle(count // AT_ONCE))

        async def settled() -> None:
            async with asyncio.timeout(30):
                while pair.client.sidecar.runtime.connections or (
                    pair.server.sidecar.runtime.connections
                ):
                    await asyncio.sleep(0.05)
            for side in (pair.client, pair.server):
                side.log.seek(0)
                side.log.truncate()
            gc.collect()

        await burst(WARM_UP)
        await settled()
        descriptors, memory = open_descriptors(), resident_kib()
        await burst(CYCLES)
        await settled()
        assert open_descriptors() <= descriptors
        assert resident_kib() <= memory + SLACK_KIB
        for side in (pair.client, pair.server):
            assert side.sidecar.runtime.admission.open == 0
            assert side.sidecar.runtime.drain.in_flight == 0
