"""A ClusterState out of manifests, as a list of the API server would fill it."""

import json
from collections import defaultdict
from typing import Any

import msgspec

from collector.kubernetes.state import ClusterState, KubernetesObject, read_kept
from collector.kubernetes.watcher import KINDS
from tests.collector.kubernetes.manifests import Manifest

BY_NAME = {kind.__name__.removesuffix("Object").lower(): kind for kind, _, _ in KINDS}


def decode(manifest: Manifest) -> KubernetesObject:
    """One object by its kind."""
    decoded: KubernetesObject = msgspec.json.decode(json.dumps(manifest), type=BY_NAME[manifest["kind"].lower()])
    return decoded


def make_state(*manifests: Manifest) -> ClusterState:
    """All of them, listed."""
    state = ClusterState()
    by_kind: dict[type[Any], list[KubernetesObject]] = defaultdict(list)
    for manifest in manifests:
        one = decode(manifest)
        by_kind[type(one)].append(one)
    for kind, objects in by_kind.items():
        state.replace(kind, list(map(read_kept, objects)))
    return state
