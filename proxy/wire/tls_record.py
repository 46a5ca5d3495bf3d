"""The records of an established connection, opened and sealed in one call each.

Only where the kernel was built, and only by functions of OpenSSL whose types are those that the
kernel was written for; without it ``tls_openssl`` makes several calls for each.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from identity.openssl import Openssl
from proxy.wire.buffer import Buffer
from proxy.wire.native import new_functions, new_records

_FUNCTIONS: Final = (
    ("SSL_read", "int(*)(SSL *, void *, int)"),
    ("SSL_write", "int(*)(SSL *, void *, int)"),
    ("BIO_read", "int(*)(BIO *, void *, int)"),
    ("BIO_write", "int(*)(BIO *, void *, int)"),
    ("BIO_get_mem_data", "long(*)(BIO *, char * *)"),
    ("SSL_get_error", "int(*)(SSL *, int)"),
    ("SSL_want_read", "int(*)(SSL *)"),
    ("ERR_clear_error", "void(*)()"),
)
"""What the kernel calls, in its order."""


class Records(Protocol):
    """The kernel's side of one connection."""

    @property
    def kind(self) -> int:
        """What SSL_get_error said when ``open`` returned None; 0: nothing was wrong."""

    def open(self, wire: Buffer) -> Buffer | None:
        """Return what ``wire`` brings, as ``TlsEngine.open``; None: something else came of it."""

    def rest(self) -> Buffer:
        """Return what was opened by the call that returned None."""

    def seal(self, data: Buffer) -> bytes | None:
        """Return ``data`` for the wire, and what was to go there before; None: it failed."""


def functions_of(openssl: Openssl) -> object | None:
    """Return the library's functions for the kernel; None: they cannot be had."""
    if new_functions is None:
        return None
    ffi: Any = openssl.ffi
    addresses = []
    for name, kind in _FUNCTIONS:
        try:
            function = ffi.addressof(openssl.lib, name)
        except AttributeError:
            return None
        if ffi.typeof(function).cname != kind:
            return None
        addresses.append(int(ffi.cast("uintptr_t", function)))
    return new_functions(*addresses)


def records_of(
    openssl: Openssl,
    functions: object,
    connection: Any,  # noqa: ANN401  a pointer
    incoming: Any,  # noqa: ANN401  a pointer
    outgoing: Any,  # noqa: ANN401  a pointer
) -> Records | None:
    """Return the records of a connection with these memory BIOs, which it keeps from now on."""
    if new_records is None:
        return None
    ffi: Any = openssl.ffi
    places = [int(ffi.cast("uintptr_t", each)) for each in (connection, incoming, outgoing)]
    found: Records = new_records(functions, connection, *places)
    return found
