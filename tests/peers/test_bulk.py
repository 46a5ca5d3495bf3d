"""A gibibyte up and down through two sidecars over mutual TLS, with matching sums."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from discovery.model import Address, Hint
from identity.generation import Generation
from tests.conftest import ROOT
from tests.peers.http_ways import run_way
from tests.sidecars import free_address, run_pair
from tests.support.programs import run_program, serving

pytestmark = [
    pytest.mark.needs("curl", "nghttpd", "sha256sum"),
    pytest.mark.slow,
    pytest.mark.asyncio(loop_factories=["ours"]),
]

GIBIBYTE: Final = 1 << 30
GROWTH_KIB: Final = 16_384
PATIENCE_S: Final = 120
CURL: Final = "curl --silent --show-error --noproxy '' --fail"


@pytest.fixture(scope="module")
def gibibyte(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Return a file and its sum: zeros, with a random mebibyte at an odd place now and then."""
    path = tmp_path_factory.mktemp("bulk") / "content"
    with path.open("wb") as file:
        file.truncate(GIBIBYTE)
        for number in range(16):
            file.seek(number * (1 << 26) + 7 * number)
            file.write(os.urandom(1 << 20))
    with path.open("rb") as file:
        total = hashlib.file_digest(file, "sha256").hexdigest()
    yield path, total
    path.unlink()


@contextlib.contextmanager
def memory_stays() -> Iterator[None]:
    """See to it that this process, with both sidecars in it, does not grow by much meanwhile."""
    Path("/proc/self/clear_refs").write_text("5")  # from here on the peak is counted anew
    before = _peak_kib()
    yield
    grown = _peak_kib() - before
    print(f"grown by {grown} KiB")
    assert grown < GROWTH_KIB


def _peak_kib() -> int:
    """Return the most that this process has held in memory."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def _app(app: Address, path: Path) -> tuple[str, ...]:
    """Return the command of the application."""
    program = ROOT / "tests" / "support" / "bulk_app.py"
    return sys.executable, str(program), app.ip, str(app.port), str(path)


async def _sum_of(command: str) -> str:
    """Return the sum of what a shell's command puts out."""
    script = f"set -o pipefail; {command} | sha256sum"
    said = await run_program("bash", "-c", script, seconds=PATIENCE_S)
    assert said.status == 0, said.err
    return said.out.split()[0].decode()


@pytest.mark.parametrize(
    ("way", "framing"),
    [("riding", ""), ("as-it-is", "-H 'Transfer-Encoding: chunked'")],
    ids=["riding-length", "as-it-is-chunked"],
)
async def test_a_gibibyte_goes_up(
    web: Generation, api: Generation, gibibyte: tuple[Path, str], way: str, framing: str
) -> None:
    """In HTTP/1.1, with a length and in chunks."""
    path, total = gibibyte
    app = free_address("127.0.0.2")
    async with serving(app, *_app(app, path)), run_way(way, web, api, app) as pair:
        with memory_stays():
            command = f"{CURL} {framing} --upload-file {path} http://{pair.entry}/content"
            said = await run_program("bash", "-c", command, seconds=PATIENCE_S)
        assert said.out.decode() == total, said.err


async def test_a_gibibyte_comes_down(
    web: Generation, api: Generation, gibibyte: tuple[Path, str]
) -> None:
    """In HTTP/1.1, riding on HTTP/2."""
    path, total = gibibyte
    app = free_address("127.0.0.2")
    async with serving(app, *_app(app, path)), run_way("riding", web, api, app) as pair:
        with memory_stays():
            assert await _sum_of(f"{CURL} http://{pair.entry}/content") == total


async def test_a_gibibyte_goes_up_and_comes_back(
    web: Generation, api: Generation, gibibyte: tuple[Path, str]
) -> None:
    """In HTTP/2, by a server that sends back what it has got."""
    path, total = gibibyte
    app = free_address("127.0.0.2")
    server = ("nghttpd", "--no-tls", "--address", app.ip, "--echo-upload", str(app.port))
    async with serving(app, *server), run_pair(web, api, app, hint=Hint.H2) as pair:
        curl = f"{CURL} --http2-prior-knowledge"
        with memory_stays():
            assert await _sum_of(f"{curl} --upload-file {path} http://{pair.entry}/") == total
