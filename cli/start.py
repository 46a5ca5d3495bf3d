"""Where the command begins: Ctrl-C ends it without a word while its modules are loading."""

from __future__ import annotations

import signal


def main() -> None:
    """Load the command line and run it."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from cli.main import main as run  # noqa: PLC0415  it takes a while, and that is the point

    signal.signal(signal.SIGINT, handler)
    run()
