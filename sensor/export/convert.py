"""Converts window rows to wire batches: the rows that leave together, as columns with dictionaries.

Takes `RowColumns` and gives serialised `Batch`es (proto/apidae/v1/data.proto) with sequence and key id: one where the
rows fit into one, for a batch costs the collector as much as ten rows. Nothing is done for each row in Python. A row
that cannot be written is found by halving and dropped, and the rest of its batch is sent.

Columns of numbers are packed fields, written by array: 10 ns a number, where the runtime's lists take 65 ns. A field is
its tag, the length of its data, and the numbers as varints (7 bits a byte, the upper bit means more) or as 8 bytes
little-endian.

A route names its service and texts by their indexes in the batch's own dictionaries. A service may report 10,000 routes
each window, so the bytes of each route are kept with gaps for these indexes. An index takes three bytes, whatever it
is, because varints may be longer than needed. Source: protobuf.dev/programming-guides/encoding.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from apidae.v1 import data_pb2
from numpy.typing import NDArray

from common.bounded import BoundedDict
from sensor.aggregate.dictionary import Facts
from sensor.aggregate.rows import (
    COMMON_SUMS,
    LARGEST_NUMBER,
    LISTS,
    RARE_LISTS,
    SENT_SUMS,
    Peak,
    RowColumns,
    Rows,
    Sum,
)
from sensor.core.arrays import Index, Ragged, find_order, find_runs, number_runs, number_values
from sensor.core.calls import Route, Segment, Service
from sensor.core.health import StageCount, StageCounter
from sensor.coverage.unread import ENDS_MAX, NAMED_MAX, NO_UNREAD, ClientLoss, ClientLosses, UnreadCount

_LENGTH_DELIMITED: Final = 2
_LOW_BITS: Final = 0x7F


def encode_columns(varints: Mapping[int, NDArray[Any]], fixed: Mapping[int, NDArray[np.uint64]]) -> bytes:
    """A message of these repeated numbers, by field number; an empty column is left out."""
    data = {field: column.astype("<u8", copy=False).tobytes() for field, column in fixed.items()}
    large: dict[int, NDArray[Any]] = {}
    for field, column in varints.items():
        if len(column) and np.max(column) > _LOW_BITS:
            large[field] = column
        else:
            data[field] = column.astype(np.uint8).tobytes()
    if large:
        data.update(_encode_large(large))
    return b"".join(
        part for field in sorted(data) if data[field] for part in (*_begin_field(field, len(data[field])), data[field])
    )


def encode_field(field: int, data: bytes) -> bytes:
    """A field of bytes: packed numbers, a message, a string."""
    return b"".join((*_begin_field(field, len(data)), data))


def _begin_field(field: int, length: int) -> tuple[bytes, bytes]:
    return encode_varint(field << 3 | _LENGTH_DELIMITED), encode_varint(length)


def encode_varint(value: int) -> bytes:
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def _encode_large(columns: Mapping[int, NDArray[Any]]) -> dict[int, bytes]:
    """All columns in one go, for the cost of a call into numpy counts once then and not for each."""
    lengths = np.cumsum([len(column) for column in columns.values()])
    values = np.empty(int(lengths[-1]), np.uint64)
    start = 0
    for column, end in zip(columns.values(), lengths.tolist(), strict=True):
        values[start:end] = column
        start = end
    encoded, ends = _encode_varints(values)
    whole, start, data = encoded.tobytes(), 0, {}
    for field, end in zip(columns, ends[lengths - 1].tolist(), strict=True):
        data[field] = whole[start:end]
        start = end
    return data


def _encode_varints(values: NDArray[np.uint64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All of them in a row, and where each ends. `values` is not empty."""
    sizes = np.ones(len(values), np.int64)
    bits = 7
    largest = int(np.max(values))
    while bits < 64 and largest >> bits:
        sizes += values >= np.uint64(1 << bits)
        bits += 7
    ends = np.cumsum(sizes)
    data = np.empty(int(ends[-1]), np.uint8)
    places, rest = ends - sizes, values
    while True:
        has_more = rest > _LOW_BITS
        data[places] = (rest & _LOW_BITS).astype(np.uint8) | has_more.astype(np.uint8) << 7
        more = np.flatnonzero(has_more)
        if not len(more):
            return data, ends
        places, rest = places[more] + 1, rest[more] >> np.uint64(7)


# Kept; dropped whole when full. Some 500 bytes each.
ROUTES_MAX: Final = 16_384
_ROOM: Final = bytes(3)
_VARINT, _FIXED64 = 0, 1


@dataclass(frozen=True, slots=True)
class _Packed:
    """`rooms`: where in `data` the places of the service and of each of `texts` belong."""

    route: Route
    data: bytes
    rooms: tuple[int, ...]
    texts: tuple[str, ...]


class PackedRoutes:
    """Routes met lately. Not thread-safe."""

    def __init__(self) -> None:
        self._known: BoundedDict[int, _Packed] = BoundedDict(ROUTES_MAX)

    def encode(
        self, routes: Sequence[Route], *, index_service: Callable[[Service], int], index_string: Callable[[str], int]
    ) -> bytes:
        """The field `routes` of a batch. Cost: some 1 us each, and 10 us of one that was not met lately."""
        parts: list[bytes] = []
        rooms: list[int] = []
        places: list[int] = []
        start = 0
        for route in routes:
            packed = self._known.get(route.route_id)
            if packed is None or packed.route is not route:  # Words of it may have been revealed.
                packed = self._pack(route)
            parts.append(packed.data)
            rooms += [start + room for room in packed.rooms]
            places.append(index_service(route.service))
            places += map(index_string, packed.texts)
            start += len(packed.data)
        data = np.frombuffer(bytearray().join(parts), np.uint8)
        if rooms:
            _fill(data, np.array(rooms), np.array(places))
        return data.tobytes()

    def _pack(self, route: Route) -> _Packed:
        packed = self._known[route.route_id] = _pack_route(route)
        return packed


def _fill(data: np.ndarray, rooms: np.ndarray, places: np.ndarray) -> None:
    data[rooms] = places & 0x7F | 0x80
    data[rooms + 1] = places >> 7 & 0x7F | 0x80
    data[rooms + 2] = places >> 14


def _pack_route(route: Route) -> _Packed:
    fields = data_pb2.Route
    data = bytearray(_begin(fields.ROUTE_ID_FIELD_NUMBER, _FIXED64) + route.route_id.to_bytes(8, "little"))
    rooms = [
        _make_room(data, number)
        for number in (fields.SERVICE_FIELD_NUMBER, fields.HOST_FIELD_NUMBER, fields.METHOD_FIELD_NUMBER)
    ]
    texts = [route.host, route.method]
    for segment in route.segments:
        packed, room = _pack_segment(segment)
        data += encode_field(fields.SEGMENTS_FIELD_NUMBER, packed)
        if room is not None:
            rooms.append(len(data) - len(packed) + room)
            texts.append(segment.text)
    if route.has_trailing_slash:
        data += _begin(fields.HAS_TRAILING_SLASH_FIELD_NUMBER, _VARINT) + encode_varint(1)
    message = encode_field(data_pb2.Batch.ROUTES_FIELD_NUMBER, bytes(data))
    head = len(message) - len(data)
    return _Packed(route, message, tuple(head + room for room in rooms), tuple(texts))


def _pack_segment(segment: Segment) -> tuple[bytes, int | None]:
    """With the room for its text's place, where it has one."""
    fields = data_pb2.Segment
    data = bytearray(_begin(fields.KIND_FIELD_NUMBER, _VARINT) + encode_varint(int(segment.kind)))
    room = _make_room(data, fields.TEXT_FIELD_NUMBER) if segment.text else None
    if segment.hash:
        data += _begin(fields.HASH_FIELD_NUMBER, _FIXED64) + segment.hash.to_bytes(8, "little")
    if segment.length:
        data += _begin(fields.LENGTH_FIELD_NUMBER, _VARINT) + encode_varint(segment.length)
    return bytes(data), room


def _make_room(data: bytearray, number: int) -> int:
    data += _begin(number, _VARINT)
    room = len(data)
    data += _ROOM
    return room


def _begin(number: int, wire_type: int) -> bytes:
    return encode_varint(number << 3 | wire_type)


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
_FIELDS: Final = {field.name: field.number for field in data_pb2.Rows.DESCRIPTOR.fields}
_ROWS_FIELD: Final = data_pb2.Batch.ROWS_FIELD_NUMBER
# Why a row is dropped here.
UNWRITABLE: Final = "unwritable"
# Batches of one call of `convert` that may fail before what cannot be written is dropped together with its neighbours:
# enough to find four rows of 10,000.
FAILURES_MAX: Final = 64

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SerialisedBatch:
    """A batch as bytes, on its way to the spool."""

    sequence: int
    calls: int
    payload: bytes


ServiceWay = tuple[Service, bool]  # Whether TLS carries the calls.
SERVICE_LOSSES_MAX: Final = 256  # Of one batch; the others go with the next.
_TOLD_LOSSES_MAX: Final = 4_096
CLIENT_LOSSES_MAX: Final = 256  # Of one batch, the same.
_TOLD_CLIENTS_MAX: Final = 2 * ENDS_MAX  # More than there are totals: whoever is forgotten here was forgotten there.


@dataclass(slots=True, kw_only=True)
class _Task:
    """What the batches of one call of `convert` have alike, and how many of them failed."""

    columns: RowColumns
    key_id: int
    policy_epoch: int
    clock_segment: int
    totals: tuple[int, int, int, int]  # Calls lost and seen, and of these the ones over TLS.
    service_losses: Mapping[ServiceWay, int]  # In none of these.
    client_losses: ClientLosses  # Nor are these.
    failures: int = 0


class BatchConverter:
    """Makes batches of one sensor process: numbers them, and says in each what was lost since the one before."""

    def __init__(self, *, node: str, boot_id: str) -> None:
        self._node = node
        self._boot_id = boot_id
        self._sequence = 0
        self._stage = StageCounter("convert")
        self._told = (0, 0, 0, 0)  # Totals (lost, seen, and both of TLS) as they were sent last.
        self._told_losses: BoundedDict[ServiceWay, int] = BoundedDict(_TOLD_LOSSES_MAX)
        self._told_clients: BoundedDict[ClientLoss, UnreadCount] = BoundedDict(_TOLD_CLIENTS_MAX)
        self._route_bytes: BoundedDict[int, int] = BoundedDict(ROUTES_MAX)  # By route id.
        self._packed_routes = PackedRoutes()

    def convert(
        self,
        columns: RowColumns,
        *,
        key_id: int,
        policy_epoch: int,
        clock_segment: int,
        lost_calls_total: int,
        seen_calls_total: int,
        tls_lost_calls_total: int = 0,
        tls_seen_calls_total: int = 0,
        service_losses: Mapping[ServiceWay, int] = MappingProxyType({}),
        client_losses: ClientLosses = MappingProxyType({}),
    ) -> list[SerialisedBatch]:
        """Batches of at most 10,000 rows and some 2 MiB; totals are since the sensor's start. Cost: about 2 us a
        row."""
        task = _Task(
            columns=columns,
            key_id=key_id,
            policy_epoch=policy_epoch,
            clock_segment=clock_segment,
            totals=(lost_calls_total, seen_calls_total, tls_lost_calls_total, tls_seen_calls_total),
            service_losses=service_losses,
            client_losses=client_losses,
        )
        try:
            parts = list(self._split(columns))
        except Exception:
            self._drop(columns.rows)
            return []
        return [batch for places in parts for batch in self._convert_places(task, places)]

    def count(self) -> StageCount:
        """The account of calls whose rows were to be written."""
        return self._stage.count()

    def _convert_places(self, task: _Task, places: Index) -> list[SerialisedBatch]:
        """A batch of these rows; where it cannot be written, batches of those that can."""
        try:
            batch = self._convert_batch(task, places)
        except Exception:
            task.failures += 1
            if len(places) > 1 and task.failures < FAILURES_MAX:
                half = len(places) // 2
                parts = (places[:half], places[half:])
                return [batch for part in parts for batch in self._convert_places(task, part)]
            self._drop(task.columns.rows.take(places))
            return []
        self._stage.see(batch.calls)
        self._stage.use(batch.calls)
        return [batch]

    def _drop(self, rows: Rows) -> None:
        calls = int(rows.sums[Sum.CALLS].sum())
        self._stage.see(calls)
        self._stage.drop(UNWRITABLE, calls)
        logger.exception("%d rows of calls cannot be written and are dropped", len(rows))

    def _convert_batch(self, task: _Task, places: Index) -> SerialisedBatch:
        since = zip(task.totals, self._told, strict=True)
        lost, seen, tls_lost, tls_seen = (max(0, total - sent) for total, sent in since)
        message = data_pb2.Batch(
            node=self._node,
            boot_id=self._boot_id,
            sequence=self._sequence + 1,
            key_id=task.key_id,
            policy_epoch=task.policy_epoch,
            clock_segment=task.clock_segment,
            lost_calls=lost,
            seen_calls=seen,
            tls_lost_calls=tls_lost,
            tls_seen_calls=tls_seen,
        )
        services = _list_services(task.columns, places) if task.service_losses or task.client_losses else set()
        losses = self._list_losses(task.service_losses, services)
        for (service, is_encrypted), own in losses.items():
            one = message.service_losses.add(is_encrypted=is_encrypted, lost_calls=own)
            write_service(service, one.service)
        clients = self._list_client_losses(task.client_losses, services)
        for client, count in clients.items():
            one = message.service_losses.add(
                is_encrypted=client.is_encrypted,
                lost_calls=count.calls,
                client_address=client.client_address,
                unread_reason=data_pb2.UnreadReason.ValueType(client.reason),
                unread_bytes=count.bytes,
            )
            write_service(client.service, one.service)
        batch = _serialise(message, task.columns, places, self._packed_routes)
        for key in losses:
            self._told_losses.renew(key, task.service_losses[key])
        for client in clients:
            self._told_clients.renew(client, task.client_losses[client])
        self._sequence += 1
        self._told = task.totals
        return batch

    def _list_losses(self, totals: Mapping[ServiceWay, int], services: Set[Service]) -> dict[ServiceWay, int]:
        """What services lost since that was sent last, of those whose rows the batch has."""
        new = ((key, total - self._told_losses.get(key, 0)) for key, total in totals.items() if key[0] in services)
        return dict(islice(((key, lost) for key, lost in new if lost > 0), SERVICE_LOSSES_MAX))

    def _list_client_losses(self, totals: ClientLosses, services: Set[Service]) -> dict[ClientLoss, UnreadCount]:
        """What clients of these services sent unread since that was sent last: of each service the most."""
        new: dict[ClientLoss, UnreadCount] = {}
        for key, total in totals.items():
            if key.service not in services:
                continue
            sent = self._told_clients.get(key, NO_UNREAD)
            if total.calls < sent.calls or total.bytes < sent.bytes:  # It was forgotten meanwhile.
                sent = NO_UNREAD
            if total != sent:
                new[key] = UnreadCount(total.calls - sent.calls, total.bytes - sent.bytes)
        named: Counter[Service] = Counter()
        chosen: dict[ClientLoss, UnreadCount] = {}
        for key, count in sorted(new.items(), key=lambda one: one[1], reverse=True):
            named[key.service] += 1
            if named[key.service] <= NAMED_MAX and len(chosen) < CLIENT_LOSSES_MAX:
                chosen[key] = count
        return chosen

    def _split(self, columns: RowColumns) -> Iterator[Index]:
        """Places in `columns`, by route, within the bounds of a batch."""
        routes = columns.rows.routes
        numbers, _, inverse = number_values(routes)
        of_route = np.array([self._measure(columns.facts.find_route(number)) for number in numbers.tolist()], np.int64)
        order = find_order(routes, 16)
        sizes = _ROW_BYTES + _OBJECT_BYTES * (columns.rows.objects.lengths + columns.rows.payloads.lengths)
        sizes += _BUCKET_BYTES * (columns.rows.durations.lengths + columns.rows.sizes.lengths)
        sizes = sizes[order]
        is_first = find_runs(routes[order])
        sizes[is_first] += of_route[inverse[order[is_first]]]
        ends_bytes = np.cumsum(sizes)
        start = 0
        while start < len(order):
            taken_bytes = int(ends_bytes[start - 1]) if start else 0
            fitting = int(ends_bytes.searchsorted(taken_bytes + BATCH_BYTES_LIMIT, side="right"))
            stop = max(start + 1, min(fitting, start + BATCH_ROWS_LIMIT))
            yield order[start:stop]
            start = stop

    def _measure(self, route: Route) -> int:
        known = self._route_bytes.get(route.route_id)
        if known is None:
            known = self._route_bytes[route.route_id] = _estimate_route(route)
        return known


def write_service(service: Service, message: data_pb2.Service) -> None:
    """Fill a message with a service."""
    message.cluster, message.namespace, message.workload = service.cluster, service.namespace, service.workload
    message.workload_kind = int(service.workload_kind)  # type: ignore[assignment]
    message.host_name, message.port = service.host_name, service.port


class _Dictionaries:
    """Strings and services of one batch, each once; gives their indexes."""

    def __init__(self, batch: data_pb2.Batch, facts: Facts) -> None:
        self._batch = batch
        self._facts = facts
        self._strings: dict[str, int] = {"": 0}
        self._services: dict[Service, int] = {}
        self._last_service: Service | None = None
        self._last_index = 0

    def index_texts(self, *columns: NDArray[Any]) -> list[NDArray[Any]]:
        """Indexes of columns of texts of `Facts`. To be called first, while there are no other strings."""
        numbers, inverse = np.unique(np.concatenate([[0], *columns]), return_inverse=True)
        texts = self._facts.find_texts(numbers.tolist())
        self._strings = dict(zip(texts, range(len(texts)), strict=True))
        return np.split(inverse[1:], len(columns))

    def index_media_types(self, numbers: NDArray[Any]) -> Index:
        distinct, _, inverse = number_values(numbers)
        texts = [self._facts.find_media_type(number) for number in distinct.tolist()]
        return np.array([self.index_string(text) for text in texts], np.int64)[inverse]

    def index_senders(self, numbers: NDArray[Any]) -> tuple[Index, Index]:
        """Indexes of the client software and of the carriers that go with media types of `Facts`."""
        distinct, _, inverse = number_values(numbers)
        known = [(self._facts.find_software(number), self._facts.find_carriers(number)) for number in distinct.tolist()]
        indexes = np.array([[self.index_string(text) for text in texts] for texts in known], np.int64).reshape(-1, 2)
        return indexes[inverse, 0], indexes[inverse, 1]

    def index_string(self, text: str) -> int:
        return self._strings.setdefault(text, len(self._strings))

    def write_strings(self) -> None:
        """Last, when all are known: dictionaries keep the order in which their keys came."""
        self._batch.strings.extend(self._strings)

    def index_service(self, service: Service) -> int:
        # Mostly it is the same object, which says so sooner than its hash.
        if service is self._last_service:
            return self._last_index
        index = self._services.get(service)
        if index is None:
            index = self._services[service] = len(self._services)
            write_service(service, self._batch.services.add())
        self._last_service, self._last_index = service, index
        return index


def _serialise(batch: data_pb2.Batch, columns: RowColumns, places: Index, packed: PackedRoutes) -> SerialisedBatch:
    """The batch of these rows, which stand by route."""
    rows = columns.rows.take(places)
    dictionaries = _Dictionaries(batch, columns.facts)
    identities, facts = rows.identities, columns.facts.identities
    client_address, client_workload, protocol_version = dictionaries.index_texts(
        *(column[identities] for column in (facts.client_address, facts.client_workload, facts.protocol_version))
    )
    routes = rows.routes
    starts = find_runs(routes)
    packed_routes = packed.encode(
        [columns.facts.find_route(number) for number in routes[starts].tolist()],
        index_service=dictionaries.index_service,
        index_string=dictionaries.index_string,
    )
    softwares, carriers = dictionaries.index_senders(rows.request_types)
    start_seconds = columns.start_unix_seconds[places]
    batch.base_time_unix_seconds = int(np.min(start_seconds))
    varints: dict[str, NDArray[Any]] = {
        "route": number_runs(starts, len(rows)),
        "window_offset_seconds": start_seconds - batch.base_time_unix_seconds,
        "window_length_seconds": columns.length_seconds[places],
        "principal_kind": facts.principal_kind[identities],
        "client_address": client_address,
        "client_workload": client_workload,
        "authentication": facts.authentication[identities],
        "status_code": rows.statuses,
        "role": rows.roles,
        "hop": rows.hops,
        "protocol_version": protocol_version,
        "request_content_type": dictionaries.index_media_types(rows.request_types),
        "response_content_type": dictionaries.index_media_types(rows.response_types),
        "flags": rows.flags,
        "duration_max_us": rows.peaks[Peak.DURATION_US],
        "objects_count": rows.objects_counts,
        "object_numeric_span": _find_spans(rows),
        **_list_sums(rows),
    }
    # Of plain HTTP these hold nothing but zeros, and are omitted then.
    rare: dict[str, NDArray[Any]] = {
        "kind": facts.kind[identities],
        "rpc_status": rows.rpc_statuses,
        "client_software": softwares * ~facts.is_other[identities],
        "carriers": carriers,
    }
    varints |= {name: column for name, column in rare.items() if column.any()}
    dictionaries.write_strings()
    fixed: dict[str, NDArray[np.uint64]] = {
        "principal": facts.principal[identities],
        "credential": facts.credential[identities],
    }
    for name, (lengths, values, *counts) in LISTS.items():
        lists: Ragged = getattr(rows, name)
        if name in RARE_LISTS and not len(lists.values):
            continue
        varints[lengths] = lists.lengths
        (varints if counts else fixed)[values] = lists.values
        if counts:
            varints[counts[0]] = lists.get_counts()
    body = encode_columns(
        {_FIELDS[name]: column for name, column in varints.items()},
        {_FIELDS[name]: column for name, column in fixed.items()},
    )
    return SerialisedBatch(
        sequence=batch.sequence,
        calls=int(rows.sums[Sum.CALLS].sum()),
        payload=batch.SerializeToString() + packed_routes + encode_field(_ROWS_FIELD, body),
    )


def _list_services(columns: RowColumns, places: Index) -> set[Service]:
    """Whose rows these are."""
    return {columns.facts.find_route(number).service for number in np.unique(columns.rows.routes[places]).tolist()}


def _find_spans(rows: Rows) -> NDArray[np.uint64]:
    """Of integer objects; both peaks are distances from the ends of the range, so their sum less the range is it."""
    spans: NDArray[np.uint64] = rows.peaks[Peak.NUMBER] + rows.peaks[Peak.NUMBER_BELOW] - np.uint64(LARGEST_NUMBER)
    spans *= rows.sums[Sum.OBJECT_NUMERIC_CALLS] > 0
    return spans


def _list_sums(rows: Rows) -> dict[str, NDArray[np.uint64]]:
    """Sums by the wire's names; past the common ones without those that are 0 in all rows."""
    held = [(place, name, rows.sums[place]) for place, name in SENT_SUMS if place < len(rows.sums)]
    return {name: column for place, name, column in held if place < COMMON_SUMS or column.any()}


def _estimate_route(route: Route) -> int:
    texts_bytes = len(route.host) + sum(len(segment.text) for segment in route.segments)
    return _ROUTE_BYTES + texts_bytes + _STRING_BYTES * (2 + len(route.segments))
