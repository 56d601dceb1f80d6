"""Who hides calls from the sensors is reported; what everybody loses, or a sensor's start loses, is not."""

import pytest

from collector.alerting.alert import AbuseSignal, AlertKind
from collector.alerting.wording import report_signal
from collector.detection.abuse.detector import YOUNG_SECONDS
from collector.detection.framework.loss import NodeLoss
from collector.storage.row_group import make_group
from tests.collector.detection.scene import AbuseScene
from tests.collector.detection.stream import START, Row, make_batch

HIDDEN, OTHER = "93.184.1.9", "81.1.2.3"
LATER = START + YOUNG_SECONDS + 60


def hide(calls: int, address: str = HIDDEN) -> Row:
    return Row(route=0, address=address, unread=calls)


def play(*steps: list[Row]) -> list[AbuseSignal]:
    """Signals of this kind, each step a minute later."""
    scene = AbuseScene()
    scene.feed(START, [Row(route=0, address=OTHER)])
    told = scene.run(steps, start=LATER, step=60)
    return [signal for signal in told if signal.kind is AlertKind.UNREAD_TRAFFIC]


def test_a_client_whose_calls_are_answered_and_not_read_is_named() -> None:
    (signal,) = play([hide(30), Row(route=0, address=OTHER)], [hide(40), Row(route=0, address=OTHER)])
    report = report_signal(signal)
    assert (signal.consumer, signal.ceiling) == (f"address:{HIDDEN}", 50)
    assert 60 < signal.count <= 70  # Older ones weigh less.
    assert "shop:8000, behind a fault in a request, or too many of them" in report.title
    assert not signal.is_notice and signal.kind.row.can_block


def test_others_that_are_read_may_call_before_or_after() -> None:
    """What is unread comes at once, and nothing of it later."""
    (signal,) = play([hide(900)], [Row(route=0, address=OTHER)], [Row(route=0, address=OTHER)])
    assert signal.consumer == f"address:{HIDDEN}" and signal.count > 800


@pytest.mark.parametrize(
    "steps",
    [
        [[hide(45), Row(route=0, address=OTHER)]],  # Too few.
        [[hide(70)], [hide(1)]],  # Nobody else is read there: it may be the server.
        [[hide(70), *(hide(40, f"81.1.1.{n}") for n in range(3)), Row(route=0, address=OTHER)]],  # All clients do.
        [[hide(70), hide(5, OTHER)], [hide(1), hide(1, OTHER)]],  # Nobody is read whole.
    ],
)
def test_what_may_be_an_accident_is_not_reported(steps: list[list[Row]]) -> None:
    assert play(*steps) == []


def test_what_clients_hide_widens_no_range() -> None:
    losses = NodeLoss()
    group = make_group(make_batch([hide(1_000), Row(route=0, address=OTHER)]))
    losses.add(START, group)
    assert losses.measure_rows(group, START) is None
