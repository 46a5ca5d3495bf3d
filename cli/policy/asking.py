"""``pillion policy explain``: one caller, one port, the whole story."""

from __future__ import annotations

from typing import final

from cli.output import Form, write
from cli.policy.case import Target, parse_target
from control.offline import OfflineMesh
from core.errors import ConfigError
from core.nearest import nearest_name
from core.record import dataclass
from identity.name import Identity, try_identity
from policy.describe import explanation_data
from policy.explain import Explanation, explain_verdict
from policy.judge import judge
from policy.model import Client
from policy.question import asked_client, asked_request, is_ip
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
    request = asked_request(
        question.method, question.path, question.headers, is_grpc=question.is_grpc
    )
    policy = mesh.policy(ObjectKey("", "Pod", target.namespace, target.pod), target.port)
    judged = judge(policy, client, request, is_grpc=question.is_grpc)
    explanation = explain_verdict(policy, client, request, judged.verdict)
    return Answer(client, target, explanation, judged.status)


def show_answer(form: Form, found: Answer) -> None:
    """Print an answer."""
    told = found.explanation
    data = explanation_data(found.client, str(found.target), told, found.status)
    write(form, data, table=lambda: str(told), short=lambda: told.word)


def _client(mesh: OfflineMesh, question: Question) -> Client:
    source = question.source
    ip, identity = question.ip, None
    if is_ip(source):
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
    return asked_client(source, identity, ip, question.tls)


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
