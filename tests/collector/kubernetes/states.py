"""A ClusterState out of manifests, as a list of the API server would fill it."""

import json
from collections import defaultdict
from typing import Any

import msgspec

from collector.kubernetes.objects import KubernetesObject
from collector.kubernetes.state import ClusterState
from collector.kubernetes.watch import list_resources
from tests.collector.kubernetes.manifests import Manifest

KINDS = {resource.kind.__name__.removesuffix("Object").lower(): resource.kind for resource in list_resources()}


def decode(manifest: Manifest) -> KubernetesObject:
    """One object by its kind."""
    decoded: KubernetesObject = msgspec.json.decode(json.dumps(manifest), type=KINDS[manifest["kind"].lower()])
    return decoded


def make_state(*manifests: Manifest) -> ClusterState:
    """All of them, listed."""
    state = ClusterState()
    by_kind: dict[type[Any], list[KubernetesObject]] = defaultdict(list)
    for manifest in manifests:
        one = decode(manifest)
        by_kind[type(one)].append(one)
    for kind, objects in by_kind.items():
        listing = state.begin(kind)
        listing.add(objects)
        listing.finish()
    return state
