"""What every test shares: parts that must be there, named when they are not.

``@pytest.mark.needs("root", "redis-server", ...)`` skips a test, naming what is missing, on a
machine without them. Where ``CI=true`` a missing part is a failure: a suite that must run there
is never skipped silently.
"""

from __future__ import annotations

import os
import shutil

import pytest


def _is_there(part: str) -> bool:
    if part == "root":
        return os.geteuid() == 0
    return shutil.which(part) is not None


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers."""
    config.addinivalue_line("markers", "needs(*parts): programs, or root, a test cannot do without")
    config.addinivalue_line("markers", "slow: takes more than a second")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or in CI fail, a test whose parts are missing."""
    missing = sorted(
        {part for mark in item.iter_markers("needs") for part in mark.args if not _is_there(part)}
    )
    if not missing:
        return
    reason = f"needs {', '.join(missing)}"
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}: compulsory in CI", pytrace=False)
    pytest.skip(reason)
