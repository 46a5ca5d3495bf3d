"""``pillion ready``: wait until the sidecar that this environment configures is ready.

For the ``postStart`` hook of an ordinary container: the kubelet starts the application's containers
when it has ended. Exit status: 0 ready, 1 not within the time, 2 settings.
"""

from __future__ import annotations

import http.client
import os
import time
from typing import Final

import click

from cli.admin_address import reachable
from core.duration import parse_duration
from core.errors import ConfigError, UnreachableError
from discovery.model import Address
from proxy.config import Config, read_config

MAX_WAIT_S: Final = 3600.0
PAUSE_S: Final = 0.1

_TIMEOUT_S: Final = 2.0
_MAX_BYTES: Final = 4096


@click.command()
@click.option("--wait", default="2m", show_default=True, help="How long to wait, an hour at most.")
def command(*, wait: str) -> None:
    """Wait until the sidecar beside us is ready; its settings are in the environment."""
    try:
        seconds = parse_duration(wait)
    except ValueError as error:
        raise ConfigError(f"--wait: {error}") from None
    if seconds > MAX_WAIT_S:
        raise ConfigError(f"--wait is {wait}; wanted an hour at most")
    admin = _admin(read_config(os.environ))
    deadline = time.monotonic() + seconds
    while True:
        answer = _ask(admin)
        if not answer:
            return
        if time.monotonic() >= deadline:
            raise UnreachableError(f"the sidecar at {admin} is not ready after {wait}: {answer}")
        time.sleep(PAUSE_S)  # noqa: TID251  there is no loop here


def _admin(config: Config) -> Address:
    """Return where the admin server is: in explicit capture on the pod's address alone."""
    if config.is_explicit and config.pod_ips:
        return Address(config.pod_ips[0], config.admin_listen.port)
    return reachable(config.admin_listen)


def _ask(admin: Address) -> str:
    """Return why the sidecar is not ready; empty when it is."""
    connection = http.client.HTTPConnection(admin.ip, admin.port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/ready")
        answer = connection.getresponse()
        text = answer.read(_MAX_BYTES).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()
    return "" if answer.status == http.client.OK else text or str(answer.status)
