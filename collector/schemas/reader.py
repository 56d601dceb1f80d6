"""Schemas out of the store: an endpoint's id in, its parts and operations merged over routes and sensors out."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collector.inventory.endpoint import Endpoint, EndpointOperation
from collector.inventory.operations import OperationSamples, find_operations_of, has_operations
from collector.inventory.reader import Reader, select
from collector.schemas.merging import (
    Operation,
    Part,
    PartSchema,
    StoredSchema,
    TokenClaim,
    merge_operations,
    merge_parts,
    merge_tokens,
)

# States read for one question: those of a service with 2,000 endpoints on 10 nodes.
STATES_MAX = 100_000

_STATES = f"""
SELECT n.endpoint_id AS endpoint_id, s.operation AS operation, s.part AS part, s.status_class AS status_class,
    s.media_type AS media_type, s.samples AS samples, s.left_out AS left_out, s.fields AS fields,
    s.operations AS operations
FROM schemas AS s FINAL
INNER JOIN (
    SELECT route_id, endpoint_id FROM endpoint_routes FINAL WHERE endpoint_id IN {{{{ids:Array(String)}}}}
) AS n ON n.route_id = s.route_id
WHERE {{condition}} AND s.part IN ({", ".join(str(part.value) for part in Part)})
LIMIT {STATES_MAX}"""
_WHOLE = "s.operation = ''"
_OF_ANY_OPERATION = "s.operation != ''"
_OF_OPERATION = "s.operation = {operation:String}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSchema:
    """What an endpoint looks like: parts in the order of Part, status class and media type. `operations` are counted
    among `operation_samples` requests, what JWTs say among `token_samples`."""

    parts: tuple[PartSchema, ...]
    operations: tuple[Operation, ...]
    operation_samples: int
    tokens: tuple[TokenClaim, ...] = ()
    token_samples: int = 0

    def find(self, part: Part, status_class: int = 0) -> tuple[PartSchema, ...]:
        """The schemas of one part, by media type."""
        return tuple(one for one in self.parts if one.part is part and one.status_class == status_class)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedOperation:
    """An operation with what is its own: its parameters as a request, its result as responses."""

    samples: OperationSamples
    schema: EndpointSchema


NOTHING_KNOWN = EndpointSchema(parts=(), operations=(), operation_samples=0)


class SchemaInventory:
    """Answers from the store. Raises StoreError."""

    def __init__(self, *, reader: Reader) -> None:
        self._reader = reader

    def read(self, endpoint_id: str) -> EndpointSchema:
        """What one endpoint looks like."""
        return self.read_many([endpoint_id]).get(endpoint_id, NOTHING_KNOWN)

    def read_many(self, ids: Iterable[str]) -> Mapping[str, EndpointSchema]:
        """The same of several, by id; those of which nothing is known are left out."""
        groups: dict[str, list[StoredSchema]] = defaultdict(list)
        for row in select(self._reader, _STATES.format(condition=_WHOLE), {"ids": list(ids)}):
            groups[row["endpoint_id"]].append(_read_state(row))
        return {endpoint_id: merge(group) for endpoint_id, group in groups.items()}

    def read_operation(self, operation: EndpointOperation) -> EndpointSchema:
        """What is an operation's own: its parameters as requests, its result as responses (sensor/schemas)."""
        asked = {"ids": [operation.parent_id], "operation": label(operation)}
        rows = select(self._reader, _STATES.format(condition=_OF_OPERATION), asked)
        return merge(_read_state(row) for row in rows)

    def read_operations(self, parents: Iterable[str]) -> Mapping[str, Sequence[DescribedOperation]]:
        """All operations of some endpoints, by endpoint, most called first."""
        ids = list(parents)
        known = find_operations_of(self._reader, ids) if has_operations(self._reader) else {}
        groups: dict[tuple[str, str], list[StoredSchema]] = defaultdict(list)
        for row in select(self._reader, _STATES.format(condition=_OF_ANY_OPERATION), {"ids": ids}) if known else ():
            groups[row["endpoint_id"], row["operation"]].append(_read_state(row))
        found: dict[str, list[DescribedOperation]] = defaultdict(list)
        for one in known.values():
            states = groups.get((one.operation.parent_id, label(one.operation)), [])
            found[one.operation.parent_id].append(DescribedOperation(samples=one, schema=merge(states)))
        return found

    def read_endpoint(self, endpoint: Endpoint) -> EndpointSchema:
        """Of an endpoint, whichever it is."""
        return self.read(endpoint.id) if endpoint.operation is None else self.read_operation(endpoint.operation)


def label(operation: EndpointOperation) -> str:
    """How the states of what is an operation's own are named."""
    return f"{operation.protocol} {operation.kind} {operation.name}"


def merge(states: Iterable[StoredSchema]) -> EndpointSchema:
    """All states of one endpoint, in any order."""
    known = list(states)
    operations, samples = merge_operations(known)
    tokens, token_samples = merge_tokens(known)
    return EndpointSchema(
        parts=merge_parts(known),
        operations=operations,
        operation_samples=samples,
        tokens=tokens,
        token_samples=token_samples,
    )


def _read_state(row: Mapping[str, Any]) -> StoredSchema:
    return StoredSchema(
        part=Part(int(row["part"])),
        status_class=int(row["status_class"]),
        media_type=row["media_type"],
        samples=int(row["samples"]),
        left_out=int(row["left_out"]),
        fields=row["fields"],
        operations=row["operations"],
    )
