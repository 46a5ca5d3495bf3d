"""A local port that leads through a sidecar, for programs that know nothing of SOCKS.

``python -m cli.demo.tunnel PORT PROXY HOST PORT`` listens on 127.0.0.1 and connects each client
to HOST by the SOCKS 5 proxy at the address PROXY, as ``ssh -L`` does by a login.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import Final

_CHUNK: Final = 65_536
_SOCKS_PORT: Final = 4140


async def connect_by(
    proxy: str, host: str, port: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a connection to ``host`` by the proxy; OSError when that refuses."""
    reader, writer = await asyncio.open_connection(proxy, _SOCKS_PORT)
    name = host.encode("ascii")
    try:
        writer.write(b"\x05\x01\x00")
        await reader.readexactly(2)
        request = b"\x05\x01\x00\x03" + bytes((len(name),)) + name + port.to_bytes(2, "big")
        writer.write(request)
        answer = await reader.readexactly(10)
    except asyncio.IncompleteReadError as error:
        writer.transport.abort()
        raise OSError("the proxy hung up") from error
    if answer[1]:
        writer.transport.abort()
        raise OSError(f"the proxy refused with code {answer[1]}")
    return reader, writer


async def _serve(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, proxy: str, host: str, port: int
) -> None:
    try:
        far_reader, far_writer = await connect_by(proxy, host, port)
    except OSError:
        writer.transport.abort()
        return
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_pass(reader, far_writer))
            tasks.create_task(_pass(far_reader, writer))
    except* OSError:
        writer.transport.abort()
        far_writer.transport.abort()
    finally:
        writer.close()
        far_writer.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    with suppress(OSError):
        writer.write_eof()


async def _run(local: int, proxy: str, host: str, port: int) -> None:
    server = await asyncio.start_server(
        lambda reader, writer: _serve(reader, writer, proxy, host, port), "127.0.0.1", local
    )
    async with server:
        await server.serve_forever()


def main() -> None:
    """Serve until killed."""
    local, proxy, host, port = sys.argv[1:]
    asyncio.run(_run(int(local), proxy, host, int(port)))


if __name__ == "__main__":
    main()
