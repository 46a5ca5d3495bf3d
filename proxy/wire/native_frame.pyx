# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, auto_pickle=False
"""HTTP/2 frames of content, put together as in ``http2_frame``, which is the oracle."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

from proxy.wire import http2_frame

cdef enum:
    HEAD = 9
    FRAME_SIZE = 16384

if http2_frame.FRAME_SIZE != FRAME_SIZE:
    raise AssertionError("the reference has another bound")


def data_frame(uint32_t stream_id, bytes data not None, bint ends):
    """Return content as a frame."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef bytes frame
    cdef uint8_t* out
    if size > FRAME_SIZE:
        raise ValueError("more than a frame holds")
    frame = PyBytes_FromStringAndSize(NULL, HEAD + size)
    # Nobody else has seen the octets yet.
    out = <uint8_t*>PyBytes_AS_STRING(frame)
    out[0] = <uint8_t>(size >> 16)
    out[1] = <uint8_t>(size >> 8)
    out[2] = <uint8_t>size
    out[3] = 0
    out[4] = ends
    out[5] = <uint8_t>(stream_id >> 24)
    out[6] = <uint8_t>(stream_id >> 16)
    out[7] = <uint8_t>(stream_id >> 8)
    out[8] = <uint8_t>stream_id
    memcpy(out + HEAD, PyBytes_AS_STRING(data), size)
    return frame
