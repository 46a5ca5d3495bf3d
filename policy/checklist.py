"""Authorizations in their order, found by whom they admit instead of tried one by one.

What is open to every network is looked up by the client's identity, by each suffix of its name,
and by whether it uses mesh TLS; only authorizations with networks, and only those before the one
found, are tried. So a caller whom the fifth of five policies names costs what the first costs,
and a refusal's attempts are mostly known beforehand. No I/O here; this module is compiled.
"""

from __future__ import annotations

from typing import Final, final

from policy.check import Check
from policy.model import Attempt, Client, ClientTls


@final
class Checklist:
    """Checks that are tried in order."""

    __slots__ = ("_by_name", "_by_suffix", "_if_mesh", "_if_plain", "_mesh", "_tried", "checks")

    def __init__(self, checks: list[Check]) -> None:
        self.checks: Final = checks
        self._by_name: Final[dict[str, int]] = {}
        self._by_suffix: Final[dict[str, int]] = {}
        self._tried: Final[list[int]] = []
        """Those that must be tried: with networks of their own, or open to any client."""
        self._mesh = len(checks)
        """The first that any client with mesh TLS satisfies."""
        for index, check in enumerate(checks):
            if not check.any_network or check.any_tls or check.any_identity:
                self._tried.append(index)
            elif not check.wants_identity:
                self._mesh = min(self._mesh, index)
            else:
                for name in check.names:
                    self._by_name.setdefault(name, index)
                for suffix in check.suffixes:
                    self._by_suffix.setdefault(suffix, index)
        # What clients fail of every check that is looked up and not tried.
        self._if_plain: Final = [each.bad_tls for each in checks]
        self._if_mesh: Final = [each.bad_identity for each in checks]

    def first(self, address: int, client: Client) -> int:
        """Return the index of the first check that a client satisfies; -1: of none."""
        found = len(self.checks)
        if client.tls is ClientTls.MESH:
            found = self._mesh
            identity = client.identity
            if identity is not None:
                found = min(found, self._by_name.get(identity.name, found))
                if self._by_suffix and not identity.is_uri:
                    found = min(found, self._by_any_suffix(identity.name, found))
        for index in self._tried:
            if index > found:
                break
            if self.checks[index].failure(address, client) is None:
                return index
        return found if found < len(self.checks) else -1

    @property
    def is_looked_up(self) -> bool:
        """Whether at most the last check must be tried: then all who are refused fail alike."""
        return all(index == len(self.checks) - 1 for index in self._tried)

    def attempts(self, address: int, client: Client) -> list[Attempt]:
        """Return what a client failed first of each check, when it satisfies none."""
        is_mesh = client.tls is ClientTls.MESH
        found = list(self._if_mesh if is_mesh else self._if_plain)
        for index in self._tried:
            failed = self.checks[index].failure(address, client)
            if failed is not None:
                found[index] = failed
        return found

    def _by_any_suffix(self, name: str, bound: int) -> int:
        found = self._by_suffix.get("", bound)
        dot = name.find(".")
        while dot >= 0:
            found = min(found, self._by_suffix.get(name[dot:], found))
            dot = name.find(".", dot + 1)
        return found
