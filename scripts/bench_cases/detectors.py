"""What the detectors' process costs a row where batches are small: a log that several nodes write, followed live.

    scripts/bench detectors [--nodes 10] [--rows 60] [--seconds 120] [--rounds 3]

Each node sends a batch of about so many rows each second (early rows and windows that ended), `received` at a time of
its own within the second; the follower looks each half second, as its process does. Process time: `step` is all
of it (reading, decoding, judging), `judging` the detectors alone. At the end the state is written once: how large it
is, what that costs, and how much is written a day where rows go on to come. Prints a JSON line a round.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from apidae.v1 import data_pb2

from collector.alerting.alert import Signal
from collector.detection.engine import Engine
from collector.detection.follower import FEW_BYTES, Follower
from collector.detection.memory import FileMemory
from collector.detection.process import LOOK_SECONDS
from collector.log.base import DETECTORS, Append
from collector.log.file_reader import FileLogReader
from collector.log.files import FileLog
from collector.storage.columns import RowBatch
from scripts.bench_cases.simulation import START, Traffic, make_batch

WINDOW_SECONDS = 10
ENDPOINTS, PAIRS_A_ROW = 200, 3  # Pairs that may call, for each row of a window.
PAIRS_MAX = 180_000  # Below the detectors' limit.
WARM_SECONDS = 100  # Not counted: most pairs are new.
_LOOKS_A_SECOND = round(1 / LOOK_SECONDS)


class TimedEngine(Engine):
    """An engine that adds up its process time."""

    judging_seconds = 0.0

    def feed(self, *arguments: Any) -> list[Signal]:
        """As the engine's."""
        mark = time.process_time()
        signals = super().feed(*arguments)
        self.judging_seconds += time.process_time() - mark
        return signals


def write_wire(batch: RowBatch, sequence: int, node: str) -> bytes:
    """Rows as a sensor sends them."""
    start = int(batch.window_start.min())
    wire = data_pb2.Batch(
        node=node, boot_id="b", sequence=sequence, base_time_unix_seconds=start, seen_calls=batch.seen_calls
    )
    texts = {"": 0}

    def index(text: str) -> int:
        return texts.setdefault(text, len(texts))

    wire.services.add(workload="w", workload_kind=data_pb2.WORKLOAD_KIND_PROCESS, host_name="h", port=1)
    for route in batch.routes:
        own = wire.routes.add(route_id=route.route_id, service=0, host=index(route.host), method=index(route.method))
        for segment in route.segments:
            own.segments.add(kind=segment.kind, text=index(segment.text))
    wire.strings.extend(texts)
    zeros = np.zeros(len(batch), np.int64)
    objects = [np.unique(own) for own in np.split(batch.objects.values, batch.objects.offsets[1:-1])]
    columns = {
        "window_offset_seconds": batch.window_start.astype(np.int64) - start,
        "window_length_seconds": batch.window_length,
        "objects_len": np.array([len(own) for own in objects]),
        "objects_hash": np.concatenate(objects),
    }
    for field in data_pb2.Rows.DESCRIPTOR.fields:
        if field.name not in _LEFT_OUT and field.number < _RARE_FROM:
            values: Any = columns.get(field.name, getattr(batch, field.name, zeros))
            getattr(wire.rows, field.name).extend(values.tolist())
    return wire.SerializeToString()


_LEFT_OUT = frozenset(
    (
        *("duration_bucket", "duration_count", "response_size_bucket", "response_size_count"),
        *("records_returned", "records_basis"),
    )
)
_RARE_FROM = 50  # Fields from this number on are left out where they would hold nothing but zeros.


class Nodes:
    """Sensors that share the endpoints of one traffic, and their log."""

    def __init__(self, traffic: Traffic, count: int, wal: FileLog) -> None:
        self.batches = self.rows = 0
        self._traffic, self._count, self._wal = traffic, count, wal

    def write_window(self, at: int) -> Iterator[None]:
        """Append what comes between two looks in the window after the one that starts at `at`."""
        counts = self._traffic.count(at)
        active = np.flatnonzero(counts)
        node = self._traffic.endpoint[active] % self._count
        second = self._traffic.random.integers(0, WINDOW_SECONDS, len(active))
        for look in range(WINDOW_SECONDS * _LOOKS_A_SECOND):
            appends = []
            for number in range(self._count):
                chosen = active[(node == number) & (second == look // _LOOKS_A_SECOND)]
                if number * _LOOKS_A_SECOND // self._count == look % _LOOKS_A_SECOND and len(chosen):
                    received = at + WINDOW_SECONDS + look / _LOOKS_A_SECOND
                    appends.append(self._write(number, make_batch(self._traffic, chosen, counts[chosen], at), received))
            if appends:
                self._wal.append(appends)
            yield

    def _write(self, number: int, batch: RowBatch, received: float) -> Append:
        self.batches += 1
        self.rows += len(batch)
        node = f"node-{number}"
        return Append(
            node=node,
            boot_id="b",
            sequence=self.batches,
            received_unix_ns=int(received * 10**9),
            payload=write_wire(batch, self.batches, node),
        )


def run(*, nodes: int, rows: int, seconds: int, seed: int) -> dict[str, object]:
    """One log, followed."""
    wanted = rows * nodes * WINDOW_SECONDS
    traffic = Traffic(
        random=np.random.default_rng(seed),
        endpoints=ENDPOINTS,
        pairs=min(wanted * PAIRS_A_ROW, PAIRS_MAX),
        step=WINDOW_SECONDS,
    )
    while np.count_nonzero(traffic.count(START)) < wanted:
        traffic.rate *= 1.25
    engine, step_seconds = TimedEngine(), 0.0
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        wal = FileLog(directory, readers=[DETECTORS], sync=lambda _: None)
        sensors = Nodes(traffic, nodes, wal)
        follower = Follower(
            reader=FileLogReader(directory, DETECTORS),
            engine=engine,
            memory=FileMemory(directory / "state"),
            report=lambda batch: None,
        )
        follower.resume()
        for at in range(START, START + WARM_SECONDS + seconds, WINDOW_SECONDS):
            if at == START + WARM_SECONDS:
                engine.judging_seconds = step_seconds = sensors.batches = sensors.rows = 0
            for _ in sensors.write_window(at):
                mark = time.process_time()
                follower.step()
                step_seconds += time.process_time() - mark
        wal.close()
        follower.taken, mark = follower.next_signal, time.process_time()
        if not follower.save():
            raise SystemExit("The state could not be written.")
        save_seconds = time.process_time() - mark
        follower.unsaved_bytes = FEW_BYTES  # As while calls come.
    return {
        "nodes": nodes,
        "rows_a_batch": round(sensors.rows / sensors.batches, 1),
        "rows_a_second": round(sensors.rows / seconds),
        "step_us_a_row": round(step_seconds / sensors.rows * 1e6, 2),
        "judging_us_a_row": round(engine.judging_seconds / sensors.rows * 1e6, 2),
        "checkpoint_bytes": follower.saved_bytes,
        "checkpoint_seconds": round(save_seconds, 3),
        "checkpoint_megabytes_a_day": round(follower.saved_bytes * 86_400 / follower.pause_seconds / 1e6, 1),
    }


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    for seed in range(1, arguments.rounds + 1):
        line = run(nodes=arguments.nodes, rows=arguments.rows, seconds=arguments.seconds, seed=seed)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
