"""The admin server's pages about policy: what is in force, and why a caller is answered so."""

from __future__ import annotations

from typing import Final, final
from urllib.parse import parse_qsl

from core.errors import ConfigError
from identity.name import Identity, try_identity
from policy.describe import explanation_data, policy_data
from policy.explain import explain_verdict
from policy.judge import judge
from policy.question import asked_client, asked_request, is_ip
from proxy.admin.answer import Answer, say, show
from proxy.providers import PolicyProvider
from proxy.runtime import Runtime

MAX_PARAMETERS: Final = 64
MAX_PORTS: Final = 20
"""Ports that /policy lists by itself; of others it is asked by their number."""
_ACCOUNTS: Final = ".serviceaccount.identity."
_KNOWN: Final = ("from", "to", "method", "path", "header", "ip", "tls", "grpc", "form")
_USAGE: Final = (
    "wanted /explain?from=CALLER&to=PORT[&method=METHOD&path=PATH]; CALLER is an identity, "
    "NAMESPACE/SERVICE-ACCOUNT or an IP address"
)


@final
class PolicyPages:
    """/policy and /explain of one sidecar."""

    def __init__(self, runtime: Runtime, policies: PolicyProvider, pod: str) -> None:
        """Take ``pod`` as NAMESPACE/NAME; empty: we do not know whose sidecar we are."""
        self._runtime = runtime
        self._policies = policies
        self._pod = pod

    def policy(self, query: str, _: bytes) -> Answer:
        """Return what decides about the declared ports, or about ``?port=``."""
        try:
            asked = _parameters(query, ("port",))
            known = self._policies.ports()
            ports = known[:MAX_PORTS]
            if "port" in asked:
                ports = (_port(asked["port"][0]),)
        except ConfigError as error:
            return say(400, str(error))
        shown = [policy_data(each, self._policies.inbound(each).current) for each in ports]
        return show({"ports": shown, "ports_in_all": len(known)})

    def explain(self, query: str, _: bytes) -> Answer:
        """Return how a caller would be answered now, in the words of the command and the log."""
        try:
            return self._explained(_parameters(query, _KNOWN))
        except ConfigError as error:
            return say(400, str(error))

    def _explained(self, asked: dict[str, list[str]]) -> Answer:
        source, to = (asked.get(name, [""])[0] for name in ("from", "to"))
        if not source or not to:
            raise ConfigError(_USAGE)
        identity = None if is_ip(source) else self._identity(source)
        ip = asked.get("ip", [source if is_ip(source) else ""])[0]
        client = asked_client(source, identity, ip, asked.get("tls", [""])[0])
        is_grpc = asked.get("grpc", ["false"])[0] == "true"
        method, path = (asked.get(name, [""])[0] for name in ("method", "path"))
        request = asked_request(method, path, asked.get("header", []), is_grpc=is_grpc)
        port = self._target(to)
        policy = self._policies.inbound(port).current
        judged = judge(policy, client, request, is_grpc=is_grpc)
        told = explain_verdict(policy, client, request, judged.verdict)
        if asked.get("form", ["text"])[0] == "json":
            return show(explanation_data(client, f"{self._pod}:{port}", told, judged.status))
        return say(200, str(told))

    def _identity(self, source: str) -> Identity:
        """Return an identity given in full, or that of an account of our own mesh."""
        text = source
        if source.count("/") == 1:
            namespace, _, name = source.partition("/")
            generation = self._runtime.generation.current
            own = "" if generation is None else generation.identity.name
            tail = own.partition(_ACCOUNTS)[2]
            if not tail:
                raise ConfigError(f"our own identity does not tell {source}'s: give it in full")
            text = f"{name}.{namespace}{_ACCOUNTS}{tail}"
        identity = try_identity(text)
        if identity is None:
            raise ConfigError(f"{source[:80]!r} is no caller", hint=_USAGE)
        return identity

    def _target(self, text: str) -> int:
        pod, colon, port = text.rpartition(":")
        if colon and pod != self._pod:
            raise ConfigError(f"this is the sidecar of {self._pod or 'no known pod'}, not {pod!r}")
        return _port(port)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 0 < int(text) < 65_536):
        raise ConfigError(f"{text[:80]!r} is no port; wanted 1 to 65535")
    return int(text)


def _parameters(query: str, known: tuple[str, ...]) -> dict[str, list[str]]:
    """Return the values of each parameter. Raises ConfigError for one that nobody knows."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    except ValueError:
        raise ConfigError(f"more than {MAX_PARAMETERS} parameters") from None
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        if name not in known:
            raise ConfigError(f"{name[:80]!r} is no parameter; there are {', '.join(known)}")
        found.setdefault(name, []).append(value)
    return found
