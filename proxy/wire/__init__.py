"""Bytes in, meaning out: no sockets, no clock, no logging."""
