"""What the tests of the chart share: rendered documents by kind and name, and a skip where there is no Helm."""

import functools
from collections.abc import Iterator
from typing import Any, cast

import pytest
import yaml

from scripts.helm.binaries import HelmMissingError, find_helm
from scripts.helm.render import EXAMPLES, render
from scripts.helm.settings_schema import CHART

Document = dict[str, Any]
VERSIONS = (3, 4)


def need_helm(version: int = 4) -> None:
    """Skips the test where Helm was not fetched."""
    try:
        find_helm(version)
    except HelmMissingError as error:
        pytest.skip(str(error))


@functools.cache
def documents(example: str, version: int = 4, kubernetes: str = "1.35.0") -> tuple[Document, ...]:
    """All manifests of one of the chart's examples."""
    done = render(version, "--values", str(EXAMPLES / f"{example}-values.yaml"), kubernetes=kubernetes)
    assert done.status == 0, done.errors
    return tuple(document for document in yaml.safe_load_all(done.text) if document)


def find(all_documents: tuple[Document, ...], kind: str, suffix: str = "") -> Document:
    """The one document of a kind whose name ends so."""
    found = [d for d in all_documents if d["kind"] == kind and d["metadata"]["name"].endswith(suffix)]
    assert len(found) == 1, f"{kind} {suffix}: {len(found)}"
    return found[0]


def container(all_documents: tuple[Document, ...], side: str) -> Document:
    """The one container of a side."""
    kind = {"sensor": "DaemonSet", "collector": "StatefulSet"}[side]
    containers = find(all_documents, kind)["spec"]["template"]["spec"]["containers"]
    assert len(containers) == 1
    return cast(Document, containers[0])


def default_values() -> Document:
    """values.yaml."""
    return cast(Document, yaml.safe_load((CHART / "values.yaml").read_text()))


def walk_leaves(values: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path, value) of everything in values that is no mapping of names that the chart knows."""
    if isinstance(values, dict) and values and place[-1:] != ("nodeSelector",):
        for name, inner in values.items():
            yield from walk_leaves(inner, (*place, name))
    else:
        yield place, values


def look_up(values: Any, path: tuple[str, ...]) -> Any:
    """What values have at a path; None where they have nothing."""
    for name in path:
        if not isinstance(values, dict):
            return None
        values = values.get(name)
    return values
