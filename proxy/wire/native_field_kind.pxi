# What a field means, and whether its name and value are good: ``http2_header.classify`` as loops in
# C, with the same results. Included by the decoder, which gives it ``Octets``.

import re

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcmp

from proxy.wire import http1_target, http2_header, http_field

cdef enum:  # http2_header's kinds
    PLAIN = 0
    METHOD = 1
    SCHEME = 2
    AUTHORITY = 3
    PATH = 4
    STATUS = 5
    PSEUDO = 6
    HOST = 6
    LENGTH = 7
    EXPECT = 8
    BAD_NAME = 9
    BAD_VALUE = 10
    BAD_PSEUDO = 11
    BAD_CONNECTION = 12
    BAD_TE = 13
    BAD_METHOD = 14
    BAD_SCHEME = 15
    BAD_AUTHORITY = 16
    BAD_PATH = 17
    BAD_STATUS = 18
    BAD_LENGTH = 19
    TE = 100
    CONNECTION = 101

cdef enum:  # what an octet may be part of
    IN_NAME = 1
    IN_VALUE = 2
    VALUE_EDGE = 4
    IN_TOKEN = 8
    IN_PATH = 16
    IN_HOST = 32
    HEX = 64
    DIGIT = 128

cdef uint8_t CLASSES[256]
cdef tuple FAULTS = http2_header.FAULTS


def _fill_classes():
    """Make the table of octets out of the reference's own expressions."""
    cdef int octet
    token = http_field.TOKEN
    patterns = {
        IN_NAME: token.replace(b"A-Z", b""),
        IN_VALUE: http_field.TEXT,
        VALUE_EDGE: rb"[!-~\x80-\xff]",
        IN_TOKEN: token,
        IN_PATH: http1_target.PATH_RAW,
        IN_HOST: http1_target.HOST_PLAIN,
        HEX: rb"[0-9A-Fa-f]",
        DIGIT: rb"[0-9]",
    }
    for octet in range(256):
        CLASSES[octet] = 0
        for bit, pattern in patterns.items():
            if re.fullmatch(pattern, bytes((octet,)), re.DOTALL):
                CLASSES[octet] |= <uint8_t>bit
    if http2_header.BAD != BAD_NAME or len(FAULTS) != BAD_LENGTH - BAD_NAME + 1:
        raise AssertionError("the kinds of fields are others here")


_fill_classes()


cdef inline bint same(Octets text, const char* wanted, Py_ssize_t size) noexcept:
    return memcmp(text, wanted, size) == 0


cdef inline bint same_letters(Octets text, const char* wanted, Py_ssize_t size) noexcept:
    """Compare without regard to case; ``wanted`` holds lower-case letters."""
    cdef Py_ssize_t at
    cdef uint8_t octet
    for at in range(size):
        octet = text[at]
        if c"A" <= octet <= c"Z":
            octet |= 0x20
        if octet != <uint8_t>wanted[at]:
            return False
    return True


cdef inline bint all_in(Octets text, Py_ssize_t size, int classes) noexcept:
    cdef Py_ssize_t at
    for at in range(size):
        if not CLASSES[text[at]] & classes:
            return False
    return True


cdef int kind_of(Octets name, Py_ssize_t size) noexcept:
    """Return the kind that a name means."""
    if size == 2:
        return TE if same(name, b"te", 2) else PLAIN
    if size == 4:
        return HOST if same(name, b"host", 4) else PLAIN
    if size == 5:
        return PATH if same(name, b":path", 5) else PLAIN
    if size == 6:
        return EXPECT if same(name, b"expect", 6) else PLAIN
    if size == 7:
        if name[0] != c":":
            return CONNECTION if same(name, b"upgrade", 7) else PLAIN
        if same(name, b":method", 7):
            return METHOD
        if same(name, b":scheme", 7):
            return SCHEME
        return STATUS if same(name, b":status", 7) else PLAIN
    if size == 10:
        if same(name, b":authority", 10):
            return AUTHORITY
        if same(name, b"connection", 10) or same(name, b"keep-alive", 10):
            return CONNECTION
    elif size == 14:
        return LENGTH if same(name, b"content-length", 14) else PLAIN
    elif size == 16:
        return CONNECTION if same(name, b"proxy-connection", 16) else PLAIN
    elif size == 17:
        return CONNECTION if same(name, b"transfer-encoding", 17) else PLAIN
    return PLAIN


cdef int classify(Octets name, Py_ssize_t name_size, Octets value, Py_ssize_t size) noexcept:
    """Return the kind of a field, its name and value judged: ``http2_header.classify``."""
    cdef int kind = kind_of(name, name_size)
    if kind == PLAIN and (name_size == 0 or not all_in(name, name_size, IN_NAME)):
        return BAD_PSEUDO if name_size and name[0] == c":" else BAD_NAME
    if size and not (
        CLASSES[value[0]] & CLASSES[value[size - 1]] & VALUE_EDGE and all_in(value, size, IN_VALUE)
    ):
        return BAD_VALUE
    if kind == PLAIN or kind == EXPECT:
        return kind
    if kind == METHOD:
        return METHOD if size and all_in(value, size, IN_TOKEN) else BAD_METHOD
    if kind == SCHEME:
        if (size == 4 and same(value, b"http", 4)) or (size == 5 and same(value, b"https", 5)):
            return SCHEME
        return BAD_SCHEME
    if kind == AUTHORITY or kind == HOST:
        return kind if is_authority(value, value + size) else BAD_AUTHORITY
    if kind == PATH:
        if size and (value[0] == c"/" and all_in(value, size, IN_PATH)):
            return PATH
        return PATH if size == 1 and value[0] == c"*" else BAD_PATH
    if kind == STATUS:
        return STATUS if size == 3 and value[0] != c"0" and all_in(value, 3, DIGIT) else BAD_STATUS
    if kind == LENGTH:
        return LENGTH if number_of(value, size) >= 0 else BAD_LENGTH
    if kind == TE:
        return PLAIN if size == 8 and same_letters(value, b"trailers", 8) else BAD_TE
    return BAD_CONNECTION


cdef bint is_authority(Octets at, Octets end) noexcept:
    """Tell whether a text is empty, or a host with or without a port."""
    cdef Octets begin
    if at == end:
        return True
    if at[0] == c":":
        return False
    if at[0] == c"[":
        at += 1
        begin = at
        while at < end and (CLASSES[at[0]] & HEX or at[0] == c":" or at[0] == c"."):
            at += 1
        if at == begin or at == end or at[0] != c"]":
            return False
        at += 1
    else:
        while at < end:
            if CLASSES[at[0]] & IN_HOST:
                at += 1
            elif at[0] == c"%" and end - at >= 3 and CLASSES[at[1]] & CLASSES[at[2]] & HEX:
                at += 3
            else:
                break
    if at < end and at[0] == c":":
        at += 1
        return end - at <= 5 and all_in(at, end - at, DIGIT)
    return at == end


cdef int64_t number_of(Octets text, Py_ssize_t size) noexcept:
    """Return the number that digits are; -1: they are none, or more than a length may be."""
    cdef uint64_t number = 0
    cdef Py_ssize_t at
    if size == 0 or size > 19 or not all_in(text, size, DIGIT):
        return -1
    for at in range(size):
        number = number * 10 + (text[at] - c"0")
    return <int64_t>number if number < <uint64_t>1 << 63 else -1
