"""Who looks after workers: how many there may be, and when another is started."""

from __future__ import annotations

import pytest

from cli.workers import LONGEST_PAUSE_S, Worker, usable_cores


@pytest.mark.parametrize(
    ("affinity", "quota", "cores"),
    [
        (8, "", 8),
        (8, "max 100000\n", 8),
        (8, "200000 100000\n", 2),
        (8, "150000 100000\n", 2),
        (8, "10000 100000\n", 1),
        (2, "800000 100000\n", 2),
        (4, "nonsense", 4),
        (4, "5 0", 4),
        (0, "0 100000", 1),
    ],
)
def test_no_more_cores_than_may_be_used(affinity: int, quota: str, cores: int) -> None:
    """By the mask, and by cgroup's quota; at least one."""
    assert usable_cores(affinity, quota) == cores


def test_the_pause_before_another_start_doubles_to_a_minute() -> None:
    """And begins anew once a worker has served for that long."""
    worker = Worker(1)
    pauses = []
    now = 0.0
    for _ in range(8):
        worker.began = now
        pauses.append(worker.ended(now))
        assert worker.due == now + pauses[-1]
        now = worker.due
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    worker.began = now
    assert worker.ended(now + LONGEST_PAUSE_S) == 1
