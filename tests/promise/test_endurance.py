"""Ten thousand connections, opened, used and closed: nothing of them stays behind."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.support.programs import run_program

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SLACK_KIB = 4_096
"""Room for what allocators keep: half a KiB a connection would be five times that."""


async def test_ten_thousand_connections_leave_nothing_behind(tmp_path: Path) -> None:
    """Both sidecars, over mutual TLS, in a process that has done nothing else."""
    # What is installed, or compiled, comes before the sources that the tests lie beside.
    program = (
        f"import asyncio, pathlib, sys; sys.path.append({str(ROOT)!r}); "
        "from tests.support.endurance import main; asyncio.run(main(pathlib.Path(sys.argv[1])))"
    )
    said = await run_program(sys.executable, "-P", "-c", program, str(tmp_path), seconds=300)
    assert said.status == 0, said.err.decode(errors="replace")[-2_000:]
    left = json.loads(said.out)
    assert left["descriptors"] <= 0
    assert left["kib"] <= SLACK_KIB
    assert left["connections"] == 0
