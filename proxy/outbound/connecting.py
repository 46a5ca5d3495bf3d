"""One connection to one of a destination's endpoints, after a failure to another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from core.clock import Clock
from core.errors import Fault, MeshError
from discovery.model import Endpoint
from proxy.outbound.destination import Destination
from proxy.outbound.dial import Dialled
from proxy.outbound.member import Member
from proxy.outbound.pick import Outcome, Pick
from proxy.outbound.resolve import MAX_ATTEMPTS


async def connect(
    balanced: Destination, dial: Callable[[Endpoint], Awaitable[Dialled]], clock: Clock
) -> tuple[Dialled, Pick]:
    """Dial one endpoint, after a connect failure up to three others that are ready.

    The ticket is to be closed with the connection. Raises what the last dial raised, and what
    ``Destination.acquire`` does.
    """
    tried: tuple[Member, ...] = ()
    pick = await balanced.acquire()
    while True:
        try:
            dialled = await dial(pick.endpoint)
        except MeshError as error:
            if error.where is not Fault.SERVER:
                pick.finish(clock.monotonic(), Outcome.ABANDONED)
                raise
            pick.finish(clock.monotonic(), Outcome.UNREACHABLE)
            tried = (*tried, pick.member)
            other = balanced.pick(clock.monotonic(), tried) if len(tried) < MAX_ATTEMPTS else None
            if other is None or other.member in tried:
                if other is not None:
                    other.finish(clock.monotonic(), Outcome.ABANDONED)
                raise
            pick = other
        except BaseException:
            pick.finish(clock.monotonic(), Outcome.ABANDONED)
            raise
        else:
            pick.opened(clock.monotonic())
            return dialled, pick
