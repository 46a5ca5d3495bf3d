"""The only room that touches user sockets."""
