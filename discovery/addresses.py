"""A Service's name as addresses, the way the cluster's DNS answers for it."""

from __future__ import annotations

from discovery.model import Address, Target
from discovery.resolve import ANYWHERE, Viewpoint, resolve
from discovery.service_name import try_service_name
from discovery.store import Lookup


def addresses_of(
    lookup: Lookup, host: str, port: int, viewpoint: Viewpoint = ANYWHERE
) -> tuple[Address, ...] | None:
    """Return where a client that dials ``host`` and ``port`` would connect to.

    A Service's cluster addresses; of a headless one, or for one instance's name, those of its
    ready pods. Empty: the name is a Service's and has none. None: it is no Service's name. A name
    of two labels is one only if there is such a Service: it may be anybody's.
    """
    name = try_service_name(host, lookup.config().cluster_domain)
    if name is None:
        return None
    service = lookup.service(name.namespace, name.name)
    if service is None:
        return None if host.removesuffix(".").count(".") == 1 else ()
    if service.cluster_ips and not name.instance:
        return tuple(Address(ip, port) for ip in service.cluster_ips)
    mirror = lookup.mirror(name.namespace, name.name)
    if mirror is not None:
        # Another cluster's pods have an address here each, by a Service of their own.
        return tuple(
            Address(ip, port)
            for instance, ip in mirror.instances
            if name.instance in {"", instance}
        )
    found = resolve(lookup, Target(host, port), viewpoint).endpoints
    return tuple(dict.fromkeys(Address(each.address.ip, port) for each in found))
