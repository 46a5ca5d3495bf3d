"""Out of descriptors: accepting pauses with backoff, nobody is lost for good, and it recovers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from discovery.model import Address
from tests.authority import Mesh
from tests.session.apps import echo, exchange, serve

_ROOT = Path(__file__).parents[2]
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@contextmanager
def child(mesh: Mesh, descriptors: int, app: Address) -> Iterator[subprocess.Popen[str]]:
    """Run a sidecar in a process with so many descriptors."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.session.child", str(mesh.authority.directory)),
            *(str(descriptors), app.ip, str(app.port)),
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def cpu_seconds(process: subprocess.Popen[str]) -> float:
    """Return the processor time that the process has used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2]
    user, system = fields.split()[11:13]
    return (int(user) + int(system)) / _TICKS_A_SECOND


def answer_of(sock: socket.socket) -> bytes | None:
    """Return what has come: bytes, the end or a reset (nothing), or None when nothing has."""
    try:
        return sock.recv(10)
    except BlockingIOError:
        return None
    except ConnectionError:
        return b""


@pytest.mark.slow
@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_out_of_descriptors_accepting_pauses_and_recovers(mesh: Mesh) -> None:
    """With 64 descriptors and 80 clients: some are served, the rest cost nothing; then all are."""
    async with serve(echo) as app:
        with child(mesh, 64, app) as process:
            assert process.stdout is not None
            ports = json.loads(process.stdout.readline())
            inbound = Address(app.ip, ports["inbound"])
            admin = Address(app.ip, ports["admin"])
            clients = []
            for _ in range(80):
                sock = socket.create_connection((inbound.ip, inbound.port), 5)
                sock.settimeout(0)
                sock.sendall(b"x")
                clients.append(sock)
            await asyncio.sleep(0.5)
            before = cpu_seconds(process)
            await asyncio.sleep(0.5)
            assert cpu_seconds(process) - before < 0.25
            answers = [answer_of(sock) for sock in clients]
            assert 5 < answers.count(b"x") < 40
            for sock in clients:
                sock.close()
            async with asyncio.timeout(10):
                while await exchange(inbound, b"after") != b"after":
                    await asyncio.sleep(0.1)
            for _ in range(40):
                assert await exchange(inbound, b"after") == b"after"
            metrics = await exchange(admin, b"GET /metrics HTTP/1.0\r\n\r\n", end=False)
            paused = re.search(rb"^pillion_accept_pauses_total (\S+)", metrics, re.MULTILINE)
            assert paused is not None
            assert float(paused[1]) >= 1
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
