"""A Service's manifest with the labels that export it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from core.errors import ConfigError
from resources.link import BY_GATEWAY, DIRECTLY, EXPORTED, FEDERATED, MEMBER

WAYS: Final = {
    "gateway": {EXPORTED: BY_GATEWAY},
    "direct": {EXPORTED: DIRECTLY},
    "federated": {FEDERATED: MEMBER},
    "none": {},
}
"""Way → labels; ``none`` takes the others back."""
_ENDINGS: Final = (".yaml", ".yml", ".json")


class _Loader(yaml.CSafeLoader):
    """Reads values as they are written: a time stays the text that it is."""


_Loader.yaml_implicit_resolvers = {
    first: [each for each in resolvers if each[0] != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def export_manifest(directory: Path, namespace: str, name: str, way: str) -> dict[str, Any]:
    """Return the Service's manifest as it has to be to be exported. Raises ConfigError."""
    for document in _documents(directory):
        metadata = document.get("metadata")
        is_service = document.get("apiVersion") == "v1" and document.get("kind") == "Service"
        if not is_service or not isinstance(metadata, dict):
            continue
        if (metadata.get("namespace") or "default", metadata.get("name")) == (namespace, name):
            labels = dict(metadata.get("labels") or {})
            if way != "federated":
                labels.pop(EXPORTED, None)
            if way == "none":
                labels.pop(FEDERATED, None)
            metadata = {**metadata, "labels": {**labels, **WAYS[way]}}
            return {**document, "metadata": metadata}
    raise ConfigError(f"{directory} has no Service {namespace}/{name}")


def _documents(directory: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(directory.rglob("*")):
        if path.suffix not in _ENDINGS or path.name.startswith(".") or not path.is_file():
            continue
        try:
            found = list(yaml.load_all(path.read_bytes(), _Loader))  # it is a safe one
        except (OSError, yaml.YAMLError):
            continue  # whatever is wrong with it, other verbs say
        for each in found:
            if isinstance(each, dict):
                items = each.get("items")
                yield from (
                    [one for one in items if isinstance(one, dict)]
                    if isinstance(items, list)
                    else [each]
                )
