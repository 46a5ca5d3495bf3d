"""What every test shares: which pillion is under test, and parts that must be there.

``@pytest.mark.needs("root", "redis-server", ...)`` skips a test, naming what is missing, on a
machine without them. Where ``CI=true`` a missing part is a failure, and so is any other skip: a
suite that must run there is never left out silently.

The checkout goes to the end of the path: ``tests.…`` and ``bench.…`` are found in it, while the
packages come from wherever Python finds them first: the installed wheel (``make test``), the
compiled one, or the working directory (``python -m pytest``).
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Final

import pytest
from hypothesis import settings

import core
from cli.version import core_modules, core_speed
from identity.openssl import load_openssl

ROOT: Final = Path(__file__).resolve().parent.parent
IS_CI: Final = os.environ.get("CI") == "true"

sys.path.append(str(ROOT))

# Before anybody imports cryptography: only then is it configured as in a sidecar.
load_openssl()


# How long an example takes says nothing on a machine that others use too.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def _is_there(part: str) -> bool:
    if part == "root":
        return os.geteuid() == 0
    return shutil.which(part) is not None


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers."""
    config.addinivalue_line("markers", "needs(*parts): programs, or root, a test cannot do without")
    config.addinivalue_line("markers", "slow: takes more than a second")


def pytest_report_header() -> str:
    """Say which pillion is under test, and at which speed."""
    place = Path(core.__path__[0]).parent
    return f"pillion: {core_speed(core_modules())}, from {place}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or in CI fail, a test whose parts are missing."""
    missing = sorted(
        {part for mark in item.iter_markers("needs") for part in mark.args if not _is_there(part)}
    )
    if not missing:
        return
    reason = f"{item.location[0]} needs {', '.join(missing)}"
    if IS_CI:
        pytest.fail(f"{reason}: compulsory in CI", pytrace=False)
    pytest.skip(reason)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI, let no skip pass, for whatever reason it was made."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if IS_CI and isinstance(reporter, pytest.TerminalReporter) and reporter.stats.get("skipped"):
        reporter.write_line("\nskipped tests: nothing may be skipped in CI", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
