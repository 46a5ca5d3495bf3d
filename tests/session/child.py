"""A server's sidecar in a process of its own: ``python -m tests.session.child AUTHORITY FDS APP``.

Prints its inbound and admin addresses as JSON, drains at SIGTERM, exits with its exit status.
"""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import sys
from pathlib import Path

from discovery.model import Address
from identity.authority import load_authority
from proxy.net.capture import FixedCapture
from proxy.net.loop import Loop
from tests.authority import Mesh
from tests.sidecars import run_sidecar


async def main(authority: Path, descriptors: int, app: Address) -> int:
    """Run the sidecar before ``app`` until SIGTERM; return its exit status."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    generation = Mesh(load_authority(authority)).generation("shop/api")
    settings = {"PILLION_MAX_CONNECTIONS": "1000"}
    async with run_sidecar(generation, FixedCapture(app), ip=app.ip, settings=settings) as running:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.sidecar.stop)
        listen = {
            "inbound": running.config.inbound_listen.port,
            "admin": running.config.admin_listen.port,
        }
        print(json.dumps(listen), flush=True)
        return await running.task


if __name__ == "__main__":
    directory, limit, ip, port = sys.argv[1:]
    with asyncio.Runner(loop_factory=Loop) as runner:
        sys.exit(runner.run(main(Path(directory), int(limit), Address(ip, int(port)))))
