"""The promise: a sidecar that is asked to end finishes what it has begun, and says what it cut.

Real sidecars behind real capture rules, in pods of their own; their clients have none.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.demo.mesh import Mesh, Sidecar
from cli.demo.pods import Pod, Rig
from cli.demo.runtime import find_runtime
from redirect.options import PROXY_UID
from tests.support.processes import wait_until
from tests.support.sockets import ENVIRONMENT, PILLION, listener_in, socket_in

pytestmark = pytest.mark.slow
in_pods = pytest.mark.needs("root", "iptables-nft", "ip", "setpriv", "nsenter", "curl")

PORT = 8000
RATE = 200
"""Connections that begin each second."""
LIFE_S = 0.1
"""How long each lives: some twenty are open at any moment."""


@dataclass(frozen=True)
class Scene:
    """A client without sidecar, and a mesh to start sidecars in."""

    mesh: Mesh
    client: Pod


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """Make pods with capture rules; each test starts its own sidecar."""
    with tempfile.TemporaryDirectory(prefix="pillion-test-", dir="/tmp") as name, Rig() as rig:
        place = Path(name)
        place.chmod(0o755)
        mesh = Mesh(rig, rig.cluster("a"), find_runtime(PROXY_UID, place), place)
        for pod in ("busy-0", "idle-0", "hasty-0", "early-0"):
            mesh.workload(pod, pod.partition("-")[0])
        client = mesh.workload("client-0", "client", meshed=False)
        mesh.service("busy", "busy", ["10.96.0.10"], {PORT: PORT})
        mesh.write()
        mesh.start_issuer()
        for pod in ("busy-0", "idle-0", "hasty-0"):
            mesh.capture(pod)
        yield Scene(mesh, client)


@asynccontextmanager
async def app_in(pod: Pod) -> AsyncIterator[None]:
    """Serve in ``pod``: answer each question a while later, then end; ``stay`` with who says so."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            question = await reader.read(100)
            await (reader.read() if question == b"stay" else asyncio.sleep(LIFE_S))
            writer.write(question)
        writer.close()

    server = await asyncio.start_server(
        answer, sock=listener_in(pod.host, "0.0.0.0", PORT), backlog=1024
    )
    async with server:
        yield


async def ask(client: Pod, target: Pod) -> str:
    """Make one connection; return ``served``, ``refused``, or what was lost."""
    loop = asyncio.get_running_loop()
    sock = await asyncio.to_thread(socket_in, client.host)
    sock.setblocking(False)
    with sock:
        try:
            async with asyncio.timeout(10):
                await loop.sock_connect(sock, (target.ip, PORT))
        except (ConnectionRefusedError, TimeoutError):
            return "refused"
        try:
            await loop.sock_sendall(sock, b"question")
            async with asyncio.timeout(10):
                heard = await loop.sock_recv(sock, 100)
        except OSError as error:
            return f"lost: {error}"
        return "served" if heard == b"question" else "lost: an end without an answer"


def open_connection(client: Pod, target: Pod) -> socket.socket:
    """Connect and stay."""
    sock = socket_in(client.host)
    sock.connect((target.ip, PORT))
    sock.sendall(b"stay")
    return sock


def end(sidecar: Sidecar, number: int = signal.SIGTERM) -> int:
    """Send the signal, and return the exit status."""
    sidecar.program.send_signal(number)
    return sidecar.program.wait(30)


@in_pods
async def test_under_200_connections_a_second_no_connection_is_lost(scene: Scene) -> None:
    """Whoever is connected when the sidecar is asked to end, is served; it then exits with 0.

    Clients that come later are refused, which tells them to go elsewhere.
    """
    target = scene.mesh.pods["busy-0"]
    sidecar = scene.mesh.start_sidecar("busy-0")
    async with app_in(target):
        await asyncio.to_thread(sidecar.await_ready)
        assert await ask(scene.client, target) == "served"
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            asked = []
            began = loop.time()
            for number in range(3 * RATE):
                await asyncio.sleep(max(0.0, began + number / RATE - loop.time()))
                asked.append(tasks.create_task(ask(scene.client, target)))
                if number == 2 * RATE:
                    sidecar.program.send_signal(signal.SIGTERM)
            status = await asyncio.to_thread(sidecar.program.wait, 30)
    outcomes = Counter(each.result() for each in asked)
    assert set(outcomes) == {"served", "refused"}, outcomes
    assert outcomes["served"] >= 2 * RATE
    assert status == 0
    begun = sidecar.find(0, event="draining")
    done = sidecar.find(0, event="drained")
    assert begun is not None
    assert done is not None
    print(f"{outcomes}, {begun['open']} open, drained in {done['seconds']} s")


@in_pods
async def test_at_the_deadline_what_is_left_is_cut_and_the_status_is_3(scene: Scene) -> None:
    """A client that stays is reset, so that it does not take the end for one."""
    target = scene.mesh.pods["idle-0"]
    sidecar = scene.mesh.start_sidecar("idle-0", SHUTDOWN_GRACE_PERIOD="1s")
    async with app_in(target):
        await asyncio.to_thread(sidecar.await_ready)
        with await asyncio.to_thread(open_connection, scene.client, target) as sock:
            # The sidecar has dialled the application by the time that it says so.
            assert await asyncio.to_thread(sidecar.find, 10, event="connection") is not None
            began = time.monotonic()
            assert await asyncio.to_thread(end, sidecar) == 3
            assert 1 <= time.monotonic() - began < 10
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
    assert (sidecar.find(0, event="drain deadline hit") or {})["cut"] == 1


@in_pods
async def test_a_second_signal_ends_it_at_once(scene: Scene) -> None:
    """Whatever the deadline; until then it is not ready, and says why."""
    target = scene.mesh.pods["hasty-0"]
    sidecar = scene.mesh.start_sidecar("hasty-0", SHUTDOWN_GRACE_PERIOD="1h")
    async with app_in(target):
        await asyncio.to_thread(sidecar.await_ready)
        with await asyncio.to_thread(open_connection, scene.client, target) as sock:
            assert await asyncio.to_thread(sidecar.find, 10, event="connection") is not None
            sidecar.program.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(sidecar.find, 10, event="draining") is not None
            probe = ["curl", "-s", "-m", "5", "http://127.0.0.1:4191/ready"]
            said = await asyncio.to_thread(target.host.run, probe)
            assert said.stdout == "not ready: draining\n"
            began = time.monotonic()
            assert await asyncio.to_thread(end, sidecar, signal.SIGINT) == 3
            assert time.monotonic() - began < 10
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
    asked = [each for each in sidecar.events() if str(each["event"]).startswith("asked to end")]
    assert [(each["event"], each["signal"]) for each in asked] == [
        ("asked to end", "SIGTERM"),
        ("asked to end at once", "SIGINT"),
    ]
    assert (sidecar.find(0, event="drain given up") or {})["cut"] == 1


@in_pods
def test_who_is_asked_to_end_before_it_serves_exits_with_0(scene: Scene) -> None:
    """A pod that is deleted while it starts has failed at nothing."""
    sidecar = scene.mesh.start_sidecar(
        "early-0", IDENTITY_SOCKET="/nobody/listens/here", LOG="debug"
    )
    assert sidecar.find(10, event="identity") is not None
    assert end(sidecar) == 0
    assert sidecar.find(0, event="drained") is not None


def _catches(pid: int, number: int) -> bool:
    """Whether a process has a handler of its own for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(mask.split()[1], 16) >> (number - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_is_asked_to_end_while_it_reads_the_mesh_exits_with_0(
    tmp_path: Path, number: signal.Signals
) -> None:
    """From the first moment on: there is nothing yet that could be lost."""
    for each in range(1_000):
        (tmp_path / f"{each}.yaml").write_text(
            f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: n{each}}}\n"
        )
    settings = {
        "PILLION_POD": "n1/early-0",
        "PILLION_MESH_DIR": str(tmp_path),
        "PILLION_IDENTITY_DIR": str(tmp_path),
    }
    with subprocess.Popen(
        [*PILLION, "proxy"], env={**os.environ, **ENVIRONMENT, **settings}, stderr=subprocess.PIPE
    ) as early:
        try:
            wait_until(lambda: _catches(early.pid, signal.SIGTERM), seconds=30, what="a handler")
            early.send_signal(number)
            assert early.wait(30) == 0
        finally:
            early.kill()
