"""The collector's clock is taken for wrong where most connected sensors disagree with it."""

from collector.receiver.clocks import SensorClocks
from tests.collector.wire_batches import NOW

DAY = 86_400


class Clocks:
    """The collector's clock and one that nobody sets, in seconds."""

    def __init__(self) -> None:
        self.offset = 0.0
        self.steady = 1_000.0

    def read(self) -> float:
        return NOW + self.steady + self.offset


def make_clocks() -> tuple[Clocks, SensorClocks]:
    own = Clocks()
    return own, SensorClocks(own.read, lambda: own.steady)


def record(clocks: SensorClocks, own: Clocks, node: str, ahead: float = 0.0) -> None:
    clocks.record(node, node, int((NOW + own.steady + ahead) * 1e9))


def test_sensors_that_agree_or_say_nothing_are_no_fault() -> None:
    own, clocks = make_clocks()
    assert clocks.find_fault() == ""
    clocks.record("silent", "stream", 0)
    clocks.record("never set", "stream", 86_400 * 10**9)
    clocks.record("far ahead", "stream", 2**64 - 1)
    record(clocks, own, "a", DAY - 1)
    assert clocks.find_fault() == ""


def test_most_sensors_decide_and_one_with_a_wrong_clock_does_not() -> None:
    own, clocks = make_clocks()
    record(clocks, own, "a", 3 * DAY)
    assert clocks.find_fault() == (
        "The collector's clock is 3.0 days behind 1 of 1 connected sensors, so it takes no rows. "
        "Set the clock of its host; with one sensor see which clock is wrong."
    )
    record(clocks, own, "b")
    assert clocks.find_fault() == ""  # Nobody is in the majority.
    record(clocks, own, "c", 2 * DAY)
    assert "2 of 3" in clocks.find_fault()


def test_a_correction_of_the_collectors_clock_ends_it_without_another_word_of_the_sensors() -> None:
    own, clocks = make_clocks()
    own.offset = 40 * DAY
    for node in "abc":
        record(clocks, own, node)
    assert "40.0 days ahead of 3 of 3" in clocks.find_fault()
    own.steady += 3_600
    assert clocks.find_fault()
    own.offset, own.steady = 0.5, own.steady + 1
    assert clocks.find_fault() == ""


def test_a_sensor_that_left_says_nothing_and_its_next_stream_does() -> None:
    own, clocks = make_clocks()
    clocks.record("a", "first", int((NOW + own.steady + 2 * DAY) * 1e9))
    clocks.record("a", "second", int((NOW + own.steady + 2 * DAY) * 1e9))
    clocks.forget("a", "first")
    assert clocks.find_fault()
    clocks.forget("a", "second")
    own.steady += 1
    assert clocks.find_fault() == ""
