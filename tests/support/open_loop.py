"""GETs at a steady pace, whatever becomes of them: ``python open_loop.py ADDRESS PORT RATE COUNT``.

A program by itself, to be run inside a pod. Prints one JSON object: how often each outcome was,
and when, in seconds from the start, the first and the last that was not a 200 began. It goes on
while others wait, on connections that are kept: a request that hangs holds up no other. SIGTERM
ends it before COUNT is reached; what is on its way is waited for.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections import Counter

PATIENCE_S = 20.0
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Client:
    """Connections to one address, used again when they are free."""

    def __init__(self, address: str, port: int) -> None:
        self.address = address
        self.port = port
        self.free: list[Connection] = []
        self.outcomes: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.bad: list[float] = []
        self.began = time.monotonic()

    async def get(self, number: int) -> None:
        """Ask once and note what came of it."""
        at = time.monotonic() - self.began
        try:
            async with asyncio.timeout(PATIENCE_S):
                outcome = await self._ask(number)
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            outcome = ", ".join((type(error).__name__, *getattr(error, "__notes__", ())))
        self.outcomes[outcome] += 1
        if outcome != "200":
            self.bad.append(at)

    async def _ask(self, number: int) -> str:
        is_kept = bool(self.free)
        reader, writer = (
            self.free.pop() if is_kept else await asyncio.open_connection(self.address, self.port)
        )
        head = b""
        try:
            writer.write(b"GET /%d HTTP/1.1\r\nhost: %b\r\n\r\n" % (number, self.address.encode()))
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
            body = await reader.readexactly(length)
        except BaseException as error:
            error.add_note(f"{'kept' if is_kept else 'new'}, {len(head)} octets of head")
            writer.close()
            raise
        self.answers[body.decode(errors="replace").strip()[:80]] += 1
        if b"connection: close" in head:
            writer.close()
        else:
            self.free.append((reader, writer))
        return head.split()[1].decode()


async def main(address: str, port: int, rate: float, count: int) -> None:
    """Run it and print what came of it."""
    client = Client(address, port)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            if stop.is_set():
                break
            late = client.began + number / rate - time.monotonic()
            if late > 0:
                await asyncio.sleep(late)
            tasks.create_task(client.get(number))
    bad = [round(each, 3) for each in (min(client.bad), max(client.bad))] if client.bad else []
    took = round(time.monotonic() - client.began, 1)
    outcome = {"outcomes": client.outcomes, "answers": client.answers, "bad": bad, "took": took}
    print(json.dumps(outcome))  # it is a program


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))
