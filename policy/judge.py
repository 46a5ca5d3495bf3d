"""One question to a policy, answered as a sidecar would answer it: decision, filters, limit."""

from __future__ import annotations

from typing import final

from core.errors import OUTCOMES
from core.record import dataclass
from policy.decide import decide_connection, decide_request
from policy.limit import RateState, decide_rate
from policy.match import Request
from policy.model import Client, Permit, Protocol, ServerPolicy, Verdict
from policy.route import Redirect
from policy.words import verdict_word


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict, and the status the caller is answered."""

    verdict: Verdict
    status: int | None
    """HTTP's, or the grpc-status; None for a connection. What is let through counts as OK."""

    def got(self) -> dict[str, str | int | None]:
        """Return what a case may compare."""
        verdict = self.verdict
        return {
            "verdict": verdict_word(verdict),
            "status": self.status,
            "server": verdict.server.name,
            "route": verdict.route.name if verdict.route is not None else None,
            "authorization": (verdict.authorization.name if isinstance(verdict, Permit) else None),
        }


def judge(
    policy: ServerPolicy,
    client: Client,
    request: Request | None,
    *,
    is_grpc: bool = False,
    repeat: int = 1,
) -> Judgement:
    """Ask ``repeat`` times at one instant; the last answer counts.

    A request to a port of bytes is bytes: the connection is decided.
    """
    if request is None or policy.protocol in {Protocol.OPAQUE, Protocol.TLS}:
        return Judgement(verdict=decide_connection(policy, client), status=None)
    verdict = decide_request(policy, client, request)
    if not isinstance(verdict, Permit):
        return Judgement(verdict=verdict, status=_refused(verdict.code, is_grpc=is_grpc))
    redirect = next((each for each in verdict.filters if isinstance(each, Redirect)), None)
    if redirect is not None:
        # Answered by the filter, before any rate limit counts it.
        status = OUTCOMES["route-not-found"].grpc if is_grpc else redirect.status
        return Judgement(verdict=verdict, status=status)
    judged: Verdict = verdict
    if policy.rate_limit is not None:
        state = RateState(policy.rate_limit)
        for _ in range(repeat):
            judged = decide_rate(state, verdict, client.identity, 1.0)
    if isinstance(judged, Permit):
        return Judgement(verdict=judged, status=0 if is_grpc else 200)
    return Judgement(verdict=judged, status=_refused(judged.code, is_grpc=is_grpc))


def _refused(code: str, *, is_grpc: bool) -> int:
    outcome = OUTCOMES[code]
    return outcome.grpc if is_grpc else outcome.http
