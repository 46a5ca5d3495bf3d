"""curl through two sidecars over mutual TLS: HTTP/1.0 and 1.1 as a real client speaks them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from identity.generation import Generation
from tests.peers.http_ways import WAYS, run_http1
from tests.session.http1_app import PIECE, Http1App
from tests.sidecars import Pair
from tests.support.programs import Said, run_program

pytestmark = pytest.mark.needs("curl")


@dataclass
class Curl:
    """curl, with a server behind two sidecars."""

    pair: Pair
    app: Http1App
    web: Generation

    def url(self, path: str) -> str:
        """Return the address of a path."""
        return f"http://{self.pair.entry}{path}"

    async def run(self, *options: str, data: bytes = b"") -> Said:
        """Run curl; it must find nothing wrong."""
        said = await run_program(
            "curl",
            "--silent",
            "--show-error",
            "--noproxy",
            "",
            "--max-time",
            "15",
            *options,
            data=data,
        )
        print(said.status, said.out[:2_000], said.err.decode()[:4_000])
        assert said.status == 0, said.err
        return said


@pytest.fixture(params=WAYS)
async def curl(
    request: pytest.FixtureRequest, web: Generation, api: Generation
) -> AsyncIterator[Curl]:
    """Return curl, one way after the other."""
    async with run_http1(request.param, web, api) as (pair, app):
        yield Curl(pair, app, web)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_request_reaches_the_application(curl: Curl, version: str) -> None:
    """The application sees method, target and fields, and who called."""
    said = await curl.run(f"--http{version}", "-H", "Host: api.shop", curl.url("/seen?a=b"))
    seen = json.loads(said.out)
    assert (seen["method"], seen["target"], seen["version"]) == ("GET", "/seen?a=b", version)
    fields = dict(seen["fields"])
    assert fields["host"] == "api.shop"
    assert fields["l5d-client-id"] == curl.web.identity.name
    assert not fields.keys() & {"connection", "l5d-orig-proto", "transfer-encoding"}


async def test_many_requests_go_over_one_connection(curl: Curl) -> None:
    """Keep-alive holds to the client."""
    urls = [curl.url(f"/seen?{number}") for number in range(20)]
    said = await curl.run("--verbose", *urls)
    assert said.out.count(b'"/seen?') == 20
    assert said.err.count(b"Re-using existing connection") == 19


async def test_old_clients_keep_their_connection_when_they_ask(curl: Curl) -> None:
    """HTTP/1.0 with keep-alive."""
    urls = [curl.url("/bytes/7")] * 3
    said = await curl.run("--http1.0", "--verbose", "-H", "Connection: keep-alive", *urls)
    assert said.out == PIECE[:7] * 3
    assert said.err.lower().count(b"< connection: keep-alive") == 3


async def test_head_tells_the_length_without_content(curl: Curl) -> None:
    """HEAD passes the length on, and the connection goes on."""
    said = await curl.run("--head", curl.url("/bytes/10"), curl.url("/bytes/11"))
    assert b"content-length: 10\r\n" in said.out.lower()
    assert b"content-length: 11\r\n" in said.out.lower()


@pytest.mark.parametrize("size", [0, 3_000_000])
@pytest.mark.parametrize("framing", ["length", "chunked", "continue"])
async def test_content_goes_up(curl: Curl, size: int, framing: str) -> None:
    """With a length, in chunks, and after waiting for 100."""
    content = bytes(range(250)) * (size // 250)
    how = {
        "length": ("-H", "Expect:"),
        "chunked": ("-H", "Transfer-Encoding: chunked", "-H", "Expect:"),
        "continue": ("-H", "Expect: 100-continue", "--expect100-timeout", "10", "--verbose"),
    }[framing]
    said = await curl.run("--data-binary", "@-", *how, curl.url("/sum"), data=content)
    assert said.out.decode() == hashlib.sha256(content).hexdigest()
    if framing == "continue" and size:
        assert b"< HTTP/1.1 100 Continue" in said.err
    fields = dict(curl.app.heads[-1].headers)
    if size:
        assert (b"content-length" in fields) == (framing != "chunked")


async def test_chunks_and_trailers_come_down(curl: Curl) -> None:
    """The sum behind the content arrives with it."""
    said = await curl.run("--verbose", "--raw", curl.url("/chunks/40"))
    assert b"\r\n0\r\nx-sum: " + hashlib.sha256(PIECE * 40).hexdigest().encode() in said.out
    assert b"transfer-encoding: chunked" in said.err.lower()
    assert b"trailer: x-sum" in said.err.lower()


async def test_chunks_reach_an_old_client_as_they_are(curl: Curl) -> None:
    """HTTP/1.0 knows no chunks: the end of the connection ends the content."""
    said = await curl.run("--http1.0", "--include", curl.url("/chunks/40"))
    head, _, content = said.out.partition(b"\r\n\r\n")
    assert content == PIECE * 40
    assert b"transfer-encoding" not in head.lower()


async def test_early_hints_come_first(curl: Curl) -> None:
    """Interim answers pass, in order."""
    said = await curl.run("--include", curl.url("/hints"))
    blocks = said.out.split(b"\r\n\r\n")
    assert [block.split(b"\r\n")[0] for block in blocks[:3]] == [
        b"HTTP/1.1 103 Early Hints",
        b"HTTP/1.1 103 Early Hints",
        b"HTTP/1.1 200 OK",
    ]
    assert b"link: </a.css>; rel=preload" in blocks[0].lower()
    assert blocks[3] == b"hinted"


async def test_early_hints_spare_old_clients(curl: Curl) -> None:
    """HTTP/1.0 knows no interim answers."""
    said = await curl.run("--http1.0", "--include", curl.url("/hints"))
    assert said.out.count(b"HTTP/1.1") + said.out.count(b"HTTP/1.0") == 1
    assert said.out.endswith(b"hinted")


async def test_an_upload_is_refused_before_its_end(curl: Curl, tmp_path: Path) -> None:
    """The early answer arrives, though megabytes of content are on their way."""
    upload = tmp_path / "upload"
    with upload.open("wb") as file:
        file.truncate(50_000_000)
    said = await curl.run(
        "--include", "-H", "Expect:", "--data-binary", f"@{upload}", curl.url("/refuse")
    )
    assert said.out.startswith(b"HTTP/1.1 413 ")
    assert said.out.endswith(b"too much")


async def test_an_expectation_is_refused(curl: Curl, tmp_path: Path) -> None:
    """Whoever waits for 100 hears the refusal and sends nothing."""
    upload = tmp_path / "upload"
    with upload.open("wb") as file:
        file.truncate(50_000_000)
    said = await curl.run(
        *("--include", "-H", "Expect: 100-continue", "--expect100-timeout", "10"),
        *("--write-out", "%{size_upload}", "--data-binary", f"@{upload}", curl.url("/refuse")),
    )
    assert said.out.startswith(b"HTTP/1.1 413 ")
    assert said.out.endswith(b"too much0")


async def test_the_absolute_form_stays_absolute(curl: Curl) -> None:
    """A client that takes us for its proxy names the whole address, which goes on as it is."""
    proxy = f"http://{curl.pair.entry}"
    said = await curl.run("--proxy", proxy, "http://api.shop:8080/seen")
    seen = json.loads(said.out)
    assert seen["target"] == "http://api.shop:8080/seen"
    assert dict(seen["fields"])["host"] == "api.shop:8080"


async def test_parallel_requests(curl: Curl) -> None:
    """Fifty at once, each with the answer to its own."""
    urls = [f"{curl.url('/seen')}?{number}" for number in range(50)]
    said = await curl.run("--parallel", "--parallel-max", "50", *urls)
    for number in range(50):
        assert said.out.count(b'"/seen?%d"' % number) == 1


async def test_a_tunnel_is_made_by_connect(curl: Curl) -> None:
    """What goes through it afterwards is nobody's HTTP but the two ends'."""
    proxy = f"http://{curl.pair.entry}"
    said = await curl.run(
        "--proxytunnel", "--proxy", proxy, "--include", "http://far.shop:8080/seen"
    )
    assert said.out.startswith(b"HTTP/1.1 200 ")
    connect, inside = curl.app.heads
    assert (connect.method, connect.target) == (b"CONNECT", b"far.shop:8080")
    assert dict(connect.headers)[b"l5d-client-id"] == curl.web.identity.name.encode()
    assert (inside.method, inside.target) == (b"GET", b"/seen")
    assert b"l5d-client-id" not in dict(inside.headers)
