# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, auto_pickle=False
"""Waiting, receiving and sending as in ``socket_call``, which is the oracle: one system call each.

Other threads run while one waits, and not meanwhile where no call waits. No pointer into others'
octets outlives the call.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_CheckExact,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno
from cpython.list cimport PyList_New, PyList_SET_ITEM
from cpython.ref cimport Py_INCREF
from libc.errno cimport EAGAIN, EINTR, errno
from libc.limits cimport INT_MAX
from libc.math cimport ceil
from libc.stdint cimport uint32_t

from proxy.net import socket_call

cdef extern from "<sys/types.h>":
    ctypedef long ssize_t

cdef extern from "<sys/socket.h>":
    enum:
        MSG_DONTWAIT
        MSG_NOSIGNAL
    ssize_t recv(int fd, void* buffer, size_t size, int flags) nogil
    ssize_t c_send "send" (int fd, const void* buffer, size_t size, int flags) nogil

cdef extern from "<sys/epoll.h>":
    ctypedef union epoll_data_t:
        int fd
    cdef struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_wait(int epfd, epoll_event* events, int most, int timeout_ms) nogil

cdef enum:
    WAIT_MOST = 256
if WAIT_MOST != socket_call.WAIT_MOST:
    raise ImportError("the kernel was made for another number of descriptors")

cdef Py_ssize_t _MOST = socket_call.READ_BYTES
cdef Py_ssize_t _OWNED = socket_call.OWNED_BYTES
cdef bytearray _octets = bytearray(_MOST)
# Lent for ever, and so never moved.
cdef object _view = memoryview(_octets)
cdef char* _room = PyByteArray_AS_STRING(_octets)


def receive(int fd):
    """Return what has come; nothing at the peer's end, None when there is nothing yet."""
    cdef ssize_t size = recv(fd, _room, _MOST, MSG_DONTWAIT)
    if size < 0:
        _refused()
        return None
    if size > _OWNED:
        return _view[:size]
    return PyBytes_FromStringAndSize(_room, size)


def send(int fd, data not None):
    """Return how many octets of ``data`` the socket has taken, none while it is full."""
    cdef Py_buffer view
    cdef ssize_t sent
    if PyBytes_CheckExact(data):
        sent = c_send(
            fd, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), MSG_DONTWAIT | MSG_NOSIGNAL
        )
        if sent < 0:
            return _refused()
        return sent
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        sent = c_send(fd, view.buf, view.len, MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent < 0:
            return _refused()
        return sent
    finally:
        PyBuffer_Release(&view)


cdef int _refused() except -1:
    """Return 0 where there is just no room; raise what else errno says."""
    if errno != EAGAIN and errno != EINTR:
        PyErr_SetFromErrno(OSError)
    return 0


def wait(epoll not None, double timeout_s):
    """Return each descriptor that is ready, and behind it the kernel's flags of what for."""
    cdef epoll_event ready[WAIT_MOST]
    cdef int descriptor = epoll.fileno()
    cdef int timeout_ms = -1
    cdef int count
    cdef int place
    if timeout_s >= 0:
        timeout_ms = <int>min(ceil(timeout_s * 1000), <double>INT_MAX)
    with nogil:
        count = epoll_wait(descriptor, ready, WAIT_MOST, timeout_ms)
    if count < 0:
        if errno != EINTR:
            PyErr_SetFromErrno(OSError)
        PyErr_CheckSignals()
        return []
    cdef list found = PyList_New(2 * count)
    cdef object number
    for place in range(count):
        number = ready[place].data.fd
        Py_INCREF(number)
        PyList_SET_ITEM(found, 2 * place, number)
        number = ready[place].events
        Py_INCREF(number)
        PyList_SET_ITEM(found, 2 * place + 1, number)
    return found
