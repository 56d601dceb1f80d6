"""Messages of a sensor as a fuzzer changes them: fields of valid ones take extreme values, go, or come twice.

Random bytes are refused at the first field. What finds faults is a message that is valid but for one or two values: a
count of 2^64 - 1, an enum below 0, a text with a NUL or an escape, a list that is longer than its neighbour.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from apidae.v1 import data_pb2, stream_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tests.collector.wire_batches import make_batch

INTEGERS: Final = (
    0,
    1,
    -1,
    2,
    9,
    255,
    256,
    65_535,
    65_536,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**53,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
TEXTS: Final = (
    "", "\0", "a\nb\x1b[31m", "=cmd|' /C calc'!A0", "<svg onload=x>", "\u202e\u2066\ufeff", "é" * 200, "x" * 5_000,
    "..", "/", '{"a":1}', "null", "'\"`;--", "other", "192.0.2.1", "1.1", "\U0001f41d\ud7ff", "a b c", "graphql",
    "query", "x,y",
)  # fmt: skip
_SIGNED: Final = {
    FieldDescriptor.CPPTYPE_INT32: 32,
    FieldDescriptor.CPPTYPE_INT64: 64,
    FieldDescriptor.CPPTYPE_ENUM: 32,
}
_UNSIGNED: Final = {FieldDescriptor.CPPTYPE_UINT32: 32, FieldDescriptor.CPPTYPE_UINT64: 64}


class Choices:
    """Decisions read from bytes; behind their end all are 0."""

    def __init__(self, data: bytes) -> None:
        self._data = iter(data)

    def choose(self, count: int) -> int:
        """One of so many."""
        return next(self._data, 0) % count

    def choose_integer(self, kind: int) -> int:
        """One that the field's type can hold."""
        number = INTEGERS[self.choose(len(INTEGERS))]
        if kind in _SIGNED:
            bound = 1 << (_SIGNED[kind] - 1)
            return (number + bound) % (2 * bound) - bound
        return number % (1 << _UNSIGNED[kind])


def change_message(message: Message, choices: Choices) -> None:
    """Changes up to three fields anywhere in the message."""
    for _ in range(1 + choices.choose(3)):
        places = list(_list_places(message))
        high, low = choices.choose(256), choices.choose(256)
        _change_field(*places[(high << 8 | low) % len(places)], choices)


def fill_numbers(message: Message, number: int) -> None:
    """Makes every number of the message, and of its parts, as large as `number` and the field's type allow."""
    for field, value in message.ListFields():
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            for part in value if field.is_repeated else [value]:
                fill_numbers(part, number)
        elif field.cpp_type in _UNSIGNED:
            largest = min(number, (1 << _UNSIGNED[field.cpp_type]) - 1)
            if field.is_repeated:
                value[:] = [largest] * len(value)
            else:
                setattr(message, field.name, largest)


def _list_places(message: Message, depth: int = 0) -> Iterator[tuple[Message, FieldDescriptor]]:
    """Each field of the message, and of its parts (of a list, the first three)."""
    for field in message.DESCRIPTOR.fields:
        yield message, field
        if field.cpp_type != FieldDescriptor.CPPTYPE_MESSAGE or depth > 4:
            continue
        value = getattr(message, field.name)
        parts = value[:3] if field.is_repeated else [value] if message.HasField(field.name) else []
        for part in parts:
            yield from _list_places(part, depth + 1)


def _change_field(message: Message, field: FieldDescriptor, choices: Choices) -> None:
    if field.is_repeated:
        _change_list(getattr(message, field.name), field, choices)
    elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        if choices.choose(2):
            message.ClearField(field.name)
        else:
            getattr(message, field.name).SetInParent()
    else:
        setattr(message, field.name, _make_value(field, choices))


def _change_list(values: Any, field: FieldDescriptor, choices: Choices) -> None:
    is_message = field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE
    match choices.choose(4):
        case 0 if is_message:
            values.add()
        case 1 if is_message and len(values):
            values.add().CopyFrom(values[0])
        case 0 | 1 if not is_message:
            values.append(_make_value(field, choices))
        case 2 if len(values):
            del values[choices.choose(len(values))]
        case _ if len(values) and not is_message:
            values[choices.choose(len(values))] = _make_value(field, choices)


def _make_value(field: FieldDescriptor, choices: Choices) -> Any:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING:
        text = TEXTS[choices.choose(len(TEXTS))]
        return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return bool(choices.choose(2))
    return choices.choose_integer(kind)


def make_messages(node: str, now: int) -> dict[str, Callable[[], stream_pb2.ConnectRequest]]:
    """A valid message of each kind, by kind."""
    return {
        "batch": lambda: stream_pb2.ConnectRequest(batch=make_batch(node=node, base=now - 60)),
        "health": _make_health,
        "coverage": lambda: stream_pb2.ConnectRequest(coverage=_make_coverage(node)),
        "policy_result": lambda: stream_pb2.ConnectRequest(
            policy_result=stream_pb2.PolicyResult(epoch=1, is_applied=False, reason="no")
        ),
        "revealed": lambda: stream_pb2.ConnectRequest(
            revealed=stream_pb2.Revealed(key_id=1, hashes=[1, 2], texts=["a", "b"])
        ),
        "schemas": lambda: stream_pb2.ConnectRequest(schemas=_make_schemas()),
        "enforcement": _make_enforcement,
        "attachments": _make_attachments,
    }


def make_message(data: bytes, node: str = "node-a", now: int = 0, sequence: int = 1) -> bytes:
    """A message of the kind that the first byte names, changed by those that follow; 255: they are the message."""
    if not data or data[0] == 255:
        return data[1:]
    kinds = list(make_messages(node, now or int(time.time())).values())
    message = kinds[data[0] % len(kinds)]()
    if message.HasField("batch"):
        message.batch.sequence = sequence
    change_message(message, Choices(data[1:]))
    return message.SerializeToString()


def _make_health() -> stream_pb2.ConnectRequest:
    health = stream_pb2.Health(
        time_unix_ns=1, state=stream_pb2.SENSOR_STATE_CAPTURING, lag_ms=5, spool_bytes=6, memory_bytes=7, cpu_ns=8,
        reason="", capture=stream_pb2.CAPTURE_WAY_CGROUP_SKB, fallback_reason="",
    )  # fmt: skip
    for name in ("kernel", "describe"):
        health.stages.add(stage=name, seen=9, used=7, dropped_reasons=["ring", "share"], dropped_counts=[1, 1])
    return stream_pb2.ConnectRequest(health=health)


def _make_coverage(node: str) -> stream_pb2.Coverage:
    coverage = stream_pb2.Coverage(time_unix_ns=1)
    for protocol in (1, 2, 10):
        port = coverage.ports.add(
            protocol=protocol, role=1, connections=3, bytes=4, address="0.0.0.0", calls=5, lost_calls=1
        )
        port.service.CopyFrom(data_pb2.Service(workload="web", workload_kind=1, host_name=node, port=8080))
        hello = port.handshakes
        hello.count = 3
        for texts in (
            hello.server_names,
            hello.protocols,
            hello.versions,
            hello.cipher_suites,
            hello.weaknesses,
            hello.peers,
        ):
            texts.add(text="a", count=2)
        hello.weak_choices.add(version="TLS 1.0", cipher_suite="RC4", count=1, age_seconds=60)
    coverage.workloads.add(
        cluster="c", namespace="shop", workload="web", kind="Deployment", labels=["a=b"], zone="z", pods=1,
        former_names=["0123456789ab"],
    )  # fmt: skip
    return coverage


def _make_schemas() -> stream_pb2.Schemas:
    schemas = stream_pb2.Schemas()
    for part in (1, 4, 5, 6, 110, 155):
        schema = schemas.schemas.add(
            route_id=11, part=part, status_class=2, media_type="application/json", generation=1, version=2, samples=3,
        )  # fmt: skip
        field = schema.fields.add(path="a/[]/b", present=3, objects=1, values=["x"], is_open=False)
        field.types.add(text="string/uuid", count=3)
        operation = schema.operations.add(protocol="graphql", kind="query", name="cart", calls=3, errors=1)
        operation.facts.served, operation.facts.consumers, operation.facts.last_seen_unix_seconds = 3, 1, 5
        operation.facts.authentication.add(number=2, count=3)
        operation.facts.data.add(number=70, count=1)
        schema.tokens.add(claim="issuer", value="idp.test", calls=3)
        schema.document = (
            '{"openapi":"3.1.0","info":{"title":"t","version":"1"},"paths":{"/users/{id}":{"get":{}}}}' * (part == 155)
        )
    return schemas


def _make_attachments() -> stream_pb2.ConnectRequest:
    attachments = stream_pb2.Attachments(lost=1)
    attachments.attachments.add(
        id="a", event=2, service=data_pb2.Service(namespace="shop", workload="web", workload_kind=4), process=7,
        process_name="java", consent=1, consent_text="1 shop/*", reason="It has no /tmp.", age_seconds=3,
    )  # fmt: skip
    return stream_pb2.ConnectRequest(attachments=attachments)


def _make_enforcement() -> stream_pb2.ConnectRequest:
    report = stream_pb2.EnforcementReport(epoch=1, is_enabled=True, reason="")
    report.blocks.add(id="block", state=2, reason="no room", stopped_connections=1, first_stop_unix_ms=1)
    return stream_pb2.ConnectRequest(enforcement=report)
