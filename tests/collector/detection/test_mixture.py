"""What the detectors say of a fixed mixture of callers, line by line: faster code is to say the same.

`python -m tests.collector.detection.test_mixture` writes the file anew, for a change that is meant to be seen.
"""

from pathlib import Path

import pytest

from collector.alerting.alert import AlertSignal, Signal
from collector.detection.checkpoint import Checkpoint
from collector.detection.engine import Engine
from collector.log.base import Position
from tests.collector.detection.mixture import make_mixture
from tests.collector.detection.states import decode_state, encode_state

SAID = Path(__file__).parents[2] / "data" / "anomaly" / "mixture.txt"
WINDOWS = 300


def write_line(signal: Signal) -> str:
    who = f"{signal.kind} {signal.endpoint_id} {signal.consumer}"
    if isinstance(signal, AlertSignal):
        return f"{who} {signal.window_start}+{signal.window_seconds} {signal.calls} {signal.novel_objects}"
    return f"{who} {signal.time}+{signal.seconds} {signal.count} {signal.ceiling} {signal.basis} {signal.is_notice}"


def run(*, cut_at: int | None = None) -> list[str]:
    """Lines of a run; with `cut_at` the state goes through a checkpoint after so many batches."""
    engine, lines = Engine(), []
    for number, (batch, received_at) in enumerate(make_mixture(1, WINDOWS)):
        if number == cut_at:
            engine, before = Engine(), engine
            decode_state(encode_state(before, Checkpoint(position=Position(1, 0), next_signal=1)), engine)
        lines += [write_line(signal) for signal in engine.feed(batch, received_at)]
    return [*lines, f"{engine.used_calls} {engine.dropped_calls} {engine.held_back_count}"]


@pytest.mark.parametrize("cut_at", [None, 211])
def test_detectors_say_of_the_mixture_what_they_always_said(cut_at: int | None) -> None:
    assert run(cut_at=cut_at) == SAID.read_text().splitlines()


if __name__ == "__main__":
    SAID.write_text("\n".join(run()) + "\n")
