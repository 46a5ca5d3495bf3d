"""core.memory: code that is not needed any more."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

from core.memory import release_code


def _resident_kib() -> int:
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def test_code_that_was_run_is_let_go_and_comes_back() -> None:
    """Less is resident, and everything still works."""
    before = _resident_kib()
    assert release_code() > 3
    assert _resident_kib() < before
    assert zlib.decompress(zlib.compress(b"x" * 10_000)) == b"x" * 10_000
