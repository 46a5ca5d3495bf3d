"""haproxy, nginx and Apache read what we take: the same requests, or fewer, never others.

Each stream that our reader takes is sent to them as it is, and as we write it on; a request
behind it shows where they saw its end. What reaches the server behind them must be what we
understood, in order, up to the point where they refuse.
"""

from __future__ import annotations

import random
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import h11
import pytest

from proxy.wire.http_message import Form, RequestHead
from tests.fuzz.engine import mutate
from tests.support.processes import wait_until
from tests.wire.http1_body_cases import BODIES
from tests.wire.http1_drive import Message, read_requests
from tests.wire.http1_head_cases import HEADS
from tests.wire.http1_traffic import FRAGMENTS
from tests.wire.test_smuggling import ATTACKS, forwarded

END = b"GET /end HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
MUTATIONS = 120
"""How many mutated streams each peer reads, besides the tables."""


@dataclass
class Backend:
    """A server that notes every request it gets, and answers 200."""

    listener: socket.socket
    seen: list[tuple[bytes, bytes, bytes]] = field(default_factory=list)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.listener.getsockname()[1])

    def serve(self) -> None:
        """Take connections until the listener is closed."""
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, suppress(ConnectionError, h11.ProtocolError):
            reader = h11.Connection(h11.SERVER, max_incomplete_event_size=200_000)
            head: h11.Request | None = None
            body = b""
            while True:
                event = reader.next_event()
                if event is h11.NEED_DATA:
                    data = connection.recv(65_536)
                    reader.receive_data(data)
                elif isinstance(event, h11.Request):
                    head, body = event, b""
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage) and head is not None:
                    self.seen.append((bytes(head.method), bytes(head.target), body))
                    answer = h11.Response(status_code=200, headers=[(b"content-length", b"0")])
                    connection.sendall(
                        (reader.send(answer) or b"") + (reader.send(h11.EndOfMessage()) or b"")
                    )
                    if reader.our_state is h11.MUST_CLOSE:
                        return
                    reader.start_next_cycle()
                else:
                    return


def haproxy(directory: Path, port: int, backend: int) -> list[str]:
    """Write haproxy's configuration; return its command."""
    file = directory / "haproxy.cfg"
    file.write_text(
        f"""\
global
  nbthread 1
defaults
  mode http
  timeout connect 2s
  timeout client 2s
  timeout server 2s
frontend front
  bind 127.0.0.1:{port}
  default_backend back
backend back
  server app 127.0.0.1:{backend}
"""
    )
    return ["haproxy", "-db", "-f", str(file)]


def nginx(directory: Path, port: int, backend: int) -> list[str]:
    """Write nginx's configuration; return its command."""
    file = directory / "nginx.conf"
    paths = "\n".join(
        f"  {kind}_temp_path {directory};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file.write_text(
        f"""\
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/nginx.log;
events {{}}
http {{
  access_log off;
{paths}
  merge_slashes off;
  server {{
    listen 127.0.0.1:{port};
    client_header_timeout 2s;
    client_body_timeout 2s;
    location / {{
      proxy_pass http://127.0.0.1:{backend};
      proxy_http_version 1.1;
      proxy_request_buffering off;
    }}
  }}
}}
"""
    )
    return ["nginx", "-p", str(directory), "-c", str(file)]


def apache2(directory: Path, port: int, backend: int) -> list[str]:
    """Write Apache's configuration; return its command."""
    file = directory / "apache.conf"
    modules = "\n".join(
        f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so"
        for name in ("mpm_event", "authz_core", "proxy", "proxy_http")
    )
    file.write_text(
        f"""\
{modules}
ServerRoot {directory}
DefaultRuntimeDir {directory}
PidFile {directory}/apache.pid
ErrorLog {directory}/apache.log
ServerName a
User nobody
Group nogroup
Listen 127.0.0.1:{port}
Timeout 2
AllowEncodedSlashes NoDecode
MergeSlashes Off
ProxyRequests Off
ProxyPass / http://127.0.0.1:{backend}/ nocanon
"""
    )
    return ["apache2", "-d", str(directory), "-f", str(file), "-DFOREGROUND"]


PEERS = {"haproxy": haproxy, "nginx": nginx, "apache2": apache2}


@dataclass
class Peer:
    """A running peer in front of a backend."""

    name: str
    port: int
    backend: Backend

    def read(self, stream: bytes) -> list[tuple[bytes, bytes, bytes]]:
        """Return what reached the backend of a stream with ``END`` behind it."""
        self.backend.seen.clear()
        address = ("127.0.0.1", self.port)
        with socket.create_connection(address, timeout=10) as client, suppress(ConnectionError):
            client.sendall(stream + END)
            while client.recv(65_536):
                pass
        return [(method, plain(target), body) for method, target, body in self.backend.seen]


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.needs(name)) for name in PEERS],
)
def peer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Peer]:
    """Start a peer and its backend, on ports of their own."""
    name = request.param
    listener = socket.create_server(("127.0.0.1", 0))
    backend = Backend(listener)
    threading.Thread(target=backend.serve, daemon=True).start()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    directory = tmp_path_factory.mktemp(name)
    command = PEERS[name](directory, port, backend.port)
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        wait_until(lambda: is_open(port) or process.poll() is not None, seconds=20, what=name)
        assert process.poll() is None, (directory / "output").read_text()
        yield Peer(name, port, backend)
    finally:
        process.terminate()
        process.wait(20)
        listener.close()


def is_open(port: int) -> bool:
    """Tell whether something listens."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def understood(messages: list[Message]) -> list[tuple[bytes, bytes, bytes]]:
    """Return what the backend should get."""
    heads = [(message.head, message.body) for message in messages]
    return [
        (head.method, plain(head.path), body)
        for head, body in heads
        if isinstance(head, RequestHead)
    ]


def plain(path: bytes) -> bytes:
    """Return a path with one slash first: Apache drops the others, whatever it is told."""
    return b"/" + path.lstrip(b"/")


def good_streams() -> list[bytes]:
    """Return streams that we take whole: the tables' and mutated ones, none that leaves HTTP."""
    chance = random.Random(9112)
    tables = [case.data for case in HEADS + BODIES if not case.eof and len(case.data) < 3_000]
    pool = tables + [stream for _, stream, _ in ATTACKS]
    streams = list(tables)
    while len(streams) < len(tables) + 20 * MUTATIONS:
        streams.append(mutate(chance, chance.choice(pool), pool, FRAGMENTS))
    good: list[bytes] = []
    for stream in streams:
        seen = read_requests([stream])
        heads = [message.head for message in seen.messages]
        plain = all(isinstance(head, RequestHead) and head.form is Form.ORIGIN for head in heads)
        if heads and not seen.code and not seen.rest and seen.messages[-1].ended and plain:
            good.append(stream)
    return good[: len(tables) + MUTATIONS]


def test_they_understand_what_we_take_as_we_do(peer: Peer) -> None:
    """The same requests in the same order, up to where they refuse; nothing of their own."""
    end = (b"GET", b"/end", b"")
    agreed = 0
    for stream in good_streams():
        ours = understood(read_requests([stream]).messages)
        theirs = peer.read(stream)
        assert theirs == [*ours, end][: len(theirs)], f"{stream!r}: {theirs} for {ours}"
        agreed += len(theirs) > len(ours)
    assert agreed > 40


def test_they_understand_what_we_write_as_we_do(peer: Peer) -> None:
    """Each message as it goes on: one request, the same, and the next one behind it."""
    end = (b"GET", b"/end", b"")
    agreed = 0
    for stream in good_streams():
        for message in read_requests([stream]).messages:
            theirs = peer.read(forwarded(message))
            assert theirs == [*understood([message]), end][: len(theirs)], f"{stream!r}"
            agreed += len(theirs) == 2
    assert agreed > 40


@pytest.mark.parametrize(("name", "stream", "code"), ATTACKS, ids=[row[0] for row in ATTACKS])
def test_an_attack_that_they_fall_for_never_reaches_them(
    peer: Peer, name: str, stream: bytes, code: str
) -> None:
    """We refuse it: what we pass on of it is nothing, whatever they would make of it."""
    del name
    seen = read_requests([stream])
    assert seen.code == code
    passed_on = b"".join(forwarded(message) for message in seen.messages if message.ended)
    theirs = peer.read(passed_on)
    assert not [request for request in theirs if request[1] == b"/admin"]
