"""Who speaks first: remembered for ten minutes, for so many keys, and what a greeting is."""

from __future__ import annotations

import pytest

from proxy.speaker import (
    MAX_KEYS,
    REMEMBER_S,
    SILENCE_MIN_S,
    Speaker,
    Speakers,
    is_greeting,
    silence_s,
)


def test_a_key_is_known_until_its_time_is_over() -> None:
    """At the last moment it is known, at the end it is not."""
    speakers: Speakers[int] = Speakers()
    assert speakers.get(25, 0.0) is None
    speakers.learn(25, Speaker.SERVER, 100.0)
    assert speakers.get(25, 100.0 + REMEMBER_S - 0.001) is Speaker.SERVER
    assert speakers.get(25, 100.0 + REMEMBER_S) is None


def test_at_the_bound_the_oldest_key_is_forgotten() -> None:
    """The table never grows past its bound."""
    speakers: Speakers[int] = Speakers()
    for key in range(MAX_KEYS):
        speakers.learn(key, Speaker.CLIENT, 0.0)
    assert speakers.get(0, 0.0) is Speaker.CLIENT
    speakers.learn(MAX_KEYS, Speaker.CLIENT, 0.0)
    assert speakers.get(0, 0.0) is None
    assert speakers.get(1, 0.0) is Speaker.CLIENT


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", False),
        (b"220 mail\r\n", True),
        (b"\x4a\x00\x00\x00\x0a8.0", True),
        (b"SSH-2.0", True),
        (b"H", False),
        (b"HTTP/1.1 408", False),
        (b"HELO", True),
    ],
)
def test_http_is_no_greeting(data: bytes, expected: bool) -> None:
    """An HTTP response without a request is a server giving up."""
    assert is_greeting(data) is expected


def test_a_client_far_away_is_waited_for_longer() -> None:
    """Three round trips, at least the minimum."""
    assert silence_s(0.0001) == SILENCE_MIN_S
    assert silence_s(0.1) == pytest.approx(0.3)
