"""Which TLS library makes the engines: the interpreter's own, or that of ``cryptography``."""

from __future__ import annotations

import ssl
from typing import Final, Protocol, final

from core.errors import ConfigError, IdentityError
from identity.generation import Generation
from identity.openssl import (
    Contexts,
    Openssl,
    groups_of,
    is_newer,
    load_openssl,
    make_contexts,
)
from proxy.wire.tls import SessionKeeper, StandardEngine, TlsEngine
from proxy.wire.tls_openssl import Calls, OpensslEngine
from proxy.wire.tls_record import functions_of

AUTO: Final = "auto"
PYTHON: Final = "python"
CRYPTOGRAPHY: Final = "cryptography"
TLS_ENGINES: Final = (AUTO, PYTHON, CRYPTOGRAPHY)
"""What may be asked for; ``auto`` is whichever OpenSSL is newer."""
_GENERATIONS: Final = 2
"""Generations whose contexts are kept: the present one, and one whose handshakes end."""


class TlsLibrary(Protocol):
    """Makes the engines of new connections."""

    name: str
    """``python`` or ``cryptography``."""
    version: str
    """The OpenSSL behind it, in its own words."""

    def prepare(self, generation: Generation) -> None:
        """Make what the generation's connections need. Raises IdentityError."""
        ...

    def server(self, generation: Generation, *, direct: bool) -> TlsEngine:
        """Return an engine that accepts; ``direct``: on the direct port, with its ALPN."""
        ...

    def client(
        self,
        generation: Generation,
        *,
        direct: bool,
        server_name: str,
        session: object | None,
        keeper: SessionKeeper | None,
    ) -> TlsEngine:
        """Return an engine that dials; ``direct``: to a direct port, with its ALPN."""
        ...


@final
class StandardLibrary:
    """The standard library's ``ssl``."""

    __slots__ = ("_resume", "name", "version")

    def __init__(self, *, resume: bool) -> None:
        """``resume``: servers take sessions up."""
        self._resume = resume
        self.name: str = PYTHON
        self.version: str = ssl.OPENSSL_VERSION

    def prepare(self, generation: Generation) -> None:
        """Give no tickets where none are to be given; all else is made."""
        if not self._resume:
            generation.issue_no_tickets()

    def server(self, generation: Generation, *, direct: bool) -> TlsEngine:
        """Return an engine that accepts."""
        return StandardEngine(generation.server_context(direct), server_side=True)

    def client(
        self,
        generation: Generation,
        *,
        direct: bool,
        server_name: str,
        session: object | None,
        keeper: SessionKeeper | None,
    ) -> TlsEngine:
        """Return an engine that dials."""
        return StandardEngine(
            generation.client_context(direct),
            server_side=False,
            server_name=server_name,
            session=session,
            keeper=keeper,
        )


@final
class OpensslLibrary:
    """The OpenSSL of the ``cryptography`` wheel."""

    __slots__ = ("_calls", "_contexts", "_groups", "_openssl", "_resume", "name", "version")

    def __init__(self, openssl: Openssl, *, resume: bool, hybrid: bool) -> None:
        """``resume``: servers take sessions up. ``hybrid``: as ``choose_library`` has it.

        Raises IdentityError when the hybrid cannot be had.
        """
        self._openssl = openssl
        self._groups = groups_of(openssl, hybrid=hybrid)
        self._calls = Calls(openssl, functions_of(openssl))
        self._contexts: dict[Generation, Contexts] = {}
        self._resume = resume
        self.name: str = CRYPTOGRAPHY
        self.version: str = openssl.version

    def prepare(self, generation: Generation) -> None:
        """Make the generation's contexts. Raises IdentityError."""
        self._of(generation)

    def server(self, generation: Generation, *, direct: bool) -> TlsEngine:
        """Return an engine that accepts."""
        context = self._of(generation).server_side(direct)
        return OpensslEngine(self._calls, context, server_side=True)

    def client(
        self,
        generation: Generation,
        *,
        direct: bool,
        server_name: str,
        session: object | None,
        keeper: SessionKeeper | None,
    ) -> TlsEngine:
        """Return an engine that dials."""
        return OpensslEngine(
            self._calls,
            self._of(generation).client_side(direct),
            server_side=False,
            server_name=server_name,
            session=session,
            keeper=keeper,
        )

    def _of(self, generation: Generation) -> Contexts:
        contexts = self._contexts.get(generation)
        if contexts is None:
            contexts = make_contexts(
                self._openssl, generation, groups=self._groups, resume=self._resume
            )
            self._contexts[generation] = contexts
            if len(self._contexts) > _GENERATIONS:
                del self._contexts[next(iter(self._contexts))]
        return contexts


def choose_library(name: str, *, resume: bool, hybrid: bool) -> TlsLibrary:
    """Return the library of one of ``TLS_ENGINES``; without ``resume`` no session is taken up.

    ``hybrid``: the key exchange that is safe against quantum computers, too, is offered first.
    Raises ConfigError when what is asked for cannot be had.
    """
    if name != PYTHON:
        try:
            openssl = load_openssl(tickets=1 if resume else 0)
            if name == CRYPTOGRAPHY or hybrid or is_newer(openssl):
                return OpensslLibrary(openssl, resume=resume, hybrid=hybrid)
        except IdentityError as error:
            if name == CRYPTOGRAPHY or hybrid:
                raise ConfigError(f"PILLION_TLS_ENGINE={name} cannot be had: {error}") from error
    elif hybrid:
        raise ConfigError(
            "PILLION_TLS_HYBRID needs an OpenSSL that can be told its key exchanges",
            hint="PILLION_TLS_ENGINE=cryptography has one",
        )
    return StandardLibrary(resume=resume)
