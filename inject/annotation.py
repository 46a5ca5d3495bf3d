"""The annotations that decide about a sidecar: Linkerd's names, and ours (``pillion.dev/…``).

A pod's own counts before its namespace's (linkerd2, pkg/k8s/labels.go; proxy configuration
reference). Three kinds: those that injection reads, those that the sidecar reads from its Pod's
manifest, and those of Linkerd that have no meaning here; of the last the report says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, final

from core.nearest import nearest_name

CONFIG: Final = "config.linkerd.io/"
ALPHA: Final = "config.alpha.linkerd.io/"
BETA: Final = "config.beta.linkerd.io/"
OURS: Final = "pillion.dev/"
INJECT: Final = "linkerd.io/inject"

READ_HERE: Final = (
    *("proxy-image", "proxy-version", "image-pull-policy", "init-image", "init-image-version"),
    *("inbound-port", "outbound-port", "admin-port"),
    *("skip-inbound-ports", "skip-outbound-ports", "skip-subnets"),
    *("proxy-cpu-request", "proxy-cpu-limit", "proxy-memory-request", "proxy-memory-limit"),
    *("proxy-ephemeral-storage-request", "proxy-ephemeral-storage-limit"),
    *("proxy-uid", "proxy-gid", "proxy-log-level", "proxy-log-format", "access-log"),
    *("proxy-outbound-connect-timeout", "proxy-inbound-connect-timeout"),
    *("proxy-await", "proxy-admin-shutdown", "shutdown-grace-period"),
    *("proxy-enable-native-sidecar", "proxy-additional-env", "enable-gateway"),
    "proxy-disable-inbound-protocol-detect-timeout",
)
"""Behind ``config.linkerd.io/``."""
READ_BY_SIDECAR: Final = (
    *("opaque-ports", "default-inbound-policy", "proxy-require-identity-inbound-ports"),
    "control-port",
)
"""Read from the Pod's manifest, live."""
WITHOUT_MEANING: Final = (
    *("debug-image", "debug-image-version", "debug-image-pull-policy", "enable-debug-sidecar"),
    *("pod-inbound-ports", "proxy-cpu-ratio-limit", "proxy-log-http-headers"),
    *("enable-external-profiles", "close-wait-timeout"),
    "proxy-outbound-discovery-cache-unused-timeout",
    "proxy-inbound-discovery-cache-unused-timeout",
    "proxy-disable-outbound-protocol-detect-timeout",
    "proxy-metrics-hostname-labels",
)
"""Linkerd's, without a meaning here so far."""
READ_OURS: Final = (
    *("capture", "app-ports", "mesh-only-inbound", "identity-secret", "mesh-config-map"),
)
"""Behind ``pillion.dev/``, read here."""

_ELSEWHERE_OURS: Final = ("injected", "mode", "outbound-mtls")
_PREVIEWS: Final = ("proxy-wait-before-exit-seconds", "proxy-enable-native-sidecar")
"""Behind the alpha and beta prefixes."""


@final
class Annotations:
    """A pod's annotations over its namespace's."""

    def __init__(self, own: Mapping[str, str], namespace: Mapping[str, str]) -> None:
        self._own = own
        self._all = {**namespace, **own}

    def get(self, name: str) -> str | None:
        """Return the annotation of this whole name; None when it is not set."""
        return self._all.get(name)

    def config(self, name: str) -> str:
        """Return ``config.linkerd.io/<name>`` without blanks around it; empty: not set.

        The alpha and beta spellings count as well, Linkerd had them before.
        """
        for prefix in (CONFIG, BETA, ALPHA):
            given = self._all.get(prefix + name, "").strip()
            if given:
                return given
        return ""

    def ours(self, name: str) -> str:
        """Return ``pillion.dev/<name>`` without blanks around it; empty: not set."""
        return self._all.get(OURS + name, "").strip()

    def inherited(self) -> dict[str, str]:
        """Return what the namespace says of sidecars and the pod does not, to be copied.

        Once injected, a pod's settings stay what they were.
        """
        return {
            name: value
            for name, value in sorted(self._all.items())
            if name not in self._own and name.startswith((CONFIG, ALPHA, BETA))
        }

    def remarks(self) -> Iterator[str]:
        """Yield what is to be said of annotations that have no meaning."""
        known = (*READ_HERE, *READ_BY_SIDECAR, *WITHOUT_MEANING)
        for whole in sorted(self._all):
            prefix, _, name = whole.rpartition("/")
            group = f"{prefix}/"
            if group == CONFIG and name in WITHOUT_MEANING:
                yield f"{whole} has no meaning here"
            elif group == CONFIG and name not in known:
                yield _unknown(whole, group, name, known)
            elif group in {ALPHA, BETA} and name not in _PREVIEWS:
                yield _unknown(whole, group, name, _PREVIEWS)
            elif group == OURS and name not in (*READ_OURS, *_ELSEWHERE_OURS):
                yield _unknown(whole, group, name, READ_OURS)


def _unknown(whole: str, group: str, name: str, known: tuple[str, ...]) -> str:
    near = nearest_name(name, known)
    return f"{whole} is not known" + (f"; did you mean {group}{near}?" if near else "")
