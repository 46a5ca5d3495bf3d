# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, auto_pickle=False
"""HPACK, outgoing, as loops in C: ``http2_hpack_encoder`` once more, with the same octets.

That module says what is done and why, and is the oracle. What differs is how fields are found:
the table is a ring of as many fields as can ever fit, and it and what was written once have an
index by a number made of a field's octets. Numbers can be made to be equal by who chooses the
octets: he costs himself a look at each of 128 fields.

Room is made before something is written. No pointer outlives the call.
"""

cimport cython
from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_CheckExact,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cpython.ref cimport PyObject
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from proxy.wire import http2_frame, http2_hpack_encoder, http2_hpack_table
from proxy.wire.http2_frame import header_frames as python_header_frames

cdef enum:
    RING = 128  # fields: no table of 4,096 octets holds more, at 32 each and their own
    SEEN = 128
    STATIC = 61
    PLACES = 128  # in an index
    HEADS = 256
    NOWHERE = 255
    TABLE_SIZE = 4096
    OVERHEAD = 32
    LONGEST_INDEXED = 1024
    INTEGER = 10  # octets that an integer takes at most, with what stands before it
    HEAD = 9
    FRAME_SIZE = 16384
    ON_STACK = 4096
    AT_HAND = 256

ctypedef const uint8_t* Octets

cdef struct Field:  # a name and a value that an object of Python's owns
    Octets name
    Octets value
    Py_ssize_t name_size
    Py_ssize_t value_size
    uint32_t number  # once somebody wanted it

cdef struct Index:  # chains of places whose numbers begin alike
    uint8_t heads[HEADS]
    uint8_t behind[PLACES]
    uint32_t numbers[PLACES]

cdef list STATIC_FIELDS = [None]
cdef Index STATIC_BY_FIELD
cdef Index STATIC_BY_NAME
cdef tuple SECRET = tuple(http2_hpack_encoder.SECRET)
cdef object header_frames = python_header_frames


cdef inline uint64_t mix(uint64_t mixed, Octets text, Py_ssize_t size) noexcept:
    """Mix octets into a number; what does not fill a word is taken together with its neighbors."""
    cdef uint64_t word = 0
    cdef uint32_t half
    cdef Py_ssize_t at = 0
    mixed = (mixed ^ <uint64_t>size) * <uint64_t>0x9E3779B97F4A7C15
    while size - at > 8:
        memcpy(&word, text + at, 8)
        mixed = (mixed ^ word) * <uint64_t>0x9E3779B97F4A7C15
        mixed ^= mixed >> 29
        at += 8
    if size >= 8:
        memcpy(&word, text + size - 8, 8)
    elif size >= 4:
        memcpy(&half, text, 4)
        word = half
        memcpy(&half, text + size - 4, 4)
        word = word << 32 | half
    elif size > 0:
        word = <uint64_t>text[0] << 16 | <uint64_t>text[size >> 1] << 8 | text[size - 1]
    mixed = (mixed ^ word) * <uint64_t>0x9E3779B97F4A7C15
    return mixed ^ mixed >> 29


cdef inline uint32_t number_of(uint64_t mixed) noexcept:
    """Return what a field is found by."""
    return <uint32_t>((mixed * <uint64_t>0x9E3779B97F4A7C15) >> 32)


cdef void clear(Index* index) noexcept:
    memset(index.heads, NOWHERE, HEADS)


cdef inline void insert(Index* index, int place, uint32_t number) noexcept:
    index.numbers[place] = number
    index.behind[place] = index.heads[number & (HEADS - 1)]
    index.heads[number & (HEADS - 1)] = <uint8_t>place


cdef void remove(Index* index, int place) noexcept:
    cdef uint8_t* link = &index.heads[index.numbers[place] & (HEADS - 1)]
    while link[0] != place:
        link = &index.behind[link[0]]
    link[0] = index.behind[place]


cdef inline int skip(Index* index, int place, uint32_t number) noexcept:
    """Return the first place with a number, beginning with one of its chain; or NOWHERE."""
    while place != NOWHERE and index.numbers[place] != number:
        place = index.behind[place]
    return place


cdef inline int first(Index* index, uint32_t number) noexcept:
    return skip(index, index.heads[number & (HEADS - 1)], number)


cdef inline int next_(Index* index, int place, uint32_t number) noexcept:
    return skip(index, index.behind[place], number)


cdef inline uint32_t field_number(Field* field) noexcept:
    cdef uint64_t mixed = mix(0, field.name, field.name_size)
    return number_of(mix(mixed, field.value, field.value_size))


cdef int load(tuple pair, Field* field) except -1:
    """Look at a field; its numbers are made when they are wanted."""
    cdef PyObject* name
    cdef PyObject* value
    if PyTuple_GET_SIZE(pair) != 2:
        raise TypeError("a field is a name and a value")
    name = PyTuple_GET_ITEM(pair, 0)
    value = PyTuple_GET_ITEM(pair, 1)
    if not (PyBytes_CheckExact(<object>name) and PyBytes_CheckExact(<object>value)):
        raise TypeError("a name and a value are octets")
    field.name = <Octets>PyBytes_AS_STRING(<object>name)
    field.name_size = PyBytes_GET_SIZE(<object>name)
    field.value = <Octets>PyBytes_AS_STRING(<object>value)
    field.value_size = PyBytes_GET_SIZE(<object>value)
    return 0


cdef inline bint is_text(object text, Octets other, Py_ssize_t size) noexcept:
    return PyBytes_GET_SIZE(text) == size and memcmp(PyBytes_AS_STRING(text), other, size) == 0


cdef inline bint is_same(Field* field, tuple known) noexcept:
    return is_text(<object>PyTuple_GET_ITEM(known, 0), field.name, field.name_size) and is_text(
        <object>PyTuple_GET_ITEM(known, 1), field.value, field.value_size
    )


cdef bint is_secret(Field* field) noexcept:
    cdef int at
    for at in range(PyTuple_GET_SIZE(SECRET)):
        if is_text(<object>PyTuple_GET_ITEM(SECRET, at), field.name, field.name_size):
            return True
    return False


def _fill():
    """Make the tables out of the reference's own."""
    cdef Field field
    cdef int at
    clear(&STATIC_BY_FIELD)
    clear(&STATIC_BY_NAME)
    STATIC_FIELDS.extend(http2_hpack_table.STATIC)
    # Of fields with the same name the first is to be found first.
    for at in range(len(STATIC_FIELDS) - 1, 0, -1):
        load(STATIC_FIELDS[at], &field)
        insert(&STATIC_BY_NAME, at, number_of(mix(0, field.name, field.name_size)))
        if STATIC_FIELDS[at] in http2_hpack_encoder.STATIC_INDEX:
            insert(&STATIC_BY_FIELD, at, field_number(&field))
    if (
        len(STATIC_FIELDS) != STATIC + 1
        or http2_hpack_table.DEFAULT_TABLE_SIZE != TABLE_SIZE
        or http2_hpack_encoder.SEEN_FIELDS != SEEN
        or http2_hpack_encoder.LONGEST_INDEXED != LONGEST_INDEXED
        or http2_frame.FRAME_SIZE != FRAME_SIZE
    ):
        raise AssertionError("the reference has other bounds")


_fill()


cdef inline uint8_t* put_integer(uint8_t* out, uint64_t value, int prefix, int first) noexcept:
    """Write an integer with a prefix of so many bits (RFC 7541 §5.1)."""
    cdef uint64_t most = (1 << prefix) - 1
    if value < most:
        out[0] = <uint8_t>(first | value)
        return out + 1
    out[0] = <uint8_t>(first | most)
    out += 1
    value -= most
    while value >= 128:
        out[0] = <uint8_t>((value & 127) | 128)
        out += 1
        value >>= 7
    out[0] = <uint8_t>value
    return out + 1


cdef inline uint8_t* put_string(uint8_t* out, Octets text, Py_ssize_t size) noexcept:
    out = put_integer(out, size, 7, 0)
    memcpy(out, text, size)
    return out + size


@cython.final
cdef class HpackEncoder:
    """The table of one direction of a connection."""

    cdef Py_ssize_t _used
    cdef Py_ssize_t _bound
    cdef int _count
    cdef int _newest
    cdef int _seen_count
    cdef list _fields
    cdef list _seen
    cdef list _resized
    cdef Index _by_field
    cdef Index _seen_by_field
    cdef uint8_t _at_hand[AT_HAND]

    def __init__(self):
        self._used = 0
        self._bound = TABLE_SIZE
        self._count = 0
        self._newest = RING - 1
        self._seen_count = 0
        self._fields = [None] * RING
        self._seen = [None] * SEEN
        self._resized = []
        clear(&self._by_field)
        clear(&self._seen_by_field)
        memset(self._at_hand, 0, AT_HAND)

    @property
    def table_size(self):
        """The size of the dynamic table (RFC 7541 §4.1)."""
        return self._used

    def resize(self, allowed):
        """Follow the peer's SETTINGS_HEADER_TABLE_SIZE; we never use more than the default."""
        bound = min(allowed, TABLE_SIZE)
        if bound == self._bound and not self._resized:
            return
        self._bound = bound
        self._evict(0)
        smallest = min([bound] + self._resized)
        self._resized = [smallest, bound] if smallest < bound else [bound]

    def encode(self, tuple pseudo not None, tuple fields not None, frozenset never not None):
        """Return a block with ``pseudo`` before ``fields``; ``never`` is not put into the table."""
        return self._encode(pseudo, fields, never)[HEAD:]

    def head(
        self,
        uint32_t stream_id,
        tuple pseudo not None,
        tuple fields not None,
        frozenset never not None,
        bint ends,
    ):
        """Return the same in its frames."""
        cdef bytes frame = self._encode(pseudo, fields, never)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(frame) - HEAD
        cdef uint8_t* head
        if size > FRAME_SIZE:
            return header_frames(stream_id, frame[HEAD:], ends=ends)
        # Nobody else has seen the octets yet.
        head = <uint8_t*>PyBytes_AS_STRING(frame)
        head[0] = <uint8_t>(size >> 16)
        head[1] = <uint8_t>(size >> 8)
        head[2] = <uint8_t>size
        head[3] = 1
        head[4] = 5 if ends else 4
        head[5] = <uint8_t>(stream_id >> 24)
        head[6] = <uint8_t>(stream_id >> 16)
        head[7] = <uint8_t>(stream_id >> 8)
        head[8] = <uint8_t>stream_id
        return frame

    cdef bytes _encode(self, tuple pseudo, tuple fields, frozenset never):
        """Return a block behind room for a frame's head."""
        cdef uint8_t on_stack[ON_STACK]
        cdef uint8_t* begin = on_stack
        cdef uint8_t* end = on_stack + ON_STACK
        cdef uint8_t* out = begin
        cdef bytes room = None
        cdef bytes more
        cdef Py_ssize_t wanted
        cdef bint has_never = len(never) > 0
        cdef Field field
        cdef tuple pair
        cdef int index
        for index in range(HEAD):
            out[index] = 0
        out += HEAD
        if self._resized:
            for size in self._resized:
                out = put_integer(out, size, 5, 0x20)
            self._resized = []
        for part in (pseudo, fields):
            for pair in <tuple>part:
                if pair is None:
                    raise TypeError("a field is a name and a value")
                index = self._index_at_hand(pair)
                if index == 0:
                    load(pair, &field)
                    field.number = field_number(&field)
                    index = self._index_of(&field, pair)
                wanted = 3 * INTEGER
                if index == 0 or has_never:
                    load(pair, &field)
                    wanted += field.name_size + field.value_size
                if end - out < wanted:
                    wanted += 2 * (out - begin)
                    more = PyBytes_FromStringAndSize(NULL, wanted)
                    memcpy(PyBytes_AS_STRING(more), begin, out - begin)
                    out = <uint8_t*>PyBytes_AS_STRING(more) + (out - begin)
                    room = more
                    begin = <uint8_t*>PyBytes_AS_STRING(room)
                    end = begin + wanted
                if index and not (has_never and pair in never):
                    out = put_integer(out, index, 7, 0x80)
                else:
                    out = self._write(out, pair, &field, has_never and pair in never)
        return PyBytes_FromStringAndSize(<const char*>begin, out - begin)

    cdef inline int _index_at_hand(self, tuple pair) noexcept:
        """Return where this very object stands in the table; 0: unknown."""
        cdef int at = self._at_hand[(<size_t><PyObject*>pair >> 4) & (AT_HAND - 1)]
        if <PyObject*>self._fields[at] == <PyObject*>pair:
            return STATIC + 1 + ((self._newest - at) & (RING - 1))
        return 0

    cdef int _index_of(self, Field* field, tuple pair) except -1:
        """Return where a field stands in the tables; 0: nowhere."""
        cdef int at = first(&self._by_field, field.number)
        while at != NOWHERE:
            if is_same(field, <tuple>self._fields[at]):
                # Whoever sends a field again often sends the same object.
                self._fields[at] = pair
                self._at_hand[(<size_t><PyObject*>pair >> 4) & (AT_HAND - 1)] = <uint8_t>at
                return STATIC + 1 + ((self._newest - at) & (RING - 1))
            at = next_(&self._by_field, at, field.number)
        at = first(&STATIC_BY_FIELD, field.number)
        while at != NOWHERE:
            if is_same(field, <tuple>STATIC_FIELDS[at]):
                return at
            at = next_(&STATIC_BY_FIELD, at, field.number)
        return 0

    cdef uint8_t* _write(
        self, uint8_t* out, tuple pair, Field* field, bint is_never
    ) except NULL:
        """Write a field that stands in no table, or may not be taken from one."""
        cdef uint32_t name = number_of(mix(0, field.name, field.name_size))
        cdef int octet = 0x00
        cdef int prefix = 4
        cdef int at
        if is_never or is_secret(field):
            octet = 0x10
        else:
            at = self._seen_at(field)
            if at != NOWHERE and self._add(pair, field, at):
                octet = 0x40
                prefix = 6
            else:
                if self._seen_count >= SEEN:
                    self._forget()
                    at = NOWHERE
                if at == NOWHERE:
                    self._seen[self._seen_count] = pair
                    insert(&self._seen_by_field, self._seen_count, field.number)
                    self._seen_count += 1
        at = first(&STATIC_BY_NAME, name)
        while at != NOWHERE:
            known = <tuple>STATIC_FIELDS[at]
            if is_text(<object>PyTuple_GET_ITEM(known, 0), field.name, field.name_size):
                out = put_integer(out, at, prefix, octet)
                break
            at = next_(&STATIC_BY_NAME, at, name)
        else:
            out[0] = <uint8_t>octet
            out = put_string(out + 1, field.name, field.name_size)
        return put_string(out, field.value, field.value_size)

    cdef int _seen_at(self, Field* field) noexcept:
        """Return where a field stands among those written once, or NOWHERE."""
        cdef int at = first(&self._seen_by_field, field.number)
        while at != NOWHERE and not is_same(field, <tuple>self._seen[at]):
            at = next_(&self._seen_by_field, at, field.number)
        return at

    cdef int _forget(self) except -1:
        """Forget what was written once."""
        cdef int at
        for at in range(SEEN):
            self._seen[at] = None
        clear(&self._seen_by_field)
        self._seen_count = 0
        return 0

    cdef bint _add(self, tuple pair, Field* field, int seen) except -1:
        """Put a field that was seen into the table, if it is not too long for it."""
        cdef Py_ssize_t size = field.name_size + field.value_size + OVERHEAD
        cdef int last
        if size > LONGEST_INDEXED or size > self._bound:
            return False
        self._evict(size)
        remove(&self._seen_by_field, seen)
        self._seen_count -= 1
        last = self._seen_count
        if seen != last:
            remove(&self._seen_by_field, last)
            self._seen[seen] = self._seen[last]
            insert(&self._seen_by_field, seen, self._seen_by_field.numbers[last])
        self._seen[last] = None
        self._newest = (self._newest + 1) & (RING - 1)
        self._fields[self._newest] = pair
        insert(&self._by_field, self._newest, field.number)
        self._count += 1
        self._used += size
        return True

    cdef int _evict(self, Py_ssize_t wanted) except -1:
        """Drop the oldest fields until ``wanted`` fits."""
        cdef int oldest
        cdef tuple pair
        while self._count and self._used + wanted > self._bound:
            oldest = (self._newest - self._count + 1) & (RING - 1)
            pair = <tuple>self._fields[oldest]
            self._used -= (
                PyBytes_GET_SIZE(<bytes>pair[0]) + PyBytes_GET_SIZE(<bytes>pair[1]) + OVERHEAD
            )
            self._fields[oldest] = None
            remove(&self._by_field, oldest)
            self._count -= 1
        return 0
