"""``pillion policy explain``: one caller, one port, the whole story."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import final

from cli.output import Form, Json, write
from cli.policy.case import DEFAULT_IP, Target, parse_target
from cli.policy.judge import judge
from control.offline import OfflineMesh
from core.errors import ConfigError
from core.nearest import nearest_name
from discovery.model import Metadata
from identity.name import Identity, try_identity
from policy.explain import Explanation, explain_verdict
from policy.match import Request
from policy.model import Client, ClientTls, Permit, Refusal
from resources.kind import ObjectKey
from resources.service import Service
from resources.workload import Workload


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What was typed."""

    source: str
    destination: str
    ip: str = ""
    tls: str = ""
    headers: tuple[str, ...] = ()
    is_grpc: bool = False
    method: str = ""
    path: str = ""


@final
@dataclass(frozen=True, slots=True)
class Answer:
    """The explanation, and whom it is about."""

    client: Client
    target: Target
    explanation: Explanation
    status: int | None


def answer(mesh: OfflineMesh, question: Question) -> Answer:
    """Answer a question. Raises ConfigError when it cannot be understood."""
    client = _client(mesh, question)
    target = _target(mesh, question.destination)
    request = _request(question)
    policy = mesh.policy(ObjectKey("", "Pod", target.namespace, target.pod), target.port)
    judged = judge(policy, client, request, is_grpc=question.is_grpc)
    explanation = explain_verdict(policy, client, request, judged.verdict)
    return Answer(client, target, explanation, judged.status)


def show_answer(form: Form, found: Answer) -> None:
    """Print an answer."""
    told = found.explanation
    verdict = told.verdict
    data: Json = {
        "verdict": told.word,
        "status": found.status,
        "code": verdict.code if isinstance(verdict, Refusal) else None,
        "reason": told.headline,
        "client": {
            "ip": found.client.ip,
            "tls": found.client.tls.value,
            "identity": str(found.client.identity) if found.client.identity else None,
        },
        "to": str(found.target),
        "server": _shown(verdict.server),
        "route": _shown(verdict.route),
        "authorization": _shown(verdict.authorization) if isinstance(verdict, Permit) else None,
        "steps": [
            {
                "label": each.label,
                "subject": each.subject,
                "said": each.said,
                "clause": each.clause or None,
            }
            for each in told.steps
        ],
        "try": [each.text for each in told.remedies],
    }
    write(form, data, table=lambda: str(told), short=lambda: told.word)


def _shown(metadata: Metadata | None) -> Json:
    if metadata is None:
        return None
    return {
        "group": metadata.group,
        "kind": metadata.kind,
        "namespace": metadata.namespace,
        "name": metadata.name,
    }


def _request(question: Question) -> Request | None:
    method = question.method or ("POST" if question.is_grpc else "")
    if not method:
        if question.headers:
            raise ConfigError("a header belongs to a request: give METHOD and PATH")
        return None
    headers = []
    for each in question.headers:
        name, colon, value = each.partition(":")
        if not colon or not name.strip():
            raise ConfigError(f"{each!r} is no header; wanted NAME:VALUE")
        headers.append((name.strip().lower(), value.strip()))
    path, _, query = (question.path or "/").partition("?")
    host = next((value for name, value in headers if name == "host"), "")
    return Request(
        method.upper(),
        path,
        host,
        query,
        tuple((name.encode(), value.encode()) for name, value in headers),
    )


def _client(mesh: OfflineMesh, question: Question) -> Client:
    source, tls = question.source, question.tls
    ip, identity = question.ip, None
    if _is_ip(source):
        ip = ip or source
    elif source.count("/") == 1:
        ip, identity = _pod_or_account(mesh, source, ip)
    else:
        identity = try_identity(source)
        if identity is None:
            raise ConfigError(
                f"{source!r} is no caller",
                hint="give a pod or account as NAMESPACE/NAME, an identity, or an IP address",
            )
    if not _is_ip(ip or DEFAULT_IP):
        raise ConfigError(f"{ip!r} is no IP address")
    if not tls:
        tls = "mesh" if identity is not None else "none"
    if tls == "mesh" and identity is None:
        raise ConfigError(f"{source} has no identity: use --tls no-identity or --tls none")
    return Client(
        ip or DEFAULT_IP,
        ClientTls.NONE if tls == "none" else ClientTls.MESH,
        identity if tls == "mesh" else None,
    )


def _pod_or_account(mesh: OfflineMesh, source: str, ip: str) -> tuple[str, Identity | None]:
    namespace, _, name = source.partition("/")
    workload = mesh.workload(namespace, name)
    if workload is not None:
        return ip or next(iter(workload.pod.ips), ""), workload.identity
    config = mesh.config
    text = (
        f"{name}.{namespace}.serviceaccount.identity."
        f"{config.control_namespace}.{config.trust_domain}"
    )
    used = [each for each in mesh.workloads if each.identity == try_identity(text)]
    if used:
        ip = ip or next(iter(used[0].pod.ips), "")
    identity = try_identity(text)
    if identity is None:
        raise ConfigError(f"{source!r} is neither a pod nor an account's name")
    return ip, identity


def _target(mesh: OfflineMesh, text: str) -> Target:
    target = parse_target(text)
    if target is None:
        raise ConfigError(f"{text!r} is no destination; wanted NAMESPACE/POD:PORT")
    if mesh.workload(target.namespace, target.pod) is not None:
        return target
    service = mesh.get(ObjectKey("", "Service", target.namespace, target.pod))
    behind = _behind(mesh, service, target.port) if isinstance(service, Service) else None
    if behind is not None:
        return behind
    known = {f"{each.pod.meta.namespace}/{each.pod.meta.name}" for each in mesh.workloads}
    near = nearest_name(f"{target.namespace}/{target.pod}", known)
    raise ConfigError(
        f"there is no pod {target.namespace}/{target.pod}, and no Service with pods",
        hint=f"did you mean {near}?" if near else "",
    )


def _behind(mesh: OfflineMesh, service: Service, number: int) -> Target | None:
    """Return the first pod behind a Service's port."""
    port = service.port(number)
    if port is None or not service.selector:
        return None
    for workload in mesh.workloads:
        meta = workload.pod.meta
        numbers = workload.pod.numbers_of(port.target)
        if meta.namespace == service.meta.namespace and _fits(workload, service) and numbers:
            return Target(meta.namespace, meta.name, numbers[0])
    return None


def _fits(workload: Workload, service: Service) -> bool:
    labels = workload.pod.meta.labels
    return all(labels.get(key) == value for key, value in service.selector.items())


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
