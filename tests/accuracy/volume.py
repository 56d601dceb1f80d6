"""Volume: CSVs of counts become batches of one endpoint, the detectors judge them, and each row gets a score and an
alarm.

`run(input, output)`: every `*.csv` under `input` (`t,count` in epoch seconds, or `timestamp,value`) gives a file of
the same relative name under `output` with columns `anomaly_score` (0..1; fixed threshold 0.5) and `alarm` (0/1), a
row each, judged without looking ahead. A row becomes one wire row of one endpoint, as long as the file's first step,
serialised and parsed back; a value that is no count travels as thousandths, for calls are whole numbers. A gauge that
skips steps keeps its value, it is not zero meanwhile.
"""

import csv
import datetime
import math
from collections.abc import Iterator
from pathlib import Path

from apidae.v1 import data_pb2

from collector.alerts.lifecycle import FLAP_SECONDS
from collector.anomaly.engine import Engine
from collector.anomaly.windows import LATENESS_SECONDS
from collector.ingest.convert import convert_bytes
from collector.rows import RowBatch

_GAUGE_SCALE = 1_000
_GAP_STEPS_MAX = 300  # A longer gap is a new beginning.
_WINDOW_MAX = 3_600
_WORSE = 1.5  # Times as far from the expectation.


def run(input: Path, output: Path) -> None:
    """Judge every CSV. Raises ValueError on a file of neither form."""
    for path in sorted(input.rglob("*.csv")):
        target = output / path.relative_to(input)
        target.parent.mkdir(parents=True, exist_ok=True)
        times, counts, is_gauge = _read(path)
        with target.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["anomaly_score", "alarm"])
            scores = list(_judge(times, counts, is_gauge))
            alarms = _alarm(times, scores)
            writer.writerows((f"{score:.6f}", alarm) for score, alarm in zip(scores, alarms, strict=True))


def _alarm(times: list[int], scores: list[float]) -> Iterator[int]:
    """1 where an alert would open or get much worse: within FLAP_SECONDS of the last it goes on, it is no other."""
    told_at, told = -math.inf, 0.0
    for time, score in zip(times, scores, strict=True):
        is_told = score >= 0.5 and (time - told_at > FLAP_SECONDS or score > 1 - (1 - told) ** _WORSE)
        if is_told:
            told_at, told = time, score
        yield int(is_told)


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
    step = min(_WINDOW_MAX, max(10, times[1] - times[0])) if len(times) > 1 else 60
    previous = None
    for sequence, (time, count) in enumerate(zip(times, counts, strict=True), 1):
        if is_gauge and previous is not None:
            missing = (time - previous[0]) // step - 1
            if 0 < missing <= _GAP_STEPS_MAX:
                for index in range(1, missing + 1):
                    _feed(engine, previous[0] + index * step, previous[1], step, sequence)
        yield 1 - 0.5 ** _feed(engine, time, count, step, sequence)
        previous = (time, count)


def _feed(engine: Engine, time: int, count: int, step: int, sequence: int) -> float:
    """Deliver one row, let its window close, and read the highest score that came of it."""
    before = [watch.windows.next_window for watch in engine.endpoint_watches]
    batch = convert_bytes(write_batch(time, count, step, sequence), time + step)
    if not isinstance(batch, RowBatch):
        raise ValueError(f"row at {time} was refused: {batch}")
    engine.feed(batch, time + step)
    engine.advance(time + step + LATENESS_SECONDS)
    closed = [
        watch.last_scores[0]
        for watch, window in zip(engine.endpoint_watches, before, strict=True)
        if watch.windows.next_window > max(window, 0) and len(watch.last_scores)
    ]
    return float(max(closed, default=0.0))


def write_batch(time: int, count: int, step: int, sequence: int) -> bytes:
    """One wire batch of one row."""
    batch = data_pb2.Batch(node="n", boot_id="b", sequence=sequence, base_time_unix_seconds=time, seen_calls=count)
    batch.strings.extend(["", "shop", "GET", "items"])
    batch.services.add(workload="shop", workload_kind=data_pb2.WORKLOAD_KIND_PROCESS, host_name="n", port=80)
    route = batch.routes.add(route_id=1, service=0, host=1, method=2)
    route.segments.add(kind=data_pb2.SEGMENT_KIND_LITERAL, text=3)
    values = {"window_length_seconds": step, "calls": count, "principal": 1, "principal_kind": 3, "role": 1, "hop": 1}
    for field in data_pb2.Rows.DESCRIPTOR.fields:
        is_element = field.name in _CSR_ELEMENTS or field.name in _OPTIONAL
        if not is_element:
            getattr(batch.rows, field.name).append(values.get(field.name, 0))
    return batch.SerializeToString()


_CSR_ELEMENTS = {
    "duration_bucket",
    "duration_count",
    "response_size_bucket",
    "response_size_count",
    "objects_hash",
}
_OPTIONAL = {"records_returned", "records_basis", "sampled_of"}
