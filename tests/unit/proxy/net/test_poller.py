from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

from proxy.net.poller import ENDED, GONE, READ, WRITE, Poller
from tests.support.streams import connected, reset, until


class Owner:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.events = 0
        self.calls = 0

    def on_ready(self, events: int) -> None:
        """Remember."""
        self.events |= events
        self.calls += 1


async def test_only_what_is_asked_for_is_told(poller: Poller) -> None:
    """Reading, writing, both, neither; level-triggered, as long as it is so."""
    owner = Owner()
    with connected() as (near, peer):
        poller.watch(near.fileno(), owner, 0)
        peer.sendall(b"x")
        await asyncio.sleep(0.02)
        assert owner.calls == 0
        poller.change(near.fileno(), READ)
        await until(lambda: owner.calls > 2)
        assert owner.events == READ
        near.recv(1)
        calls = owner.calls
        await asyncio.sleep(0.02)
        assert owner.calls <= calls + 1
        poller.change(near.fileno(), WRITE)
        await until(lambda: owner.events & WRITE)
        poller.forget(near.fileno())
        calls = owner.calls
        await asyncio.sleep(0.02)
        assert owner.calls == calls


async def test_all_that_is_told_at_once_is_of_one_moment(poller: Poller) -> None:
    """However long it takes to tell: when it was found to be ready, and never before it came."""
    seen: list[float] = []

    class Slow:
        def on_ready(self, events: int) -> None:
            seen.append(poller.now)
            time.sleep(0.02)

    with connected() as (one, one_peer), connected() as (other, other_peer):
        for near in (one, other):
            poller.watch(near.fileno(), Slow(), READ)
        await asyncio.sleep(0.02)
        sent_at = time.monotonic()
        one_peer.sendall(b"x")
        other_peer.sendall(b"x")
        await until(lambda: len(seen) >= 4)
        for near in (one, other):
            poller.forget(near.fileno())
    assert seen[0] >= sent_at
    assert seen[0] == seen[1]
    assert seen[2] == seen[3] >= seen[0] + 0.04


async def test_a_peer_that_is_gone_is_told_unasked(poller: Poller) -> None:
    """Watched for nothing, a reset comes all the same."""
    owner = Owner()
    with connected() as (near, peer):
        poller.watch(near.fileno(), owner, 0)
        reset(peer)
        await until(lambda: owner.events & GONE)
        assert owner.events & ENDED
        poller.forget(near.fileno())


async def test_an_owner_that_breaks_does_not_starve_the_rest(poller: Poller) -> None:
    """It is reported to the loop; others in the same turn are told."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    class Broken(Owner):
        def on_ready(self, events: int) -> None:
            super().on_ready(events)
            poller.forget(self.fd)
            raise LookupError

        fd = -1

    with connected() as (one, its_peer), connected() as (two, other_peer):
        broken, owner = Broken(), Owner()
        broken.fd = one.fileno()
        poller.watch(one.fileno(), broken, READ)
        poller.watch(two.fileno(), owner, READ)
        its_peer.sendall(b"x")
        other_peer.sendall(b"x")
        await until(lambda: owner.calls)
        await until(lambda: told)
        assert broken.calls == 1
        poller.forget(two.fileno())


async def test_one_that_was_forgotten_in_the_same_turn_is_not_told(poller: Poller) -> None:
    """Two are ready at once, and the first closes the second."""
    told: list[str] = []

    class Jealous:
        def __init__(self, name: str, own: socket.socket, other: socket.socket) -> None:
            self.name, self.own, self.other = name, own, other

        def on_ready(self, events: int) -> None:
            told.append(self.name)
            for sock in (self.own, self.other):
                poller.forget(sock.fileno())
                sock.close()

    with connected() as (one, its_peer), connected() as (two, other_peer):
        its_peer.sendall(b"x")
        other_peer.sendall(b"x")
        poller.watch(one.fileno(), Jealous("one", one, two), READ)
        poller.watch(two.fileno(), Jealous("two", two, one), READ)
        await until(lambda: told)
        await asyncio.sleep(0.02)
        assert len(told) == 1


async def test_closed_it_tells_nothing() -> None:
    """Twice is as good as once."""
    poller = Poller(asyncio.get_running_loop())
    owner = Owner()
    with connected() as (near, peer):
        poller.watch(near.fileno(), owner, READ)
        peer.sendall(b"x")
        poller.close()
        poller.close()
        await asyncio.sleep(0.02)
        assert owner.calls == 0
