"""A request that its route answers, or refuses, before a backend is chosen."""

from __future__ import annotations

from time import monotonic
from typing import final

from core.errors import MeshError
from proxy.http.exchange import Case, Exchange
from proxy.outbound.attempt import Sender
from proxy.outbound.rule import Rule
from proxy.wire.http_message import ResponseHead


@final
class AnsweredCase(Case):
    """Counts a request on its route until it goes on its way."""

    __slots__ = ("_rule", "_sender")

    def __init__(self, rule: Rule, sender: Sender) -> None:
        self._rule = rule
        self._sender = sender

    def on_response(self, exchange: Exchange, head: ResponseHead) -> ResponseHead:
        """Pass a head on as it is."""
        return head

    def on_failure(self, exchange: Exchange, error: MeshError, *, reused: bool) -> bool:
        """Never carry it anew: it went nowhere."""
        return False

    def on_done(self, exchange: Exchange, error: MeshError | None) -> None:
        """Count what the workload got."""
        end = (exchange.status, exchange.grpc_status, "" if error is None else error.code)
        self._rule.counts.response(end, monotonic() - exchange.began)
        if error is not None:
            self._sender.failed(error)
