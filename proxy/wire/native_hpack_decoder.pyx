# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, auto_pickle=False
"""HPACK, incoming, as loops in C: ``http2_hpack_decoder`` once more, with the same results.

That module says what is done and why, and is the oracle: what is decided here is decided there
and in ``http2_header`` first. What differs is how things are held: the dynamic table is a ring
of as many fields as can ever fit, and the memo a row of places that blocks take by their octets.

No pointer into a block outlives the call that the block was given to, and whatever is read
through one is first compared with the block's end.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE
from cpython.ref cimport Py_INCREF, PyObject
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy

from proxy.wire import http2_hpack_table, http2_huffman
from proxy.wire.http2_header import make_section as python_make_section
from proxy.wire.http_message import NONE_SENSITIVE

cdef extern from "Python.h":
    object PyFrozenSet_New(PyObject* nothing)
    int PySet_Add(object fresh, object member) except -1

cdef enum:
    RING = 128  # fields: no table of 4,096 octets holds more, at 32 each and their own
    STATIC = 61
    TABLE_SIZE = 4096
    OVERHEAD = 32
    KEPT = 32  # fields that need no more room
    MEMO = 64  # places
    MEMO_OCTETS = 1024
    INTEGER_OCTETS = 5
    CODED_ON_STACK = 1000  # octets; no symbol is shorter than five bits
    PLAIN_ON_STACK = 1600

cdef enum:
    BROKEN = -1
    BOMB = -2

ctypedef const uint8_t* Octets

include "native_field_kind.pxi"

cdef struct Cursor:
    Octets at
    Octets end

cdef struct Step:  # what four bits of a Huffman code do in a state
    uint8_t state
    uint8_t symbol
    uint8_t yields
    uint8_t breaks

cdef Step STEPS[256][16]
cdef uint8_t MAY_END[256]
cdef uint8_t STATIC_KINDS[STATIC + 1]
cdef int STATIC_SIZES[STATIC + 1]
cdef list STATIC_FIELDS = [None]
cdef object make_section = python_make_section
cdef object none_sensitive = NONE_SENSITIVE


def _fill():
    """Make the tables out of the reference's own."""
    cdef int state, bits, shift, node
    zero, one = http2_huffman.ZERO, http2_huffman.ONE
    if len(zero) > 256:
        raise AssertionError("a Huffman state is an octet here")
    for state in range(len(zero)):
        MAY_END[state] = state in http2_huffman.MAY_END
        for bits in range(16):
            node = state
            STEPS[state][bits] = Step(0, 0, 0, 0)
            for shift in range(3, -1, -1):
                node = (one if (bits >> shift) & 1 else zero)[node]
                if node < 0:
                    STEPS[state][bits].breaks = 1
                    break
                if node >= http2_huffman.SYMBOL:
                    STEPS[state][bits].symbol = node - http2_huffman.SYMBOL
                    STEPS[state][bits].yields = 1
                    node = 0
            if node >= 0:
                STEPS[state][bits].state = node
    for index, (field, kind, size) in enumerate(http2_hpack_table.STATIC_ENTRIES, 1):
        STATIC_FIELDS.append(field)
        STATIC_KINDS[index] = kind
        STATIC_SIZES[index] = size
    if len(STATIC_FIELDS) != STATIC + 1 or http2_hpack_table.DEFAULT_TABLE_SIZE != TABLE_SIZE:
        raise AssertionError("the tables have other sizes here")


_fill()


cdef int64_t integer(Cursor* cursor, int prefix) noexcept:
    """Decode the rest of an integer whose prefix is full; -1: it does not end."""
    cdef int64_t value = prefix
    cdef int shift
    cdef uint8_t octet
    for shift in range(0, 7 * INTEGER_OCTETS, 7):
        if cursor.at == cursor.end:
            return BROKEN
        octet = cursor.at[0]
        cursor.at += 1
        value += <int64_t>(octet & 0x7F) << shift
        if octet < 0x80:
            return value
    return BROKEN


cdef bytes string(Cursor* cursor):
    """Decode a string; None: it is broken."""
    cdef int64_t length
    cdef uint8_t first
    cdef Octets text
    if cursor.at == cursor.end:
        return None
    first = cursor.at[0]
    cursor.at += 1
    length = first & 0x7F
    if length == 0x7F:
        length = integer(cursor, 0x7F)
    if length < 0 or length > cursor.end - cursor.at:
        return None
    text = cursor.at
    cursor.at += length
    if first & 0x80:
        return huffman(text, length)
    return PyBytes_FromStringAndSize(<const char*>text, length)


cdef bytes huffman(Octets code, Py_ssize_t size):
    """Decode a Huffman code; None: it is broken."""
    cdef uint8_t plain[PLAIN_ON_STACK]
    cdef uint8_t* out = plain
    cdef bytes room
    cdef Py_ssize_t used = 0
    cdef Py_ssize_t at
    cdef uint8_t state = 0
    cdef Step* step
    if size > CODED_ON_STACK:
        room = PyBytes_FromStringAndSize(NULL, size * 8 // 5 + 1)
        out = <uint8_t*>PyBytes_AS_STRING(room)
    for at in range(size):
        step = &STEPS[state][code[at] >> 4]
        if step.breaks:
            return None
        if step.yields:
            out[used] = step.symbol
            used += 1
        step = &STEPS[step.state][code[at] & 15]
        if step.breaks:
            return None
        if step.yields:
            out[used] = step.symbol
            used += 1
        state = step.state
    if not MAY_END[state]:
        return None
    return PyBytes_FromStringAndSize(<const char*>out, used)


cdef inline uint64_t number_of_block(Octets block, Py_ssize_t size) noexcept:
    """Return what a block is known by in the memo; its highest bits are its place."""
    cdef uint64_t mixed = <uint64_t>size
    cdef uint64_t word
    while size >= 8:
        memcpy(&word, block, 8)
        mixed = (mixed ^ word) * <uint64_t>0x9E3779B97F4A7C15
        mixed ^= mixed >> 32
        block += 8
        size -= 8
    word = 0
    memcpy(&word, block, size)
    mixed = (mixed ^ word) * <uint64_t>0x9E3779B97F4A7C15
    return mixed


@cython.final
cdef class HpackDecoder:
    """The table of one direction of a connection, and what was decoded with it lately."""

    cdef Py_ssize_t _soft
    cdef Py_ssize_t _hard
    cdef Py_ssize_t _used
    cdef Py_ssize_t _bound
    cdef int _count
    cdef int _newest
    cdef list _fields
    cdef int _kinds[RING]
    cdef Py_ssize_t _sizes[RING]
    cdef list _kept
    cdef list _memo_blocks
    cdef list _memo_sections
    cdef uint64_t _memo_ages[MEMO]
    cdef uint64_t _memo_seen[MEMO]
    cdef uint64_t _age

    def __init__(self, Py_ssize_t soft, Py_ssize_t hard):
        self._soft = soft
        self._hard = hard
        self._used = 0
        self._bound = TABLE_SIZE
        self._count = 0
        self._newest = 0
        self._fields = [None] * RING
        self._kept = [None] * KEPT
        self._memo_blocks = [None] * MEMO
        self._memo_sections = [None] * MEMO
        self._age = 1

    @property
    def table_size(self):
        """The size of the dynamic table (RFC 7541 §4.1)."""
        return self._used

    def decode(self, bytes block not None):
        """Return the section that a whole block holds, or the reason why it cannot be decoded."""
        cdef Octets begin = <Octets>PyBytes_AS_STRING(block)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(block)
        cdef int place = -1
        cdef uint64_t number = 0
        cdef bytes known
        cdef uint64_t age = self._age
        cdef Cursor cursor
        if size <= MEMO_OCTETS:
            number = number_of_block(begin, size)
            place = <int>(number >> 58)
            if self._memo_ages[place] == age:
                known = <bytes>self._memo_blocks[place]
                if PyBytes_GET_SIZE(known) == size and same(begin, PyBytes_AS_STRING(known), size):
                    return self._memo_sections[place]
        cursor.at = begin
        cursor.end = begin + size
        section = self._decode(&cursor)
        if place >= 0 and self._age == age and type(section) is not str:
            # A block that never comes again would only keep its fields from being freed.
            if self._memo_seen[place] == number:
                self._memo_blocks[place] = block
                self._memo_sections[place] = section
                self._memo_ages[place] = age
            self._memo_seen[place] = number
        return section

    cdef object _decode(self, Cursor* cursor):
        cdef Py_ssize_t kept = 0
        cdef list pseudo = [None, None, None, None, None, None]
        cdef object never = None
        cdef object fault = ""
        cdef object host = None
        cdef int64_t length = -1
        cdef bint expects = False
        cdef Py_ssize_t size = 0
        cdef Py_ssize_t octets
        cdef int64_t index
        cdef int kind, slot
        cdef uint8_t octet
        cdef tuple field
        cdef bytes value
        if self._resize(cursor) < 0:
            return "http2-compression"
        while cursor.at < cursor.end:
            octet = cursor.at[0]
            cursor.at += 1
            if octet >= 0x80:
                index = octet & 0x7F
                if index == 0x7F:
                    index = integer(cursor, 0x7F)
                if index <= 0 or index > STATIC + self._count:
                    return "http2-compression"
                if index <= STATIC:
                    field = <tuple>STATIC_FIELDS[index]
                    kind = STATIC_KINDS[index]
                    octets = STATIC_SIZES[index]
                else:
                    slot = self._slot(index)
                    field = <tuple>self._fields[slot]
                    kind = self._kinds[slot]
                    octets = self._sizes[slot]
            else:
                field = self._literal(cursor, octet, &kind)
                if field is None:
                    return "http2-compression"
                octets = (
                    PyBytes_GET_SIZE(<bytes>field[0]) + PyBytes_GET_SIZE(<bytes>field[1]) + OVERHEAD
                )
                if octet & 0x40:
                    self._add(field, kind, octets)
                elif octet & 0x10:
                    if never is None:
                        never = PyFrozenSet_New(NULL)
                    PySet_Add(never, field)
            size += octets
            if size > self._soft:
                fault = fault or "http2-header-list"
                kept = 0
                if size > self._hard:
                    return "http2-header-bomb"
            if kind == PLAIN:
                self._keep(kept, field)
                kept += 1
                continue
            value = <bytes>field[1]
            if kind < PSEUDO:
                if kept or pseudo[kind] is not None:
                    fault = fault or "http2-pseudo"
                pseudo[kind] = value
            elif kind >= BAD_NAME:
                fault = fault or FAULTS[kind - BAD_NAME]
            else:
                self._keep(kept, field)
                kept += 1
                if fault:
                    continue
                if kind == HOST:
                    if host is None:
                        host = value
                    else:
                        fault = "http2-host"
                elif kind == LENGTH:
                    if length < 0:
                        length = number_of(
                            <Octets>PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value)
                        )
                    else:
                        fault = "http2-content-length"
                else:
                    expects = PyBytes_GET_SIZE(value) == 12 and same_letters(
                        <Octets>PyBytes_AS_STRING(value), b"100-continue", 12
                    )
        return make_section(
            pseudo,
            self._kept_fields(kept),
            fault,
            size,
            host,
            length,
            expects,
            none_sensitive if never is None else never,
        )

    cdef inline int _keep(self, Py_ssize_t place, tuple field) except -1:
        """Put a field of the section aside."""
        if place < PyList_GET_SIZE(self._kept):
            self._kept[place] = field
        else:
            self._kept.append(field)
        return 0

    cdef tuple _kept_fields(self, Py_ssize_t count):
        """Return the fields that were put aside."""
        cdef tuple fields = PyTuple_New(count)
        cdef tuple field
        cdef Py_ssize_t place
        for place in range(count):
            field = <tuple>self._kept[place]
            Py_INCREF(field)
            PyTuple_SET_ITEM(fields, place, field)
        if PyList_GET_SIZE(self._kept) > KEPT:
            self._kept = [None] * KEPT
        return fields

    cdef int _resize(self, Cursor* cursor):
        """Follow the size updates that begin a block; BROKEN: one is not allowed."""
        cdef int64_t size
        while cursor.at < cursor.end and cursor.at[0] & 0xE0 == 0x20:
            size = cursor.at[0] & 0x1F
            cursor.at += 1
            if size == 0x1F:
                size = integer(cursor, 0x1F)
            if size < 0 or size > TABLE_SIZE:
                return BROKEN
            self._bound = size
            self._evict(0)
            self._age += 1
        return 0

    cdef tuple _literal(self, Cursor* cursor, uint8_t octet, int* kind):
        """Decode a literal field behind its first octet, and judge it; None: it is broken."""
        cdef int most = 0x3F if octet & 0x40 else 0x0F
        cdef int64_t index = octet & most
        cdef bytes name
        cdef bytes value
        if octet & 0x60 == 0x20:
            return None
        if index == most:
            index = integer(cursor, most)
        if index < 0 or index > STATIC + self._count:
            return None
        if index == 0:
            name = string(cursor)
            if name is None:
                return None
        elif index <= STATIC:
            name = <bytes>(<tuple>STATIC_FIELDS[index])[0]
        else:
            name = <bytes>(<tuple>self._fields[self._slot(index)])[0]
        value = string(cursor)
        if value is None:
            return None
        kind[0] = classify(
            <Octets>PyBytes_AS_STRING(name),
            PyBytes_GET_SIZE(name),
            <Octets>PyBytes_AS_STRING(value),
            PyBytes_GET_SIZE(value),
        )
        return (name, value)

    cdef inline int _slot(self, int64_t index) noexcept:
        """Return where in the ring the field with a dynamic index is."""
        return <int>(self._newest - (index - STATIC - 1)) & (RING - 1)

    cdef int _add(self, tuple field, int kind, Py_ssize_t size) except -1:
        """Put a field into the table; one larger than the table empties it."""
        self._age += 1
        self._evict(size)
        if size <= self._bound:
            self._newest = (self._newest + 1) & (RING - 1)
            self._fields[self._newest] = field
            self._kinds[self._newest] = kind
            self._sizes[self._newest] = size
            self._used += size
            self._count += 1
        return 0

    cdef int _evict(self, Py_ssize_t wanted) except -1:
        """Drop the oldest fields until ``wanted`` fits."""
        cdef int slot
        while self._count and self._used + wanted > self._bound:
            slot = self._slot(STATIC + self._count)
            self._used -= self._sizes[slot]
            self._fields[slot] = None
            self._count -= 1
        return 0
