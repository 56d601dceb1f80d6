"""Calls a second of each endpoint, from the totals of successive snapshots: numbers in, numbers out, no clock of its
own.
"""

from collections import deque

RATE_SECONDS = (
    30.0  # Windows close every 10 s: three of them, so that the figure does not jump between 0 and the truth.
)


class RateMeter:
    """Remembers totals over the last RATE_SECONDS; at most one mark a second for each endpoint that is still shown."""

    def __init__(self) -> None:
        self._marks: dict[str, deque[tuple[float, int]]] = {}

    def update(self, totals: dict[str, int], now: float) -> dict[str, float]:
        """Calls a second by endpoint id; an endpoint seen for the first time counts from zero calls at its first
        mark.
        """
        for gone in self._marks.keys() - totals.keys():
            del self._marks[gone]
        return {endpoint_id: self._update_one(endpoint_id, calls, now) for endpoint_id, calls in totals.items()}

    def _update_one(self, endpoint_id: str, calls: int, now: float) -> float:
        marks = self._marks.setdefault(endpoint_id, deque())
        if not marks or now - marks[-1][0] >= 1.0:
            marks.append((now, calls))
        while len(marks) > 2 and now - marks[1][0] >= RATE_SECONDS:
            marks.popleft()
        first_time, first_calls = marks[0]
        elapsed = now - first_time
        return max(0, calls - first_calls) / elapsed if elapsed >= 1.0 else 0.0
