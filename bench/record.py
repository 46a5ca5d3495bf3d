"""Results on disk: named by date, with the versions and the machine they were measured on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench.facts import machine, versions

RESULTS: Final = Path(__file__).parent / "results"


def write_json(file: Path, data: Mapping[str, object]) -> Path:
    """Write ``data`` to ``file``, whose directory is made; return it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    return file


def record(name: str, data: Mapping[str, object], output: Path = RESULTS) -> Path:
    """Write what a bench found as ``<date>-<name>.json`` with its surroundings; return the file."""
    taken = datetime.now(UTC)
    around = {
        "schema": 1,
        "taken": taken.isoformat(timespec="seconds"),
        "versions": versions(),
        "machine": machine(len(os.sched_getaffinity(0))),
    }
    return write_json(output / f"{taken:%Y-%m-%d-%H%M%S}-{name}.json", around | dict(data))
