"""A TLS connection driven by hand: bytes in, bytes out, no socket.

The engine's verbs are feed (bytes from the wire), read (application bytes), write, close and
take (bytes for the wire), and what goes over an established connection again and again: open
(feed and read) and seal (write and take). Its facts are those that identity.verify asks for. Two
libraries stand behind them: the standard library's ``ssl`` here, and OpenSSL's own functions in
``tls_openssl``.
"""

from __future__ import annotations

import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, Protocol, cast, final

from core.errors import HandshakeError, TruncatedError
from identity.handshake import verified_end, verified_root
from proxy.wire.buffer import Buffer

_READS_FOR_TICKET: Final = 4
FED_BYTES: Final = 65_536
"""What is opened at a time, at most."""
PLAIN_BYTES: Final = FED_BYTES + 32_768
"""Room for what that decrypts to, with the partial record that waited before it."""
OWNED_BYTES: Final = 4_096
"""So many are copied: less work than lending them, and most who get them keep them."""

_PLAIN: Final = memoryview(bytearray(PLAIN_BYTES))


class SessionKeeper(Protocol):
    """Who keeps a client's session for the next connection to the same peer."""

    def keep(self, session: object) -> None:
        """Take a session that the server has given a ticket for."""
        ...


class TlsEngine(ABC):
    """One end of a TLS connection."""

    __slots__ = ("_reads", "ended", "established", "is_client", "keeper")

    def __init__(self, *, server_side: bool, keeper: SessionKeeper | None) -> None:
        self._reads = 0
        self.is_client = not server_side
        self.established = False
        """Whether the handshake is done."""
        self.ended = False
        """Whether ``open`` has met the peer's close_notify."""
        self.keeper = keeper
        """Waits for the server's ticket; None when there is nothing to wait for."""

    @abstractmethod
    def feed(self, data: Buffer) -> None:
        """Take bytes from the wire."""

    @abstractmethod
    def feed_end(self) -> None:
        """Take the wire's end; what is still to be read decides whether it was in order."""

    @abstractmethod
    def take(self) -> bytes:
        """Return what is to go onto the wire, possibly nothing."""

    @property
    @abstractmethod
    def has_output(self) -> bool:
        """Whether ``take`` would return anything."""

    @abstractmethod
    def handshake(self) -> bool:
        """Go on with the handshake; True once it is done. Raises HandshakeError.

        Output must be taken in every case: a failed handshake leaves an alert to be sent.
        """

    @abstractmethod
    def read(self, buffer: memoryview) -> int:
        """Decrypt into ``buffer``; returns bytes read, 0 for close_notify, -1 for none yet.

        Raises TruncatedError when the wire ended without close_notify, HandshakeError on an
        alert or a bad record.
        """

    @property
    @abstractmethod
    def may_read(self) -> bool:
        """Whether ``read`` may find more without being fed first."""

    @abstractmethod
    def write(self, data: Buffer) -> None:
        """Encrypt ``data``, all of it."""

    def open(self, wire: Buffer) -> Buffer:
        """Feed ``wire`` and return all that can be read, possibly nothing; see ``ended``.

        More than OWNED_BYTES are a view that holds until the next call. ``wire`` is FED_BYTES
        at most. Raises as ``read`` does.
        """
        if len(wire) > FED_BYTES:
            raise ValueError("more than is opened at a time")
        if wire:
            self.feed(wire)
        filled = 0
        while filled < PLAIN_BYTES and self.may_read:
            count = self.read(_PLAIN[filled:])
            if count <= 0:
                self.ended = count == 0
                break
            filled += count
        return _PLAIN[:filled] if filled > OWNED_BYTES else bytes(_PLAIN[:filled])

    def seal(self, data: Buffer) -> bytes:
        """Encrypt ``data`` and return all that is to go onto the wire."""
        self.write(data)
        return self.take()

    @abstractmethod
    def close(self) -> None:
        """Say close_notify; the other direction stays open."""

    @property
    @abstractmethod
    def alpn(self) -> str:
        """The negotiated protocol, empty when there is none."""

    @property
    @abstractmethod
    def resumed(self) -> bool:
        """Whether an earlier session was taken up."""

    @property
    @abstractmethod
    def version(self) -> str:
        """The TLS version in use."""

    @property
    @abstractmethod
    def peer_der(self) -> bytes | None:
        """The peer's leaf, None when it showed none."""

    @property
    @abstractmethod
    def peer_names(self) -> tuple[tuple[str, str], ...]:
        """The leaf's SANs in certificate order, as (kind, text); DNS and URI are among them."""

    @property
    @abstractmethod
    def peer_not_after(self) -> float:
        """When the peer's leaf, or anything that vouches for it, ends: seconds since the epoch.

        0 without a leaf, and when the session was resumed.
        """

    @property
    @abstractmethod
    def verified_root(self) -> bytes | None:
        """The last certificate of the verified chain; None when the session was resumed."""

    @abstractmethod
    def forget_peer(self, *, keeps_session: bool) -> None:
        """Let go of the peer's certificates where they are a burden, once the peer is known.

        ``keeps_session``: a client's session may be kept, and with it the leaf.
        """

    @abstractmethod
    def ticketed_session(self) -> object | None:
        """Return the session, for the same library; None before the server's ticket has come."""

    def offer_session(self) -> None:
        """Hand the session to the keeper once the server's ticket has come.

        A ticket comes right behind the handshake; who sends none in the first reads sends none.
        """
        keeper = self.keeper
        if keeper is None:
            return
        session = self.ticketed_session()
        if session is not None:
            self.keeper = None
            keeper.keep(session)
            return
        self._reads += 1
        if self._reads >= _READS_FOR_TICKET:
            self.keeper = None


@final
class StandardEngine(TlsEngine):
    """One end of a TLS connection, by the standard library's ``ssl``."""

    __slots__ = ("_incoming", "_object", "_outgoing", "_read")

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_name: str | None = None,
        session: object | None = None,
        keeper: SessionKeeper | None = None,
    ) -> None:
        super().__init__(server_side=server_side, keeper=keeper)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_side,
            server_hostname=server_name,
            session=session if isinstance(session, ssl.SSLSession) else None,
        )
        # With a buffer ``read`` returns a count, which its published type does not say.
        self._read = cast("Callable[[int, memoryview], int]", self._object.read)

    def feed(self, data: Buffer) -> None:
        """Take bytes from the wire."""
        self._incoming.write(data)

    def feed_end(self) -> None:
        """Take the wire's end; what is still to be read decides whether it was in order."""
        self._incoming.write_eof()

    def take(self) -> bytes:
        """Return what is to go onto the wire, possibly nothing."""
        return self._outgoing.read() if self._outgoing.pending else b""

    @property
    def has_output(self) -> bool:
        """Whether ``take`` would return anything."""
        return self._outgoing.pending > 0

    def handshake(self) -> bool:
        """Go on with the handshake; True once it is done. Raises HandshakeError.

        Output must be taken in every case: a failed handshake leaves an alert to be sent.
        """
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLCertVerificationError as error:
            raise HandshakeError(
                f"the peer's certificate does not verify: {error.verify_message}",
                hint="compare both sides' trust anchors and clocks (pillion identity inspect)",
            ) from error
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
            raise HandshakeError("the peer ended the connection during the handshake") from error
        except ssl.SSLError as error:
            raise HandshakeError(f"the TLS handshake failed: {reason_of(error)}") from error
        self.established = True
        return True

    def read(self, buffer: memoryview) -> int:
        """Decrypt into ``buffer``; returns bytes read, 0 for close_notify, -1 for none yet.

        Raises TruncatedError when the wire ended without close_notify, HandshakeError on an
        alert or a bad record.
        """
        try:
            return self._read(len(buffer), buffer)
        except ssl.SSLWantReadError:
            return -1
        except ssl.SSLZeroReturnError:
            return 0
        except (ssl.SSLEOFError, ssl.SSLSyscallError) as error:
            raise TruncatedError("the TLS stream ended without close_notify") from error
        except ssl.SSLError as error:
            raise HandshakeError(f"the TLS connection failed: {reason_of(error)}") from error

    @property
    def may_read(self) -> bool:
        """Whether ``read`` may find more without being fed first."""
        return self._incoming.pending > 0 or self._object.pending() > 0

    def write(self, data: Buffer) -> None:
        """Encrypt ``data``, all of it."""
        self._object.write(data)

    def close(self) -> None:
        """Say close_notify; the other direction stays open."""
        try:
            self._object.unwrap()
        except ssl.SSLError:
            # WantRead: the peer's own close_notify has not come yet, and need not.
            return

    @property
    def alpn(self) -> str:
        """The negotiated protocol, empty when there is none."""
        return self._object.selected_alpn_protocol() or ""

    @property
    def resumed(self) -> bool:
        """Whether an earlier session was taken up."""
        return bool(self._object.session_reused)

    def forget_peer(self, *, keeps_session: bool) -> None:
        """Do nothing: this library has no way."""

    def ticketed_session(self) -> object | None:
        """Return the session; None before the server's ticket has come."""
        session = self._object.session
        return session if session is not None and session.has_ticket else None

    @property
    def version(self) -> str:
        """The TLS version in use."""
        return self._object.version() or ""

    @property
    def peer_der(self) -> bytes | None:
        """The peer's leaf, None when it showed none."""
        return self._object.getpeercert(binary_form=True)

    @property
    def peer_names(self) -> tuple[tuple[str, str], ...]:
        """The leaf's SANs in certificate order, as (kind, text)."""
        certificate = self._object.getpeercert()
        names = certificate.get("subjectAltName", ()) if certificate else ()
        return tuple((str(name[0]), str(name[1])) for name in names)

    @property
    def peer_not_after(self) -> float:
        """When the peer's leaf, or anything that vouches for it, ends: seconds since the epoch.

        0 without a leaf, and when the session was resumed.
        """
        return 0.0 if self.resumed else verified_end(self._object) or 0.0

    @property
    def verified_root(self) -> bytes | None:
        """The last certificate of the verified chain; None when the session was resumed."""
        return None if self.resumed else verified_root(self._object)


def reason_of(error: ssl.SSLError) -> str:
    """Return OpenSSL's reason in words, without file names and line numbers."""
    # None at an end of the stream, whatever its declared type says: compiled code would raise.
    reason: str | None = getattr(error, "reason", None)
    if reason:
        return reason.lower().replace("_", " ")
    message = str(error.args[-1]) if error.args else "unknown"
    return message.partition(" (_ssl")[0].lower()
