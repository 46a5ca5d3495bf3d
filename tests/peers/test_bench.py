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

from bench.candidate import (
    Candidate,
    Carried,
    Greeting,
    Hop,
    Stage,
    plan_hops,
    start_hop,
    start_pair,
)
from bench.certificate import Leaf, make_credentials
from bench.haproxy import Haproxy
from bench.loadtool import Http1Requests, Http2Requests, run_load, start_backend
from bench.measure import longest_pause_us
from bench.nginx import Nginx
from bench.place import pick_cores, reserve_addresses
from bench.probe import objections, probe, probe_plaintext
from bench.process import Processes
from bench.sidecar import Pillion
from bench.stunnel import Stunnel
from core.errors import UnreachableError
from discovery.model import Address
from tests.support.processes import processes_marked, wait_until

ROOT = Path(__file__).parents[2]
MARK = "PILLION_BENCH_TEST"
pytestmark = [pytest.mark.slow, pytest.mark.needs("gcc", "setpriv", "taskset", "h2load", "nghttpd")]
CANDIDATES = [
    pytest.param(Pillion(), id="pillion"),
    pytest.param(Haproxy(), marks=pytest.mark.needs("haproxy"), id="haproxy"),
    pytest.param(Nginx(), marks=pytest.mark.needs("nginx"), id="nginx"),
    pytest.param(Stunnel(), marks=pytest.mark.needs("stunnel"), id="stunnel"),
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
def inbound_double(hop: Hop, leaf: Leaf, greeting: Greeting) -> Iterator[list[bool]]:
    """Stand in for an inbound hop: echo one byte; yield, by connection, whether it was resumed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf.chain, leaf.key)
    context.load_verify_locations(hop.credentials.root)
    context.verify_mode = ssl.CERT_REQUIRED
    if greeting.protocol:
        context.set_alpn_protocols([greeting.protocol])
    resumed: list[bool] = []
    wanted = greeting.first + b"E"

    def answer(secure: ssl.SSLSocket) -> None:
        received = b""
        while len(received) < len(wanted):
            data = secure.recv(len(wanted) - len(received))
            if not data:
                return
            received += data
        assert received == wanted
        resumed.append(bool(secure.session_reused))
        secure.sendall(b"E")
        secure.recv(1)

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            plain.settimeout(5)
            try:
                with context.wrap_socket(plain, server_side=True) as secure:
                    answer(secure)
            except OSError:
                plain.close()

    with socket.create_server((hop.inner.ip, hop.inner.port)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield resumed
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize("candidate", CANDIDATES)
@pytest.mark.parametrize("resumes", [True, False])
def test_a_pair_carries_bytes_over_verified_tls(
    stage: Stage, candidate: Candidate, resumes: bool
) -> None:
    """Echo through both hops; TLS 1.3; no client without certificate; sessions if asked."""
    pair = start_pair(candidate, stage, resumes=resumes)
    assert echo(pair.entry) == b"E"
    assert objections(probe(pair, stage.credentials), resumes=resumes) == []


SPLICING = [
    pytest.param(Haproxy("splice", splices=True), marks=pytest.mark.needs("haproxy"), id="splice")
]


@pytest.mark.parametrize("candidate", CANDIDATES + SPLICING)
def test_a_pair_carries_bytes_in_plaintext(stage: Stage, candidate: Candidate) -> None:
    """Between the hops as well: the inbound one takes it."""
    if Carried.PLAIN not in candidate.carries:
        assert candidate.name == "stunnel", "TLS is all it is for"
        return
    pair = start_pair(candidate, stage, carried=Carried.PLAIN)
    probe_plaintext(pair)
    assert echo(pair.entry) == b"E"
    pair.inbound.process.terminate()
    pair.inbound.process.wait(10)
    with pytest.raises(UnreachableError):
        probe_plaintext(pair)


UPGRADING = [
    pytest.param(Haproxy("haproxy-h2", upgrades=True), marks=pytest.mark.needs("haproxy"), id="h2"),
    pytest.param(Pillion("pillion-h1", upgrades=False), id="pillion-h1"),
]


@pytest.mark.parametrize("candidate", CANDIDATES + UPGRADING)
@pytest.mark.parametrize("carried", [Carried.HTTP1, Carried.HTTP2])
def test_a_pair_carries_requests_over_verified_tls(
    stage: Stage, candidate: Candidate, carried: Carried
) -> None:
    """In each version that the candidate is measured with; no client without certificate."""
    if carried not in candidate.carries:
        assert candidate.name in {"nginx", "haproxy-h2", "pillion-h1", "stunnel"}
        return
    if carried is Carried.HTTP2:
        stage = replace(stage, backend=reserve_addresses(1)[0])
        start_backend(stage, carried)
    pair = start_pair(candidate, stage, is_declared=False, carried=carried)
    assert objections(probe(pair, stage.credentials), resumes=False) == []
    load = Http1Requests(2) if carried is Carried.HTTP1 else Http2Requests(1, 2)
    result = run_load(stage, load, pair.entry, 0.3, 0.3, lambda: None)
    assert result.operations > 0
    assert result.errors == 0


@pytest.mark.parametrize("candidate", CANDIDATES)
@pytest.mark.parametrize("resumes", [True, False])
def test_an_outbound_hop_resumes_only_when_asked_to(
    stage: Stage, candidate: Candidate, resumes: bool
) -> None:
    """Looked at from the far side: the second connection on."""
    _, hop = plan_hops(stage, resumes=resumes)
    leaf, greeting = stage.credentials.server, candidate.greeting(stage.backend)
    with inbound_double(hop, leaf, greeting) as resumed:
        start_hop(candidate, stage, hop)
        assert [echo(hop.entry) for _ in range(4)] == [b"E"] * 4
        assert resumed[-3:] == [resumes] * 3


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_an_outbound_hop_refuses_a_server_of_another_name(
    stage: Stage, candidate: Candidate
) -> None:
    """The chain is good; the name is the client's."""
    _, hop = plan_hops(stage, resumes=False)
    leaf, greeting = stage.credentials.client, candidate.greeting(stage.backend)
    with inbound_double(hop, leaf, greeting) as resumed:
        start_hop(candidate, stage, hop)
        assert echo(hop.entry) == b""
        assert resumed == []


def test_a_hop_of_pillion_tells_of_its_collector(stage: Stage) -> None:
    """Each time anew; the peers' hops are not asked."""
    pair = start_pair(Pillion(), stage)
    assert pair.tells_pauses
    assert echo(pair.entry) == b"E"
    assert longest_pause_us(pair) >= 0.0
    assert longest_pause_us(pair) < 10_000_000
    assert echo(pair.entry) == b"E", "it goes on"


def bench(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start the bench, which is run from the checkout whatever else is under test."""
    inherited = {name: each for name, each in os.environ.items() if name != "PYTHONSAFEPATH"}
    return subprocess.Popen(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        env=inherited | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.needs("haproxy")
def test_one_short_round_brings_a_table_a_json_and_a_plot(tmp_path: Path) -> None:
    """Every work once, with haproxy alone."""
    with bench(
        *("--full", "--rounds", "1", "--seconds", "0.3", "--candidate", "haproxy"),
        *("--output", str(tmp_path)),
    ) as run:
        table, talk = run.communicate(timeout=120)
    assert run.returncode == 0, talk
    assert "throughput down, 8 connections" in table
    assert "round 1/1" in talk
    (file,) = tmp_path.glob("*.json")
    data: Any = json.loads(file.read_text())
    assert data["schema"] == 2
    assert data["failures"] == []
    assert data["versions"]["haproxy"]
    assert data["tls"]["haproxy"]["refuses_without_certificate"] is True
    rows = {(row["work"], row["metric"]): row for row in data["rows"]}
    assert {work for work, _ in rows} == {
        *("down-1", "down-8", "up-1", "trips-1", "trips-64", "connect", "resume", "footprint"),
        *("http1-64", "http1-1", "http2-same", "http2-unique", "first-byte", "paced", "start"),
        "plain-down-8",
    }
    for row in rows.values():
        assert row["targets"] == []
        if row["metric"] == "longest-pause":
            assert row["results"]["haproxy"]["spread"] is None, "it has no collector"
            continue
        assert row["results"]["haproxy"]["spread"]["median"] > 0, row["title"]
        assert row["results"]["haproxy"]["ratio"]["median"] == 1.0
    assert len(rows["paced", "p50"]["results"]["haproxy"]["rounds"]) == 9
    for work in ("down-1", "trips-64", "connect", "http1-64", "http2-unique"):
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
