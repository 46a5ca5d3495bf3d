"""What the annotations of a Service or route say of retries, timeouts, breaking and balancing.

Pure. Names, values and defaults are Linkerd's (policy-controller, outbound index). As there, a
mistake leaves the whole group of annotations that it stands in without effect, and is told. The
two ``pillion.dev`` annotations are ours: turning off the retries that are made by default, and
letting requests say for themselves what they want (``l5d-*`` headers), which Linkerd allows by a
flag of its controller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeVar, final

from core.duration import parse_duration
from core.record import dataclass
from policy.model import (
    Backoff,
    ConsecutiveFailures,
    FailureAccrual,
    PeakEwma,
    PenaltyPeakEwma,
    Retry,
    StatusRange,
    Timeouts,
    UnifiedFailures,
)
from policy.retry_condition import parse_grpc_codes, parse_statuses

RETRY: Final = "retry.linkerd.io/"
TIMEOUT: Final = "timeout.linkerd.io/"
ACCRUAL: Final = "balancer.linkerd.io/failure-accrual"
ALPHA: Final = "balancer.alpha.linkerd.io/"
SAFE_RETRIES: Final = "pillion.dev/safe-retries"
REQUEST_HEADERS: Final = "pillion.dev/l5d-request-headers"

_RATE: Final = f"{ALPHA}failure-accrual-success-rate"
_TRUE: Final = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_MIN_WINDOW_S: Final = 0.01
_MAX_MIN_REQUESTS: Final = 1_000_000
_MAX_U16: Final = 65_535
_MAX_U32: Final = 4_294_967_295
_MAX_JITTER: Final = 100.0

T = TypeVar("T")
_NO_TIMEOUTS: Final = Timeouts()
_BY_LATENCY: Final[PeakEwma | PenaltyPeakEwma] = PeakEwma()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What annotations say; without any, the defaults."""

    retry: Retry | None = None
    timeouts: Timeouts = _NO_TIMEOUTS
    accrual: FailureAccrual | None = None
    load: PeakEwma | PenaltyPeakEwma = _BY_LATENCY
    safe_retries: bool = True
    """Whether what is safe to repeat is retried without being asked for."""
    allows_headers: bool = False
    """Whether requests may override retries and timeouts."""
    problems: tuple[str, ...] = ()
    """What is wrong with them, for a person; that part is without effect."""


def traffic_of(annotations: Mapping[str, str]) -> Traffic:
    """Read the annotations of one object."""
    reader = _Reader(annotations)
    # Whoever names it wants it off: a typo must not send anything twice.
    safe = reader.annotations.get(SAFE_RETRIES, "enabled").strip()
    if safe not in {"enabled", "disabled"}:
        reader.problems.append(f"{SAFE_RETRIES} is {safe[:80]!r}; wanted enabled or disabled")
    headers = reader.annotations.get(REQUEST_HEADERS, "ignored").strip()
    if headers not in {"allowed", "ignored"}:
        reader.problems.append(f"{REQUEST_HEADERS} is {headers[:80]!r}; wanted allowed or ignored")
    return Traffic(
        retry=reader.group(_retry, None),
        timeouts=reader.group(_timeouts, _NO_TIMEOUTS),
        accrual=reader.group(_accrual, None),
        load=reader.group(_load, _BY_LATENCY),
        safe_retries=safe == "enabled",
        allows_headers=headers == "allowed",
        problems=tuple(reader.problems),
    )


@final
class _Reader:
    """Annotations read one by one; the first mistake of a group ends that group."""

    def __init__(self, annotations: Mapping[str, str]) -> None:
        self.annotations = annotations
        self.problems: list[str] = []

    def group(self, read: Callable[[_Reader], T], default: T) -> T:
        """Return what ``read`` makes of its annotations, or the default where one is wrong."""
        try:
            return read(self)
        except ValueError as error:
            self.problems.append(str(error))
            return default

    def value(self, name: str, parse: Callable[[str], T], default: T) -> T:
        """Return one annotation's value."""
        text = self.annotations.get(name)
        if text is None:
            return default
        try:
            return parse(text.strip())
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error


def _retry(reader: _Reader) -> Retry | None:
    limit = reader.value(f"{RETRY}limit", _integer(_MAX_U16), 0)
    timeout = reader.value(f"{RETRY}timeout", parse_duration, 0.0)
    no_statuses: tuple[StatusRange, ...] = ()
    statuses = reader.value(f"{RETRY}http", parse_statuses, no_statuses)
    no_codes: frozenset[int] = frozenset()
    codes = reader.value(f"{RETRY}grpc", parse_grpc_codes, no_codes)
    if not (limit or timeout or statuses or codes):
        return None
    return Retry(
        max_retries=limit or 1,
        statuses=statuses,
        grpc_codes=codes,
        timeout_s=timeout or None,
    )


def _timeouts(reader: _Reader) -> Timeouts:
    def seconds(name: str) -> float | None:
        return reader.value(f"{TIMEOUT}{name}", parse_duration, 0.0) or None

    return Timeouts(
        request_s=seconds("request"), response_s=seconds("response"), idle_s=seconds("idle")
    )


def _accrual(reader: _Reader) -> FailureAccrual | None:
    mode = reader.annotations.get(ACCRUAL)
    if mode is None:
        return None
    if mode not in {"consecutive", "unified"}:
        raise ValueError(f"{ACCRUAL} is {mode[:80]!r}; wanted consecutive or unified")
    own = f"{ACCRUAL}-consecutive"
    failures = reader.value(f"{own}-max-failures", _integer(_MAX_U32), 7)
    shortest = reader.value(f"{own}-min-penalty", parse_duration, 1.0)
    longest = reader.value(f"{own}-max-penalty", parse_duration, 60.0)
    if longest <= 0 or shortest > longest:
        raise ValueError(
            f"{own}-max-penalty is {longest:g} s; wanted more than nothing and no less than "
            f"the min-penalty of {shortest:g} s"
        )
    backoff = Backoff(
        min_s=shortest,
        max_s=longest,
        jitter=reader.value(f"{own}-jitter-ratio", _number(_MAX_JITTER), 0.5),
        respect_retry_after=reader.value(
            f"{ALPHA}failure-accrual-honor-retry-after", _flag, default=False
        ),
    )
    if mode == "consecutive":
        return ConsecutiveFailures(max_failures=failures, backoff=backoff)
    threshold = reader.value(f"{_RATE}-threshold", _number(1.0), 0.8)
    window = reader.value(f"{_RATE}-window", parse_duration, 10.0)
    requests = reader.value(f"{_RATE}-min-requests", _integer(_MAX_U32), 5)
    if threshold and window < _MIN_WINDOW_S:
        raise ValueError(f"{_RATE}-window is {window:g} s; wanted 10ms or more")
    if threshold and requests > _MAX_MIN_REQUESTS:
        raise ValueError(f"{_RATE}-min-requests is {requests}; at most {_MAX_MIN_REQUESTS}")
    return UnifiedFailures(
        success_rate_threshold=threshold,
        decay_s=window,
        min_requests=requests,
        max_consecutive_failures=failures,
        backoff=backoff,
    )


def _load(reader: _Reader) -> PeakEwma | PenaltyPeakEwma:
    if not reader.value(f"{ALPHA}penalize-failures", _flag, default=False):
        return _BY_LATENCY
    return PenaltyPeakEwma(
        penalty_s=reader.value(f"{ALPHA}load-biaser-penalty", parse_duration, 5.0),
        max_retry_after_s=reader.value(
            f"{ALPHA}load-biaser-max-retry-after", parse_duration, 300.0
        ),
    )


def _integer(highest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= highest:
            return int(text)
        raise ValueError(f"{text[:80]!r} is no number from 0 to {highest}")

    return parse


def _number(highest: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if 0.0 <= number <= highest:
            return number
        raise ValueError(f"{text[:80]!r} is no number from 0 to {highest:g}")

    return parse


def _flag(text: str) -> bool:
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise ValueError(f"{text[:80]!r} is neither true nor false")
