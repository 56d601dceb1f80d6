"""Reads the endpoints and schemas of one service from the store, and queues new states of schemas for it.

`list_described` gives the endpoints that a service's documents describe. `SchemaInventory` merges the parts and
operations of an endpoint over routes and sensors. `SchemaQueue` keeps the newest state of each key until the next
flush.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

from collector.core.budget import check_budget
from collector.core.kinds import find_authentication, find_outcome, is_authenticated, is_judged
from collector.inventory.endpoints.endpoint import Endpoint, EndpointOperation
from collector.inventory.endpoints.operations import OperationSamples, find_operations_of, has_operations
from collector.receiver.schemas import SchemaRecord
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
from collector.storage.records import Reader, read_record, select

ENDPOINTS_MAX = 2_000  # Of one document; the most called.
CARRIERS_MAX = 64  # Of one endpoint.

# Of the last 90 days. Endpoints that were never answered 2xx or 3xx are what scanners guessed.
_ENDPOINTS = f"""
SELECT n.endpoint_id AS id, any(n.service) AS service, any(n.host) AS host, any(n.method) AS method,
    any(n.url_template) AS template, sum(h.calls) AS calls, toUnixTimestamp(max(h.last_seen)) AS last_seen,
    sumMap([h.status_code], [h.calls]) AS statuses,
    groupUniqArrayIf({CARRIERS_MAX})((h.carriers, {find_authentication("h")}), {is_judged("h")}) AS credentials,
    sumIf(h.calls, {is_authenticated("h")}) AS authenticated, sumIf(h.calls, {is_judged("h")}) AS judged
FROM rows_hour AS h
INNER JOIN (SELECT * FROM endpoint_routes FINAL WHERE {{condition}}) AS n ON n.route_id = h.route_id
GROUP BY n.endpoint_id
HAVING sumIf(h.calls, {find_outcome("h")} BETWEEN 101 AND 399) > 0
ORDER BY calls DESC, id
LIMIT {ENDPOINTS_MAX}"""
_OF_SERVICE = "service = {service:String} OR workload = {service:String}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """One endpoint. `statuses`: calls by code; `credentials`: what served calls carried, as carriers (proto
    Rows.carriers) and bits of AuthenticationKind."""

    id: str
    service: str
    host: str
    method: str
    template: str
    calls: int
    last_seen: int
    statuses: Mapping[int, int]
    credentials: tuple[tuple[str, int], ...]
    authenticated_share: float | None


def list_described(reader: Reader, service: str) -> tuple[Described, ...]:
    """The endpoints of a service, as listed or by the name of its workload. Raises StoreError."""
    rows = select(reader, _ENDPOINTS.format(condition=_OF_SERVICE), {"service": service})
    return tuple(_read(row) for row in rows)


def list_some(reader: Reader, ids: list[str]) -> tuple[Described, ...]:
    """The same of some endpoints. Raises StoreError."""
    if not ids:
        return ()
    statement = _ENDPOINTS.format(condition="endpoint_id IN {ids:Array(String)}")
    return tuple(_read(row) for row in select(reader, statement, {"ids": ids}))


def _read(row: Mapping[str, Any]) -> Described:
    check_budget()
    codes, calls = row["statuses"]
    statuses: dict[int, int] = defaultdict(int)
    for code, count in zip(codes, calls, strict=True):
        if int(code):
            statuses[int(code)] += int(count)
    judged = int(row["judged"])
    return Described(
        id=row["id"],
        service=row["service"],
        host=row["host"],
        method=row["method"],
        template=row["template"],
        calls=int(row["calls"]),
        last_seen=int(row["last_seen"]),
        statuses=dict(statuses),
        credentials=tuple(sorted((carriers, int(bits)) for carriers, bits in row["credentials"])),
        authenticated_share=int(row["authenticated"]) / judged if judged else None,
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
            groups[row["endpoint_id"]].append(read_record(StoredSchema, row))
        return {endpoint_id: merge(group) for endpoint_id, group in groups.items()}

    def read_operation(self, operation: EndpointOperation) -> EndpointSchema:
        """What is an operation's own: its parameters as requests, its result as responses (sensor/describe/schemas)."""
        asked = {"ids": [operation.parent_id], "operation": label(operation)}
        rows = select(self._reader, _STATES.format(condition=_OF_OPERATION), asked)
        return merge(read_record(StoredSchema, row) for row in rows)

    def read_operations(self, parents: Iterable[str]) -> Mapping[str, Sequence[DescribedOperation]]:
        """All operations of some endpoints, by endpoint, most called first."""
        ids = list(parents)
        known = find_operations_of(self._reader, ids) if has_operations(self._reader) else {}
        groups: dict[tuple[str, str], list[StoredSchema]] = defaultdict(list)
        for row in select(self._reader, _STATES.format(condition=_OF_ANY_OPERATION), {"ids": ids}) if known else ():
            groups[row["endpoint_id"], row["operation"]].append(read_record(StoredSchema, row))
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


# Waiting for the store, from all sensors: some 200 MB at worst. What found no room is in its sensor's next offer.
QUEUE_LIMIT: Final = 20_000


class SchemaQueue:
    """Thread-safe: the event loop adds, housekeeping flushes."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: dict[tuple[object, ...], SchemaRecord] = {}
        self.dropped = 0

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._waiting)

    @property
    def room(self) -> int:
        """How many states may be asked for: half of the queue is for what comes unasked."""
        return max(0, QUEUE_LIMIT // 2 - len(self._waiting))

    def add(self, records: Sequence[SchemaRecord]) -> None:
        """Keep the newest state of each key."""
        with self._lock:
            for record in records:
                known = self._waiting.get(record.key)
                if known is None and len(self._waiting) >= QUEUE_LIMIT:
                    self.dropped += 1
                elif known is None or known.version < record.version:
                    self._waiting[record.key] = record

    def flush(self, insert: Callable[[str, Sequence[SchemaRecord]], None]) -> None:
        """Write what waits. Blocks. Raises what `insert` raises, and then it waits on."""
        with self._lock:
            taken, self._waiting = self._waiting, {}
        try:
            insert("schemas", list(taken.values()))
        except Exception:
            self.add(list(taken.values()))
            raise
