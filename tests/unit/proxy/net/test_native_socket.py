"""What is asked of a socket for each message: in C where it was built, and by its reference."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.net import native, socket_call
from proxy.net.socket_call import OWNED_BYTES, READ_BYTES, WAIT_MOST
from proxy.wire.buffer import Buffer, owned


class Calls(Protocol):
    """Either of the two."""

    receive: Callable[[int], Buffer | None]
    send: Callable[[int, Buffer], int]
    wait: Callable[[select.epoll, float], list[int]]


_BOTH = pytest.mark.parametrize("calls", [socket_call, native], ids=["reference", "native"])
_SOME = bytes(range(256)) * (READ_BYTES // 256 + 1)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return both ends of a TCP connection; the first one does not block."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        near, _ = listener.accept()
    near.settimeout(0)
    with near, peer:
        yield near, peer


def test_the_kernel_runs_where_it_was_built() -> None:
    """With EXPECT_COMPILED=1 or EXPECT_KERNELS=1; elsewhere as it was built."""
    if "1" in (os.environ.get("EXPECT_COMPILED"), os.environ.get("EXPECT_KERNELS")):
        assert native.receive is not socket_call.receive
        assert native.send is not socket_call.send
        assert native.wait is not socket_call.wait


@_BOTH
@pytest.mark.parametrize("size", [1, OWNED_BYTES, OWNED_BYTES + 1, READ_BYTES])
def test_few_octets_are_given_and_many_are_lent(
    calls: Calls, ends: tuple[socket.socket, socket.socket], size: int
) -> None:
    """Up to what is taken at once; what comes behind waits."""
    near, peer = ends
    assert calls.receive(near.fileno()) is None
    peer.sendall(_SOME[:size] + b"rest")
    near.settimeout(5)
    near.recv(size, socket.MSG_PEEK | socket.MSG_WAITALL)
    near.settimeout(0)
    found = calls.receive(near.fileno())
    assert found is not None
    if size == READ_BYTES:
        assert found == _SOME[:size]
        assert calls.receive(near.fileno()) == b"rest"
    else:
        assert owned(found).startswith(_SOME[:size])
    assert isinstance(found, bytes) == (len(found) <= OWNED_BYTES)


@_BOTH
def test_the_peers_end_is_nothing_and_its_reset_an_error(
    calls: Calls, ends: tuple[socket.socket, socket.socket]
) -> None:
    """As often as asked; nothing is sent any more, and no signal comes of it."""
    near, peer = ends
    peer.shutdown(socket.SHUT_WR)
    assert calls.receive(near.fileno()) == b""
    assert calls.receive(near.fileno()) == b""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    with pytest.raises(BrokenPipeError):
        calls.send(near.fileno(), b"x")
    with pytest.raises(BrokenPipeError):
        calls.send(near.fileno(), memoryview(b"x"))


@_BOTH
def test_a_reset_is_heard_by_who_receives(
    calls: Calls, ends: tuple[socket.socket, socket.socket]
) -> None:
    """Once; after that there is just nothing more."""
    near, peer = ends
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    with pytest.raises(ConnectionResetError):
        calls.receive(near.fileno())
    assert calls.receive(near.fileno()) == b""


@_BOTH
def test_a_full_socket_takes_nothing(
    calls: Calls, ends: tuple[socket.socket, socket.socket]
) -> None:
    """After it took a part; all that it took arrives in order."""
    near, peer = ends
    taken = 0
    data = memoryview(_SOME)
    while sent := calls.send(near.fileno(), data[taken % 256 :][:40_000]):
        taken += sent
    found = bytearray()
    while len(found) < taken:
        found += peer.recv(READ_BYTES)
    assert bytes(found) == (bytes(range(256)) * (taken // 256 + 1))[:taken]


@_BOTH
def test_a_descriptor_that_is_none_is_an_error(calls: Calls) -> None:
    """Not somebody else's connection."""
    with pytest.raises(OSError, match="Bad file descriptor"):
        calls.receive(-1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        calls.send(-1, b"x")


@_BOTH
@given(size=st.integers(0, 9_000), form=st.sampled_from([bytes, bytearray, memoryview]))
def test_what_is_sent_is_received(calls: Calls, size: int, form: Callable[[bytes], Buffer]) -> None:
    """In whatever form it is handed over."""
    data = _SOME[:size]
    near, peer = socket.socketpair()
    near.settimeout(0)
    peer.settimeout(0)
    with near, peer:
        assert calls.send(near.fileno(), form(data)) == len(data)
        assert (calls.receive(peer.fileno()) or b"") == data


@_BOTH
def test_who_is_ready_and_what_for(calls: Calls, ends: tuple[socket.socket, socket.socket]) -> None:
    """As the kernel says it, for each that it knows of."""
    near, peer = ends
    with select.epoll() as epoll:
        assert calls.wait(epoll, 0) == []
        epoll.register(near.fileno(), select.EPOLLIN)
        assert calls.wait(epoll, 0) == []
        peer.sendall(b"x")
        assert calls.wait(epoll, -1) == [near.fileno(), select.EPOLLIN]
        assert calls.wait(epoll, 86_400) == [near.fileno(), select.EPOLLIN]
        epoll.register(peer.fileno(), select.EPOLLIN | select.EPOLLOUT)
        found = calls.wait(epoll, 0.5)
        assert dict(zip(found[::2], found[1::2], strict=True)) == {
            near.fileno(): select.EPOLLIN,
            peer.fileno(): select.EPOLLOUT,
        }


@_BOTH
def test_one_wait_tells_of_so_many(calls: Calls) -> None:
    """At the bound all of them, past it the rest comes next."""
    with select.epoll() as epoll:
        first, last = os.pipe()
        os.write(last, b"x")
        copies = [first] + [os.dup(first) for _ in range(WAIT_MOST)]
        for number in copies[:-1]:
            epoll.register(number, select.EPOLLIN)
        assert sorted(calls.wait(epoll, 0)[::2]) == sorted(copies[:-1])
        epoll.register(copies[-1], select.EPOLLIN)
        found = calls.wait(epoll, 0)[::2]
        assert len(found) == WAIT_MOST
        assert sorted({*found, *calls.wait(epoll, 0)[::2]}) == sorted(copies)
        for number in (*copies, last):
            os.close(number)


@_BOTH
@pytest.mark.parametrize("timeout_s", [0.0001, 0.02])
def test_nothing_comes_of_a_wait_before_its_time(calls: Calls, timeout_s: float) -> None:
    """Never earlier: who waits for a timer would ask again and again."""
    with select.epoll() as epoll:
        began = time.monotonic()
        assert calls.wait(epoll, timeout_s) == []
        assert time.monotonic() - began >= timeout_s


@_BOTH
def test_a_signal_is_heard_while_one_waits(calls: Calls) -> None:
    """What its handler raises comes out."""

    def interrupt(number: int, _: object) -> None:
        raise LookupError(number)

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    try:
        with select.epoll() as epoll, pytest.raises(LookupError):
            calls.wait(epoll, 10)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@_BOTH
def test_on_a_closed_epoll_nobody_waits(calls: Calls) -> None:
    """Nor on somebody else's descriptor."""
    epoll = select.epoll()
    epoll.close()
    with pytest.raises(ValueError, match="closed"):
        calls.wait(epoll, 0)
