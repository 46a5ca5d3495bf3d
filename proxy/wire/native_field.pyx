# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, auto_pickle=False
"""Walks over a message's fields, and fields written as HTTP/1.

The references are ``http_field``, ``orig_proto_field`` and ``http1_writer``; what is rare is left
to them. A field is a tuple of two bytes objects; anything else, which no reader makes, is a
TypeError.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize
from cpython.bytes cimport PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.set cimport PySet_Contains
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE, PyTuple_New
from cpython.tuple cimport PyTuple_SET_ITEM
from libc.stdint cimport uint64_t
from libc.string cimport memcmp, memcpy

from proxy.wire import http1_writer, http_field, orig_proto_field

cdef enum:
    SETS_KNOWN = 64
    SET_KNOWN = 16
    HTTP_10 = 10

cdef struct Known:
    PyObject* names
    uint64_t sizes

cdef Known _known[SETS_KNOWN]

cdef frozenset _PER_CONNECTION = http_field.PER_CONNECTION
cdef frozenset _NOT_RIDING = orig_proto_field.NOT_RIDING

cdef tuple _GET = (b":method", b"GET")
cdef tuple _HTTP = (b":scheme", b"http")



cdef inline object _name(tuple fields, Py_ssize_t i):
    """Return the name of a field that is one."""
    field = <object>PyTuple_GET_ITEM(fields, i)
    if not PyTuple_CheckExact(field) or PyTuple_GET_SIZE(field) != 2:
        raise TypeError("a field is a tuple of two")
    name = <object>PyTuple_GET_ITEM(field, 0)
    if not PyBytes_CheckExact(name) or not PyBytes_CheckExact(<object>PyTuple_GET_ITEM(field, 1)):
        raise TypeError("a field is a tuple of two bytes objects")
    return name


cdef inline object _value(tuple fields, Py_ssize_t i):
    """Return the value of a field whose name has been looked at."""
    return <object>PyTuple_GET_ITEM(<object>PyTuple_GET_ITEM(fields, i), 1)


cdef inline bint _is(object name, const char* text, Py_ssize_t size):
    return PyBytes_GET_SIZE(name) == size and memcmp(PyBytes_AS_STRING(name), text, size) == 0


cdef uint64_t _sizes(frozenset names) except 0:
    """Return a bit for each size a name of the set has, sizes from 63 in one, and one for good."""
    cdef Known* known = &_known[(<size_t><PyObject*>names >> 4) % SETS_KNOWN]
    cdef PyObject* old = known.names
    cdef uint64_t sizes = 1
    if len(names) > SET_KNOWN:
        return ~<uint64_t>0
    if old == <PyObject*>names:
        return known.sizes
    for name in names:
        sizes |= <uint64_t>1 << min(<Py_ssize_t>len(name), 63)
    Py_INCREF(names)
    known.names = <PyObject*>names
    known.sizes = sizes
    Py_XDECREF(old)
    return sizes


cdef Py_ssize_t _find(tuple fields, frozenset names, Py_ssize_t i) except -2:
    """Return the place of the first field from ``i`` that is named by the set, or -1."""
    cdef uint64_t sizes = _sizes(names)
    cdef Py_ssize_t size
    for i in range(i, PyTuple_GET_SIZE(fields)):
        name = _name(fields, i)
        size = PyBytes_GET_SIZE(name)
        if sizes >> (size if size < 63 else 63) & 1 and PySet_Contains(names, name):
            return i
    return -1


def value_of(tuple fields not None, bytes name not None):
    """Return the first value of the field ``name``; None when there is none."""
    cdef Py_ssize_t i
    for i in range(PyTuple_GET_SIZE(fields)):
        if _is(_name(fields, i), PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name)):
            return _value(fields, i)
    return None


def has_any(tuple fields not None, frozenset names not None):
    """Tell whether one of the fields is named by ``names``."""
    return _find(fields, names, 0) >= 0


def without_fields(tuple fields not None, frozenset names not None):
    """Return ``fields`` without those that ``names`` holds; the same object if none is there."""
    cdef Py_ssize_t first = _find(fields, names, 0)
    cdef Py_ssize_t place = first
    cdef Py_ssize_t gone = 0
    if first < 0:
        return fields
    while place >= 0:
        gone += 1
        place = _find(fields, names, place + 1)
    return _rest(fields, names, first, gone)


cdef tuple _rest(tuple fields, frozenset names, Py_ssize_t first, Py_ssize_t gone):
    """Return all but the ``gone`` fields that the set names, of which ``first`` is the first."""
    cdef Py_ssize_t count = PyTuple_GET_SIZE(fields)
    cdef tuple kept = PyTuple_New(count - gone)
    cdef Py_ssize_t place = 0
    cdef Py_ssize_t i
    for i in range(count):
        if i == first:
            first = _find(fields, names, i + 1)
            continue
        field = <object>PyTuple_GET_ITEM(fields, i)
        Py_INCREF(field)
        PyTuple_SET_ITEM(kept, place, field)
        place += 1
    return kept


def without_hop_by_hop(tuple fields not None):
    """Return what goes on to the next hop; the same object if all of it does."""
    if _find(fields, _PER_CONNECTION, 0) < 0:
        return fields
    return http_field.without_hop_by_hop(fields)


def land(tuple fields not None, frozenset gone not None):
    """Return fields, mark, whether Host is there, and whether cookies came in crumbs."""
    cdef Py_ssize_t first = -1
    cdef Py_ssize_t removed = 0
    cdef Py_ssize_t crumbs = 0
    cdef Py_ssize_t size
    cdef Py_ssize_t i
    cdef uint64_t sizes = _sizes(gone)
    cdef bint has_host = False
    mark = None
    for i in range(PyTuple_GET_SIZE(fields)):
        name = _name(fields, i)
        size = PyBytes_GET_SIZE(name)
        if sizes >> (size if size < 63 else 63) & 1 and PySet_Contains(gone, name):
            removed += 1
            if first < 0:
                first = i
            if mark is None and _is(name, b"l5d-orig-proto", 14):
                mark = _value(fields, i)
        elif _is(name, b"host", 4):
            has_host = True
        elif _is(name, b"cookie", 6):
            crumbs += 1
    kept = _rest(fields, gone, first, removed) if removed else fields
    return kept, mark, has_host, crumbs > 1


def ride(
    bytes method not None,
    bytes scheme not None,
    bytes authority not None,
    bytes path not None,
    tuple fields not None,
    tuple mark not None,
):
    """Return pseudo-header fields, and all the fields that ride, with the mark behind them."""
    if _find(fields, _NOT_RIDING, 0) >= 0:
        return orig_proto_field.ride(method, scheme, authority, path, fields, mark)
    return (
        (
            _GET if _is(method, b"GET", 3) else (b":method", method),
            _HTTP if _is(scheme, b"http", 4) else (b":scheme", scheme),
            (b":authority", authority),
            (b":path", path),
        ),
        fields + mark,
    )


def ride_back(tuple fields not None, tuple mark not None):
    """Return an answer's fields that ride, with the mark behind them."""
    if _find(fields, _NOT_RIDING, 0) >= 0:
        return orig_proto_field.ride_back(fields, mark)
    return fields + mark


# Writing

cdef inline char* _put(char* at, object text):
    memcpy(at, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
    return at + PyBytes_GET_SIZE(text)


cdef inline char* _line_end(char* at):
    at[0] = c"\r"
    at[1] = c"\n"
    return at + 2


cdef bytes _written(
    bytes first, const char* between, Py_ssize_t between_size, bytes last, int version, tuple fields
):
    """Return a start line of up to four parts, the fields and the blank line."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(first) + between_size + PyBytes_GET_SIZE(last) + 4
    cdef Py_ssize_t i
    cdef bytes text
    cdef char* at
    if version:
        size += 9
    for i in range(PyTuple_GET_SIZE(fields)):
        size += PyBytes_GET_SIZE(_name(fields, i)) + PyBytes_GET_SIZE(_value(fields, i)) + 4
    text = PyBytes_FromStringAndSize(NULL, size)
    at = _put(PyBytes_AS_STRING(text), first)
    memcpy(at, between, between_size)
    at = _put(at + between_size, last)
    if version:
        memcpy(at, b" HTTP/1.0" if version == HTTP_10 else b" HTTP/1.1", 9)
        at += 9
    at = _line_end(at)
    for i in range(PyTuple_GET_SIZE(fields)):
        field = <object>PyTuple_GET_ITEM(fields, i)
        at = _put(at, <object>PyTuple_GET_ITEM(field, 0))
        at[0] = c":"
        at[1] = c" "
        at = _line_end(_put(at + 2, <object>PyTuple_GET_ITEM(field, 1)))
    _line_end(at)
    return text


def write_request_head(
    bytes method not None, bytes target not None, tuple fields not None, int version
):
    """Return a request's head, its blank line included."""
    return _written(method, b" ", 1, target, version, fields)


def write_response_head(int status, bytes reason not None, tuple fields not None, int version):
    """Return a response's head, its blank line included."""
    cdef char start[13]
    if not 100 <= status <= 999:
        return http1_writer.write_response_head(status, reason, fields, version)
    memcpy(start, b"HTTP/1.0 " if version == HTTP_10 else b"HTTP/1.1 ", 9)
    start[9] = 48 + status // 100
    start[10] = 48 + status // 10 % 10
    start[11] = 48 + status % 10
    start[12] = c" "
    return _written(b"", start, 13, reason, 0, fields)


def write_last_chunk(tuple trailers not None):
    """Return the end of chunked content with its trailers."""
    return _written(b"", b"0", 1, b"", 0, trailers)


def write_chunk(bytes data not None):
    """Return ``data`` as one chunk; empty data as nothing."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t left = size
    cdef char digits[16]
    cdef int place = 16
    cdef bytes text
    cdef char* at
    if not size:
        return data
    while left:
        place -= 1
        digits[place] = b"0123456789abcdef"[left & 15]
        left >>= 4
    text = PyBytes_FromStringAndSize(NULL, 16 - place + 4 + size)
    at = PyBytes_AS_STRING(text)
    memcpy(at, digits + place, 16 - place)
    _line_end(_put(_line_end(at + 16 - place), data))
    return text
