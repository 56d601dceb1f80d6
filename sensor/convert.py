"""Window rows to wire batches: one batch holds the rows of one partition, as columns with a dictionary of strings.

Takes `WindowRow`s, gives `Batch`es (proto/apidae/v1/data.proto) complete with sequence,
partition and key id. A partition is the first 8 bytes of BLAKE2b-64 over the length-prefixed cluster, namespace and
workload, modulo 64, the same on every node, so that one collector's detectors see all rows of a service.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from apidae.v1 import data_pb2

from sensor.calls import Route, Service
from sensor.window import WindowRow

PARTITIONS_COUNT: Final = 64
BATCH_ROWS_LIMIT: Final = 10_000
# Half of gRPC's default limit for a message: a row of 256 object hashes takes 2 KB, so rows alone do not bound a batch.
BATCH_BYTES_LIMIT: Final = 2 * 1024 * 1024
# What a row takes besides its sketches, its share of the dictionaries included (measured: 68 bytes; routes come on
# top).
_ROW_BYTES: Final = 128
_OBJECT_BYTES: Final = 8
_BUCKET_BYTES: Final = 4
# A route, and each of its dictionary entries: so a batch also stays far below 100,000 strings.
_ROUTE_BYTES: Final = 32
_STRING_BYTES: Final = 24


def find_partition(service: Service) -> int:
    """Partition of a service, 0 to 63."""
    digest = blake2b(digest_size=8)
    for part in (service.cluster, service.namespace, service.workload):
        text = part.encode()
        digest.update(len(text).to_bytes(4, "big") + text)
    return int.from_bytes(digest.digest(), "big") % PARTITIONS_COUNT


@dataclass(frozen=True, slots=True, kw_only=True)
class SerialisedBatch:
    """A batch as bytes, on its way to the spool."""

    sequence: int
    calls: int
    payload: bytes


def serialise_batch(batch: data_pb2.Batch) -> SerialisedBatch:
    """The batch as it is spooled and sent."""
    return SerialisedBatch(sequence=batch.sequence, calls=sum(batch.rows.calls), payload=batch.SerializeToString())


class BatchConverter:
    """Makes batches of one sensor process: numbers them, and tells each partition what was lost since its last
    batch."""

    def __init__(self, *, node: str, boot_id: str) -> None:
        self._node = node
        self._boot_id = boot_id
        self._sequence = 0
        # (lost, seen) totals as each partition last heard them.
        self._told = [(0, 0)] * PARTITIONS_COUNT
        self._partitions: dict[int, int] = {}  # By route id.

    def convert(
        self,
        rows: Sequence[WindowRow],
        *,
        key_id: int,
        policy_epoch: int,
        clock_segment: int,
        lost_calls_total: int,
        seen_calls_total: int,
    ) -> list[data_pb2.Batch]:
        """Batches of at most 10,000 rows and some 2 MiB; totals are since the sensor's start. Cost: about 10 us a
        row."""
        by_partition: dict[int, list[WindowRow]] = {}
        for row in rows:
            by_partition.setdefault(self._find_partition(row.route), []).append(row)
        batches = []
        for partition, partition_rows in by_partition.items():
            for chunk in _split(partition_rows):
                told_lost, told_seen = self._told[partition]
                self._told[partition] = (lost_calls_total, seen_calls_total)
                self._sequence += 1
                batch = data_pb2.Batch(
                    node=self._node,
                    boot_id=self._boot_id,
                    sequence=self._sequence,
                    partition=partition,
                    key_id=key_id,
                    policy_epoch=policy_epoch,
                    clock_segment=clock_segment,
                    lost_calls=max(0, lost_calls_total - told_lost),
                    seen_calls=max(0, seen_calls_total - told_seen),
                )
                _fill(batch, chunk)
                batches.append(batch)
        return batches

    def _find_partition(self, route: Route) -> int:
        partition = self._partitions.get(route.route_id)
        if partition is None:
            if len(self._partitions) >= BATCH_ROWS_LIMIT:
                self._partitions.clear()
            partition = self._partitions[route.route_id] = find_partition(route.service)
        return partition


class _Dictionaries:
    """Strings, services and routes of one batch, each once; gives their indexes."""

    def __init__(self, batch: data_pb2.Batch) -> None:
        self._batch = batch
        self._strings: dict[str, int] = {"": 0}
        self._services: dict[Service, int] = {}
        self._routes: dict[int, int] = {}

    def index_string(self, text: str) -> int:
        return self._strings.setdefault(text, len(self._strings))

    def index_route(self, route: Route) -> int:
        index = self._routes.get(route.route_id)
        if index is None:
            index = self._routes[route.route_id] = len(self._routes)
            self._add_route(route)
        return index

    def write_strings(self) -> None:
        """Last, when all are known: dictionaries keep the order in which their keys came."""
        self._batch.strings.extend(self._strings)

    def _add_route(self, route: Route) -> None:
        message = self._batch.routes.add(
            route_id=route.route_id,
            service=self._index_service(route.service),
            host=self.index_string(route.host),
            method=self.index_string(route.method),
            has_trailing_slash=route.has_trailing_slash,
        )
        for segment in route.segments:
            message.segments.add(
                kind=int(segment.kind),
                text=self.index_string(segment.text),
                hash=segment.hash,
                length=segment.length,
            )

    def _index_service(self, service: Service) -> int:
        index = self._services.get(service)
        if index is None:
            index = self._services[service] = len(self._services)
            self._batch.services.add(
                cluster=service.cluster,
                namespace=service.namespace,
                workload=service.workload,
                workload_kind=int(service.workload_kind),
                host_name=service.host_name,
                port=service.port,
            )
        return index


def _fill(batch: data_pb2.Batch, rows: Sequence[WindowRow]) -> None:
    dictionaries = _Dictionaries(batch)
    base_seconds = batch.base_time_unix_seconds = min(row.window_start_unix_seconds for row in rows)
    columns = batch.rows
    columns.route.extend([dictionaries.index_route(row.route) for row in rows])
    columns.window_offset_seconds.extend([row.window_start_unix_seconds - base_seconds for row in rows])
    columns.window_length_seconds.extend([row.window_length_seconds for row in rows])
    columns.principal.extend([row.actor.principal for row in rows])
    columns.principal_kind.extend([row.principal_kind for row in rows])
    columns.credential.extend([row.actor.credential for row in rows])
    columns.authentication.extend([row.authentication for row in rows])
    columns.status_code.extend([row.status_code for row in rows])
    columns.role.extend([row.role for row in rows])
    columns.hop.extend([row.hop for row in rows])
    columns.flags.extend([row.flags for row in rows])
    _fill_strings(columns, dictionaries, rows)
    _fill_sums(columns, rows)
    _fill_sketches(columns, rows)
    dictionaries.write_strings()


def _fill_strings(columns: data_pb2.Rows, dictionaries: _Dictionaries, rows: Sequence[WindowRow]) -> None:
    index = dictionaries.index_string
    columns.client_address.extend([index(row.actor.client_address) for row in rows])
    columns.client_workload.extend([index(row.actor.client_workload) for row in rows])
    columns.protocol_version.extend([index(row.protocol_version) for row in rows])
    columns.request_content_type.extend([index(row.request_content_type) for row in rows])
    columns.response_content_type.extend([index(row.response_content_type) for row in rows])


def _fill_sums(columns: data_pb2.Rows, rows: Sequence[WindowRow]) -> None:
    columns.calls.extend([row.calls for row in rows])
    columns.request_bytes.extend([row.request_bytes for row in rows])
    columns.response_bytes.extend([row.response_bytes for row in rows])
    columns.time_to_first_byte_sum_us.extend([row.time_to_first_byte_sum_us for row in rows])
    columns.duration_sum_us.extend([row.duration_sum_us for row in rows])
    columns.duration_max_us.extend([row.duration_max_us for row in rows])
    columns.object_numeric_calls.extend([row.object_numeric_calls for row in rows])
    columns.object_monotonic_steps.extend([row.object_monotonic_steps for row in rows])
    columns.object_numeric_span.extend([row.object_numeric_span for row in rows])


def _fill_sketches(columns: data_pb2.Rows, rows: Sequence[WindowRow]) -> None:
    for row in rows:
        duration = sorted(row.duration.counts.items())
        columns.duration_len.append(len(duration))
        columns.duration_bucket.extend([bucket for bucket, _ in duration])
        columns.duration_count.extend([count for _, count in duration])
        size = sorted(row.response_size.counts.items())
        columns.response_size_len.append(len(size))
        columns.response_size_bucket.extend([bucket for bucket, _ in size])
        columns.response_size_count.extend([count for _, count in size])
        columns.objects_len.append(len(row.objects.hashes))
        columns.objects_hash.extend(row.objects.sorted_hashes())
        columns.objects_count.append(row.objects.estimate())


def _split(rows: Sequence[WindowRow]) -> list[list[WindowRow]]:
    """Consecutive chunks within the bounds of a batch."""
    chunks: list[list[WindowRow]] = []
    size_bytes = BATCH_BYTES_LIMIT
    routes: set[int] = set()
    for row in rows:
        row_bytes = _ROW_BYTES + _OBJECT_BYTES * len(row.objects.hashes)
        row_bytes += _BUCKET_BYTES * (len(row.duration.counts) + len(row.response_size.counts))
        route_bytes = _estimate_route(row.route)
        size_bytes += row_bytes + (0 if row.route.route_id in routes else route_bytes)
        if size_bytes > BATCH_BYTES_LIMIT or len(chunks[-1]) >= BATCH_ROWS_LIMIT:
            chunks.append([])
            routes.clear()
            size_bytes = row_bytes + route_bytes
        routes.add(row.route.route_id)
        chunks[-1].append(row)
    return chunks


def _estimate_route(route: Route) -> int:
    texts_bytes = len(route.host) + sum(len(segment.text) for segment in route.segments)
    return _ROUTE_BYTES + texts_bytes + _STRING_BYTES * (2 + len(route.segments))
