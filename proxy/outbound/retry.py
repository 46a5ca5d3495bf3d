"""Whether a request is made again: what happened decides, and whether it may have been carried out.

Pure. What is made again without being asked for cannot do harm: after a failed connect nothing was
sent; GET, HEAD and OPTIONS change nothing (RFC 9110, 9.2.1). Everything else is retried only by a
policy that names it, with Linkerd's limit, backoff and built-in conditions (linkerd2-proxy,
http/retry). Never again once a byte of a response went to the client, or when the body cannot be
sent a second time. All but connects take from the destination's budget.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, final

from core.record import dataclass
from policy.model import Retry
from proxy.outbound.backoff import backoff_s
from proxy.outbound.budget import Budget

MAX_BODY: Final = 65_536
"""Bytes of a body that are kept for sending them again, at most; Linkerd's bound."""
MAX_OTHERS: Final = 3
"""Other endpoints that are dialled after a connect failure."""
SAFE_RETRIES: Final = 1
"""How often a request that is safe is made again without a policy that says so."""
MAX_HINT_S: Final = 1.0
"""The longest that a client is kept waiting because a server asked for a pause."""
SAFE_METHODS: Final = frozenset({b"GET", b"HEAD", b"OPTIONS"})
_UNAVAILABLE: Final = 14


class Happened(Enum):
    """How an attempt ended that may be made again."""

    UNCONNECTED = "unconnected"
    """No connection to the endpoint: nothing was sent."""
    UNREACHABLE = "unreachable"
    """An authenticated far sidecar says that it could not reach its application."""
    REFUSED = "refused"
    """REFUSED_STREAM, or a stream above GOAWAY's last: not processed (RFC 9113, 8.7)."""
    RESET = "reset"
    """The connection or stream broke before a byte of the response."""
    TRY_TIMEOUT = "try-timeout"
    """No response within the time limit of one attempt."""
    STARVED = "starved"
    """No endpoint of the backend was ready for as long as may be waited."""
    RESPONSE = "response"
    """A response's head, or the trailers right behind it."""


@final
@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt ended."""

    happened: Happened
    status: int = 0
    grpc_status: int | None = None
    """Of a gRPC response; None for one of HTTP alone."""
    pushback_ms: int | None = None
    """``grpc-retry-pushback-ms``; below 0: not again."""
    retry_after_s: float | None = None


@final
@dataclass(frozen=True, slots=True)
class Body:
    """What is known of a request's body when an attempt ends."""

    taken: int = 0
    """Bytes taken from the client so far."""
    is_kept: bool = True
    """Whether all of them are still at hand."""
    is_whole: bool = True
    """Whether the client has sent all of it."""
    declared: int | None = None
    """Its length as declared."""


NO_BODY: Final = Body()


@final
@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether to try again, after how long, and why or why not."""

    again: bool
    reason: str
    """Again: connect, safe, policy. Not: response-began, body, not-repeatable, limit, pushback,
    deadline, budget, connects."""
    delay_s: float = 0.0


@final
class Retrying:
    """One request's retries."""

    __slots__ = ("_budget", "_is_safe", "_is_safe_on", "_max_body", "_retry", "connects", "retries")

    def __init__(
        self,
        method: bytes,
        retry: Retry | None,
        budget: Budget,
        *,
        is_safe_on: bool = True,
    ) -> None:
        """Begin with the first attempt; whoever makes it pays into the budget.

        ``is_safe_on``: what is safe is retried without a policy.
        """
        self.connects = 0
        """Other endpoints dialled because one could not be reached."""
        self.retries = 0
        """Attempts made again after something had been sent."""
        self._retry = retry
        self._budget = budget
        self._is_safe_on = is_safe_on
        self._is_safe = is_safe_on and method in SAFE_METHODS
        self._max_body = MAX_BODY if retry is None else min(MAX_BODY, retry.max_request_bytes)

    @property
    def attempts(self) -> int:
        """How many attempts there were, with the one under way."""
        return 1 + self.connects + self.retries

    @property
    def is_last(self) -> bool:
        """Whether the attempt under way is the last that policy grants: no per-try timeout then."""
        return self._retry is None or self.retries >= self._retry.max_retries

    @property
    def is_spent(self) -> bool:
        """Whether a policy that asks for it has tried broken connections again to no avail."""
        return self._retry is not None and self._retry.on_reset and self.retries > 0

    def keeps_body(self, declared: int | None) -> bool:
        """Whether it is worth keeping the body: a length that is declared may be too much."""
        if not self._is_safe_on and self._retry is None:
            return False
        return declared is None or declared <= self._max_body

    def after(
        self,
        ended: Ended,
        now: float,
        chance: float,
        *,
        body: Body = NO_BODY,
        has_responded: bool = False,
        time_left_s: float = float("inf"),
    ) -> Verdict:
        """Decide about another attempt; one that is granted is counted, and taken from the budget.

        ``chance`` in [0, 1) is for the jitter; ``has_responded``: a byte of a response went to
        the client; ``time_left_s`` until the request's own deadline.
        """
        verdict = self._decide(ended, chance, body, has_responded=has_responded)
        if not verdict.again:
            return verdict
        if verdict.delay_s >= time_left_s:
            return Verdict(again=False, reason="deadline")
        if ended.happened is Happened.UNCONNECTED:
            self.connects += 1
            return verdict
        if not self._budget.withdraw(now):
            return Verdict(again=False, reason="budget")
        self.retries += 1
        return verdict

    def _decide(self, ended: Ended, chance: float, body: Body, *, has_responded: bool) -> Verdict:
        if has_responded:
            return Verdict(again=False, reason="response-began")
        happened = ended.happened
        if happened is Happened.UNCONNECTED:
            return self._decide_connect(body)
        is_safe = self._is_safe and happened in (
            Happened.UNREACHABLE,
            Happened.REFUSED,
            Happened.RESET,
        )
        is_asked = self._is_asked_for(ended)
        if not is_safe and not is_asked:
            return Verdict(again=False, reason="not-repeatable")
        if not self._is_repeatable(body, ended):
            return Verdict(again=False, reason="body")
        retry = self._retry
        if is_safe and self.retries < SAFE_RETRIES:
            return Verdict(again=True, reason="safe")
        if retry is None or not is_asked or self.retries >= retry.max_retries:
            return Verdict(again=False, reason="limit")
        delay = backoff_s(retry.backoff, self.retries + 1, chance)
        if happened is Happened.RESPONSE:
            hint = _hint_s(ended)
            if hint < 0.0 or hint > MAX_HINT_S:
                return Verdict(again=False, reason="pushback")
            # A pushback is exact; a Retry-After is the least.
            delay = hint if ended.pushback_ms is not None else max(delay, hint)
        return Verdict(again=True, reason="policy", delay_s=delay)

    def _decide_connect(self, body: Body) -> Verdict:
        if not self._is_safe_on:
            return Verdict(again=False, reason="not-repeatable")
        if body.taken and not body.is_kept:
            return Verdict(again=False, reason="body")
        if self.connects >= MAX_OTHERS:
            return Verdict(again=False, reason="connects")
        return Verdict(again=True, reason="connect")

    def _is_asked_for(self, ended: Ended) -> bool:
        """Whether the policy names what happened."""
        retry = self._retry
        if retry is None:
            return False
        happened = ended.happened
        if happened in (Happened.REFUSED, Happened.TRY_TIMEOUT, Happened.STARVED):
            return True
        if happened is Happened.RESPONSE:
            if ended.grpc_status is not None and ended.grpc_status in retry.grpc_codes:
                return True
            return _is_named(retry, ended.status)
        if retry.on_reset:
            return True
        # What the client would be told: 502, or UNAVAILABLE.
        return _is_named(retry, 502) or _UNAVAILABLE in retry.grpc_codes

    def _is_repeatable(self, body: Body, ended: Ended) -> bool:
        if body.taken > self._max_body or (body.declared or 0) > self._max_body:
            return False
        if ended.happened is Happened.RESPONSE and not body.is_whole:
            return False
        return body.is_kept or body.taken == 0


def _is_named(retry: Retry, status: int) -> bool:
    return any(each.low <= status <= each.high for each in retry.statuses)


def _hint_s(ended: Ended) -> float:
    """Return how long the server wants to be left alone; below 0: for good."""
    if ended.pushback_ms is not None:
        return ended.pushback_ms / 1000
    return 0.0 if ended.retry_after_s is None else max(0.0, ended.retry_after_s)
