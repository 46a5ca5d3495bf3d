"""The promise: several processes are one sidecar, and as safe as one.

Real processes on a loopback address, without capture rules; clients have no sidecar.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from cli.demo.loopback import free_port
from identity.files import write_new
from identity.pem import join_pem
from tests.authority import mk_mesh
from tests.session.admin import samples
from tests.sidecars import free_address
from tests.support.manifests import MESHED, pod
from tests.support.processes import processes_marked, wait_until
from tests.support.sockets import ENVIRONMENT, PILLION

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="workers need a core each"),
]

IP: Final = "127.0.0.9"
DENY: Final = {"config.linkerd.io/default-inbound-policy": "deny"}
MANY: Final = 40
"""Connections of which no worker has none, but once in 2^39 times."""
SAID: Final = b"\0" * 32
SECONDS: Final = 30


class Sidecar:
    """A running ``pillion proxy`` with two workers, whose leaf others renew."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.log = place / "log"
        self.mark = f"PILLION_TEST_MARK={os.urandom(8).hex()}".removeprefix("PILLION_")
        self.admin, self.app = free_address(IP), free_address(IP)
        self.inner = free_port()
        mesh = mk_mesh(place / "authority")
        leaf = place / "leaf"
        issued = mesh.leaf(mesh.identity("shop/default"), leaf)
        write_new(leaf / "chain.pem", join_pem([issued.leaf, *issued.intermediates]), mode=0o644)
        (leaf / "anchors").mkdir()
        for each in mesh.authority.anchors.iterdir():
            (leaf / "anchors" / each.name).write_bytes(each.read_bytes())
        (place / "mesh").mkdir()
        self.annotate({})

    def annotate(self, annotations: dict[str, str]) -> None:
        """Write the pod's manifest, in one stroke."""
        draft = self.place / "draft"
        draft.write_text(json.dumps(pod("web-0", IP, annotations={**MESHED, **annotations})))
        draft.rename(self.place / "mesh" / "web.json")

    def settings(self, **more: str) -> dict[str, str]:
        """Return the environment."""
        name, _, value = self.mark.partition("=")
        return {
            **{name: value for name, value in os.environ.items() if "PILLION" not in name},
            **ENVIRONMENT,
            name: value,
            "PILLION_POD": "shop/web-0",
            "PILLION_MESH_DIR": str(self.place / "mesh"),
            "PILLION_IDENTITY_DIR": str(self.place / "leaf"),
            "PILLION_CAPTURE": "explicit",
            "PILLION_APP_PORTS": f"{self.app.port}:{self.inner}",
            "PILLION_INBOUND_LISTEN_ADDR": str(free_address(IP)),
            "PILLION_OUTBOUND_LISTEN_ADDR": str(free_address(IP)),
            "PILLION_ADMIN_LISTEN_ADDR": str(self.admin),
            "PILLION_LOG_FORMAT": "json",
            "PILLION_WORKERS": "2",
            **{f"PILLION_{key}": value for key, value in more.items()},
        }

    @contextmanager
    def running(self, **more: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run it until it is ready, and to the end of the block."""
        with self.log.open("wb") as errors:
            process = subprocess.Popen(
                [*PILLION, "proxy"], env=self.settings(**more), stderr=errors
            )
        try:
            wait_until(self.is_ready, seconds=SECONDS, what=f"ready: {self.log.read_text()}")
            yield process
        finally:
            process.kill()
            process.wait()
            wait_until(lambda: not self.processes(), seconds=SECONDS, what="the workers' end")

    def processes(self) -> list[int]:
        """Return what runs of it."""
        return processes_marked(self.mark)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log's events of this name."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in lines if line["event"] == name]

    def worker(self, number: int) -> int:
        """Return the process that is a worker now."""
        return [
            int(each["process"])
            for each in self.events("worker started")
            if each["worker"] == number
        ][-1]

    def ask(self, path: str, method: str = "GET", body: str = "") -> tuple[int, str]:
        """Return status and body of an admin page."""
        with closing(http.client.HTTPConnection(IP, self.admin.port, timeout=10)) as connection:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def is_ready(self) -> bool:
        """Whether all of it is."""
        with suppress(OSError, http.client.HTTPException):
            return self.ask("/ready") == (200, "ready\n")
        return False

    def held(self) -> dict[str, int]:
        """Return the open connections' clients, and which worker has each."""
        status, body = self.ask("/connections")
        assert status == 200, body
        found = json.loads(body)
        assert found["open"] == found["shown"] == len(found["connections"])
        return {each["client_address"]: each["worker"] for each in found["connections"]}


@pytest.fixture(name="sidecar")
def _sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    """Return a sidecar with an application behind it that echoes."""
    sidecar = Sidecar(tmp_path)
    with socket.create_server(("127.0.0.1", sidecar.inner), backlog=256) as listener:
        threading.Thread(target=_echo_all, args=(listener,), daemon=True).start()
        yield sidecar
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def _echo_all(listener: socket.socket) -> None:
    with suppress(OSError):
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=_echo, args=(sock,), daemon=True).start()


def _echo(sock: socket.socket) -> None:
    with sock, suppress(OSError):
        while data := sock.recv(4096):
            sock.sendall(data)


def allowed(sidecar: Sidecar) -> float:
    """Return how many connections were let in, by the page of metrics."""
    status, text = sidecar.ask("/metrics")
    assert status == 200
    return sum(samples(text.encode())["inbound_tcp_authz_allow_total"].values())


def dial(sidecar: Sidecar) -> socket.socket:
    """Connect to the application by its sidecar."""
    return socket.create_connection((IP, sidecar.app.port), timeout=SECONDS)


def echoes(sock: socket.socket) -> bool:
    """Whether a connection is served: what is said comes back."""
    try:
        sock.sendall(SAID)
        heard = b""
        while len(heard) < len(SAID) and (data := sock.recv(64)):
            heard += data
    except ConnectionError:
        return False
    return heard == SAID


@contextmanager
def dialled(sidecar: Sidecar, count: int) -> Iterator[list[socket.socket]]:
    """Hold ``count`` connections that are served."""
    with ExitStack() as stack:
        socks = [stack.enter_context(dial(sidecar)) for _ in range(count)]
        assert all(echoes(sock) for sock in socks)
        yield socks


def by_worker(sidecar: Sidecar, socks: list[socket.socket]) -> dict[int, list[socket.socket]]:
    """Return the connections of each worker."""
    held = sidecar.held()
    found: dict[int, list[socket.socket]] = {}
    for sock in socks:
        ip, port = sock.getsockname()
        found.setdefault(held[f"{ip}:{port}"], []).append(sock)
    return found


def test_both_workers_serve_and_answer_as_one(sidecar: Sidecar) -> None:
    """Connections are spread; pages tell of all of them, whoever is asked."""
    with sidecar.running(), dialled(sidecar, MANY) as socks:
        spread = Counter({number: len(each) for number, each in by_worker(sidecar, socks).items()})
        print(f"{MANY} connections: {dict(spread)}")
        assert set(spread) == {1, 2}
        for _ in range(10):
            status, text = sidecar.ask("/metrics")
            assert status == 200
            found = samples(text.encode())
            assert sum(found["inbound_tcp_authz_allow_total"].values()) == MANY
            starts = found["pillion_worker_starts_total"]
            assert starts == {frozenset({("worker", "1")}): 1, frozenset({("worker", "2")}): 1}
        assert sidecar.ask("/proxy-log-level", "PUT", "debug")[0] == 204
        assert {sidecar.ask("/proxy-log-level") for _ in range(10)} == {(200, "debug\n")}
        assert sidecar.ask("/live") == (200, "live\n")
        assert json.loads(sidecar.ask("/config")[1])["workers"] == 2
        assert sidecar.ask("/explain?from=shop/web&to=80&nonsense=1")[0] == 400
        assert sidecar.ask(f"/policy?port={sidecar.app.port}")[0] == 200
        assert len(sidecar.processes()) == 3


@pytest.mark.parametrize(("connections", "processes"), [(2, 3), (1, 1)])
def test_each_worker_has_a_connection_at_least(
    sidecar: Sidecar, connections: int, processes: int
) -> None:
    """No more workers run than connections may be open; a single one is no worker."""
    with sidecar.running(MAX_CONNECTIONS=str(connections)), dial(sidecar) as sock:
        assert echoes(sock)
        assert len(sidecar.processes()) == processes
        found = samples(sidecar.ask("/metrics")[1].encode())
        assert sum(found["pillion_connections_max"].values()) == connections


def test_a_policy_change_reaches_all(sidecar: Sidecar) -> None:
    """In the time that one worker takes: it cuts what is open, and no worker admits any more."""
    with sidecar.running(), dialled(sidecar, MANY) as socks:
        assert set(by_worker(sidecar, socks)) == {1, 2}
        sidecar.annotate(DENY)
        began = time.monotonic()
        for sock in socks:
            with suppress(ConnectionError):
                assert sock.recv(1) == b""
        print(f"all are cut after {time.monotonic() - began:.3f} s")
        assert time.monotonic() - began < 5
        for _ in range(MANY):
            with dial(sidecar) as sock:
                assert not echoes(sock)
        assert sidecar.held() == {}


def test_a_killed_worker_takes_its_own_connections_alone(sidecar: Sidecar) -> None:
    """The others go on, new ones are served; /ready names it until its place is filled.

    What it had counted when it was last asked stays counted.
    """
    with sidecar.running(), dialled(sidecar, MANY) as socks:
        mine = by_worker(sidecar, socks)
        assert allowed(sidecar) == MANY
        os.kill(sidecar.worker(2), signal.SIGKILL)
        for sock in mine[2]:
            with suppress(ConnectionError):
                assert sock.recv(1) == b""
        assert sidecar.ask("/ready") == (503, "not ready: worker 2: it is not running\n")
        assert allowed(sidecar) == MANY
        assert all(echoes(sock) for sock in mine[1])
        with dialled(sidecar, MANY):
            assert set(sidecar.held().values()) == {1}
            assert allowed(sidecar) == 2 * MANY
        wait_until(sidecar.is_ready, seconds=SECONDS, what="ready again")
        assert all(echoes(sock) for sock in mine[1])
        (ended,) = sidecar.events("worker ended")
        assert (ended["worker"], ended["status"], ended["again_s"]) == (2, "SIGKILL", 1)
        starts = samples(sidecar.ask("/metrics")[1].encode())["pillion_worker_starts_total"]
        assert starts[frozenset({("worker", "2")})] == 2
        with dialled(sidecar, MANY) as more:
            assert set(by_worker(sidecar, more)) == {1, 2}
            assert {allowed(sidecar) for _ in range(10)} == {3 * MANY}


def test_a_killed_worker_is_noticed_whatever_was_inherited(sidecar: Sidecar) -> None:
    """Who ignores its children's ends hands that down (signal(7))."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with sidecar.running():
            signal.signal(signal.SIGCHLD, before)
            os.kill(sidecar.worker(2), signal.SIGKILL)
            wait_until(
                lambda: bool(sidecar.events("worker ended")), seconds=SECONDS, what="its end"
            )
            (ended,) = sidecar.events("worker ended")
            assert (ended["worker"], ended["status"]) == (2, "SIGKILL")
            directory = _directory_of(sidecar.worker(1))
        # Who started it is killed now; the other worker takes along what the first has left.
        assert not directory.exists()
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_worker_that_hangs_keeps_nobody_from_the_others(sidecar: Sidecar) -> None:
    """New connections are served by who is left; the pages say who does not answer."""
    with sidecar.running():
        os.kill(sidecar.worker(1), signal.SIGSTOP)
        try:
            with dialled(sidecar, MANY):
                for page, limit in (("/ready", 0.8), ("/live", 0.8), ("/metrics", 4)):
                    status, text = sidecar.ask(page)
                    assert status == 503
                    assert f"worker 1: it has not answered within {limit} s" in text
        finally:
            os.kill(sidecar.worker(1), signal.SIGCONT)
        wait_until(sidecar.is_ready, seconds=SECONDS, what="ready again")


def test_asked_to_end_all_drain(sidecar: Sidecar) -> None:
    """Nothing new is taken, what is open is served to its end, and the status is 0."""
    with sidecar.running() as process, dialled(sidecar, MANY) as socks:
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: len(sidecar.events("draining")) == 2, seconds=SECONDS, what="draining")
        assert sidecar.ask("/ready") == (503, "not ready: draining\n")
        wait_until(lambda: _is_refused(sidecar), seconds=SECONDS, what="the ports' closing")
        assert all(echoes(sock) for sock in socks)
        for sock in socks:
            sock.close()
        assert process.wait(SECONDS) == 0
        assert sidecar.processes() == []


@pytest.mark.parametrize("how", ["the deadline", "a second signal"])
def test_the_worst_status_wins(sidecar: Sidecar, how: str) -> None:
    """One worker has nothing left, the other has to cut: that is the sidecar's status."""
    grace = "1s" if how == "the deadline" else "1h"
    with (
        sidecar.running(SHUTDOWN_GRACE_PERIOD=grace) as process,
        dialled(sidecar, 1) as socks,
    ):
        process.send_signal(signal.SIGTERM)
        if how == "a second signal":
            wait_until(lambda: bool(sidecar.events("drained")), seconds=SECONDS, what="one drained")
            process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 3
        with suppress(ConnectionError):
            assert socks[0].recv(1) == b""


def test_a_local_peer_ends_all_by_the_page(sidecar: Sidecar) -> None:
    """Whichever worker is asked, and however often: only a second signal cuts what is open."""
    with (
        sidecar.running(SHUTDOWN_ENDPOINT_ENABLED="true") as process,
        dialled(sidecar, 4) as socks,
    ):
        for _ in range(2):
            assert sidecar.ask("/shutdown", "POST") == (200, "shutdown\n")
            wait_until(
                lambda: len(sidecar.events("draining")) == 2, seconds=SECONDS, what="draining"
            )
        process.send_signal(signal.SIGTERM)
        assert _all_drain(sidecar, process, socks) == 0


def test_a_signal_to_all_processes_counts_once(sidecar: Sidecar) -> None:
    """As a service manager sends it to each of a unit's; the starter passes it on besides."""
    with sidecar.running() as process, dialled(sidecar, 4) as socks:
        for each in (sidecar.worker(1), sidecar.worker(2)):
            os.kill(each, signal.SIGTERM)
        wait_until(lambda: len(sidecar.events("draining")) == 2, seconds=SECONDS, what="draining")
        process.send_signal(signal.SIGTERM)
        assert _all_drain(sidecar, process, socks) == 0


def test_workers_end_with_who_started_them(sidecar: Sidecar) -> None:
    """Killed, it leaves neither processes nor ports nor sockets behind."""
    with sidecar.running() as process, dialled(sidecar, MANY) as socks:
        assert allowed(sidecar) == MANY
        directories = {_directory_of(sidecar.worker(number)) for number in (1, 2)}
        assert len(directories) == 1
        assert all((each.stat().st_mode & 0o777) == 0o700 for each in directories)
        process.kill()
        wait_until(lambda: len(sidecar.events("draining")) == 2, seconds=SECONDS, what="draining")
        assert all(echoes(sock) for sock in socks)
        for sock in socks:
            sock.close()
        wait_until(lambda: not sidecar.processes(), seconds=SECONDS, what="the end of all")
        assert _is_refused(sidecar)
        assert not any(each.exists() for each in directories)


def test_a_port_that_is_taken_is_told_at_once(sidecar: Sidecar) -> None:
    """Nobody else shares a port with the workers, not even another sidecar's workers."""
    with sidecar.running():
        done = subprocess.run(
            [*PILLION, "proxy"],
            env=sidecar.settings(),
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    assert done.returncode == 2
    assert f"the admin listener cannot have {sidecar.admin}" in done.stderr.decode()


def test_what_stops_one_worker_at_its_start_stops_the_sidecar(sidecar: Sidecar) -> None:
    """As with a single process: a mistake is told once, and the status is 2."""
    settings = sidecar.settings(POD="shop/nobody-0", CAPTURE="redirect")
    del settings["PILLION_APP_PORTS"]
    done = subprocess.run(
        [*PILLION, "proxy"], env=settings, capture_output=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 2
    assert done.stderr.decode().count("has no usable manifest of our pod") == 1


def _all_drain(
    sidecar: Sidecar, process: subprocess.Popen[bytes], socks: list[socket.socket]
) -> int:
    """Let what is open end by itself once the ports are closed; return the status."""
    wait_until(lambda: _is_refused(sidecar), seconds=SECONDS, what="the ports' closing")
    assert all(echoes(sock) for sock in socks)
    for sock in socks:
        sock.close()
    status = process.wait(SECONDS)
    assert sidecar.events("asked to end at once") == []
    return status


def _is_refused(sidecar: Sidecar) -> bool:
    try:
        dial(sidecar).close()
    except ConnectionRefusedError:
        return True
    return False


def _directory_of(process: int) -> Path:
    told = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")[-2]
    return Path(json.loads(told)["directory"])
