"""Success and failure, by Linkerd's table; content types and statuses that are made up."""

from __future__ import annotations

import pytest

from proxy.telemetry.classification import (
    FAILED_GRPC,
    GRPC_NAMES,
    UNKNOWN,
    grpc_status_of,
    is_failure,
    is_grpc_type,
)


def test_the_failures_of_grpc_are_those_that_linkerd_counts() -> None:
    """UNKNOWN, DEADLINE_EXCEEDED, PERMISSION_DENIED, INTERNAL, UNAVAILABLE, DATA_LOSS."""
    assert {2, 4, 7, 13, 14, 15} == FAILED_GRPC
    assert len(GRPC_NAMES) == 17
    assert GRPC_NAMES[16] == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    ("status", "grpc_status", "error", "failed"),
    [
        (200, None, "", False),
        (404, None, "", False),
        (499, None, "", False),
        (500, None, "", True),
        (503, None, "", True),
        (999, None, "", True),
        (0, None, "", False),
        (200, 0, "", False),
        (200, 14, "", True),
        (200, 16, "", False),
        (503, 0, "", False),
        (200, 0, "truncated", True),
        (0, None, "connect-refused", True),
    ],
)
def test_an_error_decides_before_the_grpc_status_and_that_before_http_s(
    status: int, grpc_status: int | None, error: str, *, failed: bool
) -> None:
    """Row by row."""
    assert is_failure(status, grpc_status, error) is failed


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (None, None),
        (b"0", 0),
        (b"16", 16),
        (b"17", UNKNOWN),
        (b"-1", UNKNOWN),
        (b"00", UNKNOWN),
        (b"", UNKNOWN),
        (b"9" * 10_000, UNKNOWN),
        ("²".encode(), UNKNOWN),
    ],
)
def test_a_status_that_is_none_is_unknown(value: bytes | None, status: int | None) -> None:
    """The server chooses it; the label set stays small."""
    assert grpc_status_of(value) == status


@pytest.mark.parametrize(
    ("content_type", "is_grpc"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"application/grpc;charset=utf-8", True),
        (b"application/grpc-web", False),
        (b"application/grpcx", False),
        (b"application/json", False),
        (b"", False),
        (None, False),
    ],
)
def test_grpc_is_known_by_its_content_type(content_type: bytes | None, *, is_grpc: bool) -> None:
    """What runs over HTTP/1 and looks like it is not it."""
    assert is_grpc_type(content_type) is is_grpc
