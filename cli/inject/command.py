"""``pillion inject``: give pods of manifests their sidecar. Exit status: 0 good, 2 not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click

from cli.inject.manifests import Change, Source, change_all, manifest_options, read_sources
from cli.version import installed_version
from core.errors import ConfigError, IdentityError
from identity.anchors import parse_roots
from identity.files import read_bounded
from identity.name import is_label, try_identity
from identity.pem import join_pem
from inject.options import (
    CAPTURES,
    CLUSTER_DOMAIN,
    CONTROL_NAMESPACE,
    MESH_CONFIG_MAP,
    TRUST_DOMAIN,
    Options,
)
from inject.pod import REASONS, Skip, inject_pod
from inject.workload import Found, namespace_annotations
from redirect.backend import Mode
from resources.kind import is_name

_ADDRESS: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", re.ASCII)


@click.command()
@manifest_options
@click.option("-n", "--namespace", default="", help="The namespace of objects that name none.")
@click.option("--image", default="pillion", show_default=True, help="The sidecar's image.")
@click.option("--init-image", default="pillion-init", show_default=True)
@click.option("--image-version", default="", help="The images' tag; empty: this version's.")
@click.option("--controller-address", default="", help="Empty: control from a mounted mesh.")
@click.option("--mesh-config-map", default=MESH_CONFIG_MAP, show_default=True)
@click.option("--identity-secret", default="", help="Where no annotation names one.")
@click.option(
    "--trust-anchors",
    "anchors_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Roots in PEM, in the environment: for where there is no ConfigMap of them.",
)
@click.option("--trust-domain", default=TRUST_DOMAIN, show_default=True)
@click.option("--cluster-domain", default=CLUSTER_DOMAIN, show_default=True)
@click.option("--control-namespace", default=CONTROL_NAMESPACE, show_default=True)
@click.option("--capture", type=click.Choice(CAPTURES), default=CAPTURES[0], show_default=True)
@click.option(
    "--iptables-mode",
    type=click.Choice([each.value for each in Mode]),
    help="What sets the rules, where the nodes' kernels have not what is used otherwise.",
)
@click.option(
    "--native-sidecar/--no-native-sidecar",
    default=True,
    show_default=True,
    help="An init container that goes on running (Kubernetes 1.29), or an ordinary container.",
)
@click.option("--only-annotated", is_flag=True, help="Inject only where linkerd.io/inject asks.")
def command(  # noqa: PLR0913  options by name
    *,
    files: tuple[str, ...],
    form: str,
    namespace: str,
    image: str,
    init_image: str,
    image_version: str,
    controller_address: str,
    mesh_config_map: str,
    identity_secret: str,
    anchors_file: Path | None,
    trust_domain: str,
    cluster_domain: str,
    control_namespace: str,
    capture: str,
    iptables_mode: str | None,
    native_sidecar: bool,
    only_annotated: bool,
) -> None:
    """Give the pods of FILES (or standard input) their sidecar; print the manifests.

    Deployments, StatefulSets, DaemonSets, ReplicaSets, Jobs, CronJobs, Pods and Lists of them;
    other objects stay as they are. Namespaces among the manifests lend their annotations. What was
    done, and what not and why, is said on stderr.
    """
    version = installed_version()
    options = Options(
        image=image,
        init_image=init_image,
        version=image_version or version,
        control_namespace=control_namespace,
        trust_domain=trust_domain,
        cluster_domain=cluster_domain,
        trust_anchors=_read_anchors(anchors_file) if anchors_file is not None else "",
        controller=controller_address,
        mesh_config_map=mesh_config_map,
        identity_secret=identity_secret,
        capture=capture,
        iptables_mode=iptables_mode or "",
        native_sidecar=native_sidecar,
        needs_annotation=only_annotated,
        created_by=f"pillion/cli {version}",
    )
    _check(options, namespace)
    sources = read_sources(files)
    namespaces = _namespaces(sources)

    def change(found: Found) -> Change:
        if found.template is None:
            return Change()
        done = inject_pod(found.pod(), found.surroundings(namespaces, namespace), options)
        if done.skipped is not None:
            return Change(said=(_skipped(done.skipped),))
        said = [f"injected: {done.notes[0]}", *done.notes[1:]] if done.notes else []
        return Change(done.operations, tuple(said), done.problems)

    change_all(sources, change, form)


def _read_anchors(file: Path) -> str:
    """Return a bundle's certificates. Raises ConfigError for what a sidecar would not take."""
    try:
        pem = read_bounded(file)
        bundle = parse_roots(pem, str(file))
    except IdentityError as error:
        raise ConfigError(f"--trust-anchors: {error}") from None
    if bundle.problems or not bundle.roots:
        found = bundle.problems[0] if bundle.problems else f"{file} holds no certificate in PEM"
        raise ConfigError(f"--trust-anchors: {found}")
    return join_pem(sorted(bundle.roots)).decode()


def _check(options: Options, namespace: str) -> None:
    problems = []
    if namespace and not is_label(namespace):
        problems.append(f"--namespace is {namespace[:80]!r}; wanted a namespace's name")
    if not is_label(options.control_namespace):
        given = options.control_namespace
        problems.append(f"--control-namespace is {given[:80]!r}; wanted a namespace's name")
    domains = {"trust-domain": options.trust_domain, "cluster-domain": options.cluster_domain}
    for option, given in domains.items():
        domain = try_identity(given)
        if domain is None or domain.is_uri:
            problems.append(f"--{option} is {given[:80]!r}; wanted a DNS name")
    names = {"mesh-config-map": options.mesh_config_map, "identity-secret": options.identity_secret}
    for option, name in names.items():
        if name and not is_name(name):
            problems.append(f"--{option} is {name[:80]!r}; wanted a name in lower case")
    if not options.mesh_config_map:
        problems.append("--mesh-config-map is empty; wanted a name")
    if options.controller and not _ADDRESS.fullmatch(options.controller):
        given = options.controller
        problems.append(f"--controller-address is {given[:80]!r}; wanted a DNS name or an address")
    if options.controller and options.identity_secret:
        problems.append("--controller-address and --identity-secret: an identity has one source")
    if problems:
        raise ConfigError(problems)


def _namespaces(sources: list[Source]) -> Mapping[str, Mapping[str, str]]:
    """Return the annotations of the Namespaces among the manifests."""
    return {
        found.owner_name: annotations
        for source in sources
        for _, found in source.objects()
        if (annotations := namespace_annotations(found)) is not None
    }


def _skipped(reason: Skip) -> str:
    return f"skipped: {reason.value}: {REASONS[reason]}"
