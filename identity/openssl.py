"""The OpenSSL that the ``cryptography`` wheel brings along, and TLS contexts of it.

It is newer than most interpreters' own: cheaper handshakes and bulk, and a key exchange that is
safe against quantum computers. Its functions are called through the binding that ``cryptography``
has for pyOpenSSL; what we need of it is looked for at load, and where any is missing the standard
library's ``ssl`` serves instead.

The rules of a context are those of ``identity.generation``, to the letter.
"""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Iterable
from typing import Any, Final, final

from core.errors import IdentityError
from core.record import dataclass
from identity.generation import Credential, Generation
from identity.handshake import ALPN_DIRECT

_BINDING: Final = "cryptography.hazmat.bindings._rust"
_SETTINGS: Final = "OPENSSL_CONF"
_ONE_TICKET: Final = b"""openssl_conf = process
[process]
ssl_conf = contexts
[contexts]
system_default = every
[every]
NumTickets = %d
"""
"""The binding lacks SSL_CTX_set_num_tickets; the library's configuration has it (SSL_CONF_cmd)."""
_TLS_1_3: Final = 0x0304
SUITES: Final = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
"""In linkerd2-proxy's order. Its first is the cheapest, too, in time and in memory."""
_SESSION_CONTEXT: Final = b"pillion"
_ALPN: Final = bytes((len(ALPN_DIRECT),)) + ALPN_DIRECT.encode()
HYBRID: Final = "*X25519MLKEM768:*X25519:P-256:P-384"
"""Key exchanges, the preferred first; a client sends keys of the marked ones at once."""
PLAIN: Final = ("X25519:X25519MLKEM768:P-256:P-384", "X25519:P-256:P-384")
"""The same without a preference for the hybrid; the second where the library has none (< 3.5)."""

_NO_ALGORITHM: Final = "30050603550403"
"""No algorithm's name but one that the library knows: it takes no room."""
_NO_TIME: Final = "170d3730303130313030303030305a"
BLANK: Final = bytes.fromhex(
    # serial number, algorithm, issuer, validity, subject, public key
    f"3046303a020100{_NO_ALGORITHM}3000301e{_NO_TIME}{_NO_TIME}3000300a{_NO_ALGORITHM}030100"
    f"{_NO_ALGORITHM}030100"
)
"""A certificate as small as one can be (RFC 5280, 4.1): of nobody, by nobody, without a key."""

_NEEDED: Final = (
    *("BIO_free", "BIO_get_mem_data", "BIO_new", "BIO_new_mem_buf", "BIO_read", "BIO_s_mem"),
    *("BIO_set_mem_eof_return", "BIO_write", "ERR_clear_error", "ERR_get_error"),
    *("ERR_reason_error_string", "PEM_read_bio_PrivateKey", "EVP_PKEY_free", "SSL_CTX_free"),
    *("SSL_CTX_add_extra_chain_cert", "SSL_CTX_check_private_key", "SSL_CTX_get0_param"),
    *("SSL_CTX_get_cert_store", "SSL_CTX_new", "SSL_CTX_set1_curves_list"),
    *("SSL_CTX_set_alpn_protos", "SSL_CTX_set_alpn_select_cb", "SSL_CTX_set_ciphersuites"),
    *("SSL_CTX_set_max_proto_version", "SSL_CTX_set_min_proto_version"),
    *("SSL_CTX_set_mode", "SSL_CTX_set_options"),
    *("SSL_CTX_set_session_cache_mode", "SSL_CTX_set_session_id_context", "SSL_CTX_set_verify"),
    *("SSL_CTX_use_PrivateKey", "SSL_CTX_use_certificate", "SSL_SESSION_free"),
    *("SSL_do_handshake", "SSL_free", "SSL_get0_alpn_selected", "SSL_get0_verified_chain"),
    *("SSL_get1_session", "SSL_get_error", "SSL_get_peer_cert_chain", "SSL_get_peer_certificate"),
    *("SSL_get_verify_result", "SSL_get_version", "SSL_new", "SSL_read", "SSL_session_reused"),
    *("SSL_set_accept_state", "SSL_set_bio", "SSL_set_connect_state", "SSL_set_session"),
    *("SSL_set_shutdown", "SSL_set_tlsext_host_name", "SSL_shutdown", "SSL_want_read", "SSL_write"),
    *("TLS_client_method", "TLS_server_method", "X509_STORE_add_cert"),
    *("X509_VERIFY_PARAM_set_flags", "X509_free", "X509_up_ref", "X509_verify_cert_error_string"),
    *("d2i_X509_bio", "i2d_SSL_SESSION", "i2d_X509_bio", "sk_X509_num", "sk_X509_value"),
)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Openssl:
    """The loaded library."""

    lib: Any
    """Its functions."""
    ffi: Any
    """What makes its pointers."""
    version: str
    """In its own words: ``OpenSSL 4.0.3 29 Sep 2026``."""
    select: Any
    """The callback by which a server answers a client's ALPN."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Contexts:
    """What connections of one generation are made with; pointers that free themselves."""

    server: Any
    server_direct: Any
    client: Any
    client_direct: Any

    def server_side(self, direct: bool) -> Any:  # noqa: ANN401, FBT001  a pointer; the port's nature
        """Return the context to accept with; ``direct``: on the direct port, with its ALPN."""
        return self.server_direct if direct else self.server

    def client_side(self, direct: bool) -> Any:  # noqa: ANN401, FBT001  a pointer; the port's nature
        """Return the context to dial with; ``direct``: to a direct port, with its ALPN."""
        return self.client_direct if direct else self.client


def load_openssl(tickets: int = 1) -> Openssl:
    """Return the library; servers give ``tickets`` tickets if it was not in use before.

    Somebody else's configuration of it (OPENSSL_CONF) stays in force. Raises IdentityError when
    it is not there, or lacks a function.
    """
    configure = _BINDING not in sys.modules and _SETTINGS not in os.environ
    descriptor = os.memfd_create("openssl.cnf", os.MFD_CLOEXEC)
    try:
        if configure:
            os.write(descriptor, _ONE_TICKET % tickets)
            os.environ[_SETTINGS] = f"/proc/self/fd/{descriptor}"
        from cryptography.hazmat.bindings._rust import (  # noqa: PLC0415  after its configuration
            _openssl,
        )
    except ImportError as error:
        raise IdentityError(f"cryptography brings no OpenSSL: {error}") from error
    finally:
        if configure:
            del os.environ[_SETTINGS]
        os.close(descriptor)
    lib, ffi = _openssl.lib, _openssl.ffi
    missing = [name for name in _NEEDED if not hasattr(lib, name)]
    if missing:
        raise IdentityError(f"this version of cryptography does without {', '.join(missing)}")
    version: str = ffi.string(lib.OpenSSL_version(lib.OPENSSL_VERSION)).decode()
    return Openssl(lib, ffi, version, _selecting(lib, ffi))


def is_newer(openssl: Openssl) -> bool:
    """Whether the library is newer than the one that the interpreter's ``ssl`` uses."""
    number: int = openssl.lib.OpenSSL_version_num()
    return number > ssl.OPENSSL_VERSION_NUMBER


def groups_of(openssl: Openssl, *, hybrid: bool) -> str:
    """Return the key exchanges to offer; ``hybrid``: first that which no quantum computer breaks.

    Raises IdentityError when the library does not have it.
    """
    lib, ffi = openssl.lib, openssl.ffi
    context = ffi.gc(lib.SSL_CTX_new(lib.TLS_server_method()), lib.SSL_CTX_free)
    for groups in (HYBRID,) if hybrid else PLAIN:
        if lib.SSL_CTX_set1_curves_list(context, groups.encode()):
            return groups
        lib.ERR_clear_error()
    raise IdentityError(f"{openssl.version} has no key exchange X25519MLKEM768")


def make_contexts(
    openssl: Openssl, generation: Generation, *, groups: str, resume: bool
) -> Contexts:
    """Return the contexts of a generation; without ``resume`` servers take no session up.

    Raises IdentityError when the library has no use for what ``ssl`` has taken.
    """
    credential, roots = generation.credential, generation.anchors.roots
    union = sorted({root for each in roots.values() for root in each})
    server, server_direct = (
        _server_context(openssl, credential, union, groups, direct=direct, resume=resume)
        for direct in (False, True)
    )
    client, client_direct = (
        _client_context(openssl, credential, union, groups, direct=direct)
        for direct in (False, True)
    )
    return Contexts(server, server_direct, client, client_direct)


def reason_of(openssl: Openssl) -> str:
    """Take every error that the library has noted, and return the first one's reason in words."""
    lib = openssl.lib
    number = lib.ERR_get_error()
    text = lib.ERR_reason_error_string(number) if number else openssl.ffi.NULL
    reason: str = "unknown" if text == openssl.ffi.NULL else openssl.ffi.string(text).decode()
    lib.ERR_clear_error()
    return reason


def _server_context(
    openssl: Openssl,
    credential: Credential,
    union: Iterable[bytes],
    groups: str,
    *,
    direct: bool,
    resume: bool,
) -> Any:  # noqa: ANN401  a pointer
    lib = openssl.lib
    context = _context(openssl, lib.TLS_server_method(), credential, union, groups)
    _must(openssl, lib.SSL_CTX_set_session_id_context(context, _SESSION_CONTEXT, 7))
    # What a session needs is in its ticket. None is kept here: the certificates of a connection
    # are its own, and let go.
    lib.SSL_CTX_set_session_cache_mode(context, lib.SSL_SESS_CACHE_OFF)
    if not resume:
        lib.SSL_CTX_set_options(context, lib.SSL_OP_NO_TICKET)
    if direct:
        lib.SSL_CTX_set_alpn_select_cb(context, openssl.select, openssl.ffi.NULL)
    return context


def _client_context(
    openssl: Openssl, credential: Credential, union: Iterable[bytes], groups: str, *, direct: bool
) -> Any:  # noqa: ANN401  a pointer
    lib = openssl.lib
    context = _context(openssl, lib.TLS_client_method(), credential, union, groups)
    # A cache of its own would let a session be offered once only.
    lib.SSL_CTX_set_session_cache_mode(context, lib.SSL_SESS_CACHE_OFF)
    if direct:
        # 0 for success, here alone.
        _must(openssl, lib.SSL_CTX_set_alpn_protos(context, _ALPN, len(_ALPN)) == 0)
    return context


def _context(
    openssl: Openssl,
    method: Any,  # noqa: ANN401  a pointer
    credential: Credential,
    union: Iterable[bytes],
    groups: str,
) -> Any:  # noqa: ANN401  a pointer
    lib, ffi = openssl.lib, openssl.ffi
    lib.ERR_clear_error()
    context = ffi.gc(lib.SSL_CTX_new(method), lib.SSL_CTX_free)
    _must(openssl, lib.SSL_CTX_set_min_proto_version(context, _TLS_1_3))
    _must(openssl, lib.SSL_CTX_set_max_proto_version(context, _TLS_1_3))
    _must(openssl, lib.SSL_CTX_set_ciphersuites(context, SUITES.encode()))
    # No preference of the server's: the hybrid is used with every client that would have it.
    _must(openssl, lib.SSL_CTX_set1_curves_list(context, groups.encode()))
    lib.SSL_CTX_set_mode(
        context, lib.SSL_MODE_RELEASE_BUFFERS | lib.SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
    )
    # The peer is asked for a certificate; a server goes on with who shows none.
    lib.SSL_CTX_set_verify(context, lib.SSL_VERIFY_PEER, ffi.NULL)
    lib.X509_VERIFY_PARAM_set_flags(lib.SSL_CTX_get0_param(context), lib.X509_V_FLAG_PARTIAL_CHAIN)
    leaf, *intermediates = (_certificate(openssl, der) for der in credential.chain)
    _must(openssl, lib.SSL_CTX_use_certificate(context, leaf))
    for each in intermediates:
        _must(openssl, lib.SSL_CTX_add_extra_chain_cert(context, each))
        ffi.gc(each, None)  # it belongs to the context now
    key = _key(openssl, credential.key)
    _must(openssl, lib.SSL_CTX_use_PrivateKey(context, key))
    _must(openssl, lib.SSL_CTX_check_private_key(context))
    store = lib.SSL_CTX_get_cert_store(context)
    for der in union:
        _must(openssl, lib.X509_STORE_add_cert(store, _certificate(openssl, der)))
    return context


def _certificate(openssl: Openssl, der: bytes) -> Any:  # noqa: ANN401  a pointer
    lib, ffi = openssl.lib, openssl.ffi
    source = ffi.gc(lib.BIO_new_mem_buf(ffi.from_buffer(der), len(der)), lib.BIO_free)
    found = lib.d2i_X509_bio(source, ffi.NULL)
    _must(openssl, found != ffi.NULL)
    return ffi.gc(found, lib.X509_free)


def _key(openssl: Openssl, pem: bytes) -> Any:  # noqa: ANN401  a pointer
    lib, ffi = openssl.lib, openssl.ffi
    source = ffi.gc(lib.BIO_new_mem_buf(ffi.from_buffer(pem), len(pem)), lib.BIO_free)
    # With an empty password OpenSSL does not ask the terminal for that of an encrypted key.
    found = lib.PEM_read_bio_PrivateKey(source, ffi.NULL, ffi.NULL, ffi.new("char[]", b""))
    _must(openssl, found != ffi.NULL)
    return ffi.gc(found, lib.EVP_PKEY_free)


def _must(openssl: Openssl, done: int) -> None:
    if not done:
        raise IdentityError(
            f"{openssl.version} has no use for our certificate, key or anchors: "
            f"{reason_of(openssl)}",
            hint="PILLION_TLS_ENGINE=python does without it",
        )


def _selecting(lib: Any, ffi: Any) -> Any:  # noqa: ANN401  untyped library
    """Return the callback that takes our protocol where it is offered, and goes on otherwise."""
    protocol = ffi.new("unsigned char[]", ALPN_DIRECT.encode())

    def select(_ssl: Any, out: Any, size: Any, offered: Any, length: int, _: Any) -> int:  # noqa: ANN401  untyped
        data = bytes(ffi.buffer(offered, length))
        while data:
            if data[: 1 + data[0]] == _ALPN:
                out[0], size[0] = protocol, len(ALPN_DIRECT)
                return int(lib.SSL_TLSEXT_ERR_OK)
            data = data[1 + data[0] :]
        return int(lib.SSL_TLSEXT_ERR_NOACK)

    return ffi.callback(
        "int (*)(SSL *, unsigned char **, unsigned char *, const unsigned char *, "
        "unsigned int, void *)",
        select,
        error=int(lib.SSL_TLSEXT_ERR_NOACK),
    )
