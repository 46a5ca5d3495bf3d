"""One worker of a sidecar: the process that ``cli.workers`` starts, with its listening sockets.

``python -P -m cli.worker JSON`` is how it is run.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Serve as the JSON argument says, for as long as the process that started us is there."""
    gc.disable()
    told = json.loads(sys.argv[1])
    parent = int(told["parent"])
    for each in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(each, lambda *_: sys.exit(0))
    _follow(parent)
    # Whoever started us holds these back; one that came meanwhile is heard now.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    from cli.failure import tell  # noqa: PLC0415 - loading takes a while: first things first
    from cli.sidecar import run  # noqa: PLC0415
    from core.errors import MeshError  # noqa: PLC0415
    from discovery.model import Address  # noqa: PLC0415
    from proxy.crew import DRAIN, Crew  # noqa: PLC0415
    from proxy.net.listener import Bound  # noqa: PLC0415
    from proxy.net.loads import SharedLoads  # noqa: PLC0415

    crew = Crew(
        number=told["number"],
        count=told["count"],
        starts=told["starts"],
        directory=Path(told["directory"]),
        bound=Bound(
            [(name, socket.socket(fileno=fd)) for name, fd in told["sockets"]],
            [Address(ip, port) for ip, port in told["taken"]],
        ),
        loads=SharedLoads(told["loads"], told["number"]),
        stop=lambda: os.kill(parent, DRAIN) if os.getppid() == parent else None,
        is_orphan=lambda: os.getppid() != parent,
    )
    os.close(told["loads"])
    try:
        run(is_gateway=told["is_gateway"], crew=crew)
    except MeshError as error:
        sys.exit(tell(error))


def _follow(parent: int) -> None:
    """Let the kernel send us SIGTERM when ``parent`` ends; end now if it has (prctl(2))."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "prctl")
    if os.getppid() != parent:
        sys.exit(0)


if __name__ == "__main__":
    main()
