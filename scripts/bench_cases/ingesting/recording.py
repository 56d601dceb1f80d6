"""The batches of a simulated node, made by the sensor's own aggregator and converter, to be played any number of times.

Ten windows pass first, so that what is recorded holds few new routes and consumers. Three windows are recorded and
played in turn. A batch is played under the node, number and time of whoever sends it: of two values of a field in
a serialised message the last one counts, so these are appended. That costs some 10 us a batch, so one process plays
1,000 nodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from apidae.v1 import data_pb2

from scripts.bench_cases.ingesting.templates import WINDOW_SECONDS, NodeGroup
from sensor.aggregate.aggregator import SECOND_NS, Aggregator
from sensor.export.convert import BatchConverter, SerialisedBatch

WINDOWS_BEFORE: Final = 10
WINDOWS_RECORDED: Final = 3
_START_SECONDS: Final = 1_800_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedBatch:
    """One batch, without who sends it and when."""

    body: bytes
    shift_seconds: int  # Its base time, from the start of the window in which it leaves.
    rows: int
    calls: int

    def address(self, *, node: str, boot_id: str, sequence: int, key_id: int, window_start: int) -> bytes:
        """The batch as one node sends it in the window that starts at `window_start`, unix seconds."""
        own = data_pb2.Batch(
            node=node,
            boot_id=boot_id,
            sequence=sequence,
            key_id=key_id,
            base_time_unix_seconds=window_start + self.shift_seconds,
        )
        return self.body + own.SerializeToString()


class Recording:
    """What nodes of one group send, second by second, over and over."""

    def __init__(self, group: NodeGroup) -> None:
        self.group = group
        self._seconds: list[tuple[RecordedBatch, ...]] = []
        aggregator, converter = Aggregator(), BatchConverter(node="", boot_id="")
        for window in range(WINDOWS_BEFORE + WINDOWS_RECORDED):
            start = _START_SECONDS + window * WINDOW_SECONDS
            calls = group.draw_window(aggregator.facts)
            if window >= WINDOWS_BEFORE:
                group.called |= group.drawn
            ends = calls["time_unix_ns"].searchsorted([(second + 1) * SECOND_NS for second in range(WINDOW_SECONDS)])
            calls["time_unix_ns"] += start * SECOND_NS
            taken = 0
            for second, end in enumerate(ends.tolist()):
                # What is polled at the start of a second is the calls of the one before it.
                rows = aggregator.poll((start + second) * SECOND_NS)
                seen = window * group.template.calls + taken
                batches = converter.convert(
                    rows, key_id=1, policy_epoch=0, clock_segment=0, lost_calls_total=0, seen_calls_total=seen
                )
                if window >= WINDOWS_BEFORE:
                    self._seconds.append(tuple(_record(batch, start) for batch in batches))
                aggregator.add_calls(calls[taken:end])
                taken = end

    def list_batches(self, unix_second: int) -> Sequence[RecordedBatch]:
        """What leaves at the start of a second."""
        return self._seconds[unix_second % len(self._seconds)]

    def count(self) -> tuple[float, float, float]:
        """Batches, rows and calls of one window, on average."""
        batches = [batch for second in self._seconds for batch in second]
        totals = len(batches), sum(batch.rows for batch in batches), sum(batch.calls for batch in batches)
        return totals[0] / WINDOWS_RECORDED, totals[1] / WINDOWS_RECORDED, totals[2] / WINDOWS_RECORDED


def _record(serialised: SerialisedBatch, window_start: int) -> RecordedBatch:
    batch = data_pb2.Batch.FromString(serialised.payload)
    shift_seconds = batch.base_time_unix_seconds - window_start
    for name in ("node", "boot_id", "sequence", "key_id", "policy_epoch", "base_time_unix_seconds"):
        batch.ClearField(name)
    return RecordedBatch(
        body=batch.SerializeToString(),
        shift_seconds=shift_seconds,
        rows=len(batch.rows.route),
        calls=serialised.calls,
    )
