"""A notifier's test: one alert that says that nothing happened, sent now, and what became of it."""

from collections.abc import Sequence
from typing import Final

from collector.alerts.alert import Alert, AlertKind, AlertState, Confidence, Severity
from collector.alerts.delivery import Notifier, Outcome

MEANINGS: Final = {
    Outcome.DELIVERED: "It took the test alert.",
    Outcome.UNANSWERED: "It did not answer as it should; see that it runs and may be reached from the collector.",
    Outcome.REFUSED: "It refused the test alert; see its address and what it expects.",
}


def try_notifier(notifiers: Sequence[Notifier], name: str, *, by: str, now: float) -> Outcome | None:
    """Send one of them a test alert, once; None where there is none of this name. Waits for the answer, 5 s at the
    most. `now` in unix seconds."""
    found = next((notifier for notifier in notifiers if notifier.name == name), None)
    return found.attempt(make_test_alert(by, now)) if found is not None else None


def make_test_alert(by: str, now: float) -> Alert:
    """A closed alert of low severity, so that it stays open nowhere."""
    return Alert(
        id=f"test-{int(now)}",
        kind=AlertKind.SENSOR_SILENT,
        state=AlertState.CLOSED,
        severity=Severity.LOW,
        title="Test of a notifier: nothing happened",
        why=f"{by} asked for it.",
        endpoint_id="",
        route_ids=(),
        consumer="",
        node="test",
        opened_at=now,
        updated_at=now,
        closed_at=now,
        window_start=now,
        window_end=now,
        observed_rate=0.0,
        expected_rate=0.0,
        threshold_rate=0.0,
        score=0.0,
        calls=0,
        loss_ratio=0.0,
        confidence=Confidence.LOW,
    )
