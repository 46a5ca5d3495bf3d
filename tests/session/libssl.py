"""A TLS client on OpenSSL's own functions, for what Python's ``ssl`` does not offer."""

from __future__ import annotations

import ctypes
import ctypes.util
from typing import Final, final

_SET_SERVER_NAME: Final = 55
_UPDATE_REQUESTED: Final = 1
_BUFFER_BYTES: Final = 65_536


def _load() -> ctypes.CDLL:
    library = ctypes.CDLL(ctypes.util.find_library("ssl"))
    pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    for name, result, arguments in (
        ("TLS_client_method", pointer, []),
        ("SSL_CTX_new", pointer, [pointer]),
        ("SSL_CTX_free", None, [pointer]),
        ("SSL_new", pointer, [pointer]),
        ("SSL_free", None, [pointer]),
        ("SSL_set_bio", None, [pointer, pointer, pointer]),
        ("SSL_set_connect_state", None, [pointer]),
        ("SSL_do_handshake", number, [pointer]),
        ("SSL_key_update", number, [pointer, number]),
        ("SSL_ctrl", ctypes.c_long, [pointer, number, ctypes.c_long, text]),
        ("BIO_s_mem", pointer, []),
        ("BIO_new", pointer, [pointer]),
        ("BIO_read", number, [pointer, text, number]),
        ("BIO_write", number, [pointer, text, number]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


@final
class LibsslClient:
    """A client that verifies nobody; bytes go in and out by hand."""

    def __init__(self, server_name: str) -> None:
        self._lib = lib = _load()
        context = lib.SSL_CTX_new(lib.TLS_client_method())
        self._ssl = lib.SSL_new(context)
        lib.SSL_CTX_free(context)
        self._incoming, self._outgoing = (lib.BIO_new(lib.BIO_s_mem()) for _ in range(2))
        lib.SSL_set_bio(self._ssl, self._incoming, self._outgoing)
        lib.SSL_set_connect_state(self._ssl)
        lib.SSL_ctrl(self._ssl, _SET_SERVER_NAME, 0, server_name.encode())

    def close(self) -> None:
        """Free everything."""
        self._lib.SSL_free(self._ssl)

    def handshake(self) -> bool:
        """Go on with the handshake; True once it is done."""
        done: int = self._lib.SSL_do_handshake(self._ssl)
        return done == 1

    def request_key_update(self) -> None:
        """Change our key, and ask the server to change its own (RFC 8446, 4.6.3)."""
        assert self._lib.SSL_key_update(self._ssl, _UPDATE_REQUESTED) == 1
        assert self.handshake()

    def feed(self, data: bytes) -> None:
        """Take bytes from the wire."""
        self._lib.BIO_write(self._incoming, data, len(data))

    def take(self) -> bytes:
        """Return what is to go onto the wire."""
        out = b""
        buffer = ctypes.create_string_buffer(_BUFFER_BYTES)
        while (count := self._lib.BIO_read(self._outgoing, buffer, _BUFFER_BYTES)) > 0:
            out += buffer.raw[:count]
        return out
