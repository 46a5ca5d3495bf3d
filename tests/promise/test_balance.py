"""The promise: connections to a Service go on when some of its endpoints do not.

Three pods with sidecars behind a Service, in network namespaces; a pod that opens connections at
a steady pace, whatever becomes of those before, and exchanges a line on each.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.demo.host import APP_UID
from cli.demo.mesh import Mesh, Sidecar
from cli.demo.pods import Rig
from cli.demo.runtime import find_runtime
from redirect.options import PROXY_UID

pytestmark = [
    pytest.mark.needs("root", "iptables-nft", "ip", "setpriv", "nsenter"),
    pytest.mark.slow,
]

STORE, PORT = "10.96.0.30", 6379
STORES = ("store-0", "store-1", "store-2")
PER_SECOND = 200
SECONDS = 9
IN_FLIGHT = 10
"""Connections that may be under way when an endpoint goes: at 200 a second, those of 50 ms."""

ECHO = f"""
import asyncio
async def echo(reader, writer):
    writer.write(await reader.readline())
    writer.write_eof()
    await reader.read()
    writer.close()
async def main():
    async with await asyncio.start_server(echo, "", {PORT}, backlog=1024) as server:
        await server.serve_forever()
asyncio.run(main())
"""
CALL = f"""
import asyncio, json
seconds, failures = [], []
async def call(loop):
    began = loop.time()
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection("{STORE}", {PORT})
            writer.write(b"hello\\n")
            if await reader.read() != b"hello\\n":
                failures.append("cut short")
        writer.close()
    except Exception as error:
        failures.append(repr(error))
    seconds.append(loop.time() - began)
async def main():
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:
        due = loop.time()
        for _ in range({PER_SECOND * SECONDS}):
            tasks.create_task(call(loop))
            due += 1 / {PER_SECOND}
            await asyncio.sleep(max(0.0, due - loop.time()))
asyncio.run(main())
seconds.sort()
print(json.dumps({{"calls": len(seconds), "failures": failures,
                  "p50": seconds[len(seconds) // 2], "p99": seconds[len(seconds) * 99 // 100]}}))
"""


@dataclass(frozen=True)
class Scene:
    """A running mesh: who calls, and who is called."""

    web: Sidecar
    stores: dict[str, Sidecar]

    def kill(self, name: str) -> None:
        """Kill a store's sidecar; its port answers no more."""
        os.kill(self.stores[name].program.pid, signal.SIGKILL)

    def drop(self, name: str) -> None:
        """Let a store's packets vanish."""
        for chain in ("INPUT", "OUTPUT"):
            self.stores[name].pod.host.must(["iptables-nft", "-I", chain, "-j", "DROP"])


@pytest.mark.parametrize(
    ("what", "calls_lost"),
    [
        (lambda scene: scene.kill("store-1"), IN_FLIGHT),
        (lambda scene: (scene.kill("store-1"), scene.drop("store-2")), 2 * IN_FLIGHT),
    ],
    ids=["a sidecar is killed", "one remains of three"],
)
def test_connections_go_on(what: Callable[[Scene], object], calls_lost: int) -> None:
    """Only those under way at that moment are lost, and of the rest hardly one is slow."""
    with tempfile.TemporaryDirectory(prefix="pillion-test-", dir="/tmp") as name, Rig() as rig:
        place = Path(name)
        place.chmod(0o755)
        mesh = Mesh(rig, rig.cluster("a"), find_runtime(PROXY_UID, place), place)
        mesh.workload("web-0", "web")
        for store in STORES:
            mesh.workload(store, "store", ports={"redis": PORT})
        mesh.service("store", "store", [STORE], {PORT: PORT})
        mesh.write()
        mesh.start_issuer()
        sidecars = {}
        for pod in ("web-0", *STORES):
            mesh.capture(pod)
            sidecars[pod] = mesh.start_sidecar(pod)
        for pod, sidecar in sidecars.items():
            sidecar.await_ready()
            if pod in STORES:
                mesh.pods[pod].host.spawn(["/usr/bin/python3", "-c", ECHO], uid=APP_UID)
        time.sleep(1)
        scene = Scene(sidecars["web-0"], {each: sidecars[each] for each in STORES})
        caller = mesh.pods["web-0"].host.spawn(
            ["/usr/bin/python3", "-c", CALL], uid=APP_UID, output=subprocess.PIPE
        )
        timer = threading.Timer(SECONDS / 3, what, [scene])
        timer.start()
        printed, _ = caller.communicate(timeout=SECONDS + 60)
        timer.join()
        found = json.loads(printed)
        assert found["calls"] == PER_SECOND * SECONDS
        assert len(found["failures"]) <= calls_lost, found["failures"]
        # The connect limit is a second: whoever is slower has been through two of them.
        assert found["p99"] < 2.0
