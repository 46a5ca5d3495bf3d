"""core.errors: the tree, and the table of what peers are told."""

from __future__ import annotations

import re

import pytest

from core import errors
from core.errors import (
    OUTCOMES,
    ClientProtocolError,
    ConfigError,
    Fault,
    HandshakeError,
    MeshError,
    Retry,
    ServerProtocolError,
    TcpAction,
    UnreachableError,
    outcome_of,
)

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, MeshError) and kind is not MeshError
]


def test_the_base_is_never_raised_itself() -> None:
    """An error without a kind has no code."""
    with pytest.raises(TypeError, match="kinds"):
        MeshError("something")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_has_a_code_in_the_table(kind: type[MeshError]) -> None:
    """A kind's own code is the one it has when nothing finer is known."""
    error = kind("seen this, wanted that")
    assert error.code in OUTCOMES
    assert isinstance(error.where, Fault)
    assert isinstance(error.retry, Retry)
    assert kind.__name__.endswith("Error")


def test_a_finer_code_changes_the_outcome_of_one_error_only() -> None:
    """The class keeps its own."""
    fine = UnreachableError("nothing answered in 1 s", code="connect-timeout")
    assert outcome_of(fine).http == 504
    assert outcome_of(UnreachableError("refused")).http == 502


def test_a_hint_follows_the_message() -> None:
    """What was seen first, what to do after it."""
    error = HandshakeError("certificate expired", hint="renew it")
    assert str(error) == "certificate expired (renew it)"
    assert str(HandshakeError("certificate expired")) == "certificate expired"


def test_a_configuration_error_lists_every_problem() -> None:
    """Nobody has to start five times to find five mistakes."""
    error = ConfigError(["port 0", "no name"], hint="see the manual")
    assert error.problems == ["port 0", "no name"]
    assert str(error) == "port 0; no name (see the manual)"
    assert ConfigError("port 0").problems == ["port 0"]


def test_an_unknown_code_counts_as_our_own_failure() -> None:
    """A peer is never told success by mistake."""
    assert outcome_of(HandshakeError("odd", code="never-heard-of")) == OUTCOMES["config"]


@pytest.mark.parametrize("code", OUTCOMES)
def test_every_outcome_is_an_error_a_peer_understands(code: str) -> None:
    """Kebab-case codes, HTTP error statuses, gRPC codes that are not OK."""
    outcome = OUTCOMES[code]
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", code)
    assert 400 <= outcome.http <= 599
    assert 1 <= outcome.grpc <= 16
    assert isinstance(outcome.tcp, TcpAction)


@pytest.mark.parametrize("code", ["http1-chunk-size", "http1-coding-unknown", "http1-version"])
def test_a_client_is_not_told_that_it_broke_the_server_s_rule(code: str) -> None:
    """One code, two sides: the client's own fault by its status, the server's as 502."""
    assert outcome_of(ClientProtocolError("seen this", code=code)) == OUTCOMES[code]
    assert outcome_of(ServerProtocolError("seen this", code=code)).http == 502
    assert outcome_of(ServerProtocolError("cut", code="connect-timeout")).http == 504
