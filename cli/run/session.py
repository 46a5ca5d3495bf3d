"""One run: the issuer, the sidecar until it is ready, then the application, and back again.

The application's end ends the sidecar, after its drain. The sidecar's end ends the application:
without it every connection would be refused, which is harder to see than an exit.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, final

import click

from cli.run.child import Child, next_signal, spawn
from cli.run.issuer import LocalIssuer
from core.errors import ConfigError, UnreachableError
from core.record import dataclass
from discovery.model import Address

_POLL_S: Final = 0.05
_UPKEEP_S: Final = 5.0
"""How often the issuer is looked after, and the anchors."""
_SPARE_S: Final = 10.0
"""What the sidecar may take beyond its own deadline before it is killed."""
_LAST_LINES: Final = 5
_MAX_TAIL_BYTES: Final = 16_384
_DEADLINE_HIT: Final = 3
"""The sidecar's exit status when it had to cut connections."""
_STOPS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything a run is made of."""

    issuer: LocalIssuer
    sidecar: Sequence[str]
    sidecar_environment: Mapping[str, str]
    app: Sequence[str]
    app_environment: Mapping[str, str]
    admin: Address
    """Where the sidecar's admin server answers."""
    anchors: Path
    """Where the sidecar has its copy of the issuer's anchors."""
    log: Path
    log_file: int
    """The log, open for writing."""
    ready_s: float
    drain_s: float


@final
class Session:
    """Runs a plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan: Final = plan
        self._sidecar: Child | None = None
        self._app: Child | None = None
        self._upkept = time.monotonic()

    def tell(self) -> int:
        """Run it to its end; return the application's exit status.

        Raises UnreachableError when the application was not started, or the sidecar left it alone.
        """
        try:
            self._start_issuer()
            self._start_sidecar()
            return self._run_app()
        finally:
            self._end()

    def _start_issuer(self) -> None:
        issuer = self._plan.issuer
        deadline = time.monotonic() + self._plan.ready_s
        while not issuer.is_there:
            issuer.keep()
            if time.monotonic() > deadline:
                raise UnreachableError(f"no issuer listens on {issuer.socket}; {self._tail()}")
            self._wait(_POLL_S)

    def _start_sidecar(self) -> None:
        plan = self._plan
        if self._is_taken():
            raise ConfigError(
                f"something answers on {plan.admin} already, perhaps another sidecar",
                hint="end it, or set PILLION_ADMIN_LISTEN_ADDR to another address",
            )
        self._copy_anchors()
        self._sidecar = spawn("sidecar", plan.sidecar, plan.sidecar_environment, log=plan.log_file)
        deadline = time.monotonic() + plan.ready_s
        while True:
            reason = self._why_unready()
            if not reason:
                return
            if self._sidecar.status is not None:
                said = f"the sidecar ended with status {self._sidecar.status}; {self._tail()}"
                raise ConfigError(said) if self._sidecar.status == 2 else UnreachableError(said)
            if time.monotonic() > deadline:
                raise UnreachableError(
                    f"the sidecar was not ready within {plan.ready_s:g} s: {reason}; {self._tail()}"
                )
            self._wait(_POLL_S)

    def _run_app(self) -> int:
        plan = self._plan
        try:
            self._app = app = spawn("application", plan.app, plan.app_environment)
        except OSError as error:
            raise ConfigError(f"{plan.app[0]} cannot be run: {error.strerror}") from error
        left = False
        while app.status is None:
            found = next_signal(1.0)
            if found is not None:
                number, from_terminal = found
                if not from_terminal:
                    app.send(number)
            if not left and self._sidecar is not None and self._sidecar.status is not None:
                left = True
                app.send(signal.SIGTERM)
            self._upkeep()
        if left and self._sidecar is not None:
            raise UnreachableError(
                f"the sidecar ended with status {self._sidecar.status} while the application ran, "
                f"which was asked to end and did with status {app.status}; {self._tail()}"
            )
        return app.status

    def _end(self) -> None:
        """End the sidecar when the application has ended, and the issuer last."""
        if self._app is not None and self._app.status is None:
            self._app.send(signal.SIGTERM)
            _await(self._app, _SPARE_S)
        if self._sidecar is not None:
            self._sidecar.send(signal.SIGTERM)
            _await(self._sidecar, self._plan.drain_s + _SPARE_S)
            if self._app is not None and self._sidecar.status == _DEADLINE_HIT:
                click.echo("pillion: the sidecar had to cut open connections", err=True)
        if self._plan.issuer.child is not None:
            self._plan.issuer.child.send(signal.SIGTERM)
            _await(self._plan.issuer.child, _SPARE_S)
        self._plan.issuer.release()

    def _wait(self, seconds: float) -> None:
        """Pause; raises UnreachableError when this run is asked to end."""
        found = next_signal(seconds)
        if found is not None and found[0] in _STOPS:
            name = signal.Signals(found[0]).name
            raise UnreachableError(f"{name} came before the application was started")

    def _upkeep(self) -> None:
        """Keep an issuer there, and the sidecar's anchors those of the authority."""
        if time.monotonic() - self._upkept >= _UPKEEP_S:
            self._upkept = time.monotonic()
            # Neither is urgent: a leaf lasts for hours, and the next look is in seconds.
            with contextlib.suppress(OSError, ConfigError):
                self._plan.issuer.keep()
                self._copy_anchors()

    def _copy_anchors(self) -> None:
        for source in self._plan.issuer.anchors.glob("*.pem"):
            target = self._plan.anchors / source.name
            data = source.read_bytes()
            if not target.exists() or target.read_bytes() != data:
                fresh = target.with_suffix(".new")
                fresh.write_bytes(data)
                fresh.chmod(0o644)
                fresh.replace(target)

    def _why_unready(self) -> str:
        admin = self._plan.admin
        connection = http.client.HTTPConnection(admin.ip, admin.port, timeout=2)
        try:
            connection.request("GET", "/ready")
            answer = connection.getresponse()
            said = answer.read(1_000).decode(errors="replace").strip()
        except (OSError, http.client.HTTPException) as error:
            return str(error) or type(error).__name__
        finally:
            connection.close()
        return "" if answer.status == 200 else said or f"status {answer.status}"

    def _is_taken(self) -> bool:
        admin = self._plan.admin
        with socket.socket(socket.AF_INET6 if ":" in admin.ip else socket.AF_INET) as probe:
            probe.settimeout(1)
            return probe.connect_ex((admin.ip, admin.port)) == 0

    def _tail(self) -> str:
        with self._plan.log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _MAX_TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
        words = "".join(f"\n  {line}" for line in lines[-_LAST_LINES:]) or " nothing"
        return f"its log {self._plan.log} ends with:{words}"


def _await(child: Child, seconds: float) -> None:
    """Wait for a child that was asked to end; who asks this run again, asks the child again."""
    deadline = time.monotonic() + seconds
    while child.status is None:
        found = next_signal(_POLL_S)
        if found is not None and found[0] in _STOPS:
            child.send(signal.SIGTERM)
        if time.monotonic() > deadline:
            child.send(signal.SIGKILL)
