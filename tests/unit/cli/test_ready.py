"""pillion ready: what a container's postStart hook waits for."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from cli import ready
from cli.main import pillion
from core.errors import ConfigError, UnreachableError

BASE = {"PILLION_POD": "shop/web-0", "PILLION_MESH_DIR": "/m", "PILLION_IDENTITY_DIR": "/i"}


@contextmanager
def admin(ip: str, answers: list[int]) -> Iterator[int]:
    """Serve these statuses in turn, the last one for ever; yield the port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/ready"
            self.send_response(answers.pop(0) if len(answers) > 1 else answers[0])
            self.end_headers()
            self.wfile.write(b"not ready: no leaf yet")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer((ip, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_it_waits_until_the_sidecar_is_ready() -> None:
    """However often it is not."""
    answers = [503, 503, 200]
    with admin("127.0.0.1", answers) as port:
        env = {**BASE, "PILLION_ADMIN_LISTEN_ADDR": f"0.0.0.0:{port}"}
        result = CliRunner().invoke(pillion, ["ready", "--wait", "10s"], env=env)
    assert (result.exit_code, result.output) == (0, "")
    assert answers == [200]


def test_explicit_capture_is_asked_on_the_pod_s_address() -> None:
    """There is no server on loopback then."""
    with admin("127.0.0.9", [200]) as port:
        env = {
            **BASE,
            "PILLION_ADMIN_LISTEN_ADDR": f"[::]:{port}",
            "PILLION_POD_IPS": "127.0.0.9",
            "PILLION_CAPTURE": "explicit",
        }
        assert CliRunner().invoke(pillion, ["ready", "--wait", "10s"], env=env).exit_code == 0


def test_the_reason_is_told_when_the_time_is_over() -> None:
    """What the sidecar says, or why nobody answers."""
    with admin("127.0.0.1", [503]) as port:
        env = {**BASE, "PILLION_ADMIN_LISTEN_ADDR": f"127.0.0.1:{port}"}
        result = CliRunner().invoke(pillion, ["ready", "--wait", "1ms"], env=env)
    assert isinstance(result.exception, UnreachableError)
    assert "is not ready after 1ms: not ready: no leaf yet" in str(result.exception)
    result = CliRunner().invoke(pillion, ["ready", "--wait", "0"], env=env)
    assert "refused" in str(result.exception)


@pytest.mark.parametrize(
    ("wait", "wanted"),
    [("soon", "is not a duration"), ("61m", "wanted an hour at most"), ("1h", "PILLION_POD is")],
)
def test_bad_use(wait: str, wanted: str) -> None:
    """A wait that is none, one past the bound, settings that are missing."""
    result = CliRunner().invoke(pillion, ["ready", "--wait", wait], env={"PILLION_POD": ""})
    assert isinstance(result.exception, ConfigError)
    assert any(wanted in each for each in result.exception.problems)
    assert ready.MAX_WAIT_S == 3600
