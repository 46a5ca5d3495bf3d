"""A small, honest bench: the same work through every candidate, in the same run.

``python -m bench`` measures pillion beside haproxy, nginx and stunnel over two hops of mutual TLS
on loopback. bench/README.md says how, and how to read what comes out.
"""
