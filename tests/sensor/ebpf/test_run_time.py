"""Time in programs: counted for a second of each minute, estimated by calls in between."""

import errno

from sensor.ebpf.run_time import BREAKPOINT_NS, COUNTED_NS, INTERVAL_NS, UNKNOWN_NS_PER_CALL, RunTime, RunTimeMeter


class Kernel:
    """Counts only while a descriptor is open; each call takes 1,000 ns in each of two programs."""

    def __init__(self) -> None:
        self.calls = 0
        self.counted = 0
        self.open_fds: list[int] = []
        self.is_allowed = True

    def make(self, calls: int) -> int:
        self.calls += calls
        self.counted += 1_000 * calls * bool(self.open_fds)
        return self.calls

    def enable(self) -> int:
        if not self.is_allowed:
            raise OSError(errno.EPERM, "not permitted")
        self.open_fds.append(7)
        return 7

    def read(self, _: int) -> RunTime:
        return RunTime(nanoseconds=self.counted, runs=self.counted // 500)

    def meter(self) -> RunTimeMeter:
        return RunTimeMeter((3, 4), enable=self.enable, read=self.read, close=self.open_fds.remove)


def test_a_second_of_each_minute_is_counted() -> None:
    kernel = Kernel()
    meter = kernel.meter()
    seconds_open = 0
    for second in range(120):
        meter.observe(now_ns=second * COUNTED_NS, calls=kernel.make(500))
        seconds_open += bool(kernel.open_fds)
    assert seconds_open == 2 == 120 * COUNTED_NS // INTERVAL_NS
    assert meter.ns_per_call == 2_000
    before = meter.observe(now_ns=120 * COUNTED_NS, calls=kernel.make(0))
    assert meter.observe(now_ns=121 * COUNTED_NS, calls=kernel.make(1_000)) - before == 2_000_000
    meter.stop()
    assert kernel.open_fds == []


def test_where_nothing_may_be_counted_an_estimate_stays() -> None:
    kernel = Kernel()
    kernel.is_allowed = False
    meter = kernel.meter()
    for second in range(3):
        total = meter.observe(now_ns=second * COUNTED_NS, calls=kernel.make(1_000))
    assert total == 3_000 * UNKNOWN_NS_PER_CALL


def test_a_quiet_second_says_nothing() -> None:
    kernel = Kernel()
    meter = kernel.meter()
    for second in range(3):
        meter.observe(now_ns=second * COUNTED_NS, calls=kernel.make(5))
    assert meter.ns_per_call == UNKNOWN_NS_PER_CALL


def test_breakpoints_cost_beside_their_programs() -> None:
    kernel = Kernel()
    meter = RunTimeMeter(
        (3, 4),
        breakpoint_fds={4},
        unknown_ns_per_call=900,
        enable=kernel.enable,
        read=kernel.read,
        close=kernel.open_fds.remove,
    )
    assert meter.ns_per_call == 900
    for second in range(3):
        meter.observe(now_ns=second * COUNTED_NS, calls=kernel.make(500))
    assert meter.ns_per_call == 2_000 + 2 * BREAKPOINT_NS
