"""When a request has taken too long: one set of deadlines, moved as the request goes on.

Pure; time is an argument. Four are Linkerd's (linkerd2-proxy, http/stream-timeouts): of the
whole request, from its last byte to the response's, of an attempt until the response's head, and
without any frame in either direction. The fifth is the Gateway API's backendRequest: of an attempt
until the response's end (GEP-1742).
"""

from __future__ import annotations

from enum import Enum
from typing import Final, final

from core.errors import UnreachableError
from policy.model import Timeouts

NEVER: Final = float("inf")


class Expired(Enum):
    """Which deadline has passed, by the error's code."""

    REQUEST = "request-timeout"
    """504 before the response's head, a reset after it; never tried again."""
    RESPONSE = "response-timeout"
    """The same."""
    IDLE = "idle-timeout"
    """A reset."""
    TRY = "try-timeout"
    """The attempt has failed, the request may be tried again."""


_WORDS: Final = {
    Expired.REQUEST: (
        "the request and its response were not over in time",
        "timeout.linkerd.io/request sets the limit",
    ),
    Expired.RESPONSE: (
        "the response was not over in time after the request was",
        "timeout.linkerd.io/response sets the limit",
    ),
    Expired.IDLE: (
        "nothing came in either direction for too long",
        "timeout.linkerd.io/idle sets the limit",
    ),
    Expired.TRY: (
        "no response came in the time that an attempt has",
        "the route's backendRequest or retry.linkerd.io/timeout sets the limit",
    ),
}


def expired_error(expired: Expired) -> UnreachableError:
    """Return what is said of a request whose deadline has passed."""
    words, hint = _WORDS[expired]
    return UnreachableError(words, hint=hint, code=expired.value)


@final
class Deadlines:
    """The deadlines of one request, in seconds as ``now``; ``NEVER`` where there is none."""

    __slots__ = (
        "_backend_s",
        "_idle_s",
        "_response_s",
        "_try_s",
        "backend_at",
        "idle_at",
        "request_at",
        "response_at",
        "try_at",
    )

    def __init__(self, timeouts: Timeouts, try_s: float | None, now: float) -> None:
        """Begin when the request's head is there; ``try_s`` is the retry policy's per attempt."""
        self._response_s = _seconds(timeouts.response_s)
        self._idle_s = _seconds(timeouts.idle_s)
        self._try_s = _seconds(try_s)
        self._backend_s = _seconds(timeouts.backend_request_s)
        self.request_at = now + _seconds(timeouts.request_s)
        self.response_at = NEVER
        self.try_at = NEVER
        self.backend_at = NEVER
        self.idle_at = now + self._idle_s

    @property
    def next(self) -> float:
        """When to look again."""
        return min(self.request_at, self.response_at, self.try_at, self.backend_at, self.idle_at)

    def attempt(self, now: float, *, is_last: bool) -> None:
        """Begin an attempt; the last one has no limit of the retry policy's."""
        self.backend_at = now + self._backend_s
        self.try_at = NEVER if is_last else now + self._try_s
        self.response_at = NEVER
        self.idle_at = now + self._idle_s

    def moved(self, now: float) -> None:
        """Take in a frame, in whichever direction."""
        self.idle_at = now + self._idle_s

    def sent(self, now: float) -> None:
        """Take in that the request's last byte has gone out."""
        self.response_at = now + self._response_s
        self.moved(now)

    def paused(self, now: float) -> None:
        """Take in that an attempt is over and that the next one has to wait."""
        self.backend_at = NEVER
        self.answered(now)

    def answered(self, now: float) -> None:
        """Take in the response's head."""
        self.try_at = NEVER
        self.moved(now)

    def left_s(self, now: float) -> float:
        """Return the seconds left for the whole request."""
        return max(0.0, self.request_at - now)

    def expired(self, now: float) -> Expired | None:
        """Return which deadline has passed at ``now``; the request's own before the attempt's."""
        if now >= self.request_at:
            return Expired.REQUEST
        if now >= self.response_at:
            return Expired.RESPONSE
        if now >= min(self.try_at, self.backend_at):
            return Expired.TRY
        return Expired.IDLE if now >= self.idle_at else None


def _seconds(given: float | None) -> float:
    return given or NEVER
