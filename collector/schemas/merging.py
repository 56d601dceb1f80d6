"""Merges the states of one part, sent by any processes in any order, by addition: records in, `PartSchema`s out. Pure.

A field's share is `present` of the whole objects of its parent. A set of values is closed where every process that saw
enough of it says so. Their union is given.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

from collector.core.budget import check_budget

# Texts that a process must have seen before its silence about a closed set counts against it, as in the sensor.
MIN_ENUM_SEEN: Final = 20
MAX_ENUM: Final = 16
# Of the whole objects, a field in as many is required: the rest is a sample that was read wrong.
REQUIRED_SHARE: Final = 0.999
MIN_REQUIRED_SEEN: Final = 3


class Part(IntEnum):
    """Which part of a call; values are those of the wire."""

    QUERY = 1
    HEADER = 2
    COOKIE = 3
    REQUEST_BODY = 4
    RESPONSE_BODY = 5
    OPERATIONS = 6
    TOKENS = 110


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSchema:
    """One row of `schemas`, as far as merging reads it."""

    part: Part
    status_class: int
    media_type: str
    samples: int
    left_out: int
    fields: str
    operations: str


@dataclass(slots=True, kw_only=True)
class FieldNode:
    """One field of the merged tree; `children` by step: a name, `[]`, `{uuid}`."""

    present: int = 0
    objects: int = 0
    types: dict[str, int] = field(default_factory=dict)
    values: set[str] = field(default_factory=set)
    is_open: bool = False
    children: "dict[str, FieldNode]" = field(default_factory=dict)

    def share(self, parent: "FieldNode") -> float | None:
        """Of the parent's whole objects, those that had it; None where none was whole."""
        return min(1.0, self.present / parent.objects) if parent.objects else None

    def is_required(self, parent: "FieldNode") -> bool:
        """Whether all that were seen had it, and enough were."""
        share = self.share(parent)
        return share is not None and share >= REQUIRED_SHARE and parent.objects >= MIN_REQUIRED_SEEN

    @property
    def enum(self) -> tuple[str, ...]:
        """The closed set of values; empty where it is open or not known."""
        return () if self.is_open or len(self.values) > MAX_ENUM else tuple(sorted(self.values))


@dataclass(frozen=True, slots=True, kw_only=True)
class PartSchema:
    """What one part of an endpoint looks like."""

    part: Part
    status_class: int
    media_type: str
    samples: int
    left_out: int
    root: FieldNode


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A GraphQL operation, JSON-RPC method, MCP tool, SOAP or other action: calls and errors among the samples."""

    protocol: str
    kind: str
    name: str
    sampled_calls: int
    sampled_errors: int


def merge_parts(stored: Iterable[StoredSchema]) -> tuple[PartSchema, ...]:
    """Schemas by part, status class and media type; the result depends on no order."""
    groups: dict[tuple[Part, int, str], list[StoredSchema]] = {}
    for one in stored:
        check_budget()
        if one.part not in (Part.OPERATIONS, Part.TOKENS):
            groups.setdefault((one.part, one.status_class, one.media_type), []).append(one)
    return tuple(
        PartSchema(
            part=part,
            status_class=status_class,
            media_type=media_type,
            samples=sum(one.samples for one in group),
            left_out=sum(one.left_out for one in group),
            root=_merge_trees(json.loads(one.fields) for one in group),
        )
        for (part, status_class, media_type), group in sorted(groups.items())
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenClaim:
    """What JWTs of an endpoint say: `claim` is algorithm, issuer, audience or lifetime (seconds at most)."""

    claim: str
    value: str
    sampled_calls: int


def merge_tokens(stored: Iterable[StoredSchema]) -> tuple[tuple[TokenClaim, ...], int]:
    """Claims by name, each with its values, most often seen first, and the requests whose tokens were looked at."""
    sums: dict[tuple[str, str], int] = {}
    samples = 0
    for one in stored:
        if one.part is Part.TOKENS:
            samples += one.samples
            for claim, value, calls in json.loads(one.operations):
                sums[claim, value] = sums.get((claim, value), 0) + calls
    found = sorted(sums.items(), key=lambda item: (item[0][0], -item[1], item[0][1]))
    return tuple(TokenClaim(claim=key[0], value=key[1], sampled_calls=calls) for key, calls in found), samples


def merge_operations(stored: Iterable[StoredSchema]) -> tuple[tuple[Operation, ...], int]:
    """Operations, most called first, and the requests that were looked at."""
    sums: dict[tuple[str, str, str], list[int]] = {}
    samples = 0
    for one in stored:
        if one.part is not Part.OPERATIONS:
            continue
        samples += one.samples
        for protocol, kind, name, calls, errors, *_ in json.loads(one.operations):
            counts = sums.setdefault((protocol, kind, name), [0, 0])
            counts[0] += calls
            counts[1] += errors
    found = sorted(sums.items(), key=lambda item: (-item[1][0], item[0]))
    return tuple(
        Operation(protocol=key[0], kind=key[1], name=key[2], sampled_calls=counts[0], sampled_errors=counts[1])
        for key, counts in found
    ), samples


def _merge_trees(documents: Iterable[list[list[Any]]]) -> FieldNode:
    root = FieldNode()
    for fields in documents:
        for path, present, objects, types, values, is_open in fields:
            _add(_find(root, path), present, objects, types, values, bool(is_open))
    return root


def _find(root: FieldNode, path: str) -> FieldNode:
    node = root
    for step in path.split("/")[1:]:
        node = node.children.setdefault(step, FieldNode())
    return node


def _add(
    node: FieldNode, present: int, objects: int, types: Mapping[str, int], values: list[str], is_open: bool
) -> None:
    node.present += present
    node.objects += objects
    for kind, count in types.items():
        node.types[kind] = node.types.get(kind, 0) + count
    node.values.update(values)
    # Who saw enough texts and names no values knows of too many.
    node.is_open = node.is_open or is_open or (not values and types.get("string", 0) >= 4 * MIN_ENUM_SEEN)
