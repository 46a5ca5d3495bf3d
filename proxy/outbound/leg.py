"""One backend of one rule: where its requests go, and what its filters do to them."""

from __future__ import annotations

from typing import Final, final

from core.errors import UnreachableError
from discovery.model import Target
from policy.model import Backend, Balancer, Forward, OutboundTls
from policy.route import Filter
from proxy.http.edit import edits_of
from proxy.outbound.destination import Destination
from proxy.outbound.pick import Pick
from proxy.outbound.resolve import plaintext_refusal
from proxy.outbound.way import Way, Ways
from proxy.telemetry.http import BackendCounts


@final
class Leg:
    """One backend of one rule: where its requests go, and what it counts."""

    __slots__ = (
        *("_tls_mode", "_way", "_ways", "backend", "counts", "destination", "edits"),
        *("is_filtered", "target"),
    )

    def __init__(
        self,
        ways: Ways,
        backend: Backend,
        destination: Destination | None,
        counts: BackendCounts,
        tls_mode: OutboundTls,
        filters: tuple[Filter, ...] = (),
    ) -> None:
        """Prepare a backend; ``filters`` are its rule's."""
        self.backend: Final = backend
        self.is_filtered: Final = bool(backend.filters)
        self.edits: Final = edits_of((*filters, *backend.filters))
        """What becomes of responses."""
        self.destination: Final = destination
        """Its endpoints, balanced; None: it has one, as it stands, or none."""
        self.counts: Final = counts
        self.target: Target | None = None
        self._tls_mode = tls_mode
        self._ways = ways
        self._way: Way | None = None
        if isinstance(backend.dispatcher, Balancer):
            self.target = backend.dispatcher.target

    def way(self, pick: Pick | None) -> Way:
        """Return the connections to the endpoint picked, or to the one there is.

        Raises UnreachableError for a backend without any, RefusedError where plaintext is
        forbidden.
        """
        if pick is not None and self.destination is not None:
            kept = pick.member.kept
            if isinstance(kept, Way) and kept.is_wanted:
                return kept
            labels = self.destination.labels
            fresh = self._ways.to(pick.endpoint, self.target, labels, pick.member)
            pick.member.kept = fresh
            return fresh
        way = self._way
        if way is not None and way.is_wanted:
            return way
        dispatcher = self.backend.dispatcher
        if not isinstance(dispatcher, Forward):
            raise UnreachableError(f"{self.backend.metadata} is no backend", code="no-endpoints")
        if self._tls_mode is OutboundTls.REQUIRED:
            own_ips = self._ways.runtime.own_ips
            refused = plaintext_refusal(self.backend.metadata, dispatcher.endpoint, own_ips)
            if refused is not None:
                raise refused
        made = self._ways.to(dispatcher.endpoint, None, ())
        self._way = made
        return made
