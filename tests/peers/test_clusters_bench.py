"""The bench of ways to other clusters, on real pods: its cable, and a run that comes to an end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bench.loadtool import SLACK_S, Lines, PacedRequests, compile_tool, run_tool
from bench.process import Processes
from cli.demo.pods import Rig

ROOT = Path(__file__).parents[2]
PORT = 8080
ENDS = ("10.31.0.1", "10.31.0.2")
DELAY_MS = 20
pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs("root", "gcc", "ip", "iptables-nft", "setpriv", "taskset", "curl"),
]


def test_a_cable_takes_its_time_both_ways(tmp_path: Path) -> None:
    """A round trip takes twice the delay, and not much more; every request is answered."""
    core = min(os.sched_getaffinity(0))
    with Rig() as rig, Processes(tmp_path) as processes:
        hosts = [rig.host(name) for name in ("near", "far")]
        places = [part for host in hosts for part in (host.path, "c0")]
        cable = processes.start(
            "cable", [str(compile_tool("cable")), *places, str(DELAY_MS * 500)], core
        )
        with closing(Lines(cable)) as lines:
            assert lines.next(SLACK_S) == {"event": "ready"}
        for host, own, other in zip(hosts, ENDS, reversed(ENDS), strict=True):
            host.must(["ip", "addr", "add", own, "peer", other, "dev", "c0"])
            host.must(["ip", "link", "set", "c0", "up"])
        backend = [str(compile_tool("backend")), ENDS[1], str(PORT)]
        processes.start("backend", hosts[1].command(backend), core)
        load = PacedRequests(4, 50)
        words = [*load.tool(), "paced", ENDS[1], str(PORT), "4", "200", "400", "50"]
        result = run_tool(processes, core, hosts[0].command(words), 0.2, 0.4, lambda: None)
        assert cable.process.poll() is None
    assert result.errors == 0
    assert result.operations > 5
    assert DELAY_MS <= result.p50_us / 1000 < DELAY_MS * 10


def test_one_short_round_brings_a_table_a_json_and_a_plot(tmp_path: Path) -> None:
    """Every way once; nothing but what is sent by the gateway passes it."""
    inherited = {name: each for name, each in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "bench", "clusters", "--rounds", "1", "--seconds", "0.2"),
            *("--delay", "0", "--rate", "50", "--output", str(tmp_path)),
        ],
        cwd=ROOT,
        env=inherited,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "through the gateway" in done.stdout
    (picture,) = tmp_path.glob("clusters-*.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    data: Any = json.loads(picture.with_suffix(".json").read_text())
    assert data["versions"]["commit"]
    cells = {each["way"]: each for each in data["cells"]}
    assert set(cells) == {"bare", "local", "direct", "gateway"}
    for each in cells.values():
        assert each["p50_ms"]["median"] > 0
    assert cells["direct"]["cpu_us"]["median"] > 0
    (through,) = (each for each in data["verdicts"] if "through the gateway" in each["claim"])
    assert through["holds"] is True, through["seen"]
