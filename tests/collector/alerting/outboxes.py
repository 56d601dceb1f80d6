"""Notifications on their way through an outbox."""

from collector.alerting.alert import Alert
from collector.alerting.notifiers.delivery import RETRY_SECONDS, Notifier
from collector.storage.state.store import StateStore


class Clock:
    """Unix seconds, as the test says."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def add(notifier: Notifier, state: StateStore, *alerts: Alert) -> None:
    """Let alerts wait, as in the transaction that keeps them."""
    with state.write() as connection:
        notifier.add(connection, alerts)
    notifier.wake()


def deliver_all(notifier: Notifier, clock: Clock) -> None:
    """Until nothing waits."""
    while (pause := notifier.deliver_next()) is not None:
        assert pause <= RETRY_SECONDS[-1]
        clock.now += pause
