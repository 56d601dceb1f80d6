"""The message of what routes look like: the sensor's own `Schema`s in, the wire's out."""

from collections.abc import Sequence

from apidae.v1 import stream_pb2

from sensor.schemas.book import Schema
from sensor.schemas.tally import OperationCount
from sensor.schemas.tree import Field
from sensor.uplink.rows import write_rows


def write_schemas(schemas: Sequence[Schema]) -> stream_pb2.ConnectRequest:
    """One message of some parts of routes."""
    return stream_pb2.ConnectRequest(
        schemas=stream_pb2.Schemas(schemas=write_rows(_write_schema, schemas)),
    )


def _write_schema(schema: Schema) -> stream_pb2.Schema:
    return stream_pb2.Schema(
        route_id=schema.route_id,
        part=f"SCHEMA_PART_{schema.part.name}",
        status_class=schema.status_class,
        media_type=schema.media_type,
        generation=schema.generation,
        version=schema.version,
        samples=schema.samples,
        fields=[_write_field(field) for field in schema.fields],
        operations=[_write_operation(one) for one in schema.operations],
        left_out=schema.left_out,
        operation=schema.operation,
        document=schema.document,
        tokens=[stream_pb2.TokenClaim(claim=claim, value=value, calls=calls) for claim, value, calls in schema.tokens],
    )


def _write_operation(one: OperationCount) -> stream_pb2.Operation:
    return stream_pb2.Operation(
        protocol=one.protocol,
        kind=one.kind,
        name=one.name,
        calls=one.calls,
        errors=one.errors,
        facts=stream_pb2.OperationFacts(
            served=one.served,
            refused=one.refused,
            failed=one.failed,
            authentication=[
                stream_pb2.CountedNumber(number=number, count=count) for number, count in one.authentication
            ],
            data=[stream_pb2.CountedNumber(number=number, count=count) for number, count in one.data],
            requests_read=one.requests_read,
            responses_read=one.responses_read,
            consumers=one.consumers,
            first_seen_unix_seconds=one.first_seen,
            last_seen_unix_seconds=one.last_seen,
        ),
    )


def _write_field(field: Field) -> stream_pb2.SchemaField:
    return stream_pb2.SchemaField(
        path=field.path,
        present=field.present,
        objects=field.objects,
        types=[stream_pb2.CountedText(text=text, count=count) for text, count in field.types],
        values=field.values,
        is_open=field.is_open,
    )
