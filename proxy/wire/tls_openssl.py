"""The TLS engine on OpenSSL's own functions, those of ``identity.openssl``.

Each verb is one or two calls of the library, each of which costs a good part of a small record;
what goes over an established connection is left to ``tls_record`` where that can be had.
Whether there is anything to be sent after a read is not asked while all that was fed has come out
again as records of data. Any other message shows in that sum, at the latest when the partial record
that hides it is whole: an answer waits for 16 KiB at most.

The library keeps its errors in a queue of the thread, and SSL_get_error decides by it what a call
without result was: so the queue is emptied before each call that it is asked about.

A pointer that frees itself does so once no name leads to it; what points into what it points to is
not looked at after that. Interpreted code keeps a name to the end of its function, compiled code
does not.
"""

from __future__ import annotations

from typing import Any, Final, final

from core.errors import HandshakeError, TruncatedError
from identity.der import end_of, fields_of, names_of
from identity.openssl import BLANK, Openssl, reason_of
from proxy.wire.buffer import Buffer
from proxy.wire.tls import SessionKeeper, TlsEngine
from proxy.wire.tls_record import Records, records_of

_OUTPUT_BYTES: Final = 128 * 1024
_OUTPUT: Final = bytearray(_OUTPUT_BYTES)
"""What is taken passes through here."""
_OUTPUT_VIEW: Final = memoryview(_OUTPUT)
_RECORD_BYTES: Final = 22
"""What a record of data has around the data: header, type, tag (RFC 8446, 5.2); no padding."""
_TICKET: Final = 0xAA
"""The tag of the ticket in a session's encoding (i2d_SSL_SESSION)."""


@final
class SessionOf:
    """A session, as a pointer that frees itself."""

    __slots__ = ("pointer",)

    def __init__(self, pointer: Any) -> None:  # noqa: ANN401  a pointer
        self.pointer: Any = pointer


@final
class Calls:
    """The library's functions that connections call, looked up once."""

    __slots__ = (
        "blank",
        "certificate",
        "clear",
        "free",
        "from_buffer",
        "functions",
        "handshake",
        "input",
        "lib",
        "memory",
        "new_memory",
        "openssl",
        "output",
        "pending",
        "read",
        "room",
        "shut",
        "wants_more",
        "write",
    )

    def __init__(self, openssl: Openssl, functions: object | None) -> None:
        """``functions``: those for the kernel, None: it is not used."""
        lib = openssl.lib
        self.openssl: Final = openssl
        self.functions: Final = functions
        self.lib: Any = lib
        self.memory: Any = lib.BIO_s_mem()
        self.new_memory: Any = lib.BIO_new
        self.input: Any = lib.BIO_write
        self.output: Any = lib.BIO_read
        self.pending: Any = lib.BIO_get_mem_data
        self.read: Any = lib.SSL_read
        self.write: Any = lib.SSL_write
        self.handshake: Any = lib.SSL_do_handshake
        self.clear: Any = lib.ERR_clear_error
        self.from_buffer: Any = openssl.ffi.from_buffer
        self.room: Any = openssl.ffi.from_buffer(_OUTPUT)
        self.shut: Any = lib.SSL_set_shutdown
        self.wants_more: Any = lib.SSL_want_read
        self.free: Any = lib.SSL_free
        self.blank: Any = openssl.ffi.from_buffer(BLANK)
        self.certificate: Any = openssl.ffi.new("X509 **")

    def release(self, connection: Any) -> None:  # noqa: ANN401  a pointer
        """Free a connection; its session stays good, however the connection ended."""
        self.shut(connection, 3)
        self.free(connection)


@final
class OpensslEngine(TlsEngine):
    """One end of a TLS connection, by OpenSSL's own functions."""

    __slots__ = (
        "_calls",
        "_incoming",
        "_is_slim",
        "_known",
        "_none",
        "_other",
        "_outgoing",
        "_records",
        "_ssl",
        "_unread",
        "_unsent",
        "_wire_ended",
    )

    def __init__(
        self,
        calls: Calls,
        context: Any,  # noqa: ANN401  a pointer
        *,
        server_side: bool,
        server_name: str | None = None,
        session: object | None = None,
        keeper: SessionKeeper | None = None,
    ) -> None:
        super().__init__(server_side=server_side, keeper=keeper)
        lib, ffi = calls.lib, calls.openssl.ffi
        self._calls: Final = calls
        self._none: Any = ffi.NULL
        self._records: Records | None = None
        """What opens and seals once the handshake's memory is let go, and the wire goes on."""
        self._is_slim = False
        """Whether what the handshake needed has been let go."""
        self._unread = False
        """Whether something was fed that ``read`` has not seen."""
        self._unsent = False
        """Whether there may be output whatever the sizes say."""
        self._wire_ended = False
        self._other = 0
        """Octets that were fed and have not come out as records of data."""
        self._known = -1
        """What ``_other`` was when there was nothing to be sent."""
        connection = lib.SSL_new(context)
        if connection == ffi.NULL:
            raise MemoryError("OpenSSL has no room for a connection")
        self._ssl: Any = ffi.gc(connection, calls.release)
        self._incoming: Any = calls.new_memory(calls.memory)
        self._outgoing: Any = calls.new_memory(calls.memory)
        lib.SSL_set_bio(connection, self._incoming, self._outgoing)
        if server_side:
            lib.SSL_set_accept_state(connection)
            return
        lib.SSL_set_connect_state(connection)
        if server_name:
            lib.SSL_set_tlsext_host_name(connection, server_name.encode("ascii"))
        if isinstance(session, SessionOf):
            lib.SSL_set_session(connection, session.pointer)

    def feed(self, data: Buffer) -> None:
        """Take bytes from the wire."""
        size = len(data)
        if size and self._calls.input(self._incoming, self._calls.from_buffer(data), size) != size:
            raise MemoryError("OpenSSL has no room for what came")
        self._other += size
        self._unread = True

    def feed_end(self) -> None:
        """Take the wire's end; what is still to be read decides whether it was in order."""
        self._wire_ended = True
        self._records = None
        self._calls.lib.BIO_set_mem_eof_return(self._incoming, 0)

    def take(self) -> bytes:
        """Return what is to go onto the wire, possibly nothing."""
        calls = self._calls
        self._unsent = False
        size: int = calls.output(self._outgoing, calls.room, _OUTPUT_BYTES)
        if size <= 0:
            return b""
        data = bytes(_OUTPUT_VIEW[:size])
        while size == _OUTPUT_BYTES:
            size = calls.output(self._outgoing, calls.room, _OUTPUT_BYTES)
            if size > 0:
                data += _OUTPUT_VIEW[:size]
        return data

    @property
    def has_output(self) -> bool:
        """Whether ``take`` would return anything."""
        if self._other == self._known and not self._unsent:
            return False
        size: int = self._calls.pending(self._outgoing, self._none)
        if size <= 0:
            self._unsent = False
            self._known = self._other
        return size > 0

    def handshake(self) -> bool:
        """Go on with the handshake; True once it is done. Raises HandshakeError.

        Output must be taken in every case: a failed handshake leaves an alert to be sent.
        """
        calls = self._calls
        self._unsent = True
        calls.clear()
        result: int = calls.handshake(self._ssl)
        if result == 1:
            self.established = True
            return True
        lib = calls.lib
        kind: int = lib.SSL_get_error(self._ssl, result)
        if kind == lib.SSL_ERROR_WANT_READ:
            return False
        reason = reason_of(calls.openssl)
        if reason == "certificate verify failed":
            verdict = lib.X509_verify_cert_error_string(lib.SSL_get_verify_result(self._ssl))
            raise HandshakeError(
                "the peer's certificate does not verify: "
                f"{calls.openssl.ffi.string(verdict).decode()}",
                hint="compare both sides' trust anchors and clocks (pillion identity inspect)",
            )
        if kind == lib.SSL_ERROR_SYSCALL or reason == "unexpected eof while reading":
            raise HandshakeError("the peer ended the connection during the handshake")
        raise HandshakeError(f"the TLS handshake failed: {reason}")

    def read(self, buffer: memoryview) -> int:
        """Decrypt into ``buffer``; returns bytes read, 0 for close_notify, -1 for none yet.

        Raises TruncatedError when the wire ended without close_notify, HandshakeError on an
        alert or a bad record.
        """
        calls = self._calls
        self._unread = False
        room = len(buffer)
        if self._wire_ended:
            calls.clear()
        size: int = calls.read(self._ssl, calls.from_buffer(buffer), room)
        if size > 0:
            self._unread = size == room
            # A record that does not end here is counted when it does.
            self._other -= size if self._unread else size + _RECORD_BYTES
            return size
        # Of a wire that has not ended this is true if and only if more is needed.
        if not self._wire_ended and calls.wants_more(self._ssl):
            return -1
        self._unsent = True
        return self._judge(calls.lib.SSL_get_error(self._ssl, size))

    def _judge(self, kind: int) -> int:
        """Return what a read without result returns, by the word of SSL_get_error."""
        lib = self._calls.lib
        if kind == lib.SSL_ERROR_WANT_READ:
            return -1
        if kind == lib.SSL_ERROR_ZERO_RETURN:
            return 0
        reason = reason_of(self._calls.openssl)
        if kind == lib.SSL_ERROR_SYSCALL or reason == "unexpected eof while reading":
            raise TruncatedError("the TLS stream ended without close_notify")
        raise HandshakeError(f"the TLS connection failed: {reason}")

    def open(self, wire: Buffer) -> Buffer:
        """Feed ``wire`` and return all that can be read, possibly nothing; see ``ended``."""
        records = self._records
        if records is None:
            return super().open(wire)
        data = records.open(wire)
        if data is not None:
            return data
        self._unsent = True
        kind = records.kind
        if kind:
            self.ended = self._judge(kind) == 0
        return records.rest()

    def seal(self, data: Buffer) -> bytes:
        """Encrypt ``data`` and return all that is to go onto the wire."""
        records = self._records
        if records is None:
            return super().seal(data)
        wire = records.seal(data)
        if wire is None:
            self._unsent = True
            raise HandshakeError(f"the TLS connection failed: {reason_of(self._calls.openssl)}")
        self._unsent = False
        return wire

    @property
    def may_read(self) -> bool:
        """Whether ``read`` may find more without being fed first."""
        if self._unread:
            return True
        waiting: int = self._calls.pending(self._incoming, self._none)
        if waiting > 0:
            return True
        if self.established and not self._is_slim:
            self._slim()
        return False

    def write(self, data: Buffer) -> None:
        """Encrypt ``data``, all of it."""
        size = len(data)
        calls = self._calls
        self._unsent = True
        # Bytes are handed over as they are.
        source = data if isinstance(data, bytes) else calls.from_buffer(data)
        if size and calls.write(self._ssl, source, size) != size:
            raise HandshakeError(f"the TLS connection failed: {reason_of(calls.openssl)}")

    def close(self) -> None:
        """Say close_notify; the other direction stays open."""
        self._unsent = True
        # Below 0 in a connection that has failed, which has nothing more to say.
        self._calls.lib.SSL_shutdown(self._ssl)
        self._calls.clear()

    @property
    def alpn(self) -> str:
        """The negotiated protocol, empty when there is none."""
        ffi = self._calls.openssl.ffi
        text, size = ffi.new("unsigned char **"), ffi.new("unsigned int *")
        self._calls.lib.SSL_get0_alpn_selected(self._ssl, text, size)
        return str(ffi.buffer(text[0], size[0])[:], "ascii", "replace") if size[0] else ""

    @property
    def resumed(self) -> bool:
        """Whether an earlier session was taken up."""
        return bool(self._calls.lib.SSL_session_reused(self._ssl))

    @property
    def version(self) -> str:
        """The TLS version in use."""
        return str(
            self._calls.openssl.ffi.string(self._calls.lib.SSL_get_version(self._ssl)), "ascii"
        )

    @property
    def peer_der(self) -> bytes | None:
        """The peer's leaf, None when it showed none or was forgotten."""
        lib, ffi = self._calls.lib, self._calls.openssl.ffi
        leaf = lib.SSL_get_peer_certificate(self._ssl)
        if leaf == ffi.NULL:
            return None
        encoded = self._der(ffi.gc(leaf, lib.X509_free))
        return None if encoded == BLANK else encoded

    @property
    def peer_names(self) -> tuple[tuple[str, str], ...]:
        """The leaf's SANs in certificate order, as (kind, text): those of DNS and URI."""
        leaf = self.peer_der
        try:
            return names_of(leaf) if leaf is not None else ()
        except ValueError as error:
            raise HandshakeError(f"the peer's certificate cannot be read: {error}") from error

    @property
    def peer_not_after(self) -> float:
        """When the peer's leaf, or anything that vouches for it, ends: seconds since the epoch.

        0 without a leaf, and when the session was resumed.
        """
        try:
            return min((end_of(each) for each in self._verified_chain()), default=0.0)
        except ValueError as error:
            raise HandshakeError(f"the peer's certificate cannot be read: {error}") from error

    @property
    def verified_root(self) -> bytes | None:
        """The last certificate of the verified chain; None when the session was resumed."""
        chain = self._verified_chain()
        return chain[-1] if chain else None

    def forget_peer(self, *, keeps_session: bool) -> None:
        """Put a blank in the place of each certificate that the peer has sent.

        OpenSSL keeps them as long as the connection, some 4 KiB each, and looks at none of them
        after the handshake. A decoder that is given an object fills that again (d2i_X509), and
        what was in it is freed; whoever refers to it goes on doing so. Only certificates that
        were parsed for this connection are touched: never the verified chain's, some of which
        are the anchors themselves, and none that a session shares that a client may offer again.
        """
        lib, none = self._calls.lib, self._none
        if self.is_client and self.resumed:
            return
        # Of a client's peer it holds the leaf, too.
        chain = lib.SSL_get_peer_cert_chain(self._ssl)
        count: int = 0 if chain == none else lib.sk_X509_num(chain)
        for place in range(1 if self.is_client and keeps_session else 0, count):
            self._blank(lib.sk_X509_value(chain, place))
        if not self.is_client:
            leaf = lib.SSL_get_peer_certificate(self._ssl)
            if leaf != none:
                self._blank(self._calls.openssl.ffi.gc(leaf, lib.X509_free))

    def ticketed_session(self) -> object | None:
        """Return the session; None before the server's ticket has come."""
        lib, ffi = self._calls.lib, self._calls.openssl.ffi
        found = lib.SSL_get1_session(self._ssl)
        if found == ffi.NULL:
            return None
        session = ffi.gc(found, lib.SSL_SESSION_free)
        size = lib.i2d_SSL_SESSION(session, ffi.NULL)
        encoded = ffi.new("unsigned char[]", max(size, 1))
        lib.i2d_SSL_SESSION(session, ffi.new("unsigned char **", encoded))
        (whole,) = fields_of(bytes(ffi.buffer(encoded, size)))
        is_ticketed = any(tag == _TICKET for tag, _ in fields_of(whole[1]))
        return SessionOf(session) if is_ticketed else None

    def _slim(self) -> None:
        """Let go of the handshake's memory BIOs: they keep the room that certificates needed."""
        if self.has_output:
            return
        self._is_slim = True
        calls = self._calls
        self._incoming = calls.new_memory(calls.memory)
        self._outgoing = calls.new_memory(calls.memory)
        calls.lib.SSL_set_bio(self._ssl, self._incoming, self._outgoing)
        if calls.functions is not None and not self._wire_ended:
            self._records = records_of(
                calls.openssl, calls.functions, self._ssl, self._incoming, self._outgoing
            )

    def _blank(self, certificate: Any) -> None:  # noqa: ANN401  a pointer
        calls = self._calls
        lib = calls.lib
        source = lib.BIO_new_mem_buf(calls.blank, len(BLANK))
        # A decoder that fails lets go of what it was given, which is not ours alone.
        lib.X509_up_ref(certificate)
        calls.certificate[0] = certificate
        found = lib.d2i_X509_bio(source, calls.certificate)
        lib.BIO_free(source)
        if found != certificate:
            calls.clear()
            raise MemoryError("OpenSSL has no room for a certificate")
        lib.X509_free(certificate)

    def _verified_chain(self) -> list[bytes]:
        """Return the certificates from the leaf to the root; none when the session was resumed."""
        lib, ffi = self._calls.lib, self._calls.openssl.ffi
        chain = ffi.NULL if self.resumed else lib.SSL_get0_verified_chain(self._ssl)
        if chain == ffi.NULL:
            return []
        count: int = lib.sk_X509_num(chain)
        return [self._der(lib.sk_X509_value(chain, place)) for place in range(count)]

    def _der(self, certificate: Any) -> bytes:  # noqa: ANN401  a pointer
        lib, ffi = self._calls.lib, self._calls.openssl.ffi
        memory = ffi.gc(self._calls.new_memory(self._calls.memory), lib.BIO_free)
        if lib.i2d_X509_bio(memory, certificate) != 1:
            raise HandshakeError(
                f"the peer's certificate cannot be read: {reason_of(self._calls.openssl)}"
            )
        size: int = lib.BIO_get_mem_data(memory, ffi.NULL)
        # Copied by the library: compiled, ``memory`` is freed as soon as nobody names it any more.
        found = ffi.new("unsigned char[]", size)
        self._calls.output(memory, found, size)
        return bytes(ffi.buffer(found, size))
