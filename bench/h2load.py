"""h2load, saying what our own load tools say: ``python bench/h2load.py`` with its arguments.

    h2load.py ADDRESS PORT CONNECTIONS STREAMS PATHS WARM_MS RUN_MS

Prints {"event": "window"} when the warm-up is over and {"event": "done", ...} at the end; h2load
gives no quantiles, so they are 0. Exit status: 0 measured, 1 nothing could be.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from typing import Final

CONTENT: Final = "item"
"""The file every path leads to; what tells two paths apart is behind its question mark."""
_BEGINS: Final = "Main benchmark duration is started"
_RATE: Final = re.compile(r"finished in \S+, ([\d.]+) req/s")
_REQUESTS: Final = re.compile(
    r"requests: \d+ total, \d+ started, \d+ done, (\d+) succeeded, \d+ failed, (\d+) errored"
)


def main() -> None:
    """Run h2load and translate what it says."""
    ip, port = sys.argv[1:3]
    connections, streams, paths, warm_ms, run_ms = (int(word) for word in sys.argv[3:])
    with tempfile.NamedTemporaryFile("w", suffix=".paths") as file:
        base = f"http://{ip}:{port}/{CONTENT}"
        file.writelines(f"{base}?id={number * 2654435761 % 2**32}\n" for number in range(paths))
        file.flush()
        command = [
            *("h2load", "--threads=1", f"--clients={connections}"),
            *(f"--max-concurrent-streams={streams}", f"--input-file={file.name}"),
            *(f"--warm-up-time={warm_ms}ms", f"--duration={run_ms}ms"),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            said = ""
            for line in process.stdout:
                said += line
                if line.startswith(_BEGINS):
                    print(json.dumps({"event": "window"}), flush=True)
    print(json.dumps(done(said)), flush=True)


def done(said: str) -> dict[str, float | str]:
    """Return h2load's report as our load tools give it; ends the program where there is none."""
    rate, requests = _RATE.search(said), _REQUESTS.search(said)
    if rate is None or requests is None or requests[1] == "0":
        sys.exit(f"h2load: {said[-300:]}")
    return {
        "event": "done",
        "seconds": int(requests[1]) / float(rate[1]),
        "bytes": 0,
        "operations": int(requests[1]),
        "errors": int(requests[2]),
        "p50_us": 0.0,
        "p99_us": 0.0,
        "p999_us": 0.0,
    }


if __name__ == "__main__":
    main()
