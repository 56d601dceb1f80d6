"""RowBatches as the store's Arrow tables, column by column and without a Python loop over rows.

The windows of 10 s land on their minute; the engine adds up what shares a key, at the insert and at merges. Enum
values and counts wider than their column are clipped to its largest value: unknown values stay unknown, and nothing
wraps around.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from collector.rows import Ragged, Route, RowBatch

_SUMS = (
    "calls",
    "request_bytes",
    "response_bytes",
    "time_to_first_byte_sum_us",
    "duration_sum_us",
    "duration_max_us",
    "objects_count",
    "object_numeric_calls",
    "object_monotonic_steps",
    "object_numeric_span",
    "ended_later",
    "streams",
    "stream_duration_sum_us",
    "counted_messages_calls",
    "request_messages",
    "response_messages",
    "records_returned",
    "records_measured",
    "request_bodies_read",
    "response_bodies_read",
    "attacks",
    "attacks_confirmed",
)
_NARROW: tuple[tuple[str, Any], ...] = (
    ("principal_kind", np.uint8),
    ("status_code", np.uint16),
    ("role", np.uint8),
    ("hop", np.uint8),
    ("kind", np.uint8),
    ("rpc_status", np.uint8),
)


def build_rows(batches: Sequence[RowBatch]) -> pa.Table:
    """`rows_minute` of some batches."""
    return pa.concat_tables([_build_batch(batch) for batch in batches])


def build_routes(routes: Iterable[tuple[Route, int]]) -> pa.Table:
    """`routes` of routes and the unix seconds at which each was first seen."""
    found = list(routes)
    plain = [route for route, _ in found]
    return pa.table(
        {
            "route_id": pa.array([route.route_id for route in plain], pa.uint64()),
            "cluster": pa.array([route.service.cluster for route in plain], pa.string()),
            "namespace": pa.array([route.service.namespace for route in plain], pa.string()),
            "workload": pa.array([route.service.workload for route in plain], pa.string()),
            "workload_kind": pa.array([min(route.service.workload_kind, 255) for route in plain], pa.uint8()),
            "host_name": pa.array([route.service.host_name for route in plain], pa.string()),
            "port": pa.array([route.service.port for route in plain], pa.uint16()),
            "host": pa.array([route.host for route in plain], pa.string()),
            "method": pa.array([route.method for route in plain], pa.string()),
            "segment_kind": pa.array([[min(s.kind, 255) for s in r.segments] for r in plain], pa.list_(pa.uint8())),
            "segment_text": pa.array([[s.text for s in r.segments] for r in plain], pa.list_(pa.string())),
            "segment_hash": pa.array([[s.hash for s in r.segments] for r in plain], pa.list_(pa.uint64())),
            "segment_length": pa.array([[s.length for s in r.segments] for r in plain], pa.list_(pa.uint32())),
            "has_trailing_slash": pa.array([route.has_trailing_slash for route in plain], pa.bool_()),
            "first_seen": pa.array([first_seen for _, first_seen in found], pa.uint32()),
        }
    )


def _build_batch(batch: RowBatch) -> pa.Table:
    strings = pa.array(batch.strings or ("",), pa.string())
    columns: dict[str, Any] = {
        "time": batch.window_start // 60 * 60,
        "route_id": batch.route_id,
        "principal": batch.principal,
        "credential": batch.credential,
        "authentication": batch.authentication,
        "flags": batch.flags,
        "key_id": np.full(len(batch), batch.key_id, np.uint32),
        "first_seen": batch.window_start,
        "last_seen": batch.window_start + batch.window_length,
    }
    for name in _SUMS:
        columns[name] = getattr(batch, name)
    for name, kind in _NARROW:
        columns[name] = np.minimum(getattr(batch, name), np.iinfo(kind).max).astype(kind)
    for name in (
        "client_address",
        "client_workload",
        "protocol_version",
        "request_content_type",
        "response_content_type",
        "client_software",
    ):
        columns[name] = strings.take(pa.array(getattr(batch, name)))
    columns["duration"] = _build_histogram(batch.duration)
    columns["response_size"] = _build_histogram(batch.response_size)
    columns["data"] = _build_histogram(batch.data)
    columns["payloads"] = _build_list(batch.payloads, batch.payloads.values)
    columns["objects"] = _build_list(batch.objects, batch.objects.values)
    return pa.table(columns)


def _build_histogram(ragged: Ragged) -> pa.StructArray:
    """The Tuple(Array, Array) that sumMap adds up."""
    return pa.StructArray.from_arrays(
        [_build_list(ragged, ragged.values.astype(np.uint16)), _build_list(ragged, ragged.counts)], names=["1", "2"]
    )


def _build_list(ragged: Ragged, values: NDArray[Any]) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(ragged.offsets.astype(np.int32)), pa.array(values))
