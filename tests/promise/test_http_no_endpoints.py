"""The promise: a Service whose endpoints go to none answers 503 soon, and serves as they return."""

from __future__ import annotations

import time

import pytest

from tests.support.http_scene import SERVERS, run_scene, seconds

pytestmark = [
    pytest.mark.needs("root", "iptables-nft", "ip", "setpriv", "nsenter", "curl"),
    pytest.mark.slow,
]

SECONDS = 10.0
EMPTY_S = 4.5
"""Longer than anybody waits for an endpoint."""
WAIT_S = 3.0
SLACK_S = 1.5
"""For the change to be seen, and for a busy machine."""


def test_none_and_back() -> None:
    """Who comes while there is none waits for one, then all fail at once; none is lost else."""
    with run_scene() as scene:
        length = seconds(SECONDS)
        caller = scene.call(length)
        time.sleep(2.0)
        began = time.monotonic()
        while time.monotonic() - began < length - SECONDS + 1:
            scene.announce()
            time.sleep(EMPTY_S)
            scene.announce(*SERVERS)
            time.sleep(2.0)
        seen = caller.result()
        print(seen.calls, dict(seen.counts), f"p99 {seen.p99:.3f}", seen.longest)
        assert set(seen.counts) == {"GET 200", "GET 503"}, (seen.counts, seen.failed)
        assert seen.longest < WAIT_S + SLACK_S
        # Who came before the end of the wait was served or refused; nobody was after it.
        gone = [when for _, _, _, _, when, _ in seen.failed]
        assert min(gone) > 1.0
        assert seen.counts["GET 503"] < seen.calls * (EMPTY_S + SLACK_S) / (EMPTY_S + 2.0)
        assert scene.noted().keys() >= set(range(seen.calls - 100, seen.calls))
