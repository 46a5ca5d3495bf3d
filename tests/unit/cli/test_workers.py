"""Who looks after workers: how many there may be, and when another is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.workers import LONGEST_PAUSE_S, Worker, read_quota, usable_cores


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
        (8, "-1 100000", 8),
    ],
)
def test_no_more_cores_than_may_be_used(affinity: int, quota: str, cores: int) -> None:
    """By the mask, and by cgroup's quota; at least one."""
    assert usable_cores(affinity, quota) == cores


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "50000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "150000\n"}, 8),
        # A host of both kinds, whose cpu controller is v2's.
        (
            {
                "cpu.max": "400000 100000\n",
                "cpu/cpu.cfs_quota_us": "100000\n",
                "cpu/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
    ],
)
def test_the_quota_is_read_of_both_kinds_of_cgroup(
    tmp_path: Path, files: dict[str, str], cores: int
) -> None:
    """As v1 and v2 write their files; without them there is none."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_cores(8, read_quota(tmp_path)) == cores


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
