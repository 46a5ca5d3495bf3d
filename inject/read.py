"""Values of annotations: each reader returns what was meant and notes what was wrong."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Final, final

from core.duration import parse_duration
from inject.annotation import CONFIG, OURS, Annotations

_CPU: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(m?)", re.ASCII)
_BYTES: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)((?:[kMGTPE]|[KMGTPE]i)?)", re.ASCII)
_UNITS: Final[Mapping[str, int]] = {
    "": 1,
    **{unit: 1000 ** (power + 1) for power, unit in enumerate("kMGTPE")},
    **{f"{unit}i": 1024 ** (power + 1) for power, unit in enumerate("KMGTPE")},
}
_TRUE: Final = frozenset({"true", "enabled"})
_FALSE: Final = frozenset({"false", "disabled"})
_IMAGE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,254}", re.ASCII)
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII)
_APP_PORT: Final = re.compile(r"([0-9]{1,5})(?::([0-9]{1,5}))?", re.ASCII)
_LOG_LEVEL: Final = re.compile(r"[A-Za-z0-9_:=,\[\]{}.\" -]{1,400}", re.ASCII)

MAX_SECONDS: Final = 365 * 86_400
MAX_ID: Final = 2**32 - 2
MAX_SHOWN: Final = 80


@final
class Reader:
    """Reads annotations one by one; ``problems`` has everything wrong with them."""

    def __init__(self, annotations: Annotations) -> None:
        self._annotations = annotations
        self.problems: list[str] = []

    def text(self, name: str, default: str = "") -> str:
        """Return the annotation as it is written."""
        return self._annotations.config(name) or default

    def image(self, name: str, default: str) -> str:
        """Return an image, or a tag."""
        given = self._annotations.config(name)
        if given and not _IMAGE.fullmatch(given):
            return self._wrong(CONFIG + name, given, "an image's name", default)
        return given or default

    def choice(self, name: str, known: tuple[str, ...], default: str) -> str:
        """Return one of ``known``."""
        given = self._annotations.config(name)
        if given and given not in known:
            return self._wrong(CONFIG + name, given, f"one of {', '.join(known)}", default)
        return given or default

    def ours(self, name: str, known: tuple[str, ...], default: str) -> str:
        """Return one of ``known`` of an annotation of ours."""
        given = self._annotations.ours(name)
        if given and given not in known:
            return self._wrong(OURS + name, given, f"one of {', '.join(known)}", default)
        return given or default

    def object_name(self, name: str, default: str) -> str:
        """Return the name of a ConfigMap or Secret, of an annotation of ours."""
        given = self._annotations.ours(name)
        if given and not _NAME.fullmatch(given):
            return self._wrong(OURS + name, given, "a name in lower case", default)
        return given or default

    def flag(self, name: str, *, default: bool) -> bool:
        """Return a switch: ``enabled`` or ``true``, ``disabled`` or ``false``."""
        given = self._annotations.config(name).lower()
        if given and given not in _TRUE | _FALSE:
            self._wrong(CONFIG + name, given, "enabled or disabled", "")
        return default if given not in _TRUE | _FALSE else given in _TRUE

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """Return an integer from ``low`` to ``high``."""
        given = self._annotations.config(name)
        if not given:
            return default
        fits = given.isascii() and given.isdecimal() and len(given) <= 10
        if not fits or not low <= int(given) <= high:
            self._wrong(CONFIG + name, given, f"a number from {low} to {high}", "")
            return default
        return int(given)

    def duration(self, name: str) -> str:
        """Return a duration as Linkerd writes it; empty: not set."""
        given = self._annotations.config(name)
        try:
            seconds = parse_duration(given) if given else 0.0
        except ValueError as error:
            self.problems.append(f"{CONFIG}{name}: {error}")
            return ""
        if seconds > MAX_SECONDS:
            return self._wrong(CONFIG + name, given, "at most 365d", "")
        return given

    def log_level(self, name: str) -> str:
        """Return a level or a filter of Linkerd's; the sidecar reads it."""
        given = self._annotations.config(name)
        if given and not _LOG_LEVEL.fullmatch(given):
            return self._wrong(CONFIG + name, given, "a level such as info", "")
        return given

    def subnets(self, name: str) -> str:
        """Return a list of subnets; empty: not set."""
        given = self._annotations.config(name)
        for each in (part.strip() for part in given.split(",") if part.strip()):
            try:
                ipaddress.ip_network(each)
            except ValueError:
                return self._wrong(CONFIG + name, each, "a subnet such as 10.0.0.0/8", "")
        return given

    def app_ports(self, name: str) -> dict[int, int]:
        """Return an annotation of ours, ``P:P'`` by commas: the pod's port → the application's."""
        ports: dict[int, int] = {}
        given = self._annotations.ours(name)
        for each in (part.strip() for part in given.split(",") if part.strip()):
            found = _APP_PORT.fullmatch(each)
            outer, inner = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
            if not (1 <= outer <= 65_535 and 1 <= inner <= 65_535) or outer in ports:
                self._wrong(OURS + name, each, "P or P:P' with ports, each P once", "")
            ports[outer] = inner
        return ports

    def limits(self, kind: str, name: str, default: tuple[str, str]) -> tuple[str, str]:
        """Return request and limit of a resource; a default gives way to what is asked for."""
        request = self._quantity(kind, f"proxy-{name}-request")
        limit = self._quantity(kind, f"proxy-{name}-limit")
        if request and limit and _amount(kind, request) > _amount(kind, limit):
            self.problems.append(
                f"{CONFIG}proxy-{name}-request is {request}, more than the {limit} of "
                f"{CONFIG}proxy-{name}-limit"
            )
        least, most = default
        if not request:
            request = _lesser(kind, least, limit)
        if not limit and most:
            limit = most if _amount(kind, request) <= _amount(kind, most) else request
        return request, limit

    def _quantity(self, kind: str, name: str) -> str:
        given = self._annotations.config(name)
        form = _CPU if kind == "cpu" else _BYTES
        if given and not form.fullmatch(given):
            wanted = "CPUs such as 500m or 2" if kind == "cpu" else "bytes such as 64Mi"
            return self._wrong(CONFIG + name, given, wanted, "")
        return given

    def _wrong(self, name: str, given: str, wanted: str, default: str) -> str:
        self.problems.append(f"{name} is {given[:MAX_SHOWN]!r}; wanted {wanted}")
        return default


def _amount(kind: str, text: str) -> Decimal:
    found = (_CPU if kind == "cpu" else _BYTES).fullmatch(text)
    if found is None:
        return Decimal(0)
    if kind == "cpu":
        return Decimal(found[1]) / (1000 if found[2] else 1)
    return Decimal(found[1]) * _UNITS[found[2]]


def _lesser(kind: str, one: str, other: str) -> str:
    """Return the lesser of two quantities; an empty one is none."""
    if not one or not other:
        return one
    return one if _amount(kind, one) <= _amount(kind, other) else other
