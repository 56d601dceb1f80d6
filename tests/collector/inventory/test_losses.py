"""What was lost is explained: each reason that a way of capture has, by what it means and what to do."""

import pytest

from collector.inventory.coverage.reader import _WORDS
from sensor.capture.packets.exchange import DROP_HEAD_LOST
from sensor.capture.syscalls.streams import DROP_CUT
from sensor.core.health import TLS_STAGE

OF_CAPTURE = [
    *(("kernel", reason) for reason in ("ring_full", "over_budget", "pipeline_too_deep")),
    *((stage, reason) for stage in ("exchange", TLS_STAGE) for reason in (DROP_HEAD_LOST, DROP_CUT)),
    *((TLS_STAGE, reason) for reason in ("ring_full", "over_budget")),
]


@pytest.mark.parametrize(("stage", "reason"), OF_CAPTURE)
def test_every_reason_of_capture_has_a_meaning_and_advice(stage: str, reason: str) -> None:
    words = _WORDS[stage, reason]
    assert words.meaning.endswith(".") and words.advice.endswith(".")


def test_a_full_ring_of_tls_is_not_explained_as_one_of_packets() -> None:
    assert _WORDS["tls", "ring_full"] != _WORDS["kernel", "ring_full"]
