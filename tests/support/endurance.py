"""Ten thousand connections through two sidecars, for a process of its own.

Of a process that has run other tests resident memory says little. Prints what is left over.
"""

from __future__ import annotations

import asyncio
import gc
import json
import socket
from pathlib import Path

from tests.authority import mk_mesh
from tests.session.apps import echo, serve
from tests.sidecars import run_pair

CYCLES = 10_000
AT_ONCE = 16
WARM_UP = 1_000


def resident_kib() -> int:
    """Return this process's resident memory."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


def open_descriptors() -> int:
    """Return how many descriptors this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def main(directory: Path) -> None:
    """Open, use and close them, over mutual TLS; the first ones do not count."""
    mesh = mk_mesh(directory / "authority")
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
        more = open_descriptors() - descriptors
        grown = resident_kib() - memory
        left = sum(
            side.sidecar.runtime.admission.open + side.sidecar.runtime.drain.in_flight
            for side in (pair.client, pair.server)
        )
    print(json.dumps({"descriptors": more, "kib": grown, "connections": left}))
