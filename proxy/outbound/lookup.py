"""Where the names lead that applications tell us: the mesh is asked first, then the system."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final, final

from core.errors import UnreachableError
from discovery.model import Address
from proxy.net.address import plain_ip
from proxy.net.resolver import ask_system
from proxy.providers import NameProvider
from proxy.runtime import Runtime


@final
class Lookup:
    """Finds the address of a host and port."""

    __slots__ = ("_names", "_runtime")

    def __init__(self, runtime: Runtime, names: NameProvider | None) -> None:
        self._runtime: Final = runtime
        self._names: Final = names

    def known(self, host: str, port: int) -> Address | None:
        """Return what needs no question: an address, or what the mesh knows; None: it does not.

        Raises UnreachableError for a Service without an address that this pod can reach.
        """
        try:
            return Address(plain_ip(str(ip_address(host))), port)
        except ValueError:
            found = self._names.addresses(host, port) if self._names else None
        return None if found is None else self._usable(host, found)

    async def find(self, host: str, port: int) -> Address:
        """Return an address of ``host``; raises UnreachableError (``name-unknown``)."""
        known = self.known(host, port)
        if known is not None:
            return known
        return self._usable(host, await ask_system(self._runtime.loop, host, port))

    def _usable(self, host: str, found: tuple[Address, ...]) -> Address:
        ours = {":" in each for each in self._runtime.own_ips}
        for address in found:
            if not ours or (":" in address.ip) in ours:
                return address
        raise UnreachableError(
            f"{host} has no address that this pod can reach",
            hint="see the Service's selector and its pods' readiness",
            code="name-unknown",
        )
