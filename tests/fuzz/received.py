"""What is fuzzed of what enters a collector: messages of sensors, its log, objects of Kubernetes, files, enrolment.

Each goes from the bytes to what the tables hold: every record is written as the database's client writes it.
"""

import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import fields
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

from apidae.v1 import stream_pb2
from clickhouse_connect.datatypes.registry import get_from_name
from clickhouse_connect.driver.insert import InsertContext
from msgspec import convert

from collector.alerting.detection import ChosenLevel
from collector.core.keys import KeyFileError
from collector.inventory.templates.table import TemplateTable
from collector.kubernetes.addresses import AddressBook, Targets
from collector.kubernetes.exposure import ExposureBook
from collector.kubernetes.placements import Placements
from collector.log.base import Append
from collector.log.file_reader import FileLogReader, load_cursor
from collector.log.files import FileLog
from collector.log.segment import locate_segment
from collector.receiver.clocks import SensorClocks
from collector.receiver.convert import convert_bytes, convert_fronts
from collector.receiver.reports import PROTOCOL_VERSION, RevealBook, convert_hello
from collector.receiver.schemas import DESCRIPTION
from collector.receiver.sensor_status import Greeting
from collector.receiver.sensor_table import SensorTable
from collector.receiver.sensors import SensorRegistry
from collector.receiver.stream import IngestContext, IngestCounts, SensorStream, _PreparedBatch
from collector.receiver.witness import RouteMemory, WitnessBook
from collector.receiver.writer import StoreWriter
from collector.response.block import Block
from collector.response.ladder import Rung
from collector.schemas.merging import StoredSchema, merge_operations, merge_parts, merge_tokens
from collector.storage.arrow import build_routes, build_rows
from collector.storage.base import Store
from collector.storage.clickhouse import TABLES, _plain
from collector.storage.columns import RowBatch
from collector.storage.row_group import make_group
from collector.storage.state.store import StateStore, open_state
from collector.trust.authority import Authority, AuthorityError, issue_sensor_certificate, make_authority
from collector.trust.enrollment import Enrollment, EnrollmentRefusedError, EnrollmentTable
from collector.trust.imports import read_issued, read_revocations
from common.durable import read_json
from tests.collector.kubernetes.manifests import (
    make_ingress,
    make_namespace,
    make_path,
    make_pod,
    make_policy,
    make_service,
    make_slice,
)
from tests.collector.kubernetes.states import decode, make_state
from tests.fuzz.wire import INTEGERS, TEXTS, Choices, change_message, make_message

_FAST: Final = "/dev/shm" if Path("/dev/shm").is_dir() else None
NOW: Final = 1_800_000_000
_GREETING: Final = Greeting(
    cluster="c", node="node-a", boot_id="b", key_id=1, version="", kernel_release="", policy_epoch=0,
    features=frozenset(), name="node-a",
)  # fmt: skip


class Rows:
    """Stands for the tables: it writes what it is given as the database's client does, and forgets it."""

    def __init__(self) -> None:
        self.count = 0

    def query(self, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        return []

    def insert_arrow(self, table: str, rows: Any, token: str = "") -> None:
        self.count += rows.num_rows

    def insert_records(self, table: str, records: Sequence[Any]) -> None:
        """Raises where a value does not fit its column."""
        types, context = _read_types(table), InsertContext(table, [], [])
        for field in fields(records[0]) if records else ():
            get_from_name(types[field.name]).write_column(
                [_plain(getattr(record, field.name)) for record in records], bytearray(), context
            )
        self.count += len(records)


@cache
def _read_types(name: str) -> dict[str, str]:
    (table,) = [table for table in TABLES if table.name == name]
    return {column: kind.split(" CODEC")[0].split(" DEFAULT")[0] for column, kind in table.types.items()}


def fuzz_sensor_message(data: bytes) -> None:
    """A message of a sensor, as `make_message` changes valid ones: nothing fails, and what it says fits the tables."""
    rows, sensors = Rows(), SensorRegistry(lambda: NOW)
    schemas: list[Any] = []
    context = SimpleNamespace(
        sensors=sensors, keys=(), clock=lambda: NOW, clocks=SensorClocks(lambda: NOW), find_backlog=str,
        reveals=RevealBook(), failures=_Failing(),
        witnesses=WitnessBook(lambda *_: None, lambda: NOW),
        on_coverage=lambda _, records, __: rows.insert_records("coverage_rows", records),
        on_workloads=lambda _, records: rows.insert_records("workloads", records),
        on_former_names=lambda records: _templates().add_former_names(records) if records else None,
        on_node_addresses=lambda *_: None,
        on_revealed=_templates().add_words,
        counts=IngestCounts(), on_schemas=schemas.extend, on_schema_offer=lambda *_: None,
        on_attachments=lambda _: None,
        on_enforcement=lambda *_: None,
    )  # fmt: skip
    stream = SensorStream(cast(IngestContext, context), None, _GREETING, None)
    context.witnesses.open("node-a").remember(11)
    _, result = stream._process(make_message(data, now=NOW), RouteMemory())
    if isinstance(result, _PreparedBatch):
        checked = convert_fronts([result.submission.front])
        batch = convert_bytes(result.submission.append.payload, NOW)
        assert isinstance(batch, RowBatch) == (checked.group is not None)
        if isinstance(batch, RowBatch):
            build_rows(make_group(batch))
            build_routes([(route, NOW) for route in batch.routes])
        rows.insert_records("schemas", result.schemas)
    elif callable(result):
        result()
    _sensor_table().write(sensors.take_changed())
    rows.insert_records("schemas", schemas)
    for status in sensors.list_statuses():
        json.loads(status.stages)
    states = [one for one in schemas if one.part != DESCRIPTION]
    stored = [StoredSchema(**{f.name: getattr(one, f.name) for f in fields(StoredSchema)}) for one in states]
    for merge in (merge_operations, merge_parts, merge_tokens):
        merge(stored)  # type: ignore[operator]


class _Failing(dict[str, int]):
    """Counts of failures; the first is an error here."""

    def __missing__(self, kind: str) -> int:
        raise AssertionError(f"a {kind} failed")


def fuzz_log_segment(data: bytes) -> None:
    """A file of the log as a crash or a disk may leave it: the start and the tables' writer go on behind it."""
    with tempfile.TemporaryDirectory(dir=_FAST) as name:
        directory = Path(name)
        wal = FileLog(directory, readers=("store",))
        payload = make_message(b"\0" + data, now=NOW)[4:]
        entries = [
            Append(node="n", boot_id="b", sequence=1, received_unix_ns=NOW * 10**9, payload=one)
            for one in (payload, data)
        ]
        wal.append(entries)
        wal.close()
        path = locate_segment(directory, 1)
        content = bytearray(path.read_bytes())
        choices = Choices(data)
        for _ in range(choices.choose(4)):
            content[(choices.choose(256) << 8 | choices.choose(256)) % len(content)] ^= 1 << choices.choose(8)
        path.write_bytes(content if choices.choose(2) else content[: len(content) - choices.choose(200)] + data)
        again = FileLog(directory, readers=("store",))
        again.append([Append(node="m", boot_id="b", sequence=1, received_unix_ns=NOW * 10**9, payload=payload)])
        reader, rows = FileLogReader(directory, "store"), Rows()
        writer = StoreWriter(
            reader=reader,
            store=cast(Any, rows),
            log_id="1",
            map_endpoints=lambda routes: None,
        )
        assert writer.drain() >= 1
        assert reader.cursor.position == again.position
        again.close()


_MANIFESTS: Final = (
    make_namespace("shop", team="a"),
    make_pod("orders-5d4f8b9c7d-aaaaa"),
    make_service(node_port=30_080, balanced=("192.0.2.1",), external=("192.0.2.2",)),
    make_slice("orders", {"orders-5d4f8b9c7d-aaaaa": "10.1.0.5"}),
    make_ingress("shop", make_path("/api"), make_path("/x", path_type="Exact")),
    make_policy("closed", ingress=[{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}], labels={"app": "orders"}),
)


def fuzz_kubernetes_object(data: bytes) -> None:
    """Objects of one namespace with odd values: each is followed or refused, and all that follows fits the tables."""
    choices = Choices(data)
    manifests = [json.loads(json.dumps(one)) for one in _MANIFESTS]
    for _ in range(1 + choices.choose(4)):
        _change_json(manifests[choices.choose(len(manifests))], choices)
    kept = []
    for manifest in manifests:
        with suppress(Exception):  # As the reflector: it is counted, and the next is followed.
            decode(manifest)
            make_state(manifest)
            kept.append(manifest)
    state, placements, rows = make_state(*kept), Placements(lambda: NOW), Rows()
    book, exposures = AddressBook("c"), ExposureBook("c")
    for pod in state.pods.values():
        placements.follow(None, pod)
        book.follow(None, pod, NOW)
    targets = Targets(state)
    book.refresh(state, targets, NOW)
    exposures.refresh(state, targets, NOW)
    rows.insert_records("peer_addresses", book.take_changed(NOW))
    rows.insert_records("exposures", exposures.take_changed())


def _change_json(document: Any, choices: Choices) -> None:
    """Another value somewhere in it."""
    places: list[tuple[Any, Any]] = []
    waiting = [document]
    while waiting:
        one = waiting.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one))
        places += [(one, key) for key in keys]
        waiting += [one[key] for key in keys if isinstance(one[key], dict | list)]
    holder, key = places[(choices.choose(256) << 8 | choices.choose(256)) % len(places)]
    values = (None, [], {}, True, TEXTS[choices.choose(len(TEXTS))], INTEGERS[choices.choose(len(INTEGERS))])
    holder[key] = values[choices.choose(len(values))]


def fuzz_stored_file(data: bytes) -> None:
    """Files of a data directory, changed by whatever: read, or one sentence that names the file."""
    choices = Choices(data)
    with tempfile.TemporaryDirectory(dir=_FAST) as name:
        path = Path(name) / "file.cursor"
        path.write_bytes(data[1:])
        path.chmod(0o600)
        readers: tuple[Callable[[], object], ...] = (
            lambda: read_json(path, partial(convert, type=list[Block]), ValueError(f"{path} is damaged")),
            lambda: read_json(path, partial(convert, type=list[Rung]), ValueError(f"{path} is damaged")),
            lambda: load_cursor(Path(name), "file"),
            lambda: read_revocations(data[1:], path),
            lambda: list(read_issued(data[1:])),
            lambda: read_json(path, partial(convert, type=ChosenLevel), ValueError(f"{path} is damaged")),
        )
        try:
            readers[choices.choose(len(readers))]()
        except (ValueError, KeyFileError) as error:
            assert str(path) in str(error)


def fuzz_enrollment(data: bytes) -> None:
    """What anybody who reaches the collector may send: a token and a certificate request, by a zero byte between."""
    token, _, request = data.partition(b"\0")
    table, enrollment = _enrollments()
    text = token.decode("utf-8", "replace").replace("NUMBER", enrollment.number)
    try:
        table.take(text, now=NOW, node="n", cluster="")
        raise AssertionError("a made-up token was taken")
    except EnrollmentRefusedError as error:
        assert error.reason
    try:
        assert issue_sensor_certificate(_authority(), request, cluster="c", node="n", now=NOW, seconds=60)
    except AuthorityError as error:
        assert str(error)


def fuzz_hello(data: bytes) -> None:
    """The first message: a greeting within its bounds, or a refusal in words."""
    hello = stream_pb2.Hello(protocol=PROTOCOL_VERSION, node="n", boot_id="b", version="1", cluster="c")
    change_message(hello, Choices(data))
    greeting = convert_hello(hello)
    if isinstance(greeting, Greeting):
        sensors = SensorRegistry(lambda: NOW)
        sensors.record_hello(greeting, 0.0)
        _sensor_table().write(sensors.take_changed())
    else:
        assert greeting.reason


@cache
def _state() -> StateStore:
    return open_state(Path(tempfile.mkdtemp(dir=_FAST)))


@cache
def _sensor_table() -> SensorTable:
    return SensorTable(_state())


@cache
def _templates() -> TemplateTable:
    return TemplateTable(_state(), cast(Store, Rows()))


@cache
def _enrollments() -> tuple[EnrollmentTable, Enrollment]:
    table = EnrollmentTable(_state())
    return table, table.make(now=NOW, ttl_seconds=60, node="n", cluster="", pin="-")[0]


@cache
def _authority() -> Authority:
    return make_authority(NOW)


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "sensor_message": fuzz_sensor_message,
    "hello": fuzz_hello,
    "log_segment": fuzz_log_segment,
    "kubernetes_object": fuzz_kubernetes_object,
    "stored_file": fuzz_stored_file,
    "enrollment": fuzz_enrollment,
}
