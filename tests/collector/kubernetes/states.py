"""A ClusterState out of manifests, as a list of the API server would fill it."""

import json
from collections import defaultdict
from typing import Any

import msgspec

from collector.kubernetes.objects import Object
from collector.kubernetes.state import ClusterState, read_kept
from collector.kubernetes.watcher import KINDS
from tests.collector.kubernetes.manifests import Manifest


def _split(path: str) -> tuple[str, str]:
    """(group, plural) of a path."""
    parts = path.split("/")
    return (parts[2] if parts[1] == "apis" else "", parts[-1])


BY_NAME = {_split(paths[0]): kind for kind, paths, _ in KINDS}


def _write_plural(kind: str) -> str:
    name = kind.lower()
    return f"{name}es" if name.endswith("s") else f"{name[:-1]}ies" if name.endswith("cy") else f"{name}s"


def decode(manifest: Manifest) -> Object:
    """One object by its group and kind."""
    kind = BY_NAME[manifest["apiVersion"].rpartition("/")[0], _write_plural(manifest["kind"])]
    decoded: Object = msgspec.json.decode(json.dumps(manifest), type=kind)
    return decoded


def make_state(*manifests: Manifest) -> ClusterState:
    """All of them, listed."""
    state = ClusterState()
    by_kind: dict[type[Any], list[Object]] = defaultdict(list)
    for manifest in manifests:
        one = decode(manifest)
        by_kind[type(one)].append(one)
    for kind, objects in by_kind.items():
        state.replace(kind, list(map(read_kept, objects)))
    return state
