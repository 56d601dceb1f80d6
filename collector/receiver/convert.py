"""Converts the wire to the domain: a Batch becomes a RowBatch with every index, length and bound checked, or a Refusal.

Nothing here raises on wire bytes. Columns are copied by `np.array(field)`, which protobuf >= 7.34 answers through
`__array__` at 0.13 ns an element. Older versions take 52 ns, as slow as messages by row, so `check_protobuf` refuses
them at the start. Unknown enum values, bits and fields of a newer sensor are kept and counted.
"""

import itertools
import logging
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from operator import attrgetter
from typing import Any, Final

import numpy as np
from apidae.v1 import data_pb2
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from numpy.typing import NDArray

from collector.core.rows import Route, Segment, Service, ServiceLoss
from collector.receiver.columns import (
    MEASURED,
    MESSAGE_LIMIT_BYTES,
    NAME_LIMIT_BYTES,
    TEXT_LIMIT_BYTES,
    RefusalError,
    WireRows,
    convert_columns,
    measure_rows,
)
from collector.storage.columns import CALLS_LIMIT, BatchHead, RowBatch
from collector.storage.row_group import RowGroup, join_groups
from common.bounded import BoundedDict

ROUTE_LIMIT: Final = 10_000
SEGMENT_LIMIT: Final = 64  # A path of 8 KiB could have more; the sensor folds the rest.
STRING_LIMIT: Final = 100_000  # Entries of the dictionary.
SERVICE_LOSS_LIMIT: Final = 1_024
_UNREAD_BYTES_LIMIT: Final = 1 << 50
_BYTE_MAX: Final = 255
_LATEST_BASE: Final = 1 << 40  # Unix seconds: what is later than that is refused as later.

_HIGHEST: Final = {
    column: max(enum.values())
    for column, enum in (
        ("role", data_pb2.Role),
        ("hop", data_pb2.Hop),
        ("principal_kind", data_pb2.PrincipalKind),
        ("kind", data_pb2.CallKind),
    )
}

logger = logging.getLogger(__name__)

# Fields of a Batch that a BatchHead has as they are.
_HEAD_NUMBERS: Final = (
    *("sequence", "key_id", "policy_epoch", "clock_segment"),
    *("lost_calls", "seen_calls", "tls_lost_calls", "tls_seen_calls"),
)
_HEAD: Final = ("node", "boot_id", *_HEAD_NUMBERS)
_read_head: Final = attrgetter(*_HEAD)
# The numbers of BatchMeasure: of the head, then how many entries each list has.
_MEASURED_NUMBERS: Final = (*_HEAD_NUMBERS, "base_time_unix_seconds")
_MEASURED_LISTS: Final = ("strings", "services", "routes", "service_losses")
_LAYOUT: Final = zlib.crc32(" ".join((*_MEASURED_NUMBERS, *_MEASURED_LISTS, *MEASURED)).encode())
_read_numbers: Final = attrgetter(*_MEASURED_NUMBERS)
_read_lists: Final = attrgetter(*_MEASURED_LISTS)
# Of a message all at once: to read each field by its own takes twice as long.
_read_service: Final = attrgetter("cluster", "namespace", "workload", "workload_kind", "host_name", "port")
_read_route: Final = attrgetter("route_id", "service", "host", "method", "has_trailing_slash", "segments")
_read_segment: Final = attrgetter("kind", "text", "hash", "length")
_ServiceFields = tuple[str, str, str, int, str, int]
_RouteFields = tuple[int, int, int, int, bool, Sequence[data_pb2.Segment]]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a batch can never be accepted: one sentence that names the field, the value and the bound."""

    reason: str


def check_protobuf() -> None:
    """Raise RuntimeError when the protobuf runtime cannot hand out columns as arrays."""
    if not hasattr(data_pb2.Rows().calls, "__array__"):
        from google.protobuf import __version__ as version

        raise RuntimeError(f"protobuf {version} cannot give arrays; install protobuf>=7.34 for the collector.")


@dataclass(frozen=True, slots=True)
class Converted:
    """What became of batches: the rows of those that are right, and why the others are refused, by their places."""

    group: RowGroup | None
    refusals: Mapping[int, Refusal]
    read_alone: int = 0  # Of serialised ones, how many were not parsed as one message with the others.


def convert_bytes(payload: bytes, now_unix_seconds: float) -> RowBatch | Refusal:
    """A serialised Batch; see `convert_batch`. Never raises."""
    return _take_one(convert_payloads([payload], [now_unix_seconds]))


def convert_batch(
    batch: data_pb2.Batch, now_unix_seconds: float, known: "RouteCache | None" = None
) -> RowBatch | Refusal:
    """Check everything, then convert. Never raises on any Batch. `known`: routes of earlier batches."""
    return _take_one(convert_batches([batch], [now_unix_seconds], known))


def _take_one(converted: Converted) -> RowBatch | Refusal:
    return converted.group.rows if converted.group is not None else converted.refusals[0]


def convert_payloads(payloads: Sequence[bytes], times: Sequence[float], known: "RouteCache | None" = None) -> Converted:
    """Serialised Batches, as they are kept in the write-ahead log: some 15 us a batch where all were measured. Whatever
    stands there, one batch stops nobody who reads the log."""
    known = known if known is not None else RouteCache(ROUTE_LIMIT)
    if payloads and max(map(len, payloads)) <= MESSAGE_LIMIT_BYTES:
        try:
            if (joined := _join_payloads(payloads, times, known)) is not None:
                return Converted(_convert_joined(joined), {})
        except Exception as error:  # As one by one will show.
            logger.debug("Batches cannot be read as one", exc_info=error)
    batches: list[data_pb2.Batch] = []
    places: list[int] = []
    refusals: dict[int, Refusal] = {}
    for place, payload in enumerate(payloads):
        if len(payload) > MESSAGE_LIMIT_BYTES:
            refusals[place] = Refusal(f"The batch has {len(payload)} bytes; the limit is {MESSAGE_LIMIT_BYTES}.")
            continue
        try:
            batches.append(data_pb2.Batch.FromString(payload))
        except DecodeError:
            refusals[place] = Refusal("The batch is not a serialised apidae.v1.Batch.")
        else:
            places.append(place)
    converted = convert_batches(batches, [times[place] for place in places], known)
    refusals |= {places[own]: why for own, why in converted.refusals.items()}
    return Converted(converted.group, refusals, read_alone=len(payloads))


def convert_batches(
    batches: Sequence[data_pb2.Batch], times: Sequence[float], known: "RouteCache | None" = None
) -> Converted:
    """Check everything of batches that came at these times (unix seconds), then convert them as one: some 30 us a batch
    and 0.3 us a row. Never raises on any Batch. `known`: routes of earlier batches."""
    known = known if known is not None else RouteCache(ROUTE_LIMIT)
    fronts: list[BatchFront] = []
    places: list[int] = []
    refusals: dict[int, Refusal] = {}
    for place, (batch, time) in enumerate(zip(batches, times, strict=True)):
        front = read_front(batch, time, known)
        if isinstance(front, Refusal):
            refusals[place] = front
        else:
            fronts.append(front)
            places.append(place)
    converted = convert_fronts(fronts)
    return Converted(converted.group, refusals | {places[own]: why for own, why in converted.refusals.items()})


def _refuse(error: Exception) -> Refusal:
    if isinstance(error, RefusalError):
        return Refusal(str(error))
    logger.error("A batch cannot be read", exc_info=error)
    return Refusal(f"The batch cannot be read ({type(error).__name__}).")


def count_unknown_fields(batch: data_pb2.Batch) -> int:
    """Fields of the batch and its rows that a newer sensor sent and this collector has no name for."""
    return len(UnknownFieldSet(batch)) + len(UnknownFieldSet(batch.rows))


def count_unknown_values(rows: RowBatch) -> int:
    """Enum values of rows that have no name here."""
    return sum(int(np.count_nonzero(getattr(rows, column) > highest)) for column, highest in _HIGHEST.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFront:
    """A batch of which all but the rows was checked and converted."""

    rows: data_pb2.Rows
    head: BatchHead
    base: int
    now: int
    lengths: list[int]
    strings: tuple[str, ...]
    routes: tuple[Route, ...]


def read_front(batch: data_pb2.Batch, now_unix_seconds: float, known: "RouteCache") -> BatchFront | Refusal:
    """The first half of `convert_batches`, batch by batch. Never raises."""
    try:
        _check_head(batch)
        strings = _convert_strings(batch.strings)
        return BatchFront(
            rows=batch.rows,
            head=BatchHead(
                **dict(zip(_HEAD, _read_head(batch), strict=True)),
                service_losses=tuple(map(_convert_loss, batch.service_losses)),
            ),
            base=min(batch.base_time_unix_seconds, _LATEST_BASE),
            now=int(now_unix_seconds),
            lengths=measure_rows(batch.rows),
            strings=strings,
            routes=known.find_all(batch.routes) or _convert_routes(batch.routes, batch.services, strings, known),
        )
    except Exception as error:
        return _refuse(error)


def convert_fronts(fronts: Sequence[BatchFront]) -> Converted:
    """The second half: the rows of those that are right as one group. A wrong one is found by halving."""
    if not fronts:
        return Converted(None, {})
    try:
        return Converted(_convert_joined(_join_fronts(fronts)), {})
    except Exception as error:
        if len(fronts) == 1:
            return Converted(None, {0: _refuse(error)})
    middle = len(fronts) // 2
    halves = convert_fronts(fronts[:middle]), convert_fronts(fronts[middle:])
    groups = [half.group for half in halves if half.group is not None]
    refusals = {**halves[0].refusals, **{middle + place: why for place, why in halves[1].refusals.items()}}
    return Converted(join_groups(groups) if groups else None, refusals)


def measure_batch(batch: data_pb2.Batch, front: BatchFront) -> None:
    """Write into a batch, as it goes into the log, what is its own there. `front` was read of it."""
    batch.ClearField("measure")
    measure = batch.measure
    measure.node.append(batch.node)
    measure.boot_id.append(batch.boot_id)
    measure.numbers.extend([*_read_numbers(batch), *map(len, _read_lists(batch)), *front.lengths])
    measure.layout.append(_LAYOUT)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Joined:
    """Several batches, whose lists are behind one another. Arrays have an entry a batch."""

    rows: data_pb2.Rows
    heads: Sequence[BatchHead]
    bases: NDArray[np.int64]
    nows: NDArray[np.int64]
    lengths: NDArray[np.int64]
    string_counts: NDArray[np.int64]
    strings: Sequence[str]
    route_counts: NDArray[np.int64]
    routes: Sequence[Route]


def _join_payloads(payloads: Sequence[bytes], times: Sequence[float], known: "RouteCache") -> _Joined | None:
    """Serialised batches, parsed as one message; None where one of them was not measured, or by another version. Raises
    DecodeError, RefusalError and what numbers that are wrong lead to."""
    whole, count = data_pb2.Batch.FromString(b"".join(payloads)), len(payloads)
    measure = whole.measure
    nodes, boot_ids = list(measure.node), list(measure.boot_id)
    if list(measure.layout) != [_LAYOUT] * count or len(nodes) != count or len(boot_ids) != count:
        return None
    numbers = np.array(measure.numbers, np.uint64).reshape(count, -1)
    heads, sizes = numbers[:, : len(_MEASURED_NUMBERS)], numbers[:, len(_MEASURED_NUMBERS) :].astype(np.int64)
    totals = [*map(len, _read_lists(whole)), *measure_rows(whole.rows)]
    # Each is looked at first, for their sum may be too large for its type.
    if int(np.min(sizes)) < 0 or int(np.max(sizes)) > max(totals) or sizes.sum(axis=0).tolist() != totals:
        return None
    lists, lengths = sizes[:, : len(_MEASURED_LISTS)], sizes[:, len(_MEASURED_LISTS) :]
    string_counts, _, route_counts, loss_counts = lists.T
    ends = np.cumsum(lists, axis=0).tolist()
    strings = _check_texts(tuple(whole.strings))
    losses = tuple(map(_convert_loss, whole.service_losses))
    return _Joined(
        rows=whole.rows,
        heads=[
            BatchHead(
                node=node,
                boot_id=boot_id,
                service_losses=losses[end[3] - held : end[3]] if held else (),
                **dict(zip(_HEAD_NUMBERS, head, strict=False)),
            )
            for node, boot_id, head, end, held in zip(
                nodes, boot_ids, heads.tolist(), ends, loss_counts.tolist(), strict=True
            )
        ],
        bases=np.minimum(heads[:, -1], _LATEST_BASE).astype(np.int64),
        nows=np.array(times, np.int64),
        lengths=lengths,
        string_counts=string_counts,
        strings=strings,
        route_counts=route_counts,
        routes=known.find_all(whole.routes) or _convert_all_routes(whole, ends, strings, known),
    )


def _convert_all_routes(
    whole: data_pb2.Batch, ends: Sequence[Sequence[int]], strings: tuple[str, ...], known: "RouteCache"
) -> list[Route]:
    """Batch by batch, for what a route points at is in its own. Raises RefusalError."""
    routes: list[Route] = []
    starts = [0] * len(_MEASURED_LISTS)
    for end in ends:
        own, services, texts = (slice(*bounds) for bounds in ((starts[place], end[place]) for place in (2, 1, 0)))
        listed = whole.routes[own]
        routes += known.find_all(listed) or _convert_routes(listed, whole.services[services], strings[texts], known)
        starts = list(end)
    return routes


def _join_fronts(fronts: Sequence[BatchFront]) -> _Joined:
    """Batches one by one, which costs 9 us each for the rows."""
    rows = fronts[0].rows
    if len(fronts) > 1:
        rows = data_pb2.Rows()
        for front in fronts:
            rows.MergeFrom(front.rows)
    return _Joined(
        rows=rows,
        heads=[front.head for front in fronts],
        bases=np.array([front.base for front in fronts], np.int64),
        nows=np.array([front.now for front in fronts], np.int64),
        lengths=np.array([front.lengths for front in fronts], np.int64),
        string_counts=np.array([len(front.strings) for front in fronts], np.int64),
        strings=[text for front in fronts for text in front.strings],
        route_counts=np.array([len(front.routes) for front in fronts], np.int64),
        routes=[route for front in fronts for route in front.routes],
    )


def _convert_joined(joined: _Joined) -> RowGroup:
    """All rows as one group; of texts and routes each once. Raises RefusalError."""
    texts = {text: place for place, text in enumerate(dict.fromkeys(joined.strings))}
    ids = [route.route_id for route in joined.routes]
    route_of_id = dict(zip(reversed(ids), reversed(joined.routes), strict=True))  # The first of an id.
    places = {route_id: place for place, route_id in enumerate(dict.fromkeys(ids))}
    wire = WireRows(
        rows=joined.rows,
        lengths=joined.lengths,
        bases=joined.bases,
        nows=joined.nows,
        strings=joined.string_counts,
        string_places=np.array([texts[text] for text in joined.strings], np.uint32),
        routes=joined.route_counts,
        route_places=np.array([places[route_id] for route_id in ids], np.uint32),
    )
    columns = convert_columns(wire)
    heads = tuple(joined.heads)
    batch = RowBatch(
        **{name: getattr(heads[0], name) for name in (*_HEAD, "service_losses")},
        strings=tuple(texts),
        routes=tuple([route_of_id[route_id] for route_id in places]),
        route_id=np.array(list(places), dtype=np.uint64)[columns["route"]],
        **columns,
    )
    return RowGroup(batch, heads, np.cumsum(wire.counts))


def _check_head(batch: data_pb2.Batch) -> None:
    for name in ("node", "boot_id"):
        text = getattr(batch, name)
        if not text or len(text) > NAME_LIMIT_BYTES:
            raise RefusalError(f"{name} has {len(text)} characters; it needs 1 to {NAME_LIMIT_BYTES}.")
    if batch.sequence < 1:
        raise RefusalError("sequence is 0; sequences start at 1.")
    for name in ("lost_calls", "seen_calls", "tls_lost_calls", "tls_seen_calls"):
        if getattr(batch, name) >= CALLS_LIMIT:
            raise RefusalError(f"{name} is {getattr(batch, name)}; the limit is {CALLS_LIMIT}.")
    if len(batch.service_losses) > SERVICE_LOSS_LIMIT:
        raise RefusalError(
            f"service_losses has {len(batch.service_losses)} entries; the limit is {SERVICE_LOSS_LIMIT}."
        )


def _convert_loss(loss: data_pb2.ServiceLoss) -> ServiceLoss:
    if loss.lost_calls >= CALLS_LIMIT:
        raise RefusalError(f"service_losses.lost_calls is {loss.lost_calls}; the limit is {CALLS_LIMIT}.")
    if loss.unread_bytes >= _UNREAD_BYTES_LIMIT:
        raise RefusalError(f"service_losses.unread_bytes is {loss.unread_bytes}; the limit is {_UNREAD_BYTES_LIMIT}.")
    return ServiceLoss(
        service=convert_service(loss.service),
        is_encrypted=loss.is_encrypted,
        lost_calls=loss.lost_calls,
        client_address=_check_address(loss.client_address),
        reason=loss.unread_reason,
        unread_bytes=loss.unread_bytes,
    )


def _check_address(text: str) -> str:
    try:
        return str(ip_address(text)) if text else ""
    except ValueError:
        raise RefusalError("service_losses.client_address is not an IP address.") from None


def _convert_strings(strings: Sequence[str]) -> tuple[str, ...]:
    if len(strings) > STRING_LIMIT:
        raise RefusalError(f"strings has {len(strings)} entries; the limit is {STRING_LIMIT}.")
    converted = tuple(strings[:])
    if converted and converted[0]:
        raise RefusalError("strings[0] is not empty; index 0 is always the empty string.")
    return _check_texts(converted)


def _check_texts(texts: tuple[str, ...]) -> tuple[str, ...]:
    # Characters first: encoding every entry would cost more than the rest of the conversion.
    if max(map(len, texts), default=0) * 4 > TEXT_LIMIT_BYTES:
        for index, text in enumerate(texts):
            if len(text.encode()) > TEXT_LIMIT_BYTES:
                raise RefusalError(f"strings[{index}] has {len(text.encode())} bytes; the limit is {TEXT_LIMIT_BYTES}.")
    return texts


def convert_service(service: data_pb2.Service) -> Service:
    """One service; names are cut at NAME_LIMIT_BYTES characters and the port at 65,535, for coverage takes them as
    they come.
    """
    return _make_service(_bound_service(service))


def _bound_service(service: data_pb2.Service) -> _ServiceFields:
    cluster, namespace, workload, kind, host_name, port = _read_service(service)
    return (
        cluster[:NAME_LIMIT_BYTES],
        namespace[:NAME_LIMIT_BYTES],
        workload[:NAME_LIMIT_BYTES],
        kind if 0 <= kind <= _BYTE_MAX else bound_enum(kind),
        host_name[:NAME_LIMIT_BYTES],
        min(port, 65_535),
    )


def _make_service(fields: _ServiceFields) -> Service:
    cluster, namespace, workload, kind, host_name, port = fields
    return Service(
        cluster=cluster, namespace=namespace, workload=workload, workload_kind=kind, host_name=host_name, port=port
    )


def bound_enum(number: int) -> int:
    """An enum's value as a byte: the wire has any 32-bit number there, also one below 0."""
    return min(max(number, 0), _BYTE_MAX)


class RouteCache:
    """Routes by all that the wire says of them. A sensor sends the same ones in batch after batch, and what is here is
    converted no second time: a route that is the same object is the same route."""

    def __init__(self, limit: int) -> None:
        self._routes: BoundedDict[tuple[Any, ...], Route] = BoundedDict(limit)
        self._services: BoundedDict[_ServiceFields, tuple[Service, int]] = BoundedDict(limit)
        self._numbers = itertools.count()

    def find_all(self, routes: Sequence[data_pb2.Route]) -> tuple[Route, ...]:
        """The routes, where all are known by their ids alone; else none of them."""
        return ()

    def find_service(self, service: data_pb2.Service) -> tuple[Service, int]:
        """A service, and a number that no other one has: a short key."""
        key = _bound_service(service)
        known = self._services.get(key)
        if known is None:
            known = self._services[key] = _make_service(key), next(self._numbers)
        return known

    def convert(self, route: _RouteFields, service: tuple[Service, int], strings: tuple[str, ...]) -> Route:
        """`service` is of `find_service`. Raises IndexError where the route points past the strings."""
        route_id, _, host, method, has_trailing_slash, segments = route
        parts = [
            (kind if 0 <= kind <= _BYTE_MAX else bound_enum(kind), strings[text], value_hash, length)
            for kind, text, value_hash, length in map(_read_segment, segments)
        ]
        key = (route_id, service[1], strings[host], strings[method], has_trailing_slash, *parts)
        known = self._routes.get(key)
        if known is None:
            known = self._routes[key] = Route(
                route_id=route_id,
                service=service[0],
                host=strings[host],
                method=strings[method],
                segments=tuple(Segment(*one) for one in parts),
                has_trailing_slash=has_trailing_slash,
            )
        return known


class CheckedRoutes(RouteCache):
    """The same where ids were checked (collector/receiver/witness.py), as in the log: of routes with one id, the first
    stands for all. Only the texts of words that were revealed since may differ."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._checked: BoundedDict[int, Route] = BoundedDict(limit)

    def find_all(self, routes: Sequence[data_pb2.Route]) -> tuple[Route, ...]:
        known = self._checked
        try:
            return tuple([known[route.route_id] for route in routes])
        except KeyError:
            return ()

    def convert(self, route: _RouteFields, service: tuple[Service, int], strings: tuple[str, ...]) -> Route:
        known = self._checked.get(route[0])
        if known is None:
            known = self._checked[route[0]] = super().convert(route, service, strings)
        return known


def _convert_routes(
    routes: Sequence[data_pb2.Route],
    listed: Sequence[data_pb2.Service],
    strings: tuple[str, ...],
    known: RouteCache,
) -> tuple[Route, ...]:
    """Routes of one batch, with its services and texts. Raises RefusalError."""
    if len(listed) > ROUTE_LIMIT:
        raise RefusalError(f"services has {len(listed)} entries; the limit is {ROUTE_LIMIT}.")
    if len(routes) > ROUTE_LIMIT:
        raise RefusalError(f"routes has {len(routes)} entries; the limit is {ROUTE_LIMIT}.")
    services = [known.find_service(service) for service in listed]
    converted = []
    for index, fields in enumerate(map(_read_route, routes)):
        route_id, number, host, method, _, segments = fields
        if route_id == 0:
            raise RefusalError(f"routes[{index}].route_id is 0.")
        if number >= len(services):
            raise RefusalError(f"routes[{index}].service is {number}; there are {len(services)} services.")
        if len(segments) > SEGMENT_LIMIT:
            raise RefusalError(f"routes[{index}] has {len(segments)} segments; the limit is {SEGMENT_LIMIT}.")
        try:
            converted.append(known.convert(fields, services[number], strings))
        except IndexError:
            texts = max(host, method, max((segment.text for segment in segments), default=0))
            sentence = f"routes[{index}] points at string {texts}; there are {len(strings)} strings."
            raise RefusalError(sentence) from None
    return tuple(converted)
