"""What responses say about asking again."""

from __future__ import annotations

import pytest

from proxy.outbound.retry import Happened
from proxy.outbound.retry_hint import happened_far, parse_pushback, parse_retry_after


@pytest.mark.parametrize(
    ("status", "error", "happened"),
    [
        (502, "endpoint 10.0.0.2:80: Connection refused (os error 111)", Happened.UNREACHABLE),
        (502, "127.0.0.1:8080 cannot be reached: refused", Happened.UNREACHABLE),
        (504, "connect timed out after 300ms", Happened.UNREACHABLE),
        (504, "logical service in fail-fast", Happened.UNREACHABLE),
        (502, "connection closed before message completed", Happened.RESET),
        (504, "response took too long", Happened.RESPONSE),
        (503, "connection refused", Happened.RESPONSE),
        (403, "unreachable", Happened.RESPONSE),
        (200, "connection refused", Happened.RESPONSE),
    ],
)
def test_what_a_far_sidecar_says(status: int, error: str, happened: Happened) -> None:
    """Out of reach, broken off, or an answer like any other."""
    assert happened_far(status, error) is happened


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("0", 0), ("999999999", 999_999_999), ("1000000000", -1), ("-1", -1), ("", -1), ("1.5", -1)],
)
def test_a_pushback_is_a_number_or_means_never(text: str, milliseconds: int) -> None:
    """As gRFC A6 says of values that cannot be read."""
    assert parse_pushback(text) == milliseconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        ("Wed, 21 Oct 2015 07:28:10 GMT", 10.0),
        ("Wed, 21 Oct 2015 07:27:00 GMT", 0.0),
        ("-1", None),
        ("soon", None),
        ("1" * 10, None),
        ("Wed, 99 Oct 2015 07:28:10 GMT", None),
        ("", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(text: str, seconds: float | None) -> None:
    """A date that is past is now; anything else says nothing."""
    assert parse_retry_after(text, 1_445_412_480.0) == seconds
