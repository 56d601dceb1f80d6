"""Converts what a sensor sends about the schemas of routes to rows of `schemas`. Bounded, never raises."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from apidae.v1 import stream_pb2

from collector.receiver.columns import NAME_LIMIT_BYTES
from collector.receiver.mcp import write_server, write_uses
from collector.receiver.models import write_model_uses

SCHEMA_LIMIT = 5_000  # Of one message.
FIELD_LIMIT = 500  # Of one schema.
OPERATION_LIMIT = 300
PATH_LIMIT_CHARACTERS = 1_024
VALUES_LIMIT = 32
NUMBERS_LIMIT = 128  # Of one operation: combinations of credentials, kinds of data.
_BITS_MAX = 2**32 - 1
_CODE_MAX = 2**16 - 1
_COUNT_LIMIT = 2**63 - 1
_TYPE = re.compile(r"(?:null|boolean|integer|number|string|array|object)(?:/[a-z0-9-]{1,16})?\Z")
_TOKENS = 110
DESCRIPTION = 155
_MCP, _MCP_USES, _MODEL_USES = 240, 241, 250
_PARTS = (*range(1, 7), _TOKENS, DESCRIPTION, _MCP, _MCP_USES, _MODEL_USES)
DOCUMENT_LIMIT_CHARACTERS = 256 * 1024  # Of a description, as the sensor has it.
TOKEN_LIMIT = 100  # Values of claims of one route.
_LABEL = re.compile(r"[a-z_]{1,16} [a-z_]{1,16} [^\s]{1,256}\Z")
_WORD = re.compile(r"[a-z_]{1,16}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaRecord:
    """One row of `schemas`."""

    route_id: int
    part: int
    status_class: int
    media_type: str
    node: str
    boot_id: str
    generation: int
    version: int
    samples: int
    left_out: int
    fields: str
    operations: str
    time: datetime
    operation: str
    digest: int = 0  # By which its sensor names this state; 0: of an older sensor.

    @property
    def key(self) -> tuple[int, int, int, str, str, str, int, str]:
        """What a row is about; of one key the highest version holds."""
        return (
            self.route_id,
            self.part,
            self.status_class,
            self.media_type,
            self.node,
            self.boot_id,
            self.generation,
            self.operation,
        )


def read_schemas(payload: bytes, *, node: str, boot_id: str, now_unix_seconds: float) -> list[SchemaRecord]:
    """The same of a serialised message of our own sensor."""
    schemas = stream_pb2.Schemas.FromString(payload)
    return convert_schemas(schemas, node=node, boot_id=boot_id, now_unix_seconds=now_unix_seconds)


def convert_schemas(
    schemas: stream_pb2.Schemas, *, node: str, boot_id: str, now_unix_seconds: float
) -> list[SchemaRecord]:
    """Parts of routes; the time is the collector's. What is of no known part is left out."""
    now = datetime.fromtimestamp(int(now_unix_seconds), UTC)
    return [
        SchemaRecord(
            route_id=schema.route_id,
            part=schema.part,
            status_class=min(schema.status_class, 9),
            media_type=schema.media_type[:NAME_LIMIT_BYTES],
            node=node,
            boot_id=boot_id,
            generation=schema.generation,
            version=min(schema.version, _COUNT_LIMIT),
            samples=min(schema.samples, _COUNT_LIMIT),
            left_out=min(schema.left_out, _COUNT_LIMIT),
            fields=_write_first(schema),
            operations=_write_second(schema),
            time=now,
            operation=schema.operation,
            digest=schema.digest,
        )
        for schema in schemas.schemas[:SCHEMA_LIMIT]
        if schema.part in _PARTS
        and (not schema.operation or _LABEL.match(schema.operation))
        and len(schema.document) <= DOCUMENT_LIMIT_CHARACTERS
    ]


def _write_first(schema: stream_pb2.Schema) -> str:
    """The column `fields`."""
    if schema.part == DESCRIPTION:
        return schema.document
    return write_server(schema.mcp) if schema.part == _MCP else _write_fields(schema.fields)


def _write_second(schema: stream_pb2.Schema) -> str:
    """The column `operations`."""
    if schema.part == _TOKENS:
        return _write_tokens(schema.tokens)
    if schema.part == _MODEL_USES:
        return write_model_uses(schema.model_uses)
    return write_uses(schema.mcp_uses) if schema.part == _MCP_USES else _write_operations(schema.operations)


def _write_fields(fields: Iterable[stream_pb2.SchemaField]) -> str:
    """JSON: [[path, present, objects, {type: count}, [value], is_open]], as collector/schemas/merging.py reads it."""
    rows = [
        [
            field.path,
            min(field.present, _COUNT_LIMIT),
            min(field.objects, _COUNT_LIMIT),
            {kind.text: min(kind.count, _COUNT_LIMIT) for kind in field.types if _TYPE.match(kind.text)},
            list(field.values)[:VALUES_LIMIT],
            int(field.is_open or len(field.values) > VALUES_LIMIT),
        ]
        for field in list(fields)[:FIELD_LIMIT]
        if len(field.path) <= PATH_LIMIT_CHARACTERS
    ]
    return json.dumps(rows, separators=(",", ":"))


def _write_tokens(tokens: Iterable[stream_pb2.TokenClaim]) -> str:
    """JSON: [[claim, value, calls]], in the place of the operations that such a part does not have."""
    rows = [
        [one.claim, one.value[:NAME_LIMIT_BYTES], min(one.calls, _COUNT_LIMIT)]
        for one in list(tokens)[:TOKEN_LIMIT]
        if _WORD.match(one.claim)
    ]
    return json.dumps(rows, separators=(",", ":"))


def _write_operations(operations: Iterable[stream_pb2.Operation]) -> str:
    """JSON: a list an operation, in the order of collector/storage/tables/calls.py."""
    rows = [
        [
            one.protocol,
            one.kind,
            one.name[:NAME_LIMIT_BYTES],
            min(one.calls, _COUNT_LIMIT),
            min(one.errors, _COUNT_LIMIT),
            min(one.facts.served, _COUNT_LIMIT),
            min(one.facts.refused, _COUNT_LIMIT),
            min(one.facts.failed, _COUNT_LIMIT),
            _count_numbers(one.facts.authentication, _BITS_MAX),
            _count_numbers(one.facts.data, _CODE_MAX),
            min(one.facts.requests_read, _COUNT_LIMIT),
            min(one.facts.responses_read, _COUNT_LIMIT),
            min(one.facts.consumers, _COUNT_LIMIT),
            min(one.facts.first_seen_unix_seconds, _BITS_MAX),
            min(one.facts.last_seen_unix_seconds, _BITS_MAX),
        ]
        for one in list(operations)[:OPERATION_LIMIT]
        if _WORD.match(one.protocol) and _WORD.match(one.kind)
    ]
    return json.dumps(rows, separators=(",", ":"))


def _count_numbers(counted: Iterable[stream_pb2.CountedNumber], largest: int) -> list[list[int]]:
    """Numbers, and how often each."""
    known = [one for one in list(counted)[:NUMBERS_LIMIT] if one.number <= largest]
    return [[one.number for one in known], [min(one.count, _COUNT_LIMIT) for one in known]]
