"""One row of the settings' table, and the forms that a value may be written in.

A form reads text or raises ValueError with what it saw and what it wanted; nothing is guessed:
a value with a blank too many is a mistake, and the message shows it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final, Generic, TypeVar, final

from core.duration import parse_duration
from core.errors import IdentityError
from core.record import dataclass
from discovery.model import Address
from identity.anchors import parse_roots
from identity.name import is_label, is_trust_domain, parse_identity
from proxy.telemetry.log import LEVELS, parse_level

T = TypeVar("T")

_MAX_SHOWN: Final = 80
_MAX_APP_PORTS: Final = 256


@final
@dataclass(frozen=True, slots=True)
class Form(Generic[T]):
    """How a value is written."""

    name: str
    """For the page: ``duration``, ``one of json, pretty``."""
    parse: Callable[[str], T]
    """Raises ValueError."""
    unit: str = ""
    """For the page; empty: the value has none."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Setting(Generic[T]):
    """One row of the table."""

    name: str
    """Without the prefix."""
    form: Form[T]
    default: str
    """As it would be written; empty: there is none."""
    reason: str
    """What it decides, and what an empty value means."""
    aliases: tuple[str, ...] = ()
    """Linkerd's names without their prefix, where the meaning is the same; the first set counts."""
    required: bool = False


def shown(value: str) -> str:
    """Return a value as messages show it: quoted, and cut when it is long."""
    return repr(value if len(value) <= _MAX_SHOWN else f"{value[:_MAX_SHOWN]}…")


def one_of(names: Iterable[str]) -> Form[str]:
    """Return the form of a choice."""
    known = tuple(names)

    def parse(text: str) -> str:
        if text not in known:
            raise ValueError(f"{shown(text)} is none of {', '.join(known)}")
        return text

    return Form(f"one of {', '.join(known)}", parse)


def duration(least: str = "0", most: str = "365d", *, whole_seconds: bool = False) -> Form[float]:
    """Return the form of a duration from ``least`` to ``most``, in seconds."""
    low, high = parse_duration(least), parse_duration(most)

    def parse(text: str) -> float:
        seconds = parse_duration(text)
        if not low <= seconds <= high:
            raise ValueError(f"{shown(text)} is not from {least} to {most}")
        if whole_seconds and seconds != int(seconds):
            raise ValueError(f"{shown(text)} is no whole number of seconds")
        return seconds

    units = "s, m, h, d" if whole_seconds else "ms, s, m, h, d"
    return Form(f"duration, {least} to {most}", parse, units)


def count(most: int, *, least: int = 0) -> Form[int]:
    """Return the form of an integer from ``least`` to ``most``."""

    def parse(text: str) -> int:
        is_number = text.isascii() and text.isdecimal() and len(text) <= 18
        if not is_number or not least <= int(text) <= most:
            raise ValueError(f"{shown(text)} is no integer from {least} to {most}")
        return int(text)

    return Form(f"integer, {least} to {most}", parse)


def _flag(text: str) -> bool:
    if text not in {"true", "false", "1", "0"}:
        raise ValueError(f"{shown(text)} is neither true nor false")
    return text in {"true", "1"}


def _path(text: str) -> Path:
    if text != text.strip():
        raise ValueError(f"{shown(text)} begins or ends with a blank")
    return Path(text)


def _ip(text: str) -> IPv4Address | IPv6Address:
    try:
        found = ip_address(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is no IP address; names are not resolved") from None
    if isinstance(found, IPv6Address):
        if found.scope_id is not None:
            raise ValueError(f"{shown(text)} has a zone; write an address without %")
        if found.ipv4_mapped is not None:
            raise ValueError(f"{shown(text)} is IPv4 in disguise; write {found.ipv4_mapped}")
    return found


def _ips(text: str) -> tuple[str, ...]:
    found = [_ip(each.strip()) for each in text.split(",") if each.strip()]
    for each in found:
        if each.is_unspecified or each.is_multicast:
            raise ValueError(f"{each} is no pod's address")
    return tuple(dict.fromkeys(str(each) for each in found))


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not (host and port.isascii() and port.isdecimal()) or (":" in host and not bracketed):
        raise ValueError(f"{shown(text)} is no address; write IP:PORT, or [IP]:PORT for IPv6")
    if not 1 <= int(port[:6]) <= 65_535:
        raise ValueError(f"{shown(text)}: the port is not from 1 to 65535")
    found = _ip(host[1:-1] if bracketed else host)
    if found.is_multicast or (bracketed and found.version == 4):
        raise ValueError(f"{shown(text)} is no address to listen on")
    return Address(str(found), int(port))


def _addresses(text: str) -> tuple[Address, ...]:
    found = tuple(_address(each.strip()) for each in text.split(","))
    if len(found) > 2 or len({each.port for each in found}) > 1:
        raise ValueError(f"{shown(text)} is not one address, or one of each family with one port")
    if len(found) == 2 and (":" in found[0].ip) is (":" in found[1].ip):
        raise ValueError(f"{shown(text)} has two addresses of the same family")
    return found


def _app_ports(text: str) -> Mapping[int, int]:
    found: dict[int, int] = {}
    for each in (part.strip() for part in text.split(",")):
        outer, _, inner = each.partition(":")
        numbers = [_port(outer), _port(inner or outer)]
        if None in numbers or len(found) >= _MAX_APP_PORTS:
            raise ValueError(
                f"{shown(each)} is no P or P:P' with ports from 1 to 65535, or there are more "
                f"than {_MAX_APP_PORTS} of them"
            )
        if int(outer) in found:
            raise ValueError(f"port {outer} is named twice")
        found[int(outer)] = int(inner or outer)
    return found


def _port(text: str) -> int | None:
    fits = text.isascii() and text.isdecimal() and len(text) <= 5 and 1 <= int(text) <= 65_535
    return int(text) if fits else None


def _workload(text: str) -> tuple[str, str]:
    namespace, slash, name = text.partition("/")
    if text.startswith("{"):
        # What Linkerd's injector writes for its policy controller.
        try:
            given = json.loads(text)
        except (ValueError, RecursionError):
            given = {}
        namespace, name = given.get("ns", ""), given.get("pod", "")
        slash = "/" if isinstance(namespace, str) and isinstance(name, str) else ""
    if not slash or not is_label(namespace) or not _is_pod_name(name):
        raise ValueError(f"{shown(text)} names no pod; write NAMESPACE/POD")
    return namespace, name


def _is_pod_name(name: str) -> bool:
    return len(name) <= 253 and all(is_label(part) for part in name.split("."))


def _identity(text: str) -> str:
    try:
        return parse_identity(text).name
    except IdentityError as error:
        raise ValueError(str(error)) from None


def _server_name(text: str) -> str:
    try:
        found = parse_identity(text)
    except IdentityError:
        found = None
    if found is None or found.is_uri:
        raise ValueError(f"{shown(text)} is no server name; write a DNS name without trailing dot")
    return found.name


def _suffixes(text: str) -> tuple[str, ...]:
    found = []
    for each in (part.strip().removesuffix(".") for part in text.split(",")):
        if not each:
            continue
        if not is_trust_domain(each.lower()):
            raise ValueError(f"{shown(each)} is no DNS name, as svc.cluster.local is")
        found.append(each.lower())
    if not found:
        raise ValueError(f"{shown(text)} names no domain; wanted one, as svc.cluster.local is")
    return tuple(dict.fromkeys(found))


def _text(text: str) -> str:
    return text


def _roots(text: str) -> str:
    try:
        found = parse_roots(text.encode(), "the bundle")
    except IdentityError as error:
        raise ValueError(str(error)) from None
    if found.problems or not found.roots:
        raise ValueError(found.problems[0] if found.problems else "no certificate in PEM is in it")
    return text


FLAG: Final = Form("true or false", _flag)
PATH: Final = Form("path", _path)
ROOTS: Final = Form("certificates in PEM", _roots)
IPS: Final = Form("IP addresses, comma-separated", _ips)
ADDRESS: Final = Form("IP:PORT, or [IP]:PORT for IPv6", _address)
ADDRESSES: Final = Form("IP:PORT, [IP]:PORT, or both", _addresses)
APP_PORT_PAIRS: Final = Form("P:P', comma-separated", _app_ports)
WORKLOAD: Final = Form("NAMESPACE/POD", _workload)
IDENTITY: Final = Form("identity", _identity)
SERVER_NAME: Final = Form("DNS name", _server_name)
SUFFIXES: Final = Form("DNS names, comma-separated", _suffixes)
SELECTOR: Final = Form("label selector", _text)
LEVEL: Final = Form(f"one of {', '.join(LEVELS)}", parse_level)
