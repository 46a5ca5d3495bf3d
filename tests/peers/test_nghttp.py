"""nghttp2's programs through two sidecars over mutual TLS: HTTP/2 as another library speaks it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from discovery.model import Hint
from identity.generation import Generation
from tests.peers.http_ways import run_http1
from tests.sidecars import Pair, free_address, run_pair
from tests.support.programs import Said, run_program, serving

pytestmark = pytest.mark.needs("nghttp", "nghttpd", "h2load", "curl")

CONTENT = hashlib.sha256(b"pillion").digest() * 100_000
"""3.2 MB."""


@dataclass
class Nghttp:
    """An HTTP/2 server behind two sidecars."""

    pair: Pair
    content: Path

    def url(self, path: str) -> str:
        """Return the address of a path."""
        return f"http://{self.pair.entry}{path}"


@pytest.fixture(params=[Hint.H2, Hint.UNKNOWN], ids=["hinted", "as-it-is"])
async def nghttp(
    request: pytest.FixtureRequest, web: Generation, api: Generation, tmp_path: Path
) -> AsyncIterator[Nghttp]:
    """Return a server of HTTP/2 without TLS, which echoes uploads and ends with trailers."""
    content = tmp_path / "content"
    content.write_bytes(CONTENT)
    (tmp_path / "small").write_bytes(b"small")
    app = free_address("127.0.0.2")
    server = ("nghttpd", "--no-tls", "--address", app.ip, "--htdocs", str(tmp_path))
    hint: Hint = request.param
    async with (
        serving(app, *server, "--echo-upload", "--trailer", "x-end: here", str(app.port)),
        run_pair(web, api, app, direct=hint is Hint.H2, hint=hint) as pair,
    ):
        yield Nghttp(pair, content)


async def run(*command: str) -> Said:
    """Run a program; it must find nothing wrong."""
    said = await run_program(*command)
    print(said.status, said.out[:4_000].decode("latin-1"), said.err.decode()[:4_000])
    assert said.status == 0
    return said


async def test_content_and_trailers_come_down(nghttp: Nghttp) -> None:
    """A file in full, and the field behind it."""
    said = await run("nghttp", nghttp.url("/content"))
    assert said.out == CONTENT
    said = await run("nghttp", "--verbose", "--null-out", nghttp.url("/small"))
    assert b"x-end: here" in said.out
    assert b"GOAWAY" not in said.out.split(b"send GOAWAY")[0]


async def test_content_and_trailers_go_up(nghttp: Nghttp) -> None:
    """The echo is what was sent."""
    said = await run(
        *("nghttp", "--data", str(nghttp.content), "--trailer", "x-sum: 1"), nghttp.url("/echo")
    )
    assert said.out == CONTENT


async def test_padding_is_fine(nghttp: Nghttp) -> None:
    """It is counted by the windows, and does not reach the application."""
    said = await run(
        *("nghttp", "--padding", "200", "--data", str(nghttp.content)), nghttp.url("/echo")
    )
    assert said.out == CONTENT


async def test_heads_past_the_bound_are_answered(nghttp: Nghttp) -> None:
    """24 KB of fields, in CONTINUATION frames, are past the announced 16 KiB."""
    said = await run("nghttp", "--continuation", "--stat", nghttp.url("/small"))
    assert re.search(rb" 431 +0 +/small", said.out)


async def test_small_windows_are_kept(nghttp: Nghttp) -> None:
    """A client of 1 KiB windows gets everything, in small steps."""
    said = await run("nghttp", "--window-bits", "10", nghttp.url("/content"))
    assert said.out == CONTENT


async def test_expectations_are_answered(nghttp: Nghttp) -> None:
    """The client waits for 100 before it sends content."""
    said = await run(
        *("nghttp", "--expect-continue", "--verbose", "--null-out"),
        *("--data", str(nghttp.content), nghttp.url("/echo")),
    )
    assert b":status: 100" in said.out
    assert b":status: 200" in said.out


async def test_curl_with_prior_knowledge(nghttp: Nghttp) -> None:
    """HTTP/2 by curl: down, up and HEAD."""
    curl = ("curl", "--silent", "--show-error", "--noproxy", "", "--http2-prior-knowledge")
    said = await run(*curl, "--include", nghttp.url("/content"))
    assert said.out.startswith(b"HTTP/2 200")
    assert said.out.endswith(CONTENT)
    said = await run(*curl, "--data-binary", f"@{nghttp.content}", nghttp.url("/echo"))
    assert said.out == CONTENT
    said = await run(*curl, "--head", nghttp.url("/content"))
    assert b"content-length: %d" % len(CONTENT) in said.out


async def test_curl_asks_for_an_upgrade(web: Generation, api: Generation) -> None:
    """``Upgrade: h2c`` is not taken up: the answer comes in HTTP/1.1."""
    async with run_http1("riding", web, api) as (pair, app):
        said = await run(
            *("curl", "--silent", "--noproxy", "", "--http2", "--include"),
            f"http://{pair.entry}/seen",
        )
        assert said.out.startswith(b"HTTP/1.1 200 OK\r\n")
        names = {name.lower() for name, _ in app.heads[0].headers}
        assert not names & {b"upgrade", b"http2-settings", b"connection"}


async def test_load_of_http2(nghttp: Nghttp) -> None:
    """Thousands of requests, many at a time: none fails."""
    said = await run("h2load", "-n", "4000", "-c", "4", "-m", "32", nghttp.url("/small"))
    assert _succeeded(said) == (4_000, 0, 0)


@pytest.mark.parametrize("way", ["riding", "as-it-is"])
async def test_load_of_http1(web: Generation, api: Generation, way: str) -> None:
    """The same in HTTP/1.1, on many connections."""
    async with run_http1(way, web, api) as (pair, _):
        said = await run("h2load", "--h1", "-n", "2000", "-c", "32", f"http://{pair.entry}/bytes/9")
    assert _succeeded(said) == (2_000, 0, 0)


def _succeeded(said: Said) -> tuple[int, int, int]:
    """Return how many requests h2load counts as succeeded, failed and in error."""
    found = re.search(rb"(\d+) succeeded, (\d+) failed, (\d+) errored", said.out)
    assert found is not None
    good, failed, errored = (int(each) for each in found.groups())
    return good, failed, errored
