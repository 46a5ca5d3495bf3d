"""bench.loadtool: the load tools in C, against their own backend without a proxy between."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from bench import loadtool
from bench.candidate import Carried, Stage
from bench.certificate import make_credentials
from bench.loadtool import (
    LIBRARIES,
    SOURCES,
    Connections,
    Http1Requests,
    Http2Requests,
    Load,
    PacedRequests,
    RoundTrips,
    Throughput,
    compile_tool,
    idle_connections,
    run_load,
    start_backend,
)
from bench.place import pick_cores, reserve_addresses
from bench.process import Processes, wait_until_accepting
from core.errors import ConfigError, UnreachableError
from discovery.model import Address

STRICT = ("-std=gnu11", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion")
LATENCY_CHECK = r"""
#include <stdio.h>
#include "latency.h"
static struct latency all;
int main(void) {
    for (uint64_t ns = 1; ns < (uint64_t)1 << 40; ns = ns * 5 / 4 + 1) {
        double seen = middle_of(bucket_of(ns)), off = seen - (double)ns;
        if (off < 0) off = -off;
        if (off > 0.0005 * (double)ns + 0.5) return 1;
    }
    if (bucket_of(UINT64_MAX) >= BUCKETS) return 2;
    if (latency_us(&all, 0.5) != 0.0) return 3;
    for (uint64_t us = 1; us <= 100; us++) latency_add(&all, us * 1000);
    printf("%.0f %.0f\n", latency_us(&all, 0.5), latency_us(&all, 0.99));
    return 0;
}
"""


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A stage with its backend listening."""
    with Processes(tmp_path) as processes:
        cores = pick_cores(os.sched_getaffinity(0))
        (backend,) = reserve_addresses(1)
        made = Stage(tmp_path, cores, make_credentials(tmp_path), processes, backend)
        start_backend(made)
        yield made


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("name", ["backend", "cable", "l4load"])
def test_the_tools_compile_without_a_warning(tmp_path: Path, name: str) -> None:
    """Under stricter flags than they are built with."""
    said = subprocess.run(
        ["gcc", *STRICT, "-Werror", "-o", tmp_path / name, SOURCES / f"{name}.c", *LIBRARIES],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (said.returncode, said.stderr) == (0, "")


@pytest.mark.needs("gcc")
def test_latencies_are_kept_to_half_a_thousandth(tmp_path: Path) -> None:
    """Whatever their size, in constant memory; quantiles come out in microseconds."""
    source, program = tmp_path / "check.c", tmp_path / "check"
    source.write_text(LATENCY_CHECK)
    subprocess.run(["gcc", f"-I{SOURCES}", "-o", program, source], timeout=60, check=True)
    said = subprocess.run([program], capture_output=True, text=True, timeout=10, check=False)
    assert (said.returncode, said.stdout) == (0, "51 100\n")


@pytest.mark.needs("gcc", "setpriv", "taskset")
@pytest.mark.parametrize(
    "load",
    [
        *(Throughput(2), Throughput(2, is_up=True), RoundTrips(4), Connections(4)),
        *(Http1Requests(4), PacedRequests(4, 500)),
    ],
)
def test_each_load_counts_its_work_in_the_window(stage: Stage, load: Load) -> None:
    """Bytes or operations, never both, and nothing is lost without a proxy between."""
    windows: list[bool] = []
    result = run_load(stage, load, stage.backend, 0.05, 0.2, lambda: windows.append(True))
    assert windows == [True]
    assert 0.2 <= result.seconds < 2.0
    assert (result.bytes > 0) is isinstance(load, Throughput)
    assert (result.operations > 0) is not isinstance(load, Throughput)
    assert result.errors == 0
    assert result.p50_us <= result.p99_us <= result.p999_us


@contextmanager
def hesitant_server(seconds: float) -> Iterator[Address]:
    """Answer every request of one connection after so long."""
    (address,) = reserve_addresses(1)
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            while connection.recv(4096):
                time.sleep(seconds)
                connection.sendall(answer)

    with socket.create_server((address.ip, address.port)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield address
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.needs("gcc", "setpriv", "taskset")
def test_a_paced_request_that_has_to_wait_counts_from_when_it_was_due(stage: Stage) -> None:
    """40 a second of a server that takes 40 ms for each; a closed loop would tell of 40 ms."""
    with hesitant_server(0.04) as address:
        load = PacedRequests(1, 40)
        result = run_load(stage, load, address, 0.0, 0.5, lambda: None)
    assert result.operations > 12
    assert result.p99_us > 200_000


@pytest.mark.needs("gcc", "setpriv", "taskset")
def test_the_window_waits_for_an_answer_on_every_connection(stage: Stage) -> None:
    """What setting one up costs is not what is measured; here it takes three warm-ups."""
    began = time.monotonic()
    waited: list[float] = []
    with hesitant_server(0.3) as address:
        at_window = waited.append
        load = Http1Requests(1)
        run_load(stage, load, address, 0.1, 0.4, lambda: at_window(time.monotonic() - began))
    assert waited[0] >= 0.3


@pytest.mark.needs("gcc", "setpriv", "taskset")
def test_a_paced_load_asks_no_more_than_it_was_told_to(stage: Stage) -> None:
    """As chance has it, the same in each run: 200 a second are 52 in this quarter of one."""
    result = run_load(stage, PacedRequests(8, 200), stage.backend, 0.05, 0.25, lambda: None)
    assert 5 <= result.operations <= 70
    assert result.errors == 0


@pytest.mark.needs("gcc", "setpriv", "taskset")
def test_a_paced_load_ends_with_a_connection_that_is_lost(stage: Stage, tmp_path: Path) -> None:
    """What was due on it would be missing from the figures."""
    mute = replace(stage, backend=reserve_addresses(1)[0])
    where = f"TCP-LISTEN:{mute.backend.port},bind={mute.backend.ip},fork"
    child = stage.processes.start("closing", ["socat", where, "SYSTEM:true"], stage.cores.load)
    wait_until_accepting(child, mute.backend)
    with pytest.raises(UnreachableError, match="a connection was lost"):
        run_load(mute, PacedRequests(2, 200), mute.backend, 0.5, 0.5, lambda: None)


@pytest.mark.needs("gcc", "setpriv", "taskset", "h2load", "nghttpd")
@pytest.mark.parametrize("paths", [1, 100])
def test_http2_is_counted_in_the_window(stage: Stage, paths: int) -> None:
    """By h2load, against nghttpd; it gives no quantiles."""
    far = replace(stage, backend=reserve_addresses(1)[0])
    start_backend(far, Carried.HTTP2)
    windows: list[bool] = []
    load = Http2Requests(2, 4, paths)
    result = run_load(far, load, far.backend, 0.1, 0.2, lambda: windows.append(True))
    assert windows == [True]
    assert 0.1 <= result.seconds < 2.0
    assert result.operations > 0
    assert (result.bytes, result.errors, result.p50_us) == (0, 0, 0.0)


@pytest.mark.needs("gcc", "setpriv", "taskset", "h2load")
def test_http2_against_nothing_fails_with_h2loads_reason(stage: Stage) -> None:
    """Nothing listens there."""
    (nowhere,) = reserve_addresses(1)
    with pytest.raises(UnreachableError, match="h2load"):
        run_load(stage, Http2Requests(1, 1), nowhere, 0.1, 0.1, lambda: None)


@pytest.mark.needs("gcc", "setpriv", "taskset")
@pytest.mark.parametrize("pieces", [1, 3, 1000])
def test_the_backend_answers_each_head_however_it_is_cut(stage: Stage, pieces: int) -> None:
    """Three requests sent ahead; a lone CR before CR LF CR LF is none of the end."""
    sent = b"GET / HTTP/1.1\r\nhost: a\r\nx: \r\r\n\r\n" * 3
    step = -(-len(sent) // min(pieces, len(sent)))
    answer = b"HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/plain\r\n"
    answer += b"Content-Length: 100\r\n\r\n" + b"x" * 100
    with socket.create_connection((stage.backend.ip, stage.backend.port), 5) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(sent), step):
            client.sendall(sent[at : at + step])
        got = b""
        while len(got) < 3 * len(answer):
            got += client.recv(4096)
    assert got == answer * 3


@pytest.mark.needs("gcc", "setpriv", "taskset")
def test_idle_connections_are_open_while_they_are_held(stage: Stage) -> None:
    """And gone afterwards: each has had its echo before."""
    with idle_connections(stage, stage.backend, 20):
        assert settled(stage, 20) == 20
    assert settled(stage, 0) == 0


def settled(stage: Stage, wanted: int) -> int:
    """Return how many connections the backend has once earlier loads' ends have arrived."""
    deadline = time.monotonic() + 5.0
    while established(stage) != wanted and time.monotonic() < deadline:
        time.sleep(0.02)
    return established(stage)


def established(stage: Stage) -> int:
    """Return how many connections the backend has, by the kernel's table."""
    ip, port = stage.backend.ip.split("."), stage.backend.port
    local = "".join(f"{int(part):02X}" for part in reversed(ip)) + f":{port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1] == local and row[3] == "01" for row in rows)


@pytest.mark.needs("gcc", "setpriv", "taskset")
def test_a_load_against_nothing_fails_with_the_tools_reason(stage: Stage) -> None:
    """Nothing listens there."""
    (nowhere,) = reserve_addresses(1)
    with pytest.raises(UnreachableError, match="every connection was lost"):
        run_load(stage, RoundTrips(2), nowhere, 0.05, 0.1, lambda: None)
    with (
        pytest.raises(UnreachableError, match="without an echo"),
        idle_connections(stage, nowhere, 2),
    ):
        pytest.fail("nothing was opened")


@pytest.mark.needs("gcc")
@pytest.mark.parametrize(
    "arguments",
    [
        ["connect", "192.0.2.1", "80", "1", "1", "1"],
        ["connect", "11.0.0.1", "80", "1", "1", "1"],
        ["connect", "127.0.0.1", "65536", "1", "1", "1"],
        ["connect", "127.0.0.1", "80", "0", "1", "1"],
        ["connect", "127.0.0.1", "80", "1", "1", "600001"],
        ["round-trip", "127.0.0.1", "80", "1", "1", "1", "16385"],
        ["throughput", "127.0.0.1", "80", "1", "1", "1", "sideways"],
        ["http1", "127.0.0.1", "80", "1", "1", "1", "1"],
        ["paced", "127.0.0.1", "80", "1", "1", "1"],
        ["paced", "127.0.0.1", "80", "1", "1", "1", "0"],
        ["paced", "127.0.0.1", "80", "1", "1", "1", "100001"],
        ["idle", "127.0.0.1", "80", "1"],
    ],
)
def test_the_tool_takes_addresses_of_a_bench_and_bounded_numbers_only(arguments: list[str]) -> None:
    """Anything else is a usage error before a socket is made."""
    program = compile_tool("l4load")
    said = subprocess.run([program, *arguments], capture_output=True, timeout=10, check=False)
    assert said.returncode == 2


def test_without_gcc_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the tool was compiled before."""
    monkeypatch.setattr(loadtool, "BUILD", tmp_path)
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(ConfigError, match="apt-get install gcc"):
        compile_tool("l4load")
