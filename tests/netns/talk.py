"""What apps and clients say to each other, on sockets that a test has; and in captured pods."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from cli.demo.pods import Pod
from tests.support.sockets import connect_in, listener_in


@contextmanager
def serving(listener: socket.socket, serve: Callable[[socket.socket], None]) -> Iterator[None]:
    """Run an app that serves one connection; its failure is the test's."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(60)
                serve(connection)
        except BaseException as error:  # noqa: BLE001 - it is raised in the test below
            failures.append(error)

    with listener:
        thread = threading.Thread(target=run)
        thread.start()
        yield
        thread.join(90)
        assert not thread.is_alive()
    if failures:
        raise failures[0]


def read_all(connection: socket.socket) -> bytes:
    """Read to the end."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def asking(near: socket.socket, question: bytes) -> bytes:
    """Send, half-close and return all that comes."""
    with near:
        near.sendall(question)
        near.shutdown(socket.SHUT_WR)
        return read_all(near)


def closing(connect: Callable[[], socket.socket], first: bytes = b"hello\r\n") -> float:
    """Connect, speak, and expect to be closed without one byte; return after how long."""
    began = time.monotonic()
    try:
        with connect() as near:
            near.sendall(first)
            assert near.recv(1) == b""
    except ConnectionError:
        pass
    return time.monotonic() - began


def echo(connection: socket.socket) -> None:
    """Answer with what was asked, once all of it is there."""
    connection.sendall(b"you said: " + read_all(connection))


def served(
    pod: Pod, port: int, serve: Callable[[socket.socket], None]
) -> AbstractContextManager[None]:
    """Run an app in a captured pod."""
    return serving(listener_in(pod.host, "::", port), serve)


def ask(pod: Pod, address: str, port: int, question: bytes) -> bytes:
    """Ask from a captured pod."""
    return asking(connect_in(pod.host, address, port), question)


def closed(pod: Pod, address: str, port: int, first: bytes = b"hello\r\n") -> float:
    """Expect to be closed, in a captured pod; return after how long."""
    return closing(lambda: connect_in(pod.host, address, port, wait_s=30), first)
