"""Calls whose figures alone come become the very rows that describing each of them would give."""

import numpy as np
import pytest

from scripts.bench_cases.http2 import ReplayDescriber, write_events, write_rest, write_rpc
from scripts.bench_cases.http2 import converse as repeat
from sensor.agent.pipeline import Pipeline
from sensor.aggregate.aggregator import Aggregator, WindowLimits
from sensor.capture.files.identity import CaptureIdentity
from sensor.capture.http2.assembler import StreamAssembler
from sensor.core.calls import CALL, Calls
from sensor.core.clock import Clock
from sensor.core.health import StageCounter
from sensor.core.keyed import KeyedHash
from sensor.describe.describer import DescribeSettings
from sensor.export.convert import BatchConverter
from sensor.http.http2.streams import AlikeCalls
from sensor.routes.templating import Templater
from sensor.routes.vocabulary import load_vocabulary
from tests.sensor.http.http2_conversation import converse

BATCH = 50


class Sensor:
    """From events to rows; `alike` None: each call is told whole."""

    def __init__(self, alike: AlikeCalls | None) -> None:
        clock, keyed_hash = Clock(monotonic_source=lambda: 0, unix_source=lambda: 0), KeyedHash(1, bytes(16))
        templater = Templater(load_vocabulary(), keyed_hash)
        self.aggregator = Aggregator(limits=WindowLimits())
        self.pipeline = Pipeline(
            processor=ReplayDescriber(templater, CaptureIdentity(), keyed_hash, DescribeSettings()),
            aggregator=self.aggregator,
            converter=BatchConverter(node="test", boot_id="test"),
            clock=clock,
            key_id=1,
            alike=alike,
        )
        self.stage = StageCounter("exchange")
        self.assembler = StreamAssembler(to_unix_ns=int, stage=self.stage, alike=alike)
        self.told = self.counted = 0

    def read(self, events: list[bytes]) -> Calls:
        """Rows of calls, in order of time."""
        for at in range(0, len(events), BATCH):
            told = self.assembler.take(map(memoryview, events[at : at + BATCH]))
            self.told += len(told)
            self.counted += sum(count for _, count in self.assembler.pop_alike_counts())
            self.pipeline.take(told)
        self.pipeline.take(())
        calls = self.aggregator._waiting.calls
        return np.sort(calls, order=list(CALL.names or ()))


@pytest.mark.parametrize(
    "events",
    [
        pytest.param(write_events(repeat(write_rpc, 300)), id="rpc"),
        pytest.param(write_events(repeat(write_rest, 300)), id="rest"),
        *(pytest.param(write_events(converse(seed, 200).sent), id=f"conversation {seed}") for seed in range(4)),
    ],
)
def test_rows_are_the_same(events: list[bytes]) -> None:
    whole, gathering = Sensor(None), Sensor(AlikeCalls())
    expected, found = whole.read(events), gathering.read(events)
    assert len(expected) > 50
    assert (found == expected).all()
    assert gathering.stage.count() == whole.stage.count()
    assert gathering.pipeline.counts() == whole.pipeline.counts()
    assert gathering.told + gathering.counted == whole.told
    assert gathering.assembler.calls == whole.assembler.calls


def test_most_calls_of_a_program_that_repeats_itself_are_figures() -> None:
    sensor = Sensor(AlikeCalls())
    sensor.read(write_events(repeat(write_rpc, 300)))
    assert sensor.counted > 250


def test_nothing_is_taken_under_a_number_that_holds_no_more() -> None:
    """Facts are swept, or the key changes: what was numbered before is told whole again."""
    alike = AlikeCalls()
    sensor = Sensor(alike)
    events = write_events(repeat(write_rpc, 60))
    sensor.read(events[:80])
    before = sensor.counted
    assert before
    sensor.pipeline._repeats.forget()
    told = sensor.assembler.take(map(memoryview, events[80:82]))
    assert (len(told), len(alike)) == (1, 0)
