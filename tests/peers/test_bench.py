"""The bench with real peers: they do the job they are measured for, and a run comes to an end."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.candidate import Candidate, Hop, Pair, Side, Stage, start_pair
from bench.certificate import Credentials, make_credentials
from bench.haproxy import Haproxy
from bench.loadtool import start_backend
from bench.nginx import Nginx
from bench.place import pick_cores, reserve_addresses
from bench.probe import objections, probe
from bench.process import Processes, wait_until_accepting
from discovery.model import Address
from tests.support.processes import processes_marked, wait_until

ROOT = Path(__file__).parents[2]
MARK = "PILLION_BENCH_TEST"
pytestmark = [pytest.mark.slow, pytest.mark.needs("gcc", "setpriv", "taskset")]
PEERS = [
    pytest.param(Haproxy(), marks=pytest.mark.needs("haproxy"), id="haproxy"),
    pytest.param(Nginx(), marks=pytest.mark.needs("nginx"), id="nginx"),
]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A stage with its backend listening."""
    with Processes(tmp_path) as processes:
        cores = pick_cores(os.sched_getaffinity(0))
        (backend,) = reserve_addresses(1)
        made = Stage(tmp_path, cores, make_credentials(tmp_path), processes, backend)
        start_backend(made)
        yield made


def echo(address: Address) -> bytes:
    """Return what comes back for one byte; nothing when the connection is closed instead."""
    with socket.create_connection((address.ip, address.port), 5) as connection:
        connection.sendall(b"E")
        try:
            return connection.recv(1)
        except ConnectionResetError:
            return b""


@contextmanager
def far_side(credentials: Credentials, address: Address) -> Iterator[list[bool]]:
    """Stand in for an inbound hop: echo one byte; yield, by connection, whether it was resumed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(credentials.server.chain, credentials.server.key)
    context.load_verify_locations(credentials.root)
    context.verify_mode = ssl.CERT_REQUIRED
    resumed: list[bool] = []
    with socket.create_server((address.ip, address.port)) as listener:

        def serve() -> None:
            while True:
                try:
                    plain, _ = listener.accept()
                except OSError:
                    return
                plain.settimeout(5)
                try:
                    with context.wrap_socket(plain, server_side=True) as secure:
                        if data := secure.recv(1):
                            resumed.append(bool(secure.session_reused))
                            secure.sendall(data)
                            secure.recv(1)
                except OSError:
                    plain.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield resumed
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        assert not thread.is_alive()


def start_outbound(candidate: Candidate, stage: Stage, hop: Hop) -> None:
    """Start an outbound hop by itself."""
    directory = stage.directory / "outbound"
    directory.mkdir()
    command = candidate.command(hop, directory)
    child = stage.processes.start("outbound", command, stage.cores.hops)
    wait_until_accepting(child, hop.listen)


@pytest.mark.parametrize("candidate", PEERS)
@pytest.mark.parametrize("resumes", [True, False])
def test_a_pair_carries_bytes_over_verified_tls(
    stage: Stage, candidate: Candidate, resumes: bool
) -> None:
    """Echo through both hops; TLS 1.3; no client without certificate; sessions as asked."""
    pair: Pair = start_pair(candidate, stage, resumes=resumes)
    assert echo(pair.entry) == b"E"
    assert objections(probe(pair, stage.credentials), resumes=resumes) == []


@pytest.mark.parametrize("candidate", PEERS)
@pytest.mark.parametrize("resumes", [True, False])
def test_an_outbound_hop_resumes_only_when_asked_to(
    stage: Stage, candidate: Candidate, resumes: bool
) -> None:
    """Looked at from the far side: the second connection on."""
    entry, inner = reserve_addresses(2)
    with far_side(stage.credentials, inner) as resumed:
        start_outbound(
            candidate, stage, Hop(Side.OUTBOUND, entry, inner, stage.credentials, resumes)
        )
        assert [echo(entry) for _ in range(3)] == [b"E"] * 3
        assert resumed[1:] == [resumes] * 2


@pytest.mark.parametrize("candidate", PEERS)
def test_an_outbound_hop_refuses_a_server_of_another_name(
    stage: Stage, candidate: Candidate
) -> None:
    """The chain is good; the name is the client's."""
    entry, inner = reserve_addresses(2)
    credentials = replace(stage.credentials, server=stage.credentials.client)
    with far_side(credentials, inner) as resumed:
        hop = Hop(Side.OUTBOUND, entry, inner, stage.credentials, resumes=False)
        start_outbound(candidate, stage, hop)
        assert echo(entry) == b""
        assert resumed == []


def bench(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start the bench."""
    return subprocess.Popen(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.needs("haproxy")
def test_one_short_round_brings_a_table_a_json_and_a_plot(tmp_path: Path) -> None:
    """Every work once, with haproxy alone."""
    with bench(
        *("--rounds", "1", "--seconds", "0.1", "--candidate", "haproxy"),
        *("--output", str(tmp_path)),
    ) as run:
        table, talk = run.communicate(timeout=90)
    assert run.returncode == 0, talk
    assert "throughput down, 8 connections" in table
    assert "round 1/1" in talk
    (file,) = tmp_path.glob("*.json")
    data: Any = json.loads(file.read_text())
    assert data["schema"] == 1
    assert data["failures"] == []
    assert data["versions"]["haproxy"]
    assert data["tls"]["haproxy"]["refuses_without_certificate"] is True
    rows = {(row["work"], row["metric"]): row for row in data["rows"]}
    assert {work for work, _ in rows} == {
        *("down-1", "down-8", "up-1", "trips-1", "trips-64", "connect", "resume", "footprint"),
    }
    for row in rows.values():
        assert row["results"]["haproxy"]["spread"]["median"] > 0
        assert row["results"]["haproxy"]["ratio"]["median"] == 1.0
        assert row["holds"] is None
    for work in ("down-1", "trips-64", "connect"):
        cost = rows[work, "rate"]["results"]["haproxy"]["cpu_per_operation"]
        assert cost["spread"]["median"] > 0


@pytest.mark.needs("haproxy")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing_behind(tmp_path: Path, number: int) -> None:
    """No process, no result."""
    mark = f"{MARK}={tmp_path}"
    with bench(
        *("--rounds", "50", "--candidate", "haproxy", "--output", str(tmp_path)),
        **{MARK: str(tmp_path)},
    ) as run:
        assert run.stderr is not None
        assert "round 1/50" in run.stderr.readline()
        assert len(processes_marked(mark)) > 4
        run.send_signal(number)
        assert run.wait(20) == 128 + number
        wait_until(lambda: not processes_marked(mark), seconds=5, what="the end of every process")
    assert list(tmp_path.iterdir()) == []
