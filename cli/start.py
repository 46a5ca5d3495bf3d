"""Where the command begins: Ctrl-C ends it without a word while its modules are loading.

A sidecar takes no words of its own, and starts beside every pod: it goes past the command line.
"""

from __future__ import annotations

import gc
import signal
import sys


def main() -> None:
    """Load what is asked for and run it."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.argv[1:] in (["proxy"], ["gateway"]):
        # What is loaded stays: the collector would look through all of it many times in vain.
        gc.disable()
        from cli.failure import tell  # noqa: PLC0415  what is imported late takes a while
        from cli.sidecar import run as sidecar  # noqa: PLC0415
        from core.errors import MeshError  # noqa: PLC0415

        signal.signal(signal.SIGINT, handler)
        try:
            sidecar(is_gateway=sys.argv[1] == "gateway")
        except MeshError as error:
            sys.exit(tell(error))
    from cli.main import main as run  # noqa: PLC0415

    signal.signal(signal.SIGINT, handler)
    run()
