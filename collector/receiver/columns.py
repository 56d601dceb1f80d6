"""Converts and checks the columns of a batch's rows: every length, index and bound. It also has the bounds of all
messages.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
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


class RefusalError(Exception):
    """Carries a reason from a check to `convert_batch`; never leaves this folder."""


def convert_columns(
    rows: data_pb2.Rows, *, base_unix_seconds: int, routes: int, strings: int, now: int
) -> dict[str, Any]:
    """The fields of a RowBatch that have an entry a row, and `route`; raises RefusalError. `routes` and `strings`: how
    many entries the dictionaries have.
    """
    n = len(rows.route)
    _check_lengths(rows, n)
    sent = {name: copy_column(rows, name) for name in _ALWAYS}
    rare = {name: copy_column(rows, name) for name in _RARE if getattr(rows, name)}
    _check_below("route", sent["route"], routes)
    for bound, names in ((strings, _TEXTS), *_NAMES_BY_BOUND.items()):
        # Those that were omitted hold nothing.
        _check_all_below(names, sent, bound)
        _check_all_below(names, rare, bound)
    sent |= {name: np.zeros(n, WIRE_TYPES.get(name, np.uint32)) for name in _RARE if name not in rare} | rare
    lists = {name: _convert_ragged(rows, column, sent) for name, column in COLUMNS.items() if column.lists}
    if not len(lists["data"].values):
        lists["data"] = _move_codes(_convert_ragged(rows, _OLD_DATA, sent))
    return {
        **{name: sent[name] for name in _NUMBERS},
        **lists,
        "route": sent["route"],
        "window_start": _convert_windows(base_unix_seconds, sent, now),
        "window_length": sent["window_length_seconds"],
    }


def _check_lengths(rows: data_pb2.Rows, n: int) -> None:
    if n > ROW_LIMIT:
        raise RefusalError(f"The batch has {n} rows; the limit is {ROW_LIMIT}.")
    for name in _ALWAYS:
        length = len(getattr(rows, name))
        if length != n:
            raise RefusalError(f"rows.{name} has {length} elements; rows.route has {n}.")
    for name in _RARE:
        length = len(getattr(rows, name))
        if length not in (0, n):
            raise RefusalError(f"rows.{name} has {length} elements; it needs {n} or none.")


def copy_column(rows: data_pb2.Rows, name: str) -> NDArray[Any]:
    """A column as its own array; an empty field gives an empty array of the right type."""
    return np.array(getattr(rows, name), dtype=WIRE_TYPES.get(name, np.uint32))


def _check_all_below(names: Sequence[str], columns: Mapping[str, NDArray[Any]], bound: int) -> None:
    """Those of `names` that there are; looks at each only where their union, which is no less than any, is too high."""
    present = [columns[name] for name in names if name in columns]
    if not present or not len(present[0]) or int(reduce(np.bitwise_or, present).max()) < bound:
        return
    for name in names:
        if name in columns:
            _check_below(name, columns[name], bound)


def _check_below(name: str, column: NDArray[Any], bound: int) -> None:
    if len(column) and int(column.max()) >= bound:
        row = int(column.argmax(axis=0))
        raise RefusalError(f"rows.{name}[{row}] is {int(column[row])}; it must stay below {bound}.")


def _convert_windows(base: int, columns: Mapping[str, NDArray[Any]], now: int) -> U32:
    """Starts in unix seconds. A sensor's clock may be wrong, so what lies too far from ours is refused rather than
    stored.
    """
    offset, length = columns["window_offset_seconds"], columns["window_length_seconds"]
    if not len(offset):
        return np.zeros(0, dtype=np.uint32)
    if not 0 < int(length.min()) <= int(length.max()) <= WINDOW_LIMIT_SECONDS:
        raise RefusalError(
            f"rows.window_length_seconds has {int(length.min())} to {int(length.max())}; "
            f"it needs 1 to {WINDOW_LIMIT_SECONDS}."
        )
    first = base + int(offset.min())
    last = base + int((offset.astype(np.int64) + length).max())
    if first < now - AGE_LIMIT_SECONDS:
        raise RefusalError(f"The oldest window begins {now - first} s ago; the limit is {AGE_LIMIT_SECONDS}.")
    if last > now + FUTURE_LIMIT_SECONDS:
        raise RefusalError(f"The newest window ends {last - now} s in the future; the limit is {FUTURE_LIMIT_SECONDS}.")
    return (offset.astype(np.int64) + base).astype(np.uint32)


def _move_codes(data: Ragged) -> Ragged:
    """What a sensor of 0.1 found in bodies, as codes of current ones: place * 64 + kind. The order stays."""
    _check_below("data_kind", data.values, 2 * _OLD_RESPONSE_SHIFT)
    is_response = data.values >= _OLD_RESPONSE_SHIFT
    places = np.where(is_response, np.uint64(2 * _PLACE_SIZE - _OLD_RESPONSE_SHIFT), np.uint64(_PLACE_SIZE))
    return Ragged(offsets=data.offsets, values=data.values + places, counts=data.counts)


def _convert_ragged(rows: data_pb2.Rows, column: RowColumn, sent: Mapping[str, NDArray[Any]]) -> Ragged:
    """One CSR triple. Values ascend strictly within a row; a histogram's buckets exist and its counts are bounded."""
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
    if int(offsets[-1]) != len(values):
        raise RefusalError(
            f"rows.{length_field} adds up to {int(offsets[-1])}; rows.{value_field} has {len(values)} elements."
        )
    if count_field and len(counts) != len(values):
        raise RefusalError(f"rows.{count_field} has {len(counts)} elements; rows.{value_field} has {len(values)}.")
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
