"""Which Links are followed, and whom each may speak for: the rules of trust between clusters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, final

from core.record import dataclass
from multicluster.model import MAX_CLUSTERS
from resources.config_map import MeshConfig
from resources.document import Problem
from resources.link import SOURCE, Link

_RESERVED: Final = "federated"
"""A cluster of this name would mirror Services under the names of federated ones."""


@final
@dataclass(frozen=True, slots=True)
class Followed:
    """A Link that is followed; ``trust_domain`` is the one that its cluster's names are of."""

    link: Link
    trust_domain: str


@final
@dataclass(frozen=True, slots=True)
class Choice:
    """The Links that are followed, oldest first, and why others are not."""

    followed: tuple[Followed, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def anchors(self) -> tuple[tuple[str, str], ...]:
        """Trust domain → the file of its roots, where that is not named after it; sorted."""
        named = {each.trust_domain: each.link.anchors for each in self.followed}
        return tuple(sorted((domain, file) for domain, file in named.items() if file))


def choose(links: Iterable[Link], config: MeshConfig) -> Choice:
    """Return which of ``links`` are followed; of two for one cluster the older."""
    followed: dict[str, Followed] = {}
    problems: list[Problem] = []
    for link in sorted(links, key=lambda each: each.meta.age_order):
        domain = link.trust_domain or config.trust_domain
        why_not = _why_not(link, domain, followed, config)
        if why_not:
            problems.append(Problem(str(link.meta.key), 0, "", f"{why_not}; it is not followed"))
            continue
        if not link.source:
            message = f"names no mesh directory ({SOURCE}), so none of its Services are known"
            problems.append(Problem(str(link.meta.key), 0, "", message))
        followed[link.cluster] = Followed(link, domain)
    return Choice(tuple(followed.values()), tuple(problems))


def _why_not(link: Link, domain: str, followed: dict[str, Followed], config: MeshConfig) -> str:
    if link.cluster == _RESERVED:
        return f"a cluster cannot be called {_RESERVED}"
    if link.cluster in followed:
        return f"{followed[link.cluster].link.meta.key} leads to {link.cluster} already"
    if len(followed) >= MAX_CLUSTERS:
        return f"there are more than {MAX_CLUSTERS} Links"
    if domain == config.trust_domain:
        if link.anchors:
            # With roots of its own it would speak for our identities, and we not for its.
            return f"its trust domain, {domain}, is ours, and our roots alone count for that"
        return ""
    for other in followed.values():
        if other.trust_domain == domain and other.link.anchors != link.anchors:
            return f"{other.link.meta.key} has other roots for trust domain {domain}"
    return ""
