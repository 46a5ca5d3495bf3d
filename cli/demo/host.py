"""A network namespace as a host of its own: programs run in it, and end with it.

The namespace has no name: an open file keeps it, so that it vanishes with this process however
that ends, and its programs with it (each is killed when its parent dies). A host that is shared
has none: its programs run beside ours, as our own user.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, final

from core.errors import ConfigError

APP_UID: Final = 65534
"""Who the apps run as: nobody, so that capture tells them from the sidecar."""
_ENVIRONMENT: Final = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
_UNPRIVILEGED: Final = (
    "--clear-groups",
    "--no-new-privs",
    "--inh-caps=-all",
    "--bounding-set=-all",
)
_KILL_S: Final = 5.0
"""How long the kernel may take to end a program that was killed."""


@final
class Host:
    """One network namespace, or none, and the programs that were started in it."""

    def __init__(self, name: str, *, is_shared: bool = False) -> None:
        """Make a namespace called ``name`` in messages; ConfigError where we may not."""
        self.name: Final = name
        self.is_shared: Final = is_shared
        self._file = -1 if is_shared else _new_namespace()
        self._inode = 0 if is_shared else os.fstat(self._file).st_ino
        self._programs: list[subprocess.Popen[bytes]] = []

    @property
    def path(self) -> str:
        """The namespace as a path, for programs that are given one."""
        return f"/proc/{os.getpid()}/fd/{self._file}"

    def command(self, arguments: Sequence[str], *, uid: int | None = None) -> list[str]:
        """Return what runs ``arguments`` here: as root, or as ``uid`` with no capability.

        On a shared host it is run as we are, whatever the uid, and with no capability either.
        """
        if self.is_shared:
            powers = ("--inh-caps=-all", "--bounding-set=-all") if os.geteuid() == 0 else ()
            return ["setpriv", "--pdeathsig=KILL", "--no-new-privs", *powers, "--", *arguments]
        user = () if uid is None else (f"--reuid={uid}", f"--regid={uid}", *_UNPRIVILEGED)
        # Twice: at once, and again because changing the user takes it back.
        bound = ("setpriv", "--pdeathsig=KILL")
        return [
            *bound,
            "--",
            "nsenter",
            f"--net={self.path}",
            "--",
            *bound,
            *user,
            "--",
            *arguments,
        ]

    def run(
        self,
        arguments: Sequence[str],
        *,
        uid: int | None = None,
        env: Mapping[str, str] | None = None,
        given: str = "",
        timeout_s: float = 15.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end and return what it said.

        Raises TimeoutExpired, with the program killed, after ``timeout_s``.
        """
        return subprocess.run(
            self.command(arguments, uid=uid),
            env={**_ENVIRONMENT, **(env or {})},
            cwd="/",
            input=given,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )

    def must(self, arguments: Sequence[str], *, given: str = "") -> str:
        """Run a program that has to succeed, as root; ConfigError says why it did not."""
        done = self.run(arguments, given=given)
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip() or f"exit status {done.returncode}"
            raise ConfigError(f"{self.name}: {' '.join(arguments)}: {said}")
        return done.stdout

    def spawn(
        self,
        arguments: Sequence[str],
        *,
        uid: int | None = None,
        env: Mapping[str, str] | None = None,
        output: int | IO[bytes] = subprocess.DEVNULL,
        errors: int | IO[bytes] = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        """Start a program that ends, at the latest, with this host.

        It is killed when the thread that started it ends: start it from one that lasts.
        """
        program = subprocess.Popen(
            self.command(arguments, uid=uid),
            env={**_ENVIRONMENT, **(env or {})},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            # Ctrl-C at the terminal is ours to handle: programs end in order, and all of them.
            start_new_session=True,
        )
        self._programs.append(program)
        return program

    def ask_to_end(self) -> None:
        """Send SIGTERM to what still runs; ``close`` waits for it."""
        for program in reversed(self._programs):
            if program.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(program.pid, signal.SIGTERM)

    def close(self, deadline: float) -> None:
        """End everything that runs here and let the namespace go.

        What still runs at ``deadline``, in seconds of the monotonic clock, is killed.
        """
        self.ask_to_end()
        for program in self._programs:
            try:
                program.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()
            if self.is_shared:
                # What it left behind in its group; a namespace is looked through below.
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(program.pid, signal.SIGKILL)
        # A program may have left children behind that live in no group of ours.
        for pid in self._inhabitants():
            _kill(pid)
        self._programs.clear()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _inhabitants(self) -> Iterator[int]:
        if self._file < 0:
            return
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    if (entry / "ns/net").stat().st_ino == self._inode:
                        yield int(entry.name)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            select.select([handle], [], [], _KILL_S)
        finally:
            os.close(handle)


def _new_namespace() -> int:
    """Return an open file of a fresh network namespace that nothing else refers to."""
    try:
        holder = subprocess.Popen(
            ["unshare", "--net", "--", "cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except FileNotFoundError:
        raise ConfigError(
            "unshare was not found on PATH", hint="install it: apt-get install util-linux"
        ) from None
    with holder:
        if holder.stdin is None or holder.stdout is None or holder.stderr is None:
            raise AssertionError("pipes were asked for")
        with suppress(BrokenPipeError):
            # What comes back through cat proves that the namespace has been made.
            holder.stdin.write(b".")
            holder.stdin.flush()
        if holder.stdout.read(1) != b".":
            said = holder.stderr.read(4096).decode("utf-8", "replace").strip()
            raise ConfigError(
                f"a network namespace could not be made: {said}",
                hint="run this as root; a container needs the capabilities SYS_ADMIN and NET_ADMIN",
            )
        return os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)
