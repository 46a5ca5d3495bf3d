"""A relay that writes down what passes: the witness where packets cannot be captured.

``python -m cli.demo.recorder FILE FROM TO PORT…`` listens on each port of the address FROM and
passes connections on to TO, from the client's own address. At its end, by SIGTERM, it writes what
it saw, a line of JSON for each connection.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from cli.demo.witness import Flow

MAX_RECORD_BYTES: Final = 64 * 1024 * 1024
"""What is kept of all connections together; a relay that has more gives up."""
_CHUNK: Final = 65_536


async def relay(
    flow: Flow, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: tuple[str, int]
) -> None:
    """Pass one connection on, both ways, keeping its bytes in ``flow``."""
    source = (flow.client[0], 0)
    try:
        far_reader, far_writer = await asyncio.open_connection(*target, local_addr=source)
    except OSError:
        writer.transport.abort()
        return
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_pass(reader, far_writer, flow, is_sent=True))
            tasks.create_task(_pass(far_reader, writer, flow, is_sent=False))
    except* OSError:
        writer.transport.abort()
        far_writer.transport.abort()
    finally:
        for each in (writer, far_writer):
            each.close()
            with suppress(OSError):
                await each.wait_closed()


async def _pass(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flow: Flow, *, is_sent: bool
) -> None:
    while data := await reader.read(_CHUNK):
        if len(flow.sent) + len(flow.received) > MAX_RECORD_BYTES:
            raise OSError("more than is kept")
        if is_sent:
            flow.sent += data
        else:
            flow.received += data
        writer.write(data)
        await writer.drain()
    with suppress(OSError):
        writer.write_eof()


async def record(near: str, far: str, ports: list[int], ready: Path) -> list[Flow]:
    """Relay until SIGTERM; return what passed. ``ready`` is a file that says when it begins."""
    flows: list[Flow] = []
    running: set[asyncio.Task[None]] = set()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    def server_of(port: int) -> Callable[..., Awaitable[None]]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            ip, client_port = writer.get_extra_info("peername")[:2]
            flow = Flow((ip, client_port), (near, port))
            flows.append(flow)
            task = asyncio.current_task()
            if task is not None:
                running.add(task)
            with suppress(asyncio.CancelledError):
                await relay(flow, reader, writer, (far, port))

        return serve

    servers = [await asyncio.start_server(server_of(port), near, port) for port in ports]
    await asyncio.to_thread(ready.touch)
    await stop.wait()
    for server in servers:
        server.close()
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    return flows


def _line(flow: Flow) -> dict[str, object]:
    return {
        "client": flow.client,
        "server": flow.server,
        "sent": flow.sent.hex(),
        "received": flow.received.hex(),
    }


def read_record(path: Path) -> list[Flow]:
    """Return the connections of a record."""
    flows = []
    for line in path.read_text().splitlines():
        found = json.loads(line)
        (client_ip, client_port), (server_ip, server_port) = found["client"], found["server"]
        flows.append(
            Flow(
                (client_ip, client_port),
                (server_ip, server_port),
                bytes.fromhex(found["sent"]),
                bytes.fromhex(found["received"]),
            )
        )
    return flows


def main() -> None:
    """Run until SIGTERM."""
    file, near, far, *ports = sys.argv[1:]
    path = Path(file)
    numbers = [int(port) for port in ports]
    flows = asyncio.run(record(near, far, numbers, path.with_suffix(".up")))
    path.write_text("".join(json.dumps(_line(flow)) + "\n" for flow in flows))


if __name__ == "__main__":
    main()
