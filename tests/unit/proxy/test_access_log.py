"""The access log's memory and its thread: nothing waits for a reader, nothing is lost unseen."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.telemetry import access_log
from proxy.telemetry.access_line import MAX_LINE, Entry, Origin
from proxy.telemetry.access_log import GATHER_S, AccessLog
from proxy.telemetry.metric import Metrics

ENTRY = Entry(
    origin=Origin("10.8.0.7:51160"),
    began_at=1_700_000_000.25,
    method=b"GET",
    authority=b"api",
    path=b"/",
    version=11,
    status=200,
)


def _entry(number: int) -> Entry:
    return replace(ENTRY, path=f"/{number}".encode())


def _drops(metrics: Metrics) -> dict[str, int | float]:
    return {labels[0][1]: value for _, labels, value in metrics.http.access_log_drops.samples()}


@contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    """Yield both ends of a pipe as small as the system makes them."""
    far, near = os.pipe()
    fcntl.fcntl(near, fcntl.F_SETPIPE_SZ, MAX_LINE)
    try:
        yield far, near
    finally:
        for each in (far, near):
            try:
                os.close(each)
            except OSError:
                continue


def test_every_line_is_written_in_order_and_the_last_before_the_end(tmp_path: Path) -> None:
    """Ten thousand, without one lost or torn."""
    path = tmp_path / "log"
    metrics = Metrics()
    with path.open("wb") as file:
        log = AccessLog("json", file.fileno(), metrics.http.access_log_drops, limit=1 << 30)
        for number in range(10_000):
            log.add(_entry(number))
        assert log.close(timeout_s=60)
    uris = [json.loads(line)["uri"] for line in path.read_text().splitlines()]
    assert uris == [f"http://api/{number}" for number in range(10_000)]
    assert _drops(metrics) == {"full": 0, "closed": 0}


def test_lines_come_out_while_it_runs(tmp_path: Path) -> None:
    """After a moment's gathering, without waiting for the end."""
    path = tmp_path / "log"
    with path.open("wb") as file:
        log = AccessLog("apache", file.fileno(), Metrics().http.access_log_drops)
        for turn in (1, 2):
            log.add(ENTRY)
            deadline = time.monotonic() + 10
            while path.read_bytes().count(b"\n") < turn and time.monotonic() < deadline:
                time.sleep(GATHER_S)
            assert path.read_bytes().count(b"\n") == turn
        assert log.close()


def test_a_reader_that_sleeps_holds_nobody_up_and_costs_only_lines() -> None:
    """At the bound lines are kept, past it dropped and counted; afterwards it goes on."""
    metrics = Metrics()
    with _pipe() as (far, near):
        log = AccessLog("apache", near, metrics.http.access_log_drops, limit=MAX_LINE * 4)
        size = len(b'10.8.0.7:51160 - - [2023-11-14T22:13:20.250000Z] "GET http://api/ HTTP/1.1" ')
        size += len(b"200 0\n")
        many = MAX_LINE * 12 // size
        began = time.monotonic()
        for _ in range(many):
            log.add(ENTRY)
        assert time.monotonic() - began < 5
        dropped = int(_drops(metrics)["full"])
        # What was handed to the pipe is no longer held.
        assert many - MAX_LINE * 6 // size - 4 <= dropped <= many - MAX_LINE * 4 // size
        assert not log.close(timeout_s=GATHER_S * 2)
        os.set_blocking(far, False)
        read = b""
        deadline = time.monotonic() + 10
        while len(read) < (many - dropped) * size and time.monotonic() < deadline:
            try:
                read += os.read(far, 65_536)
            except BlockingIOError:
                time.sleep(0.01)
        assert read.count(b"\n") == many - dropped
        assert log.close(timeout_s=10)


def test_the_bound_holds_a_line_that_just_fits_and_not_one_more() -> None:
    """Counted in octets, before anything is written."""
    metrics = Metrics()
    with _pipe() as (_, near):
        probe = AccessLog("apache", near, metrics.http.access_log_drops)
        assert probe.close()
        size = len(
            b'10.8.0.7:51160 - - [2023-11-14T22:13:20.250000Z] "GET http://api/ HTTP/1.1" 200 0\n'
        )
        for limit, dropped in ((size * 3, 0), (size * 3 - 1, 1)):
            metrics = Metrics()
            log = AccessLog("apache", near, metrics.http.access_log_drops, limit=limit)
            for _ in range(3):
                log.add(ENTRY)
            assert _drops(metrics)["full"] == dropped
            assert log.close()


def test_lines_of_another_writer_of_the_pipe_stand_between_ours() -> None:
    """Never inside one, however full the pipe is: the event log goes to the same."""
    far, near = os.pipe()
    os.set_blocking(far, False)
    # The pipe once more, so that it holds up nobody who also has to empty it.
    other = os.open(f"/proc/self/fd/{near}", os.O_WRONLY | os.O_NONBLOCK)
    event = b'{"event":"' + b"x" * 300 + b'"}\n'
    log = AccessLog("json", near, Metrics().http.access_log_drops, limit=1 << 30)
    read = bytearray()
    lines = 0

    def take(octets: int) -> None:
        try:
            read.extend(os.read(far, octets))
        except BlockingIOError:
            time.sleep(0.001)

    def say_event() -> bool:
        try:
            return os.write(other, event) == len(event)
        except BlockingIOError:
            return False

    try:
        for number in range(4_000):
            log.add(_entry(number))
            if number % 40 == 0:
                while not say_event():
                    take(5_000)
                lines += 1
                take(3_000)
        deadline = time.monotonic() + 30
        while read.count(b"\n") < 4_000 + lines and time.monotonic() < deadline:
            take(65_536)
        assert log.close(timeout_s=10)
    finally:
        for each in (far, near, other):
            os.close(each)
    found = [json.loads(line) for line in read.splitlines()]
    uris = [each["uri"] for each in found if "uri" in each]
    assert uris == [f"http://api/{number}" for number in range(4_000)]
    assert len(found) - len(uris) == lines


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_lines_of_several_workers_stand_between_each_other(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never inside one, however many find room at the same moment."""
    if kind == "pipe":
        # All look when it is empty, and write later.
        monkeypatch.setattr(access_log, "ioctl", lambda *_: bytes(4))
        far, near = os.pipe()
    else:
        far, near = (each.detach() for each in socket.socketpair())
    workers, lines = 4, 3_000
    drops = Metrics().http.access_log_drops
    logs = [AccessLog("json", near, drops, limit=1 << 30, is_shared=True) for _ in range(workers)]
    os.close(near)
    for log in logs:
        for number in range(lines):
            log.add(_entry(number))
    read = bytearray()
    while read.count(b"\n") < workers * lines:
        got = os.read(far, 30_000)
        assert got
        read += got
    assert all(log.close(timeout_s=10) for log in logs)
    os.close(far)
    found = Counter(json.loads(line)["uri"] for line in read.splitlines())
    assert found == {f"http://api/{number}": workers for number in range(lines)}


def test_a_reader_that_is_gone_costs_lines_and_nothing_else() -> None:
    """A closed pipe is counted; the log takes more, and ends."""
    metrics = Metrics()
    with _pipe() as (far, near):
        log = AccessLog("json", near, metrics.http.access_log_drops)
        os.close(far)
        for _ in range(3):
            log.add(ENTRY)
        assert log.close()
    assert _drops(metrics) == {"full": 0, "closed": 3}


def test_a_descriptor_that_somebody_made_not_blocking_is_waited_for() -> None:
    """A shell does so to what its children share."""
    with _pipe() as (far, near):
        os.set_blocking(near, False)
        log = AccessLog("json", near, Metrics().http.access_log_drops)
        for number in range(100):
            log.add(_entry(number))
        read = b""
        while read.count(b"\n") < 100:
            got = os.read(far, 1_000)
            assert got
            read += got
        assert log.close()
    assert [json.loads(line)["uri"] for line in read.splitlines()][-1] == "http://api/99"


def test_what_is_written_to_is_ours_though_the_number_is_given_to_another(tmp_path: Path) -> None:
    """Standard error may be closed, and its number become a client's socket."""
    mine, other = tmp_path / "mine", tmp_path / "other"
    fd = os.open(mine, os.O_WRONLY | os.O_CREAT)
    log = AccessLog("json", fd, Metrics().http.access_log_drops)
    os.close(fd)
    again = os.open(other, os.O_WRONLY | os.O_CREAT)
    try:
        assert again == fd
        log.add(ENTRY)
        assert log.close()
    finally:
        os.close(again)
    assert mine.read_bytes().count(b"\n") == 1
    assert other.read_bytes() == b""


def test_a_descriptor_that_is_none_is_refused() -> None:
    """At the start, not with the first request."""
    far, near = os.pipe()
    os.close(far)
    os.close(near)
    with pytest.raises(OSError, match="Bad file descriptor"):
        AccessLog("json", near, Metrics().http.access_log_drops)
