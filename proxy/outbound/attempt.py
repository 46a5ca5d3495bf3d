"""A request on its way out: to an endpoint, and to another one where that is safe or asked for.

What is decided here is decided by pure values: who is picked (``balancer``), whether again
(``retry``), how long (``timeout``). This file carries it out.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, time
from typing import Final, Protocol, final

from core.errors import Fault, HandshakeError, MeshError, UnreachableError
from core.record import dataclass
from policy.model import Retry, Timeouts
from proxy.http.exchange import Case, Exchange
from proxy.net.alarm import Alarm
from proxy.outbound.authority import addressed
from proxy.outbound.leg import Leg
from proxy.outbound.member import Member
from proxy.outbound.pick import Outcome, Pick, outcome_of
from proxy.outbound.retry import Body, Ended, Happened, Retrying, Verdict
from proxy.outbound.retry_hint import happened_far, parse_pushback, parse_retry_after
from proxy.outbound.rule import NO_TIMEOUTS, Rule
from proxy.outbound.timeout import NEVER, Deadlines, Expired, expired_error
from proxy.outbound.way import Way
from proxy.runtime import Runtime
from proxy.telemetry.classification import grpc_status_of, is_failure
from proxy.wire.http_message import HTTP_2, ResponseHead
from proxy.wire.native import value_of, without_fields
from proxy.wire.orig_proto_field import FROM_SIDECARS

PROXY_ERROR: Final = b"l5d-proxy-error"
PROVED_S: Final = 1.0
"""A gRPC stream that lives so long after its response began is a good sign of its endpoint."""
_UNAVAILABLE: Final = 14
_clock: Final[Callable[[], float]] = monotonic
_BAD_GATEWAY: Final = 502
MAX_NAME: Final = 300
"""Characters of a required identity that a message repeats."""


@final
@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that did not end well, and what came of it."""

    number: int
    """1 is the first."""
    endpoint: str
    """Where it went; empty where none was ready."""
    happened: str
    status: int
    """Of its response; 0: none came."""
    code: str
    """Of the error; empty: there was a response."""
    verdict: Verdict


class Sender(Protocol):
    """Whose request it is."""

    def chance(self) -> float:
        """Return a number in [0, 1)."""
        ...

    def attempted(self, attempt: Attempt) -> None:
        """Take notice of an attempt that did not end well."""
        ...

    def failed(self, error: MeshError) -> None:
        """Take notice that a request could not be answered by its server."""
        ...


@final
class OutboundCase(Case):
    """One request."""

    __slots__ = (
        *("_alarm", "_deadlines", "_ended", "_exchange", "_head", "_hint_s", "_leg", "_pick"),
        *("_proves_at", "_required", "_retry", "_retrying", "_rule", "_runtime", "_sender"),
        *("_tried", "_way"),
    )

    def __init__(
        self,
        runtime: Runtime,
        sender: Sender,
        exchange: Exchange,
        rule: Rule,
        leg: Leg,
        timeouts: Timeouts,
        retry: Retry | None,
        required: str | None = None,
    ) -> None:
        """Take a request; ``required``: the identity that its endpoint must have."""
        now = exchange.began
        self._required: Final = required
        self._runtime = runtime
        self._sender = sender
        self._exchange = exchange
        self._head: Final = exchange.head
        self._rule = rule
        self._leg = leg
        self._way: Way | None = None
        self._pick: Pick | None = None
        self._tried: tuple[Member, ...] = ()
        self._ended: Outcome | None = None
        """What the attempt under way is known to have come to, before its end."""
        self._hint_s = 0.0
        """How long its endpoint asked to be left alone."""
        self._proves_at = NEVER
        """When it has proved that its endpoint can be used, if it is a probe and still runs."""
        self._retry: Final = retry
        self._retrying: Retrying | None = None
        """Its retries, once somebody asks for them: most requests are made once."""
        rule.budget.deposit(now)
        self._deadlines: Deadlines | None = None
        self._alarm: Alarm | None = None
        is_bounded = rule.is_timed if timeouts is rule.timeouts else timeouts != NO_TIMEOUTS
        if is_bounded or (retry is not None and retry.timeout_s):
            self._deadlines = Deadlines(timeouts, retry.timeout_s if retry else None, now)
            exchange.is_timed = True
        if not exchange.request_ended:
            length = exchange.head.length
            exchange.keeps_body = self._retries().keeps_body(length if length >= 0 else None)

    @property
    def is_over(self) -> bool:
        """Whether no endpoint is wanted any more."""
        return self._exchange.is_over

    @property
    def attempts(self) -> int:
        """How often the request was sent, or tried to be."""
        return 1 if self._retrying is None else self._retrying.attempts

    def _retries(self) -> Retrying:
        retrying = self._retrying
        if retrying is None:
            rule = self._rule
            self._retrying = retrying = Retrying(
                self._head.method, self._retry, rule.budget, is_safe_on=rule.is_safe_on
            )
        return retrying

    def send(self, now: float) -> None:
        """Begin an attempt. Raises MeshError where there is nobody to send to."""
        destination = self._leg.destination
        self._ended = None
        self._hint_s = 0.0
        deadlines = self._deadlines
        if deadlines is not None:
            # What else was ready may have taken long before it; its own time begins here.
            sent_at = self._now()
            deadlines.attempt(sent_at, is_last=self._retries().is_last)
            if self._exchange.request_ended:
                deadlines.sent(sent_at)
            self._rearm()
        if destination is None:
            self._carry(None)
            return
        pick = destination.pick(now, self._tried)
        if pick is None:
            destination.wait(self, self._tried)
        else:
            self._carry(pick)

    def on_pick(self, pick: Pick) -> None:
        """Go on with an endpoint that has become ready."""
        try:
            self._carry(pick)
        except MeshError as error:
            self._exchange.fail(error)

    def on_no_pick(self, error: MeshError) -> None:
        """End: no endpoint was ready in time."""
        if not self._again(Ended(Happened.STARVED)):
            self._exchange.fail(error)

    def _carry(self, pick: Pick | None) -> None:
        self._pick = pick
        exchange = self._exchange
        try:
            way = self._leg.way(pick)
            if self._required is not None:
                self._check_identity(way)
        except MeshError:
            self._finish_pick(self._now(), Outcome.ABANDONED)
            raise
        self._way = way
        way.used_at = exchange.began
        way.counts.request()
        self._leg.counts.request()
        head = addressed(self._head, way.authority) if way.authority else self._head
        exchange.head = head
        way.pool(head).carry(exchange)

    def _check_identity(self, way: Way) -> None:
        """Raise HandshakeError if the endpoint is not whom the application asks for."""
        wanted = self._required
        if wanted is None:
            return
        identity = way.endpoint.identity if way.is_meshed else None
        if identity is None or wanted not in (identity.name, str(identity)):
            raise HandshakeError(
                f"{way.endpoint.address} is {identity or 'nobody of the mesh'}, and the request "
                f"requires {wanted[:MAX_NAME]}",
                hint="see the request's header l5d-require-id",
                code="identity-mismatch",
            )

    # What comes of it

    def on_response(self, exchange: Exchange, head: ResponseHead) -> ResponseHead | None:
        """Judge a response: the client's, or a reason to try again."""
        deadlines = self._deadlines
        now = exchange.now
        if deadlines is not None:
            deadlines.answered(self._now())
            self._rearm()
        if head.status < 400 and not exchange.is_grpc:
            self._ended = Outcome.SUCCESS
            if self._pick is not None:
                self._pick.answered(now, Outcome.SUCCESS)
        else:
            ended = self._judge(exchange, head)
            if self._pick is not None:
                self._pick.answered(now, self._ended or Outcome.SUCCESS)
            if self._wants_again(ended) and (self._again(ended) or self._is_spent(ended.happened)):
                return None
            if self._ended is None and self._pick is not None and self._pick.is_probe:
                self._proves_at = now + PROVED_S
                self._rearm()
        if head.version != HTTP_2 or exchange.head.version == HTTP_2:
            fields = without_fields(head.fields, FROM_SIDECARS)
            if fields is not head.fields:
                head = head.with_fields(fields)
        # Else they are taken off where HTTP/1 is made of it.
        edits = self._leg.edits
        return head if edits is None else edits.edit(exchange.head, head)

    def _judge(self, exchange: Exchange, head: ResponseHead) -> Ended:
        """Return what a response's head says, and remember what it says of the endpoint."""
        status, fields = head.status, head.fields
        grpc_status: int | None = None
        if exchange.is_grpc:
            grpc_status = grpc_status_of(value_of(fields, b"grpc-status"))
        happened = Happened.RESPONSE
        is_broken = status >= 500 or grpc_status == _UNAVAILABLE
        if is_broken and self._way is not None and self._way.is_meshed:
            words = value_of(fields, PROXY_ERROR)
            if words is not None:
                far_status = status if grpc_status is None else _BAD_GATEWAY
                happened = happened_far(far_status, words.decode("latin-1"))
        if happened is Happened.UNREACHABLE:
            self._ended = Outcome.UNREACHABLE
        elif grpc_status is not None or not exchange.is_grpc:
            self._ended = outcome_of(status, grpc_status)
        if status < 429 and not grpc_status:
            return Ended(happened, status, grpc_status)
        pushback = value_of(fields, b"grpc-retry-pushback-ms") if exchange.is_grpc else None
        after = value_of(fields, b"retry-after")
        ended = Ended(
            happened,
            status,
            grpc_status,
            None if pushback is None else parse_pushback(pushback.decode("latin-1")),
            None if after is None else parse_retry_after(after.decode("latin-1"), time()),
        )
        self._hint_s = max(0.0, (ended.pushback_ms or 0) / 1000, ended.retry_after_s or 0.0)
        return ended

    def _wants_again(self, ended: Ended) -> bool:
        return (
            ended.happened is not Happened.RESPONSE
            or ended.status >= 400
            or bool(ended.grpc_status)
        )

    def on_failure(self, exchange: Exchange, error: MeshError, *, reused: bool) -> bool:
        """Carry a request anew whose endpoint could not be reached, or whose connection died."""
        if error.where is not Fault.SERVER and error.code != "overload":
            self._end_attempt(exchange, Outcome.ABANDONED, error)
            return False
        if not exchange.has_gone:
            happened, outcome = Happened.UNCONNECTED, Outcome.UNREACHABLE
        elif error.code == "http2-refused":
            happened, outcome = Happened.REFUSED, Outcome.ABANDONED
        else:
            happened, outcome = Happened.RESET, Outcome.ABANDONED if reused else Outcome.FAILURE
        self._ended = outcome
        exchange.has_gone = False
        if self._again(Ended(happened), error):
            return True
        self._end_attempt(exchange, outcome, error)
        return self._is_spent(happened)

    def _is_spent(self, happened: Happened) -> bool:
        """Whether this was the last of a rule's retries of broken connections; tells the client."""
        if happened is not Happened.RESET or not self._retries().is_spent:
            return False
        words = f"{self.attempts} attempts met connections that broke"
        self._exchange.give_up_far()
        self._exchange.fail(UnreachableError(words, code="retry-limit"))
        return True

    def _again(self, ended: Ended, error: MeshError | None = None) -> bool:
        """Try again if that is safe or asked for; False: this is how it ends."""
        exchange = self._exchange
        now = self._now()
        length = exchange.head.length
        verdict = self._retries().after(
            ended,
            now,
            self._sender.chance(),
            body=Body(
                exchange.received,
                exchange.is_repeatable,
                exchange.request_ended,
                length if length >= 0 else None,
            ),
            has_responded=exchange.responded,
            time_left_s=self._deadlines.left_s(now) if self._deadlines else NEVER,
        )
        self._rule.retries.decided(verdict.reason)
        if verdict.again or verdict.reason != "not-repeatable" or error is not None:
            self._tell(ended, verdict, error)
        if not verdict.again:
            if verdict.reason != "deadline":
                return False
            # The request's time is over before another attempt could begin.
            over = expired_error(Expired.REQUEST)
            exchange.give_up_far()
            self._end_attempt(exchange, self._ended or Outcome.ABANDONED, error)
            exchange.fail(over)
            return True
        if self._pick is not None:
            self._tried = (*self._tried, self._pick.member)
        exchange.status = ended.status
        self._end_attempt(exchange, self._ended or Outcome.ABANDONED, error)
        exchange.status = 0
        exchange.give_up_far()
        if verdict.delay_s:
            if self._deadlines is not None:
                self._deadlines.paused(now)
            self._wake_at(now + verdict.delay_s)
            return True
        return self._resend()

    def _tell(self, ended: Ended, verdict: Verdict, error: MeshError | None) -> None:
        self._sender.attempted(
            Attempt(
                self.attempts - verdict.again,
                "" if self._way is None else str(self._way.endpoint.address),
                ended.happened.value,
                ended.status,
                "" if error is None else error.code,
                verdict,
            )
        )

    def _resend(self) -> bool:
        try:
            self.send(self._now())
        except MeshError as error:
            self._exchange.fail(error)
        return True

    def _end_attempt(self, exchange: Exchange, outcome: Outcome, error: MeshError | None) -> None:
        """Count an attempt, and let go of its endpoint."""
        way = self._way
        now = exchange.over_at if exchange.over_at >= 0 else self._now()
        self._finish_pick(now, outcome)
        self._way = None
        if way is None:
            return
        end = (exchange.status, exchange.grpc_status, "" if error is None else error.code)
        first = exchange.first_at if exchange.first_at >= 0 else now
        way.counts.response(end, first - exchange.began)
        self._leg.counts.response(end, now - exchange.ended_at)

    def _finish_pick(self, now: float, outcome: Outcome) -> None:
        pick, self._pick = self._pick, None
        if pick is not None:
            pick.finish(now, outcome, self._hint_s)

    # Time

    def _now(self) -> float:
        return _clock()

    def on_request_end(self, exchange: Exchange) -> None:
        """Begin to count the time that the response has."""
        if self._deadlines is not None and self._way is not None:
            self._deadlines.sent(self._now())
            self._rearm()

    def on_moved(self, exchange: Exchange) -> None:
        """Count the idle time from now on."""
        if self._deadlines is not None:
            # The alarm looks when it goes off; it need not be moved for each piece of content.
            self._deadlines.moved(self._now())

    def _rearm(self) -> None:
        when = self._proves_at
        if self._deadlines is not None:
            when = min(when, self._deadlines.next)
        if when < NEVER:
            self._wake_at(when)

    def _wake_at(self, when: float) -> None:
        if self._alarm is None:
            self._alarm = Alarm(self._runtime.loop, self)
        self._alarm.set(when)

    def on_alarm(self) -> None:
        """Begin the attempt that had to wait, or end what takes too long."""
        exchange = self._exchange
        if exchange.is_over:
            return
        now = self._now()
        if now >= self._proves_at and self._pick is not None:
            self._proves_at = NEVER
            self._pick.proved(now)
        deadlines = self._deadlines
        expired = deadlines.expired(now) if deadlines is not None else None
        if expired is None:
            if self._way is None and self._pick is None:
                self._resend()
            else:
                self._rearm()
            return
        error = expired_error(expired)
        self._ended = Outcome.FAILURE
        if expired is Expired.TRY and self._again(Ended(Happened.TRY_TIMEOUT), error):
            return
        exchange.give_up_far()
        self._end_attempt(exchange, Outcome.FAILURE, error)
        exchange.fail(error)

    def on_done(self, exchange: Exchange, error: MeshError | None) -> None:
        """Count what the workload got."""
        if self._alarm is not None:
            self._alarm.close()
            self._alarm = None
        if self._way is not None or self._pick is not None:
            outcome = self._ended or Outcome.SUCCESS
            if exchange.is_grpc and exchange.grpc_status is not None:
                outcome = outcome_of(exchange.status, exchange.grpc_status)
            if error is not None:
                is_client = error.where is Fault.CLIENT
                outcome = Outcome.ABANDONED if is_client else Outcome.FAILURE
            self._end_attempt(exchange, outcome, error)
        end = (exchange.status, exchange.grpc_status, "" if error is None else error.code)
        self._rule.counts.response(end, exchange.over_at - exchange.began)
        if self.attempts > 1 and not is_failure(*end):
            self._rule.retries.succeeded()
        if error is not None:
            self._sender.failed(error)
