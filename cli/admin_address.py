"""Where a sidecar's admin server is reached from beside it."""

from __future__ import annotations

from discovery.model import Address


def reachable(listen: Address, own_ip: str = "") -> Address:
    """Return an address of this host that reaches a server which listens on ``listen``.

    ``own_ip``: the pod's, which a sidecar without capture rules listens on instead.
    """
    if own_ip:
        return Address(own_ip, listen.port)
    everywhere = listen.ip in {"0.0.0.0", "::"}  # noqa: S104  # compared, not bound
    return Address("127.0.0.1" if everywhere else listen.ip, listen.port)
