"""What the scenes of tests share: an engine that has seen something, kept as a checkpoint so that each test begins from
it."""

from collections.abc import Iterable

from collector.alerting.alert import AbuseSignal
from collector.detection.checkpoint import Checkpoint
from collector.detection.engine import Engine
from collector.log.base import Position
from tests.collector.detection.states import decode_state, encode_state
from tests.collector.detection.stream import START, Row, make_batch


class EngineScene:
    """An engine that has seen nothing, or what the `state` of another one holds."""

    def __init__(self, state: bytes = b"") -> None:
        self.engine = Engine()
        if state:
            decode_state(state, self.engine)

    def save(self) -> bytes:
        """As in a checkpoint."""
        return encode_state(self.engine, Checkpoint(position=Position(0, 0), next_signal=1))

    def restart(self) -> None:
        """As the collector does."""
        state = self.save()
        self.engine = Engine()
        decode_state(state, self.engine)


class AbuseScene(EngineScene):
    """One in which only abuse is looked at. Rows get their window when they are fed."""

    later = START  # Where tests begin, after what the engine has seen.

    def feed(self, time: int, rows: Iterable[Row]) -> list[AbuseSignal]:
        """Rows of the window that starts at `time`."""
        timed = [Row(**{name: getattr(row, name) for name in Row.__slots__} | {"window": time}) for row in rows]
        signals = self.engine.feed(make_batch(timed), time + 11)
        return [signal for signal in signals if isinstance(signal, AbuseSignal)]

    def run(self, steps: Iterable[list[Row]], start: int = 0, step: int = 10) -> list[AbuseSignal]:
        """Rows of windows that follow each other, one a step; `start` of the first, `later` where it is not given."""
        start = start or self.later
        return [signal for n, rows in enumerate(steps) for signal in self.feed(start + n * step, rows)]
