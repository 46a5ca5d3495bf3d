"""The authority of a mesh on this machine: made once, served by whichever run is there.

All runs of one mesh have to trust each other, so they share an authority, which outlives them;
the process that issues from it is started by the first run, and again by another when that ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Final, final

from cli.run.child import Child, spawn
from core.errors import ConfigError

_INIT_S: Final = 60.0


@final
class LocalIssuer:
    """An authority's directory, and the socket that its issuer listens on."""

    def __init__(
        self,
        directory: Path,
        pillion: Sequence[str],
        environment: Mapping[str, str],
        log: int,
    ) -> None:
        """``pillion`` runs this program in ``environment``; ``log`` is a file to write to."""
        self.directory: Final = directory.resolve()
        self._pillion: Final = pillion
        self._environment: Final = environment
        self._log: Final = log
        self.socket: Final = _runtime_directory() / f"{_digest(self.directory)}.sock"
        self._child: Child | None = None
        self._kept: IO[str] | None = None
        """Locked by the one run that keeps the issuer."""

    @property
    def anchors(self) -> Path:
        """Where the trust bundles are."""
        return self.directory / "anchors"

    @property
    def child(self) -> Child | None:
        """The issuer, if this run is the one that started it."""
        return self._child

    def prepare(self, trust_domain: str) -> None:
        """Make the authority, unless it is there.

        Raises ConfigError when it cannot be made, or is of another trust domain.
        """
        settings = self.directory / "authority.json"
        try:
            with _locked(self.directory):
                if not settings.exists():
                    self._run("identity", "init", "--trust-domain", trust_domain)
            found = json.loads(settings.read_text()).get("trustDomain", "")
        except (OSError, ValueError, AttributeError) as error:
            raise ConfigError(f"the authority {self.directory} cannot be used: {error}") from error
        if found != trust_domain:
            raise ConfigError(
                f"the authority {self.directory} is of the trust domain {found!r}; the mesh's is "
                f"{trust_domain!r}",
                hint="name another directory with --authority",
            )

    def token(self, identity: str) -> str:
        """Return a token that proves ``identity`` to the issuer."""
        return self._run("identity", "issue", "--token", identity).strip()

    @property
    def is_there(self) -> bool:
        """Whether an issuer listens, as far as its socket tells."""
        return self.socket.is_socket()

    def keep(self) -> None:
        """Start the issuer, if no other run keeps it; again, if it has ended."""
        if self._child is not None and self._child.status is None:
            return
        if self._kept is None:
            _own_directory(self.socket.parent)
            lock = self.socket.with_suffix(".lock").open("w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                return
            self._kept = lock
        # Left behind by an issuer that was killed: nobody else may have one now.
        self.socket.unlink(missing_ok=True)
        command = [*self._pillion, "identity", "serve", "--socket", str(self.socket)]
        command += ["--authority", str(self.directory)]
        self._child = spawn("issuer", bound(command), self._environment, log=self._log)

    def release(self) -> None:
        """Let another run keep the issuer, once ours has ended."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _run(self, *arguments: str) -> str:
        try:
            done = subprocess.run(
                [*self._pillion, *arguments, "--authority", str(self.directory)],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_INIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ConfigError(f"{' '.join(arguments[:2])} took over {_INIT_S:g} s") from error
        if done.returncode != 0:
            raise ConfigError(done.stderr.strip().removeprefix("pillion: ") or "no authority")
        return done.stdout


def bound(command: Sequence[str], *user: str) -> list[str]:
    """Return what runs ``command`` so that it is asked to end when this process does.

    ``user`` are further options of setpriv.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise ConfigError("setpriv is not installed", hint="apt-get install util-linux")
    # Twice where the user changes: that takes it back.
    first = [setpriv, "--pdeathsig=TERM", "--"]
    return [*first, *command] if not user else [*first, *first[:-1], *user, "--", *command]


def state_directory(mesh: Path) -> Path:
    """Return where what runs of a mesh share is kept: never in the mesh directory itself."""
    if os.geteuid() == 0:
        state = Path("/var/lib")
    else:
        home = os.environ.get("XDG_STATE_HOME", "")
        state = Path(home) if home else Path.home() / ".local/state"
    mesh = mesh.resolve()
    return state / "pillion" / f"{mesh.name or 'mesh'}-{_digest(mesh)}"


def _runtime_directory() -> Path:
    # A socket's path has 107 bytes (unix(7)), which an authority's directory may well exceed.
    if os.geteuid() == 0:
        return Path("/run/pillion")
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/pillion-{os.geteuid()}")  # noqa: S108


def _own_directory(path: Path) -> None:
    """Make a directory that others may enter and only we may write; ConfigError if it is theirs."""
    path.mkdir(mode=0o755, parents=True, exist_ok=True)
    found = path.lstat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o022 or path.is_symlink():
        raise ConfigError(
            f"{path} is not this user's alone (owner {found.st_uid}, mode "
            f"{found.st_mode & 0o7777:04o}): whoever may write it could pose as the issuer",
            hint=f"remove it, or chmod go-w {path}",
        )


def _digest(path: Path) -> str:
    return hashlib.sha256(str(path).encode()).hexdigest()[:12]


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Let one run at a time look whether there is an authority."""
    directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (directory.parent / f".{directory.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
