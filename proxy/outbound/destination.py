"""A destination as it is now: its endpoints balanced, and those who wait for one.

Follows discovery, serves who waits in order, and fails them all when nothing was ready for too
long. Whoever balances requests or connections holds one of these and asks it for a ticket.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol, final

from core.errors import (
    DrainingError,
    MeshError,
    OverloadError,
    RefusedError,
    UnreachableError,
)
from core.record import dataclass
from core.watch import Watch
from discovery.model import Endpoint, EndpointSet, Labels, Metadata, Target
from policy.model import FailureAccrual, OutboundTls, PeakEwma, PenaltyPeakEwma
from proxy.outbound.balancer import Balancer, Balancing
from proxy.outbound.failfast import Entry, FailFast
from proxy.outbound.member import Member, Phase
from proxy.outbound.pick import Outcome, Pick
from proxy.outbound.resolve import no_endpoints, plaintext_refusal
from proxy.runtime import Runtime
from proxy.telemetry.balancer import BalancerSlots

SLICE: Final = 256
"""How many are served in one go: some milliseconds."""
TOUCH_S: Final = 1.0
"""How often discovery is told that a destination is in use, at most."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Concrete:
    """What makes uses of a destination alike: they share a balancer."""

    parent: Metadata
    backend: Metadata
    target: Target
    load: PeakEwma | PenaltyPeakEwma
    accrual: FailureAccrual | None = None
    tls_mode: OutboundTls = OutboundTls.OPPORTUNISTIC
    is_by_connection: bool = False


class Waiter(Protocol):
    """Somebody who waits for an endpoint; told exactly once, never from within ``wait``."""

    @property
    def is_over(self) -> bool:
        """Whether nothing is wanted any more."""
        ...

    def on_pick(self, pick: Pick) -> None:
        """Take the ticket, and end it some day."""
        ...

    def on_no_pick(self, error: MeshError) -> None:
        """Take notice that there is no endpoint."""
        ...


@final
@dataclass(frozen=True, slots=True)
class _Waiting:
    waiter: Waiter
    tried: tuple[Member, ...]
    since: float


@final
class _Future:
    """A coroutine that waits."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[Pick]) -> None:
        self.future = future

    @property
    def is_over(self) -> bool:
        """Whether it has gone on."""
        return self.future.done()

    def on_pick(self, pick: Pick) -> None:
        """Let it go on."""
        self.future.set_result(pick)

    def on_no_pick(self, error: MeshError) -> None:
        """Let it fail."""
        self.future.set_exception(error)


@final
class Destination:
    """One destination's endpoints, and the queue before them."""

    __slots__ = (
        *("_asked", "_balancer", "_discover", "_failfast", "_is_serving", "_news"),
        *("_opened", "_refused", "_runtime", "_slots", "_touched_at", "_unsubscribe"),
        *("_waited", "_waiting", "_watch", "concrete", "used_at"),
    )

    def __init__(
        self,
        runtime: Runtime,
        concrete: Concrete,
        discover: Callable[[Target], Watch[EndpointSet]],
        chance: Callable[[], float],
        slots: BalancerSlots,
        opened: Callable[[Destination], None],
    ) -> None:
        """Follow the endpoints of ``concrete``; ``chance`` returns numbers in [0, 1).

        ``opened`` is told now, and whenever it is asked for an endpoint after ``close``.
        """
        self.concrete: Final = concrete
        self.used_at = runtime.clock.monotonic()
        """When it was last asked for an endpoint."""
        self._runtime = runtime
        self._discover = discover
        self._opened = opened
        self._slots = slots
        self._asked = slots.asked
        self._waited = slots.waited
        balancing = Balancing(
            load=concrete.load,
            accrual=concrete.accrual,
            is_by_connection=concrete.is_by_connection,
        )
        self._balancer = Balancer(balancing, chance, slots, self._on_news)
        self._failfast = FailFast()
        self._waiting: deque[_Waiting] = deque()
        self._is_serving = False
        self._news = asyncio.Event()
        self._refused: RefusedError | None = None
        """Why none of the endpoints there are may be dialled."""
        self._watch: Watch[EndpointSet] | None = None
        self._unsubscribe: Callable[[], None] | None = None
        self._touched_at = 0.0
        slots.gate_timeout.value = self._failfast.timeout_s
        self._follow(self.used_at)

    @property
    def labels(self) -> Labels:
        """The labels of all endpoints together."""
        return self._watch.current.labels if self._watch is not None else ()

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits, and nothing is under way."""
        return not self._waiting and self._balancer.pending == 0

    def pick(self, now: float, tried: tuple[Member, ...] = ()) -> Pick | None:
        """Return a ticket for an endpoint, none of ``tried`` if possible; None: none is ready."""
        self.used_at = now
        if now - self._touched_at >= TOUCH_S or self._watch is None:
            self._follow(now)
        self._asked.step()
        pick = self._balancer.pick(now, tried)
        if pick is not None:
            self._waited.observe(0.0)
        return pick

    def wait(self, waiter: Waiter, tried: tuple[Member, ...] = ()) -> None:
        """Wait for an endpoint after ``pick`` found none.

        Raises at once UnreachableError for a destination that does not exist, RefusedError where
        no endpoint may be dialled without TLS, OverloadError where nobody else may wait.
        """
        if not len(self._balancer):
            if self._refused is not None:
                raise self._refused
            if self._watch is not None and not self._watch.current.exists:
                raise no_endpoints(self._watch.current, self.concrete.target)
        now = self._runtime.clock.monotonic()
        entry = self._failfast.enter(now)
        if entry is not Entry.WAIT:
            raise self._shed(entry)
        self._waiting.append(_Waiting(waiter, tried, now))
        self._slots.waiting.value += 1
        if not self._is_serving:
            self._is_serving = True
            self._runtime.spawn(self._serve())

    async def acquire(self) -> Pick:
        """Return a ticket for an endpoint, as soon as there is one.

        Raises what ``wait`` raises, and UnreachableError when none was ready in time.
        """
        pick = self.pick(self._runtime.clock.monotonic())
        if pick is not None:
            return pick
        future: asyncio.Future[Pick] = self._runtime.loop.create_future()
        self.wait(_Future(future))
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                future.result().finish(self._runtime.clock.monotonic(), Outcome.ABANDONED)
            raise

    def close(self) -> None:
        """Follow nothing any more, and forget what is known; the next ``pick`` begins anew."""
        if self._unsubscribe is not None:
            self._unsubscribe()
        self._unsubscribe = None
        self._watch = None
        self._balancer.update((), 0.0)

    def _follow(self, now: float) -> None:
        self._touched_at = now
        watch = self._discover(self.concrete.target)
        if watch is self._watch:
            return
        if self._watch is None:
            self._opened(self)
        if self._unsubscribe is not None:
            self._unsubscribe()
        self._watch = watch
        self._unsubscribe = watch.subscribe(self._update)
        self._update(watch.current)

    def _update(self, found: EndpointSet) -> None:
        self._refused = None
        endpoints, reserve = self._usable(found.endpoints), self._usable(found.reserve)
        self._balancer.update(endpoints, self._runtime.clock.monotonic(), reserve)
        self._news.set()

    def _usable(self, endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
        """Return those that may be dialled; why the others may not is kept."""
        concrete, own_ips = self.concrete, self._runtime.own_ips
        if concrete.tls_mode is not OutboundTls.REQUIRED:
            return endpoints
        usable: list[Endpoint] = []
        for each in endpoints:
            refused = plaintext_refusal(concrete.parent, each, own_ips)
            if refused is None:
                usable.append(each)
            else:
                self._refused = refused
        return tuple(usable)

    def _on_news(self, phase: Phase) -> None:
        if phase is Phase.READY and self._failfast.ready():
            self._slots.gate_open.value += 1
            self._slots.gate_open_time.value = self._runtime.clock.now().timestamp()
        self._news.set()

    async def _serve(self) -> None:
        """Serve who waits until nobody does."""
        clock = self._runtime.clock
        try:
            while self._waiting:
                if self._serve_some():
                    await asyncio.sleep(0)
                    continue
                if not self._waiting:
                    break
                now = clock.monotonic()
                wake = self._balancer.next_wake(now)
                until = self._failfast.deadline
                if wake is not None:
                    until = min(until, wake)
                self._news.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, until - now)):
                        await self._news.wait()
        finally:
            self._is_serving = False
            while self._waiting:
                self._tell(self._leave(), None, lambda: DrainingError("the sidecar ends"))

    def _serve_some(self) -> bool:
        """Serve or fail whoever can be; returns whether more can be at once."""
        now = self._runtime.clock.monotonic()
        for _ in range(SLICE):
            if not self._waiting:
                return False
            first = self._waiting[0]
            pick = None
            why: Callable[[], MeshError] | None = None
            if not first.waiter.is_over:
                pick = self._balancer.pick(now, first.tried)
                if pick is None:
                    why = self._why_over(now)
                    if why is None:
                        return False
            self._tell(self._leave(), pick, why)
            if pick is not None:
                self._slots.waited.observe(now - first.since)
        return True

    def _why_over(self, now: float) -> Callable[[], MeshError] | None:
        """Return what all are told who wait, if there is nothing left to wait for."""
        refused = self._refused
        if refused is not None and not len(self._balancer):
            return lambda: refused
        was_shut = self._failfast.is_shut
        if not self._failfast.expire(now):
            return None
        if not was_shut:
            self._slots.gate_shut.value += 1
            self._slots.gate_shut_time.value = self._runtime.clock.now().timestamp()
        return self._starved

    def _tell(
        self, waiting: _Waiting, pick: Pick | None, why: Callable[[], MeshError] | None
    ) -> None:
        """Tell somebody what came of the wait; their faults are not the others'."""
        try:
            if pick is not None:
                waiting.waiter.on_pick(pick)
            elif why is not None and not waiting.waiter.is_over:
                waiting.waiter.on_no_pick(why())
        except Exception:
            if pick is not None:
                pick.finish(self._runtime.clock.monotonic(), Outcome.ABANDONED)
            self._runtime.log.exception("session broke", code="internal")

    def _leave(self) -> _Waiting:
        self._failfast.leave()
        self._slots.waiting.value -= 1
        return self._waiting.popleft()

    def _starved(self) -> UnreachableError:
        found = self._watch.current if self._watch is not None else None
        if found is not None and not found.endpoints:
            return no_endpoints(found, self.concrete.target)
        return UnreachableError(
            f"no endpoint of {self.concrete.target} was ready for {self._failfast.timeout_s:g} s",
            hint="each is held back because it could not be reached, or kept failing",
            code="failfast",
        )

    def _shed(self, entry: Entry) -> OverloadError:
        what = f"{self._failfast.waiting} wait for an endpoint already"
        if entry is Entry.SHUT:
            what = "no endpoint has been ready for long, so nobody waits for one"
        return OverloadError(f"{self.concrete.target}: {what}", code="loadshed")
