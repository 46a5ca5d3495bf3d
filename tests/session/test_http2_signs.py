"""Signs of life: how often a silent server is asked for one, and when it is given up."""

from __future__ import annotations

import asyncio

import pytest

from core.errors import Fault, MeshError, TruncatedError, UnreachableError
from discovery.model import KeepAlive
from proxy.http.http2_far import Http2Far, why_closed
from proxy.net.poller import Poller
from proxy.net.stream import Stream
from tests.support.streams import Witness, connected

PING = b"pillion?"


class Owner:
    """Notes why the connection was given up."""

    error: Exception | None = None
    is_over = False

    def far_changed(self) -> None:
        """Nothing waits for a stream here."""

    def far_closed(self, far: Http2Far, error: Exception | None) -> None:
        """Keep the reason."""
        del far
        self.error, self.is_over = error, True


@pytest.mark.parametrize("interval_s", [0.1, 1.5], ids=["across clusters", "in one"])
async def test_a_server_that_gives_no_sign_of_life_is_given_up(interval_s: float) -> None:
    """Asked when its time has come, not before, and not for long."""
    keep_alive = KeepAlive(interval_s=interval_s, timeout_s=0.2, while_idle=True)
    with connected() as (near, peer):
        poller = Poller(asyncio.get_running_loop())
        owner = Owner()
        far = Http2Far(poller, Stream(poller, near, Witness()), owner, keep_alive)
        now = poller.loop.time()
        far.on_tick(now + 0.05)
        if interval_s > 1:
            # The one clock of all connections tells these.
            far.on_tick(now + interval_s + 0.01)
            far.on_tick(now + interval_s + 1)
        async with asyncio.timeout(5):
            while not owner.is_over:
                await asyncio.sleep(0.01)
        assert isinstance(owner.error, MeshError)
        assert owner.error.code == "http2-silent"
        assert interval_s > 1 or peer.recv(65_536).count(PING) == 1


async def test_a_server_without_a_sidecar_is_not_asked() -> None:
    """Servers of gRPC end connections that ask too often."""
    with connected() as (near, peer):
        poller = Poller(asyncio.get_running_loop())
        owner = Owner()
        far = Http2Far(poller, Stream(poller, near, Witness()), owner)
        for seconds in range(0, 100, 5):
            far.on_tick(poller.loop.time() + seconds)
        await asyncio.sleep(0.05)
        assert PING not in peer.recv(65_536)
        assert not owner.is_over
        far.leave()


@pytest.mark.parametrize(
    "error",
    [None, ConnectionResetError(), TruncatedError("cut"), UnreachableError("x", code="far-closed")],
)
def test_a_connection_that_ends_is_its_servers_fault(error: Exception | None) -> None:
    """However it ended, what was under way there may go elsewhere."""
    why = why_closed(error)
    assert (why.where, why.code) == (Fault.SERVER, "far-closed")
