from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.net import poller as module
from proxy.net.loop import Loop, Selector, poller_of
from proxy.net.poller import READ, Pollable, Poller
from proxy.net.socket_call import WAIT_MOST
from tests.support.streams import connected, until

on_ours = pytest.mark.asyncio(loop_factories=["ours"])


class Flood:
    """Always ready: it never reads what has come."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.calls = 0
        self.then = then

    def on_ready(self, events: int) -> None:
        """Leave it there."""
        self.calls += 1
        self.then()


@pytest.fixture(name="flood")
def _flood(poller: Poller) -> Iterator[Flood]:
    """Return the owner of a user socket that is always ready."""
    flood = Flood()
    with connected() as (near, peer):
        peer.sendall(b"x")
        poller.watch(near.fileno(), flood, READ)
        yield flood
        if not poller.loop.is_closed():
            poller.forget(near.fileno())


def descriptors() -> set[str]:
    """Return what this process has open, each by its number and kind."""
    found = set()
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # that of the directory itself
            found.add(f"{each.name} {each.readlink()}")
    return found


def ours() -> Loop:
    """Return the running loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Loop)
    return loop


@on_ours
async def test_a_loop_has_one_poller() -> None:
    """Another loop gets a new one each time."""
    assert poller_of(ours()) is poller_of(ours()) is ours().poller
    other = asyncio.new_event_loop()
    made = poller_of(other)
    assert made is not poller_of(ours())
    made.close()
    other.close()


@on_ours
async def test_user_sockets_are_told_without_a_turn_of_asyncio() -> None:
    """Two play with each other; nobody has given asyncio anything to do meanwhile."""
    poller = ours().poller
    with connected() as (one, two):

        class Player:
            def __init__(self, sock: socket.socket) -> None:
                self.sock, self.calls = sock, 0

            def on_ready(self, events: int) -> None:
                self.calls += 1
                self.sock.send(self.sock.recv(1))
                if self.calls == 100:
                    poller.call()

        players = Player(one), Player(two)
        for player in players:
            poller.watch(player.sock.fileno(), player, READ)
        one.send(b"x")
        poller.wait(-1)
        assert [player.calls for player in players] == [99, 100]
        for player in players:
            poller.forget(player.sock.fileno())


@on_ours
async def test_so_many_turns_and_no_more(flood: Flood) -> None:
    """Then asyncio is asked, whatever we may have missed."""
    before = flood.calls
    ours().poller.wait(-1)
    assert flood.calls - before == module._TURNS


@on_ours
async def test_all_are_told_of_more_than_one_turn_tells() -> None:
    """The kernel goes round: nobody is left behind."""
    poller = ours().poller
    pipes = [os.pipe() for _ in range(WAIT_MOST + 10)]
    floods = [Flood() for _ in pipes]
    for (end, other), each in zip(pipes, floods, strict=True):
        os.write(other, b"x")
        poller.watch(end, each, READ)
    await until(lambda: all(each.calls for each in floods))
    for pair in pipes:
        poller.forget(pair[0])
        for end in pair:
            os.close(end)


@pytest.mark.parametrize("is_debug", [False, True])
@on_ours
async def test_a_flood_starves_nobody(flood: Flood, is_debug: bool) -> None:
    """Timers, tasks, threads, descriptors of asyncio's, streams and new connections."""
    loop = ours()
    loop.set_debug(is_debug)
    async with asyncio.timeout(10):
        await asyncio.sleep(0.01)
        await asyncio.gather(*(asyncio.sleep(0) for _ in range(10)))
        assert await asyncio.to_thread(lambda: 7) == 7
        with connected() as (near, peer):
            told = asyncio.Event()
            loop.add_reader(near, told.set)
            peer.sendall(b"x")
            await told.wait()
            assert loop.remove_reader(near)
            told.clear()
            loop.add_writer(near.fileno(), told.set)
            await told.wait()
            assert loop.remove_writer(near.fileno())
            assert not loop.remove_writer(near.fileno())

        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readexactly(4))
            writer.close()

        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"ping")
            assert await reader.read() == b"ping"
            writer.close()
            await writer.wait_closed()
    assert flood.calls > 10


@on_ours
async def test_busy_tasks_starve_no_user_socket(flood: Flood) -> None:
    """Each turn of asyncio's asks the kernel once."""
    for _ in range(100):
        await asyncio.sleep(0)
    assert 90 <= flood.calls <= 110


@on_ours
async def test_what_an_owner_sets_off_happens_while_nothing_else_does() -> None:
    """A future, a timer, a task, the end of the run: asyncio would wait for ever otherwise."""
    loop = ours()
    poller = loop.poller

    def one_shot(sock: socket.socket, then: Callable[[], object]) -> Pollable:
        def once() -> None:
            poller.forget(sock.fileno())
            then()

        return Flood(once)

    async def soon(then: Callable[[], object], end: asyncio.Future[None]) -> None:
        with connected() as (near, peer):
            poller.watch(near.fileno(), one_shot(near, then), READ)
            peer.sendall(b"x")
            async with asyncio.timeout(10):
                await end

    for kind in range(3):
        end = loop.create_future()

        async def finish(end: asyncio.Future[None] = end) -> None:
            end.set_result(None)

        then: Callable[[], object] = (
            lambda end=end: end.set_result(None),
            lambda end=end: loop.call_later(0.01, end.set_result, None),
            lambda finish=finish: loop.create_task(finish()),
        )[kind]
        await soon(then, end)


@pytest.mark.parametrize("wanted", [KeyboardInterrupt, SystemExit])
def test_who_wants_out_gets_out(wanted: type[BaseException]) -> None:
    """And what runs afterwards, to clean up, finds a loop that works."""
    loop = Loop()

    def leave() -> None:
        loop.poller.forget(near.fileno())
        raise wanted

    with connected() as (near, peer):
        peer.sendall(b"x")
        loop.poller.watch(near.fileno(), Flood(leave), READ)
        with pytest.raises(wanted):
            loop.run_forever()
        assert loop.run_until_complete(asyncio.sleep(0.001, "fine")) == "fine"
    loop.close()


def test_an_owner_may_stop_the_loop() -> None:
    """Nothing else goes on at that moment."""
    loop = Loop()
    with connected() as (near, peer):
        peer.sendall(b"x")
        loop.poller.watch(near.fileno(), Flood(loop.stop), READ)
        loop.run_forever()
    loop.close()


@pytest.mark.parametrize("is_idle", [True, False])
@on_ours
async def test_signals_come_through(is_idle: bool) -> None:
    """To a handler of the loop's, whether it sleeps or has much to do."""
    loop, told = ours(), asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR2, told.set)
    with connected() as (near, peer):
        loop.poller.watch(near.fileno(), Flood(), READ)
        if not is_idle:
            peer.sendall(b"x")
            await asyncio.sleep(0)
        asyncio.get_running_loop().run_in_executor(None, os.kill, os.getpid(), signal.SIGUSR2)
        async with asyncio.timeout(10):
            await told.wait()
        loop.poller.forget(near.fileno())
    assert loop.remove_signal_handler(signal.SIGUSR2)


@on_ours
async def test_a_reader_taken_out_in_the_same_turn_is_not_called() -> None:
    """Its number may be another's by then."""
    loop = ours()
    called: list[str] = []
    with connected() as (one, its_peer), connected() as (two, other_peer):

        def take_out() -> None:
            loop.poller.forget(two.fileno())
            loop.remove_reader(one.fileno())
            loop.add_reader(one.fileno(), called.append, "new")

        loop.add_reader(one.fileno(), called.append, "old")
        loop.poller.watch(two.fileno(), Flood(take_out), READ)
        its_peer.sendall(b"x")
        other_peer.sendall(b"x")
        await until(lambda: called)
        assert "old" not in called
        loop.remove_reader(one.fileno())


@on_ours
async def test_a_reset_reaches_a_reader_and_a_writer_of_asyncios() -> None:
    """As with its own selectors: whoever waits learns of it."""
    loop, told = ours(), [asyncio.Event(), asyncio.Event()]
    with connected() as (near, peer):
        near.settimeout(0)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        loop.add_reader(near, told[0].set)
        loop.add_writer(near, told[1].set)
        async with asyncio.timeout(10):
            for each in told:
                await each.wait()
        loop.remove_reader(near)
        loop.remove_writer(near)


@on_ours
async def test_the_loops_own_poller_outlives_who_used_it(flood: Flood) -> None:
    """A sidecar that ends closes it, and another of the same loop goes on."""
    ours().poller.close()
    await until(lambda: flood.calls)


def test_closed_nothing_is_left() -> None:
    """No descriptor; and nothing can be watched any more."""
    before = descriptors()
    loop = Loop()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    loop.close()
    assert descriptors() == before
    with pytest.raises(ValueError, match="closed"):
        loop.poller.watch(0, Flood(), READ)


def test_the_selector_does_as_its_interface_says() -> None:
    """What asyncio asks of one, by number and by socket (selectors.BaseSelector)."""
    loop = Loop()
    with connected() as (near, peer), selectors.EpollSelector() as oracle:
        poller = Poller(loop, is_nested=False)
        tested = Selector(poller)
        both: tuple[selectors.BaseSelector, ...] = (tested, oracle)
        for each in both:
            key = each.register(near, selectors.EVENT_WRITE, "data")
            assert key == (near, near.fileno(), selectors.EVENT_WRITE, "data")
            assert each.get_key(near) == key
            assert each.get_map()[near] == key
            assert len(each.get_map()) == 1
            assert each.get_map().get(peer) is None
            with pytest.raises(KeyError):
                each.register(near, selectors.EVENT_READ)
            with pytest.raises(KeyError):
                each.modify(peer, selectors.EVENT_READ)
            with pytest.raises(KeyError):
                each.unregister(peer)
        assert tested.select(0) == oracle.select(0) != []
        for each in both:
            each.modify(near, selectors.EVENT_READ, "other")
        assert tested.select(0) == oracle.select(0) == []
        assert tested.select(0.01) == []
        peer.sendall(b"x")
        assert tested.select(None) == oracle.select(None) != []
        for each in both:
            assert each.unregister(near).data == "other"
            with pytest.raises(KeyError):
                each.get_key(near)
        assert tested.select(-1) == oracle.select(-1) == []
        tested.close()
        with pytest.raises(ValueError, match="-1"):
            tested.register(-1, selectors.EVENT_READ)
    loop.close()


def test_one_epoll_serves_all() -> None:
    """Not one inside the other: each wake-up would cost twice."""
    before = descriptors()
    loop = Loop()
    assert sum("eventpoll" in kind for kind in descriptors() - before) == 1
    loop.close()
