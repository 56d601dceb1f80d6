"""Converts and checks the columns of a batch's rows: every length, index and bound. It also has the bounds of all
messages.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Final

import numpy as np
from apidae.v1 import data_pb2
from numpy.typing import NDArray

from collector.core.rows import U32, U64, Ragged
from collector.storage.columns import CALLS_LIMIT, COLUMNS, WIRE_TYPES, Adding, RowColumn

MESSAGE_LIMIT_BYTES: Final = 16 * 1024 * 1024
TEXT_LIMIT_BYTES: Final = 1_024  # One entry: hosts, media types, segments and addresses are far shorter.
NAME_LIMIT_BYTES: Final = 253  # Node, cluster, workload: a DNS name's limit.
ROW_LIMIT: Final = 10_000
OBJECT_LIMIT: Final = 256  # Hashes a row, exact set or KMV.
BUCKET_LIMIT: Final = 1_024  # Buckets of scale 3 over 64 bits are 512, places by kinds of data 16 * 64.
AGE_LIMIT_SECONDS: Final = 7 * 86_400
FUTURE_LIMIT_SECONDS: Final = 86_400
WINDOW_LIMIT_SECONDS: Final = 3_600

# Fields of numbers, one a row; rare ones are omitted where they would hold nothing but zeros.
_ALWAYS: Final = (
    *("route", "window_offset_seconds", "window_length_seconds"),
    *((column.lists or (name,))[0] for name, column in COLUMNS.items() if not column.is_rare),
)
_RARE: Final = (
    *((column.lists or (name,))[0] for name, column in COLUMNS.items() if column.is_rare),
    *("data_len", "records_basis"),  # Of sensors of 0.1.
)
# Data as these have it: codes without a place, those of responses from a number on.
_OLD_DATA: Final = replace(COLUMNS["data"], lists=("data_len", "data_kind", "data_count"))
_OLD_RESPONSE_SHIFT: Final = 32
_PLACE_SIZE: Final = 64  # Kinds of data in one place of a call (proto DataPlace).
_NUMBERS: Final = tuple(name for name, column in COLUMNS.items() if not column.lists)
_TEXTS: Final = tuple(name for name, column in COLUMNS.items() if column.is_text)
_NAMES_BY_BOUND: Final = {
    bound: tuple(name for name, column in COLUMNS.items() if column.below == bound)
    for bound in {column.below for column in COLUMNS.values() if column.below is not None}
}
# Histograms and sets by name: fields of lengths, values and, if any, counts.
_LISTS: Final = {name: column for name, column in COLUMNS.items() if column.lists}
# All fields, in the order in which their lengths are read.
MEASURED: Final = (
    *(*_ALWAYS, *_RARE),
    *(field for column in (*_LISTS.values(), _OLD_DATA) for field in column.lists[1:]),
)
_PLACE_OF: Final = {name: place for place, name in enumerate(MEASURED)}
_PLACE_OF_FIELD: Final = {
    data_pb2.Rows.DESCRIPTOR.fields_by_name[name].number: place for place, name in enumerate(MEASURED)
}


Bound = int | NDArray[np.int64]  # Of all rows, or of each.


class RefusalError(Exception):
    """Carries a reason from a check to `convert_batch`; never leaves this folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WireRows:
    """Rows of several batches, with what each batch says for its own. Arrays have an entry a batch."""

    rows: data_pb2.Rows  # Of all, one behind the other.
    lengths: NDArray[np.int64]  # Fields by batch; columns are those of `MEASURED`.
    bases: NDArray[np.int64]
    nows: NDArray[np.int64]
    strings: NDArray[np.int64]  # Entries of its dictionary of texts,
    string_places: U32  # and which of the whole's each is, of one batch behind the other.
    routes: NDArray[np.int64]
    route_places: U32

    @property
    def counts(self) -> NDArray[np.int64]:
        """Rows of each batch."""
        counts: NDArray[np.int64] = self.lengths[:, _PLACE_OF["route"]]
        return counts

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """For each row what its batch has."""
        return values if len(values) == 1 else np.repeat(values, self.counts)


def measure_rows(rows: data_pb2.Rows) -> list[int]:
    """Lengths of the fields of one batch. Half of them are empty, and those that are not come at once."""
    lengths = [0] * len(MEASURED)
    for field, values in rows.ListFields():
        lengths[_PLACE_OF_FIELD[field.number]] = len(values)
    return lengths


def convert_columns(wire: WireRows) -> dict[str, Any]:
    """The fields of a RowBatch that have an entry a row; raises RefusalError where one of the batches is wrong. Texts
    and routes are indexes into the dictionaries of the whole."""
    rows, n = wire.rows, int(wire.counts.sum())
    _check_lengths(wire)
    sent = {name: copy_column(rows, name) for name in _ALWAYS}
    rare = {name: _spread_rare(wire, name) for name in _RARE if getattr(rows, name)}
    string_bound, route_bound = wire.spread(wire.strings), wire.spread(wire.routes)
    _check_below("route", sent["route"], route_bound)
    bounded: list[tuple[Bound, Sequence[str]]] = [(string_bound, _TEXTS), *_NAMES_BY_BOUND.items()]
    for bound, names in bounded:
        # Those that were omitted hold nothing.
        _check_all_below(names, sent, bound)
        _check_all_below(names, rare, bound)
    sent |= {name: np.zeros(n, WIRE_TYPES.get(name, np.uint32)) for name in _RARE if name not in rare} | rare
    lists = {name: _convert_ragged(wire, column, sent) for name, column in _LISTS.items()}
    if old := _convert_old_data(wire, sent, lists["data"]):
        lists["data"] = old
    string_starts = wire.spread(np.cumsum(wire.strings) - wire.strings)
    route_starts = wire.spread(np.cumsum(wire.routes) - wire.routes)
    return {
        **{name: sent[name] for name in _NUMBERS},
        **{name: wire.string_places[sent[name] + string_starts] for name in _TEXTS if n},
        **lists,
        "route": wire.route_places[sent["route"] + route_starts] if n else sent["route"],
        "window_start": _convert_windows(wire, sent),
        "window_length": sent["window_length_seconds"],
    }


def _check_lengths(wire: WireRows) -> None:
    """Of each batch."""
    counts, lengths = wire.counts, wire.lengths
    if int(np.max(counts)) > ROW_LIMIT:
        raise RefusalError(f"The batch has {int(np.max(counts))} rows; the limit is {ROW_LIMIT}.")
    is_always = lengths[:, : len(_ALWAYS)] == counts[:, None]
    if not is_always.all():
        batch, place = np.argwhere(~is_always)[0]
        length, n = int(lengths[batch, place]), int(counts[batch])
        raise RefusalError(f"rows.{_ALWAYS[place]} has {length} elements; rows.route has {n}.")
    rare = lengths[:, len(_ALWAYS) : len(_ALWAYS) + len(_RARE)]
    is_rare = (rare == counts[:, None]) | (rare == 0)
    if not is_rare.all():
        batch, place = np.argwhere(~is_rare)[0]
        length, n = int(rare[batch, place]), int(counts[batch])
        raise RefusalError(f"rows.{_RARE[place]} has {length} elements; it needs {n} or none.")


def _spread_rare(wire: WireRows, name: str) -> NDArray[Any]:
    """A column of which some batches may have nothing."""
    column, lengths = copy_column(wire.rows, name), wire.lengths[:, _PLACE_OF[name]]
    n = int(wire.counts.sum())
    if len(column) == n:
        return column
    whole = np.zeros(n, column.dtype)
    whole[np.repeat(lengths > 0, wire.counts)] = column
    return whole


def copy_column(rows: data_pb2.Rows, name: str) -> NDArray[Any]:
    """A column as its own array; an empty field gives an empty array of the right type."""
    return np.array(getattr(rows, name), dtype=WIRE_TYPES.get(name, np.uint32))


def _check_all_below(names: Sequence[str], columns: Mapping[str, NDArray[Any]], bound: Bound) -> None:
    """Those of `names` that there are; looks at each only where their union, which is no less than any, is too high."""
    present = [columns[name] for name in names if name in columns]
    if not present or not len(present[0]) or not (reduce(np.bitwise_or, present) >= bound).any():
        return
    for name in names:
        if name in columns:
            _check_below(name, columns[name], bound)


def _check_below(name: str, column: NDArray[Any], bound: Bound) -> None:
    is_over = column >= bound
    if is_over.any():
        row = int(is_over.argmax(axis=0))
        own = bound if isinstance(bound, int) else int(bound[row if len(bound) > 1 else 0])
        raise RefusalError(f"rows.{name}[{row}] is {int(column[row])}; it must stay below {own}.")


def _convert_windows(wire: WireRows, columns: Mapping[str, NDArray[Any]]) -> U32:
    """Starts in unix seconds. A sensor's clock may be wrong, so what lies too far from ours is refused rather than
    stored.
    """
    offset, length = columns["window_offset_seconds"], columns["window_length_seconds"]
    if not len(offset):
        return np.zeros(0, dtype=np.uint32)
    if not 0 < int(np.min(length)) <= int(np.max(length)) <= WINDOW_LIMIT_SECONDS:
        raise RefusalError(
            f"rows.window_length_seconds has {int(np.min(length))} to {int(np.max(length))}; "
            f"it needs 1 to {WINDOW_LIMIT_SECONDS}."
        )
    start, now = wire.spread(wire.bases) + offset.astype(np.int64), wire.spread(wire.nows)
    age, ahead = int(np.max(now - start)), int(np.max(start + length - now))
    if age > AGE_LIMIT_SECONDS:
        raise RefusalError(f"The oldest window begins {age} s ago; the limit is {AGE_LIMIT_SECONDS}.")
    if ahead > FUTURE_LIMIT_SECONDS:
        raise RefusalError(f"The newest window ends {ahead} s in the future; the limit is {FUTURE_LIMIT_SECONDS}.")
    return start.astype(np.uint32)


def _convert_old_data(wire: WireRows, sent: Mapping[str, NDArray[Any]], data: Ragged) -> Ragged | None:
    """What sensors of 0.1 found in bodies; None where there is nothing. Raises RefusalError where only some of several
    batches are of these."""
    if not len(getattr(wire.rows, _OLD_DATA.lists[1])) and not sent[_OLD_DATA.lists[0]].any():
        return None
    if len(data.values):
        if len(wire.lengths) > 1:
            raise RefusalError("The batches are of sensors of two versions.")
        return None
    return _move_codes(_convert_ragged(wire, _OLD_DATA, sent))


def _move_codes(data: Ragged) -> Ragged:
    """What a sensor of 0.1 found in bodies, as codes of current ones: place * 64 + kind. The order stays."""
    _check_below("data_kind", data.values, 2 * _OLD_RESPONSE_SHIFT)
    is_response = data.values >= _OLD_RESPONSE_SHIFT
    places = np.where(is_response, np.uint64(2 * _PLACE_SIZE - _OLD_RESPONSE_SHIFT), np.uint64(_PLACE_SIZE))
    return Ragged(offsets=data.offsets, values=data.values + places, counts=data.counts)


def _convert_ragged(wire: WireRows, column: RowColumn, sent: Mapping[str, NDArray[Any]]) -> Ragged:
    """One CSR triple. Values ascend strictly within a row; a histogram's buckets exist and its counts are bounded."""
    rows = wire.rows
    length_field, value_field, count_field = (*column.lists, "")[:3]
    lengths = sent[length_field]
    if column.adding is Adding.SET and int(lengths.max(initial=0)) > OBJECT_LIMIT:
        raise RefusalError(f"{length_field} has {int(lengths.max())}; the limit is {OBJECT_LIMIT} hashes a row.")
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    if not (getattr(rows, value_field) or (count_field and getattr(rows, count_field)) or lengths.any()):
        return Ragged(offsets=offsets, values=np.zeros(0, np.uint64), counts=np.zeros(0, np.uint64))
    values: U64 = np.array(getattr(rows, value_field), dtype=np.uint64)
    counts: U64 = np.array(getattr(rows, count_field) if count_field else (), dtype=np.uint64)
    np.cumsum(lengths, dtype=np.int64, out=offsets[1:])
    held = np.diff(offsets[np.cumsum(wire.counts)], prepend=0)  # Of each batch.
    for field, name in ((value_field, length_field), (count_field, "")):
        own = wire.lengths[:, _PLACE_OF[field]] if field else held
        if not np.array_equal(own, held):
            batch = int((own != held).argmax(axis=0))
            has, needs = int(own[batch]), int(held[batch])
            if name:
                raise RefusalError(f"rows.{name} adds up to {needs}; rows.{field} has {has} elements.")
            raise RefusalError(f"rows.{field} has {has} elements; rows.{value_field} has {needs}.")
    if len(values) > 1:
        is_ascending = values[1:] > values[:-1]
        starts = offsets[1:-1]
        # A row's first value follows another row's last, and need not be greater.
        is_ascending[starts[(starts > 0) & (starts < len(values))] - 1] = True
        if not is_ascending.all():
            raise RefusalError(
                f"rows.{value_field} does not ascend within a row, at element {int(is_ascending.argmin(axis=0)) + 1}."
            )
    if count_field:
        _check_below(value_field, values, BUCKET_LIMIT)
        _check_below(count_field, counts, CALLS_LIMIT)
    return Ragged(offsets=offsets, values=values, counts=counts)
