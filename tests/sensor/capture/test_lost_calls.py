"""Events that a full ring lost, as calls."""

import pytest

from sensor.capture.source import estimate_lost_calls


@pytest.mark.parametrize(
    ("lost_events", "events", "calls", "lost_calls"),
    [
        (0, 0, 0, 0),
        (1, 0, 0, 1),  # Nothing is known of how many events a call has: two at least.
        (10, 0, 0, 5),
        (100, 800, 200, 25),
        (100, 100, 200, 50),  # Some of the calls are reported without an event of their own.
    ],
)
def test_calls_by_their_events(lost_events: int, events: int, calls: int, lost_calls: int) -> None:
    assert estimate_lost_calls(lost_events, events, calls) == lost_calls
