"""A clock that tests move by hand."""

from sensor.core.clock import Clock

START_UNIX_NS = 1_700_000_040 * 1_000_000_000


class FakeClock(Clock):
    """Stands still until `advance`; `step` sets the wall clock only. Times are seconds."""

    def __init__(self) -> None:
        self._now_monotonic_ns = 1_000_000_000
        self._now_unix_ns = START_UNIX_NS
        super().__init__(monotonic_source=lambda: self._now_monotonic_ns, unix_source=lambda: self._now_unix_ns)

    def advance(self, seconds: float) -> None:
        self._now_monotonic_ns += int(seconds * 1e9)
        self._now_unix_ns += int(seconds * 1e9)

    def step(self, seconds: float) -> None:
        self._now_unix_ns += int(seconds * 1e9)
