"""Copies of requests, sent to a second backend whose answers nobody reads (RequestMirror).

A copy has connections, a balancer and bounds of its own and never holds the original back: one
that cannot be sent at once, is not taken as fast as the original's content comes, or takes too
long is given up and counted, and that is all that comes of it.
"""

from __future__ import annotations

from dataclasses import replace
from time import monotonic
from typing import Final, final

from core.errors import MeshError, OverloadError, UnreachableError
from policy.route import Mirror
from proxy.http.exchange import Case, Exchange, Near
from proxy.http.filter import is_chosen
from proxy.net.alarm import Alarm
from proxy.net.stream import Stream
from proxy.outbound.leg import Leg
from proxy.outbound.pick import Outcome, Pick, outcome_of
from proxy.runtime import Runtime
from proxy.telemetry.http import MirrorCounts
from proxy.wire.http_field import Fields
from proxy.wire.http_message import RequestHead, ResponseHead

MAX_COPIES: Final = 256
"""Copies under way at once from clients of one version of HTTP; others are not made."""
MAX_BEHIND: Final = 65_536
"""Octets that a copy's content may lag behind."""
MAX_S: Final = 10.0
"""How long a copy may take."""


@final
class Mirrored:
    """One mirror of one rule or backend, with its backend looked up."""

    __slots__ = ("counts", "leg", "mirror")

    def __init__(self, mirror: Mirror, leg: Leg, counts: MirrorCounts) -> None:
        self.mirror: Final = mirror
        self.leg: Final = leg
        self.counts: Final = counts


@final
class Mirrors:
    """The copies under way."""

    __slots__ = ("_runtime", "under_way")

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.under_way = 0

    def copy(
        self,
        original: Exchange,
        head: RequestHead,
        mirrored: tuple[Mirrored, ...],
        rolls: tuple[float, ...],
    ) -> None:
        """Send copies with this head to where the rolls, each in [0, 1), let them go.

        A tunnel is not copied: nobody knows what is said in it.
        """
        if head.upgrade or head.method == b"CONNECT":
            return
        for each, roll in zip(mirrored, rolls, strict=True):
            if not is_chosen(each.mirror.ratio, roll):
                continue
            if self.under_way >= MAX_COPIES:
                each.counts.dropped.value += 1
                continue
            self._send(original, head, each)

    def _send(self, original: Exchange, head: RequestHead, mirrored: Mirrored) -> None:
        ear = _Ear()
        authority = head.authority or str(mirrored.leg.target or "").encode("ascii")
        copied = replace(head, authority=authority)
        copy = Exchange(copied, ear, self._runtime.poller, ended=original.request_ended)
        ear.exchange = copy
        if not original.request_ended:
            original.copies = (*original.copies, copy)
        self.under_way += 1
        case = CopyCase(self._runtime, self, copy, mirrored)
        copy.case = case
        case.send()


@final
class _Ear(Near):
    """Hears the answer to a copy, and forgets it."""

    __slots__ = ("_since", "exchange")

    def __init__(self) -> None:
        self.exchange: Exchange | None = None
        self._since = -1

    def send_head(self, head: ResponseHead, *, ended: bool) -> None:
        """Hear it."""

    def send_body(self, data: bytes) -> bool:
        """Hear it."""
        return True

    def send_end(self, trailers: Fields) -> None:
        """Hear it."""

    def cut(self, error: MeshError) -> None:
        """Hear it."""

    def hold(self) -> None:
        """Let the copy lag behind, as far as it may."""
        copy = self.exchange
        if copy is None:
            return
        if self._since < 0:
            self._since = copy.received
        if copy.received - self._since > MAX_BEHIND:
            copy.near_is_gone(OverloadError("a copy lags too far behind its original"))

    def release(self) -> None:
        """Count anew."""
        self._since = -1

    def switch(self, far: Stream, early: bytes) -> None:
        """Want none of it."""
        far.abort()


@final
class CopyCase(Case):
    """One copy."""

    __slots__ = ("_alarm", "_exchange", "_mirrored", "_mirrors", "_outcome", "_pick", "_runtime")

    def __init__(
        self, runtime: Runtime, mirrors: Mirrors, exchange: Exchange, mirrored: Mirrored
    ) -> None:
        self._runtime = runtime
        self._mirrors = mirrors
        self._exchange = exchange
        self._mirrored = mirrored
        self._pick: Pick | None = None
        self._outcome = Outcome.ABANDONED
        self._alarm = Alarm(runtime.loop, self)
        self._alarm.set(runtime.loop.time() + MAX_S)

    @property
    def is_over(self) -> bool:
        """Whether no endpoint is wanted any more."""
        return self._exchange.is_over

    def send(self) -> None:
        """Send it, or wait for an endpoint."""
        destination = self._mirrored.leg.destination
        try:
            pick = None if destination is None else destination.pick(self._exchange.began)
            if pick is None and destination is not None:
                destination.wait(self)
                return
            self._carry(pick)
        except MeshError as error:
            self._exchange.fail(error)

    def on_pick(self, pick: Pick) -> None:
        """Go on with an endpoint that has become ready."""
        try:
            self._carry(pick)
        except MeshError as error:
            self._exchange.fail(error)

    def on_no_pick(self, error: MeshError) -> None:
        """End: no endpoint was ready in time."""
        self._exchange.fail(error)

    def _carry(self, pick: Pick | None) -> None:
        self._pick = pick
        way = self._mirrored.leg.way(pick)
        way.used_at = self._exchange.began
        way.pool(self._exchange.head).carry(self._exchange)

    def on_response(self, exchange: Exchange, head: ResponseHead) -> ResponseHead:
        """Remember what it says of the endpoint."""
        self._outcome = outcome_of(head.status)
        if self._pick is not None:
            self._pick.answered(exchange.now, self._outcome)
        return head

    def on_failure(self, exchange: Exchange, error: MeshError, *, reused: bool) -> bool:
        """Never send it twice."""
        if not exchange.has_gone:
            self._outcome = Outcome.UNREACHABLE
        return False

    def on_alarm(self) -> None:
        """Give up what takes too long."""
        self._exchange.near_is_gone(UnreachableError("a copy took too long"))

    def on_done(self, exchange: Exchange, error: MeshError | None) -> None:
        """Count it."""
        self._alarm.close()
        self._mirrors.under_way -= 1
        pick, self._pick = self._pick, None
        if pick is not None:
            pick.finish(monotonic(), self._outcome)
        counts = self._mirrored.counts
        slot = counts.answered
        if error is not None:
            slot = counts.dropped if isinstance(error, OverloadError) else counts.failed
        slot.value += 1
