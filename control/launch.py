"""Having a workload's key and request made before its sidecar starts, by ``control.bootstrap``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from core.errors import IdentityError
from identity.material import Material
from identity.name import Identity

TIMEOUT_S: Final = 30.0
"""How long the bootstrap may take; it needs some 0.2 s."""


def prepare_material(directory: Path, identity: Identity) -> None:
    """Make sure that key and request are there; blocks, so call it before the event loop runs.

    Raises IdentityError with the bootstrap's own words.
    """
    if Material(directory).is_ready_for(identity):
        return
    # The child finds this very installation, wherever the sidecar was started from, and never
    # a directory `control` that happens to lie in the working directory.
    home = str(Path(__file__).resolve().parent.parent)
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "control.bootstrap", str(directory), identity.name],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([home, *others])},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise IdentityError(f"the key and the CSR of {identity} were not made: {error}") from error
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip()[-2000:]
        raise IdentityError(f"the key and the CSR of {identity} were not made: {reason}")
