"""Names that the mesh does not know, by the system's resolver."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from core.errors import UnreachableError
from discovery.model import Address
from proxy.net.address import plain_ip

RESOLVE_S: Final = 5.0
"""How long the system's resolver may take."""


async def ask_system(loop: asyncio.AbstractEventLoop, host: str, port: int) -> tuple[Address, ...]:
    """Return the addresses of ``host``; the loop goes on meanwhile.

    Raises UnreachableError when there are none, or no answer in time.
    """
    try:
        async with asyncio.timeout(RESOLVE_S):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError as error:
        raise UnreachableError(
            f"the system's resolver had no answer for {host} in {RESOLVE_S:g} s",
            code="name-unknown",
        ) from error
    except (OSError, UnicodeError) as error:
        raise UnreachableError(
            f"neither the mesh nor the system knows {host}: {error}",
            hint="Services are svc.namespace, .svc or .svc.<cluster domain>",
            code="name-unknown",
        ) from error
    return tuple(Address(plain_ip(str(each[4][0])), port) for each in found)
