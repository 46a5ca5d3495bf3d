"""Names of Services as clients write them.

``<service>.<namespace>.svc.<cluster domain>``, with an instance's label in front for one pod of a
headless Service (linkerd2, controller/api/destination/server.go). ``<service>.<namespace>`` and
``….svc`` are taken too, as a pod's DNS search list would complete them.
"""

from __future__ import annotations

from typing import final

from core.record import dataclass
from identity.name import is_label


@final
@dataclass(frozen=True, slots=True)
class ServiceName:
    """A Service, or one instance of it."""

    namespace: str
    name: str
    instance: str = ""


def try_service_name(host: str, cluster_domain: str) -> ServiceName | None:
    """Return the Service that ``host`` names, or None when it is no such name."""
    text = host.lower().removesuffix(".")
    for ending in (f".svc.{cluster_domain}", ".svc"):
        if text.endswith(ending):
            labels = text.removesuffix(ending).split(".")
            break
    else:
        labels = text.split(".")
        if len(labels) != 2:
            return None
    if len(labels) not in {2, 3} or not all(is_label(label) for label in labels):
        return None
    return ServiceName(labels[-1], labels[-2], labels[0] if len(labels) == 3 else "")


def service_host(namespace: str, name: str, cluster_domain: str) -> str:
    """Return a Service's full name."""
    return f"{name}.{namespace}.svc.{cluster_domain}"
