# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, auto_pickle=False
"""HTTP/1 heads in one pass over their octets, read and written.

The reference is ``http1_head`` and ``http1_writer``. The readers take a head that is whole and
whose meaning is plain; of every other they say None, and the reference says what it means or
which rule it breaks. What they take means exactly what it means to the reference.

Octets are looked at in place, never past the end of the object that holds them, and no pointer
outlives its call. Field lines read lately are kept at hand, as in the reference: a line is kept
when it comes a second time, so that what is never repeated drives nothing out.
"""

import re

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE, PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport uint64_t
from libc.string cimport memcmp, memcpy

from proxy.wire import http1_target, http_field

ctypedef const unsigned char* octets

cdef enum:
    TOKEN = 1
    RAW = 2
    STRICT = 4
    NAMED = 8
    TEXT = 16
    MOST_FIELDS = 128
    LONGEST_NAME = 64
    LINES_KEPT = 512
    NAMES_KEPT = 256
    LINE_KEPT = 256
    CHUNKED = -1
    UNTIL_CLOSE = -2

cdef struct Line:
    octets name
    octets value
    Py_ssize_t name_size
    Py_ssize_t value_size

cdef struct Slot:
    PyObject* read
    PyObject* kept
    uint64_t hash
    uint64_t seen

cdef struct Meaning:
    Py_ssize_t host
    long long length
    bint keep_alive

cdef unsigned char _class[256]
cdef unsigned char _lower[256]
cdef Slot _lines[LINES_KEPT]
cdef Slot _names[NAMES_KEPT]


cdef int _prepare() except -1:
    """Find out from the reference's expressions what may stand where."""
    cdef bytes every = bytes(range(256))
    cdef bytes lowered = every.lower()
    cdef int octet
    for octet in range(256):
        _lower[octet] = lowered[octet]
    for bit, expression in (
        (TOKEN, http_field.TOKEN),
        (TEXT, http_field.TEXT),
        (RAW, http1_target.PATH_RAW),
        (STRICT, http1_target.PATH_STRICT),
        (NAMED, http1_target.HOST_PLAIN),
    ):
        for found in re.findall(expression, every):
            octet = found[0]
            _class[octet] |= bit
    return 0


_prepare()

cdef tuple _METHODS = (b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"PATCH", b"OPTIONS")
cdef bytes _OK = b"OK"

cdef object _limits = None
cdef Py_ssize_t _most_head = 0
cdef Py_ssize_t _most_start = 0
cdef Py_ssize_t _most_line = 0
cdef Py_ssize_t _most_fields = 0


cdef int _set_limits(object limits) except -1:
    """Take over the bounds; they are frozen, so that one look at each object is enough."""
    global _limits, _most_head, _most_start, _most_line, _most_fields
    if limits is not _limits:
        _limits = None
        _most_head = limits.head
        _most_line = limits.field_line
        _most_start = min(limits.start_line, limits.field_line)
        _most_fields = min(limits.fields, MOST_FIELDS)
        _limits = limits
    return 0


# Reading

def read_request(bytes data not None, Py_ssize_t start, object limits not None, bint raw):
    """Return what a request's head at ``start`` means; None: that is for the reference to say.

    Where it ends, method, path, version, fields, authority, length, and whether the connection
    lives on: always of a request in origin form that asks for nothing unusual.
    """
    cdef octets begin = <octets>PyBytes_AS_STRING(data)
    cdef octets end = begin + PyBytes_GET_SIZE(data)
    cdef octets at
    cdef octets head
    cdef octets method
    cdef octets path
    cdef Py_ssize_t method_size, path_size, count
    cdef unsigned char allowed = RAW if raw else STRICT
    cdef Line lines[MOST_FIELDS]
    cdef Meaning meaning
    cdef int version
    if not 0 <= start <= PyBytes_GET_SIZE(data):
        return None
    _set_limits(limits)
    head = method = at = begin + start
    while at < end and _class[at[0]] & TOKEN:
        at += 1
    method_size = at - method
    if method_size == 0 or end - at < 2 or at[0] != c" " or at[1] != c"/":
        return None
    if method_size == 7 and memcmp(method, b"CONNECT", 7) == 0:
        return None
    at += 1
    path = at
    while at < end and _class[at[0]] & allowed:
        at += 1
    path_size = at - path
    if end - at < 11 or memcmp(at, b" HTTP/1.", 8) or memcmp(at + 9, b"\r\n", 2):
        return None
    version = _version(at[8])
    at += 11
    if version == 0 or at - head - 2 > _most_start:
        return None
    count = _split(&at, end, lines)
    if count < 0 or at - head > _most_head:
        return None
    if not _understand(lines, count, version, 0, &meaning) or meaning.host < 0:
        return None
    if not _is_plain_host(lines[meaning.host].value, lines[meaning.host].value_size):
        return None
    fields = _fields(lines, count)
    return (
        at - begin,
        _method(method, method_size),
        PyBytes_FromStringAndSize(<const char*>path, path_size),
        version,
        fields,
        <object>PyTuple_GET_ITEM(<object>PyTuple_GET_ITEM(fields, meaning.host), 1),
        meaning.length,
        meaning.keep_alive,
    )


def read_response(
    bytes data not None, Py_ssize_t start, object limits not None, bint bare, bytes method not None
):
    """Return what the head at ``start`` of the answer to ``method`` means; None as above.

    Where it ends, status, reason, version, fields, length, and whether the connection lives on:
    always of a final response.
    """
    cdef octets begin = <octets>PyBytes_AS_STRING(data)
    cdef octets end = begin + PyBytes_GET_SIZE(data)
    cdef octets at
    cdef octets head
    cdef octets reason
    cdef Py_ssize_t reason_size, count
    cdef Line lines[MOST_FIELDS]
    cdef Meaning meaning
    cdef int version, status
    if not 0 <= start <= PyBytes_GET_SIZE(data):
        return None
    _set_limits(limits)
    head = at = begin + start
    if end - at < 14 or memcmp(at, b"HTTP/1.", 7) or at[8] != c" ":
        return None
    version = _version(at[7])
    if version == 0 or not (_is_digit(at[9]) and _is_digit(at[10]) and _is_digit(at[11])):
        return None
    status = (at[9] - 48) * 100 + (at[10] - 48) * 10 + (at[11] - 48)
    if status < 200 or method == b"CONNECT":
        return None
    at += 12
    if at[0] == c" ":
        at += 1
    elif not bare:
        return None
    reason = at
    if at - head == 13:
        at = _past_text(at, end)
    reason_size = at - reason
    if end - at < 2 or at[0] != c"\r" or at[1] != c"\n" or at - head > _most_start:
        return None
    at += 2
    count = _split(&at, end, lines)
    if count < 0 or at - head > _most_head:
        return None
    if not _understand(lines, count, version, UNTIL_CLOSE, &meaning):
        return None
    if status == 204 or status == 304 or method == b"HEAD":
        meaning.length = 0
    elif meaning.length == UNTIL_CLOSE:
        meaning.keep_alive = False
    return (
        at - begin,
        status,
        _OK
        if reason_size == 2 and memcmp(reason, b"OK", 2) == 0
        else PyBytes_FromStringAndSize(<const char*>reason, reason_size),
        version,
        _fields(lines, count),
        meaning.length,
        meaning.keep_alive,
    )


cdef inline bint _is_digit(unsigned char octet):
    return c"0" <= octet <= c"9"


cdef inline int _version(unsigned char minor):
    return 11 if minor == c"1" else 10 if minor == c"0" else 0


cdef octets _past_text(octets at, octets end):
    """Return the first place that holds no text, eight octets at a time while all are plain."""
    cdef uint64_t word
    cdef uint64_t ones = 0x0101010101010101
    cdef uint64_t tops = 0x8080808080808080
    cdef uint64_t controls, deletes
    while True:
        while end - at >= 8:
            memcpy(&word, at, 8)
            controls = (word - ones * 0x20) & ~word
            deletes = ((word ^ ones * 0x7F) - ones) & ~(word ^ ones * 0x7F)
            if (controls | deletes) & tops:
                break
            at += 8
        # A tab is text too; behind it there may be many plain octets again.
        while at < end and _class[at[0]] & TEXT:
            at += 1
            if (at - 1)[0] == 9:
                break
        else:
            return at


cdef Py_ssize_t _split(octets* place, octets end, Line* lines):
    """Find the field lines and the blank line behind them; below zero: not all of it is good."""
    cdef octets at = place[0]
    cdef octets line
    cdef octets stop
    cdef Py_ssize_t count = 0
    cdef Line* found
    while True:
        if end - at < 2:
            return -1
        if at[0] == c"\r":
            if at[1] != c"\n":
                return -1
            place[0] = at + 2
            return count
        if count == _most_fields:
            return -1
        found = &lines[count]
        line = at
        while at < end and _class[at[0]] & TOKEN:
            at += 1
        found.name = line
        found.name_size = at - line
        if at == line or found.name_size >= LONGEST_NAME or at == end or at[0] != c":":
            return -1
        at += 1
        while at < end and (at[0] == c" " or at[0] == c"\t"):
            at += 1
        found.value = at
        at = _past_text(at, end)
        if end - at < 2 or at[0] != c"\r" or at[1] != c"\n" or at - line > _most_line:
            return -1
        stop = at
        while stop > found.value and ((stop - 1)[0] == c" " or (stop - 1)[0] == c"\t"):
            stop -= 1
        found.value_size = stop - found.value
        at += 2
        count += 1


cdef bint _is(const Line* line, const char* name):
    """Tell whether a field has this name, given in lower case and of the same length."""
    cdef Py_ssize_t i
    for i in range(line.name_size):
        if _lower[line.name[i]] != <unsigned char>name[i]:
            return False
    return True


cdef bint _is_value(const Line* line, const char* value, Py_ssize_t size):
    """Tell whether a value is this one, given in lower case."""
    cdef Py_ssize_t i
    if line.value_size != size:
        return False
    for i in range(size):
        if _lower[line.value[i]] != <unsigned char>value[i]:
            return False
    return True


cdef bint _understand(
    const Line* lines, Py_ssize_t count, int version, long long otherwise, Meaning* meaning
):
    """Find out what the fields mean that mean something; False: nothing plain."""
    cdef Py_ssize_t i, k
    cdef const Line* line
    cdef bint has_length = False
    cdef bint has_coding = False
    cdef bint has_connection = False
    meaning.host = -1
    meaning.length = otherwise
    meaning.keep_alive = version == 11
    for i in range(count):
        line = &lines[i]
        if line.name_size == 4:
            if _is(line, b"host"):
                if meaning.host >= 0:
                    return False
                meaning.host = i
        elif line.name_size == 14:
            if _is(line, b"content-length"):
                if has_length or has_coding or not 0 < line.value_size < 19:
                    return False
                has_length = True
                meaning.length = 0
                for k in range(line.value_size):
                    if not _is_digit(line.value[k]):
                        return False
                    meaning.length = meaning.length * 10 + (line.value[k] - 48)
        elif line.name_size == 17:
            if _is(line, b"transfer-encoding"):
                if has_length or has_coding or version != 11:
                    return False
                if not _is_value(line, b"chunked", 7):
                    return False
                has_coding = True
                meaning.length = CHUNKED
        elif line.name_size == 10:
            if _is(line, b"connection"):
                if has_connection:
                    return False
                has_connection = True
                if _is_value(line, b"close", 5):
                    meaning.keep_alive = False
                elif _is_value(line, b"keep-alive", 10):
                    meaning.keep_alive = True
                else:
                    return False
        elif line.name_size == 7 and _is(line, b"upgrade"):
            return False
        elif line.name_size == 6 and _is(line, b"expect"):
            return False
    return True


cdef bint _is_plain_host(octets at, Py_ssize_t size):
    """Tell whether a host is a name or an IPv4 address, with or without a port."""
    cdef Py_ssize_t i = 0
    cdef Py_ssize_t colon
    while i < size and _class[at[i]] & NAMED:
        i += 1
    if i == 0:
        return False
    if i == size:
        return True
    colon = i
    if at[i] != c":" or size - i > 6:
        return False
    for i in range(colon + 1, size):
        if not _is_digit(at[i]):
            return False
    return True


cdef bytes _method(octets at, Py_ssize_t size):
    for known in _METHODS:
        if PyBytes_GET_SIZE(known) == size and memcmp(PyBytes_AS_STRING(known), at, size) == 0:
            return known
    return PyBytes_FromStringAndSize(<const char*>at, size)


cdef tuple _fields(const Line* lines, Py_ssize_t count):
    cdef tuple fields = PyTuple_New(count)
    cdef Py_ssize_t i
    cdef object field
    for i in range(count):
        field = _field(&lines[i])
        Py_INCREF(field)
        PyTuple_SET_ITEM(fields, i, field)
    return fields


cdef uint64_t _hash(octets at, Py_ssize_t size):
    """Return 64 bits for these octets, eight at a time; the last eight may overlap."""
    cdef uint64_t state = size
    cdef uint64_t word = 0
    cdef octets end = at + size
    if size < 8:
        memcpy(&word, at, size)
    else:
        while end - at > 8:
            memcpy(&word, at, 8)
            state = (state ^ word) * <uint64_t>0x9E3779B97F4A7C15
            state ^= state >> 32
            at += 8
        memcpy(&word, end - 8, 8)
    state = (state ^ word) * <uint64_t>0x9E3779B97F4A7C15
    return state ^ (state >> 32)


cdef bint _is_secret(octets name, Py_ssize_t size):
    """Whether somebody else has sent such a line must not show in how long it takes to read."""
    if size == 13:
        return memcmp(name, b"authorization", 13) == 0
    if size == 6:
        return memcmp(name, b"cookie", 6) == 0
    if size == 10:
        return memcmp(name, b"set-cookie", 10) == 0
    if size == 9:
        return memcmp(name, b"x-api-key", 9) == 0
    return size == 19 and memcmp(name, b"proxy-authorization", 19) == 0


cdef PyObject* _kept(const Slot* slot, uint64_t hashed, octets at, Py_ssize_t size):
    """Return what is kept for these octets, NULL where nothing is."""
    if slot.kept == NULL or slot.hash != hashed or PyBytes_GET_SIZE(<object>slot.read) != size:
        return NULL
    return slot.kept if memcmp(PyBytes_AS_STRING(<object>slot.read), at, size) == 0 else NULL


cdef int _keep(Slot* slot, uint64_t hashed, octets at, Py_ssize_t size, object fresh) except -1:
    """Keep what comes a second time; what was kept there goes."""
    cdef PyObject* old_read = slot.read
    cdef PyObject* old = slot.kept
    if slot.seen == hashed:
        read = PyBytes_FromStringAndSize(<const char*>at, size)
        Py_INCREF(read)
        Py_INCREF(fresh)
        slot.read = <PyObject*>read
        slot.kept = <PyObject*>fresh
        slot.hash = hashed
        Py_XDECREF(old_read)
        Py_XDECREF(old)
    slot.seen = hashed
    return 0


cdef object _name(octets at, Py_ssize_t size):
    """Return a name in lower case; the one kept where there is one."""
    cdef unsigned char lowered[LONGEST_NAME]
    cdef Py_ssize_t i
    cdef uint64_t hashed
    cdef Slot* slot
    cdef PyObject* kept
    for i in range(size):
        lowered[i] = _lower[at[i]]
    hashed = _hash(lowered, size)
    slot = &_names[hashed % NAMES_KEPT]
    kept = _kept(slot, hashed, lowered, size)
    if kept:
        return <object>kept
    name = PyBytes_FromStringAndSize(<const char*>lowered, size)
    _keep(slot, hashed, lowered, size, name)
    return name


cdef object _field(const Line* line):
    """Return a field, its name in lower case; the one kept for the line where there is one."""
    cdef Py_ssize_t size = line.value + line.value_size - line.name
    cdef bint is_short = size <= LINE_KEPT
    cdef uint64_t hashed = 0
    cdef Slot* slot = NULL
    cdef PyObject* kept
    if is_short:
        hashed = _hash(line.name, size)
        slot = &_lines[hashed % LINES_KEPT]
        kept = _kept(slot, hashed, line.name, size)
        if kept:
            return <object>kept
    name = _name(line.name, line.name_size)
    field = (name, PyBytes_FromStringAndSize(<const char*>line.value, line.value_size))
    if is_short and not _is_secret(<octets>PyBytes_AS_STRING(name), line.name_size):
        _keep(slot, hashed, line.name, size, field)
    return field
