"""Sensitive fields of a JSON document: any parsed JSON in, `Finding`s out (a path without values, and a kind).

Every string is asked by its form, every field by its name; elements of one array are one field. Bounded in depth, in
nodes and in text, so that a hostile body costs what a large honest one does; and on request in values of one field,
as what a field holds shows in few of them.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Final

from sensor.classify.sensitive.custom import CustomFinder
from sensor.classify.sensitive.kinds import DataKind
from sensor.classify.sensitive.names import find_rule
from sensor.classify.sensitive.values import MAX_TEXT_CHARACTERS, find_kinds

MAX_DEPTH: Final = 32
MAX_NODES: Final = 20_000


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One field that holds sensitive data. `path` is JSONPath with `[]` for all elements of an array."""

    path: str
    kind: DataKind


def find_sensitive(
    document: object,
    *,
    max_nodes: int = MAX_NODES,
    max_values: int | None = None,
    custom: CustomFinder | None = None,
) -> list[Finding]:
    """Findings in `document` (as `json.loads` gives it), sorted. Never raises.

    `max_values`: of one field; None: all. Cost: some 7 us a value that is asked, 0.5 us another node.
    """
    found: set[Finding] = set()
    asked: Counter[str] = Counter()
    pending: list[tuple[str, str, object, int]] = [("$", "", document, 0)]
    nodes = 0
    while pending and nodes < max_nodes:
        path, name, value, depth = pending.pop()
        nodes += 1
        if isinstance(value, dict):
            if depth < MAX_DEPTH:
                pending += ((f"{path}.{key}", str(key), child, depth + 1) for key, child in value.items())
        elif isinstance(value, list):
            if depth < MAX_DEPTH:
                pending += ((f"{path}[]", name, child, depth + 1) for child in value)
        elif max_values is None or asked[path] < max_values:
            asked[path] += 1
            found.update(Finding(path, kind) for kind in classify_field(name, value))
            if custom is not None and isinstance(value, str):
                found.update(Finding(path, kind) for kind in custom(value[:MAX_TEXT_CHARACTERS]))
    return sorted(found)


def classify_field(name: str, value: object) -> set[DataKind]:
    """Kinds of one value, by its form and by the name of what holds it."""
    if value is None or isinstance(value, bool) or value == "":
        return set()
    kinds = find_kinds(value) if isinstance(value, str) else set()
    if DataKind.PRIVATE_KEY in kinds or DataKind.JWT in kinds:
        return kinds  # They are what they are, whatever the field is called.
    rule = find_rule(name)
    if rule is not None and rule.fits(value):
        # A name tells a phone from an id; a form that proves something else is not a phone.
        return {rule.kind} if rule.kind not in kinds and not (kinds - {DataKind.PHONE}) else kinds | {rule.kind}
    return kinds
