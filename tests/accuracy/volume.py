"""Volume: CSVs of counts become batches of one endpoint, the detectors judge them, and each row gets a score and an
alarm.

`run(input, output)`: every `*.csv` under `input` (`t,count` in epoch seconds, or `timestamp,value`) gives a file of
the same relative name under `output` with columns `anomaly_score` (0..1; fixed threshold 0.5) and `alarm` (0/1), a
row each, judged without looking ahead. A row becomes one wire row of one endpoint and no known consumer, serialised
and parsed back. Values that are no counts travel as thousandths, for calls are whole numbers, and negative ones as 0;
rows off the grid of windows (the longest of 10 s, 1 min, 5 min, 1 h that the file's first step holds) go to the next
free window, and a gauge keeps its value in windows without a row: it is not zero meanwhile.
"""

import csv
import datetime
from collections.abc import Iterator
from pathlib import Path

from apidae.v1 import data_pb2

from collector.detection.engine import Engine
from collector.detection.framework.windows import LATENESS_SECONDS
from collector.receiver.convert import convert_bytes
from collector.storage.columns import RowBatch

_GAUGE_SCALE = 1_000
_GAP_STEPS_MAX = 300  # A longer gap is a new beginning.
_WINDOWS = (10, 60, 300, 3_600)
_THRESHOLD = 0.5


def run(input: Path, output: Path) -> None:
    """Judge every CSV. Raises ValueError on a file of neither form."""
    for path in sorted(input.rglob("*.csv")):
        target = output / path.relative_to(input)
        target.parent.mkdir(parents=True, exist_ok=True)
        times, counts, is_gauge = _read(path)
        with target.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["anomaly_score", "alarm"])
            scores = _judge(times, counts, is_gauge)
            writer.writerows((f"{score:.6f}", int(score >= _THRESHOLD)) for score in scores)


def _read(path: Path) -> tuple[list[int], list[int], bool]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if rows and "count" in rows[0]:
        return [int(float(row["t"])) for row in rows], [max(0, int(float(row["count"]))) for row in rows], False
    if rows and "value" not in rows[0]:
        raise ValueError(f"{path} has columns {list(rows[0])}; it needs t,count or timestamp,value")
    stamps = [datetime.datetime.fromisoformat(row["timestamp"]).replace(tzinfo=datetime.UTC) for row in rows]
    values = [round(max(0.0, float(row["value"])) * _GAUGE_SCALE) for row in rows]
    return [int(stamp.timestamp()) for stamp in stamps], values, True


def _judge(times: list[int], counts: list[int], is_gauge: bool) -> Iterator[float]:
    """A score a row: the highest of the windows that closed with it. 0.5 is the detectors' own threshold."""
    engine = Engine()
    step = _find_step(times)
    cell, previous, sequence = -1, 0, 0
    for time, count in zip(times, counts, strict=True):
        own = time // step if cell < 0 else max(time // step, cell + 1)
        missing = own - cell - 1 if is_gauge and cell >= 0 else 0
        highest = 0.0
        for index in range(max(own - missing, own - _GAP_STEPS_MAX), own):
            sequence += 1
            highest = max(highest, _feed(engine, index * step, previous, step, sequence))
        sequence += 1
        highest = max(highest, _feed(engine, own * step, count, step, sequence))
        yield 1 - 0.5**highest
        cell, previous = own, count


def _find_step(times: list[int]) -> int:
    first = times[1] - times[0] if len(times) > 1 else _WINDOWS[0]
    return max(window for window in _WINDOWS if window <= max(first, _WINDOWS[0]))


def _feed(engine: Engine, time: int, count: int, step: int, sequence: int) -> float:
    """Deliver one row, let its window close, and read the highest score that came of it."""
    before = [windowed.windows.next_window for windowed in engine.endpoints.windowed.values()]
    batch = convert_bytes(write_batch(time, count, step, sequence, principal=0), time + step)
    if not isinstance(batch, RowBatch):
        raise ValueError(f"row at {time} was refused: {batch}")
    engine.feed(batch, time + step)
    engine.advance(time + step + LATENESS_SECONDS)
    closed = [
        windowed.last_scores[0]
        for windowed, window in zip(engine.endpoints.windowed.values(), before, strict=True)
        if windowed.windows.next_window > max(window, 0)
    ]
    return float(max(closed, default=0.0))


def write_batch(time: int, count: int, step: int, sequence: int, principal: int = 1) -> bytes:
    """One wire batch of one row; principal 0: of nobody known."""
    batch = data_pb2.Batch(node="n", boot_id="b", sequence=sequence, base_time_unix_seconds=time, seen_calls=count)
    batch.strings.extend(["", "shop", "GET", "items"])
    batch.services.add(workload="shop", workload_kind=data_pb2.WORKLOAD_KIND_PROCESS, host_name="n", port=80)
    route = batch.routes.add(route_id=1, service=0, host=1, method=2)
    route.segments.add(kind=data_pb2.SEGMENT_KIND_LITERAL, text=3)
    values = {
        "window_length_seconds": step,
        "calls": count,
        "principal": principal,
        "principal_kind": 3 if principal else 0,
        "role": 1,
        "hop": 1,
    }
    for field in data_pb2.Rows.DESCRIPTOR.fields:
        is_left_out = field.name in _CSR_ELEMENTS or field.name in _OPTIONAL or field.number >= _RARE_FROM
        if not is_left_out:
            getattr(batch.rows, field.name).append(values.get(field.name, 0))
    return batch.SerializeToString()


_CSR_ELEMENTS = {
    "duration_bucket",
    "duration_count",
    "response_size_bucket",
    "response_size_count",
    "objects_hash",
}
_OPTIONAL = {"records_returned", "records_basis"}
_RARE_FROM = 50  # Fields from this number on are left out where they would hold nothing but zeros.
