"""What a request asks for itself, where its route lets it: ``l5d-*`` headers over the policy's.

Pure. Names and meaning are linkerd2-proxy's; a value that cannot be read is as if it were absent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final, TypeVar

from core.duration import parse_duration
from policy.model import Retry, Timeouts
from policy.retry_condition import parse_grpc_codes, parse_statuses

HEADERS: Final = frozenset(
    {
        b"l5d-timeout",
        b"l5d-request-timeout",
        b"l5d-response-timeout",
        b"l5d-retry-http",
        b"l5d-retry-grpc",
        b"l5d-retry-limit",
        b"l5d-retry-timeout",
    }
)
"""Headers that are read, and taken off the request, where the route allows them."""

MAX_VALUE: Final = 1_024
"""Characters of a value that is read at all."""
_MAX_LIMIT: Final = 65_535

T = TypeVar("T")


def overridden(
    fields: Iterable[tuple[bytes, bytes]], timeouts: Timeouts, retry: Retry | None
) -> tuple[Timeouts, Retry | None]:
    """Return timeouts and retries as a request wants them; names in ``fields`` are lower case."""
    asked = {
        name: value.decode("latin-1").strip()
        for name, value in fields
        if name in HEADERS and len(value) <= MAX_VALUE
    }
    if not asked:
        return timeouts, retry
    request = _read(asked, b"l5d-request-timeout", parse_duration)
    if request is None:
        request = _read(asked, b"l5d-timeout", parse_duration)
    response = _read(asked, b"l5d-response-timeout", parse_duration)
    timeouts = replace(
        timeouts,
        request_s=timeouts.request_s if request is None else request or None,
        response_s=timeouts.response_s if response is None else response or None,
    )
    return timeouts, _retry(asked, retry)


def _retry(asked: Mapping[bytes, str], retry: Retry | None) -> Retry | None:
    statuses = _read(asked, b"l5d-retry-http", parse_statuses)
    codes = _read(asked, b"l5d-retry-grpc", parse_grpc_codes)
    limit = _read(asked, b"l5d-retry-limit", _limit)
    timeout = _read(asked, b"l5d-retry-timeout", parse_duration)
    if statuses is None and codes is None and limit is None and timeout is None:
        return retry
    base = retry or Retry()
    return replace(
        base,
        statuses=base.statuses if statuses is None else statuses,
        grpc_codes=base.grpc_codes if codes is None else codes,
        max_retries=base.max_retries if limit is None else limit,
        timeout_s=base.timeout_s if timeout is None else timeout or None,
    )


def _read(asked: Mapping[bytes, str], name: bytes, parse: Callable[[str], T]) -> T | None:
    text = asked.get(name)
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError:
        return None


def _limit(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= _MAX_LIMIT:
        return int(text)
    raise ValueError(text)
