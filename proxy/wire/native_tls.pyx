# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, auto_pickle=False
"""An established connection's records, opened and sealed in one call each.

What ``tls_openssl`` does with several calls of OpenSSL through its binding, which is the oracle:
whatever is not plain data is left to it. OpenSSL itself is not linked: its functions are called
by the addresses that the binding has for them.

A pointer to a connection is kept beside the object that frees it, and no longer. Octets of others
are not pointed to past the call.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.limits cimport INT_MAX
from libc.stdint cimport uintptr_t

from proxy.wire import tls

ctypedef int (*Exchange)(void*, void*, int) noexcept
ctypedef long (*Pending)(void*, void*) noexcept
ctypedef int (*Kind)(void*, int) noexcept
ctypedef int (*Wants)(void*) noexcept
ctypedef void (*Clear)() noexcept

cdef int _FED = tls.FED_BYTES
cdef int _PLAIN = tls.PLAIN_BYTES
cdef int _OWNED = tls.OWNED_BYTES
cdef bytearray _octets = bytearray(_PLAIN)
# Lent for ever, and so never moved.
cdef object _view = memoryview(_octets)
cdef char* _plain = PyByteArray_AS_STRING(_octets)


cdef object _plaintext(int size):
    """Return the octets that were opened, or where they are."""
    return _view[:size] if size > _OWNED else PyBytes_FromStringAndSize(_plain, size)


@cython.final
cdef class Functions:
    """OpenSSL's functions, by their addresses."""

    cdef Exchange ssl_read
    cdef Exchange ssl_write
    cdef Exchange bio_read
    cdef Exchange bio_write
    cdef Pending pending
    cdef Kind get_error
    cdef Wants wants_read
    cdef Clear clear

    def __init__(
        self,
        uintptr_t ssl_read,
        uintptr_t ssl_write,
        uintptr_t bio_read,
        uintptr_t bio_write,
        uintptr_t bio_get_mem_data,
        uintptr_t ssl_get_error,
        uintptr_t ssl_want_read,
        uintptr_t err_clear_error,
    ):
        """Take the addresses of the functions of these names; none of them is 0."""
        if not (
            ssl_read and ssl_write and bio_read and bio_write
            and bio_get_mem_data and ssl_get_error and ssl_want_read and err_clear_error
        ):
            raise ValueError("a function has no address")
        self.ssl_read = <Exchange>ssl_read
        self.ssl_write = <Exchange>ssl_write
        self.bio_read = <Exchange>bio_read
        self.bio_write = <Exchange>bio_write
        self.pending = <Pending>bio_get_mem_data
        self.get_error = <Kind>ssl_get_error
        self.wants_read = <Wants>ssl_want_read
        self.clear = <Clear>err_clear_error


@cython.final
@cython.no_gc
cdef class Records:
    """The records of one connection, both ways."""

    cdef Functions functions
    cdef object owner
    cdef void* ssl
    cdef void* incoming
    cdef void* outgoing
    cdef readonly int kind
    """What SSL_get_error said when ``open`` returned None; 0: nothing was wrong."""
    cdef readonly int filled
    """How many octets were opened before that; they are to be fetched with ``rest``."""

    def __cinit__(
        self,
        Functions functions not None,
        owner not None,
        uintptr_t ssl,
        uintptr_t incoming,
        uintptr_t outgoing,
    ):
        """Take a connection and its memory BIOs, all of which live as long as ``owner`` does."""
        if not (ssl and incoming and outgoing):
            raise ValueError("a connection has no address")
        self.functions = functions
        self.owner = owner
        self.ssl = <void*>ssl
        self.incoming = <void*>incoming
        self.outgoing = <void*>outgoing

    def open(self, wire not None):
        """Return what ``wire`` brings; more than OWNED_BYTES are a view until the next call.

        None: something else came of it; ``kind`` and ``rest`` say what, until the next call.
        """
        cdef Functions call = self.functions
        cdef Py_buffer view
        cdef int size, count, filled = 0
        self.kind = 0
        self.filled = 0
        PyObject_GetBuffer(wire, &view, PyBUF_SIMPLE)
        if view.len > _FED:
            PyBuffer_Release(&view)
            raise ValueError("more than is fed at once")
        size = <int>view.len
        # What SSL_get_error says hangs on the errors that were noted before, too.
        call.clear()
        count = call.bio_write(self.incoming, view.buf, size) if size else 0
        PyBuffer_Release(&view)
        if count != size:
            raise MemoryError("OpenSSL has no room for what came")
        while True:
            count = call.ssl_read(self.ssl, _plain + filled, _PLAIN - filled)
            if count <= 0:
                # Of a wire that has not ended this is true if and only if more is needed.
                if not call.wants_read(self.ssl):
                    self.kind = call.get_error(self.ssl, count)
                break
            filled += count
            if filled == _PLAIN or call.pending(self.incoming, NULL) <= 0:
                break
        if self.kind or call.pending(self.outgoing, NULL) > 0:
            self.filled = filled
            return None
        return _plaintext(filled)

    def rest(self):
        """Return what was opened by a call that returned None, before any other call."""
        return _plaintext(self.filled)

    def seal(self, data not None):
        """Return ``data`` as it goes onto the wire, behind what was to go there; None: it failed.

        Why is then in the library's queue of errors.
        """
        cdef Functions call = self.functions
        cdef Py_buffer view
        cdef int size, count = 0
        cdef long waiting
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        if view.len > INT_MAX:
            PyBuffer_Release(&view)
            raise OverflowError("more than OpenSSL takes at once")
        size = <int>view.len
        call.clear()
        if size:
            count = call.ssl_write(self.ssl, view.buf, size)
        PyBuffer_Release(&view)
        if count != size:
            return None
        waiting = call.pending(self.outgoing, NULL)
        if waiting <= 0:
            return b""
        if waiting > INT_MAX:
            raise OverflowError("more than OpenSSL gives at once")
        wire = PyBytes_FromStringAndSize(NULL, waiting)
        # Nobody else has seen the octets yet.
        if call.bio_read(self.outgoing, PyBytes_AS_STRING(wire), <int>waiting) != waiting:
            raise MemoryError("OpenSSL does not give what it has")
        return wire
