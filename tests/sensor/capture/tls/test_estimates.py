"""Calls that nobody read are the kernel's turns less those that were, and only of ports that are read in turns."""

from sensor.capture.tls.capture import EARLIER_SECONDS, LINGER_SECONDS, PortEstimates
from sensor.capture.tls.split import MAX_PROCESSES, PortReading
from sensor.coverage.row import PortCount, PortProtocol

PORT = (7, 443)


class Port:
    """One port whose process is read in turns of `share`, or always."""

    def __init__(self) -> None:
        self.now = 100.0
        self.turns = 0
        self.reading = PortReading(processes={10: 0.0, 11: 0.0})
        self.estimates = PortEstimates()

    def pass_second(
        self, *, turns: int, read: int, share: float = 1.0, is_over: bool = False, waiting: int = 0
    ) -> None:
        self.now += 1
        self.turns += turns
        self.reading.calls += read
        count = PortCount(
            port=PORT[1], kind=PortProtocol.ENCRYPTED, connections=2, bytes=0, cgroup_id=PORT[0], exchanges=self.turns
        )
        shares = {11: share} if share < 1 or is_over else {}
        self.estimates.update(self.now, [count], {PORT: self.reading}, shares, waiting_calls=waiting)


def test_lost_calls_are_of_the_port_where_turns_are_missing() -> None:
    """Two ports, one of which has turns that are no calls from the beginning."""
    estimates, readings = PortEstimates(), {(7, port): PortReading(processes={10: 0.0}) for port in (443, 8443)}
    turns = {443: 0, 8443: 50}
    for second, (lost, missing) in enumerate(((0, 0), (0, 0), (40, 42), (40, 0), (60, 18))):
        for port, reading in zip((443, 8443), readings.values(), strict=True):
            turns[port] += 100
            reading.calls += 100 - missing * (port == 443)
        counts = [
            PortCount(port=port, kind=PortProtocol.ENCRYPTED, connections=2, bytes=0, cgroup_id=7, exchanges=made)
            for port, made in turns.items()
        ]
        estimates.update(100.0 + second, counts, readings, {}, lost)
    assert {port: reading.lost for (_, port), reading in readings.items()} == {443: 40 + 18, 8443: 0}


def test_what_a_process_says_that_it_lost_is_of_ports_of_its_cgroup() -> None:
    """However much that is, and however much others miss."""
    estimates, readings = PortEstimates(), {(cgroup, 443): PortReading(processes={10: 0.0}) for cgroup in (7, 8)}
    for second, (lost, said) in enumerate(((0, 0), (0, 0), (0, 1 << 39), (25, 1 << 39))):
        for (cgroup, _), reading in readings.items():
            reading.calls += 100 - 20 * (second >= 2) - 10 * (cgroup == 8 and second >= 2)
        counts = [
            PortCount(
                port=443,
                kind=PortProtocol.ENCRYPTED,
                connections=2,
                bytes=0,
                cgroup_id=cgroup,
                exchanges=100 * (second + 1),
            )
            for cgroup, _ in readings
        ]
        estimates.update(100.0 + second, counts, readings, {}, lost, {7: said} if said else {})
    assert {cgroup: reading.lost for (cgroup, _), reading in readings.items()} == {7: 20 + 10, 8: 15}


def test_what_is_always_read_is_not_estimated() -> None:
    port = Port()
    for _ in range(5):
        port.pass_second(turns=100, read=40)
    assert port.reading.estimated == 0


def test_calls_between_the_turns() -> None:
    port = Port()
    port.pass_second(turns=1_000, read=1_000)
    for _ in range(10):
        port.pass_second(turns=1_000, read=0, share=0.5)
        port.pass_second(turns=1_000, read=1_000, share=0.5)
    assert (port.reading.estimated, port.reading.share) == (10_000, 0.5)
    for _ in range(int(LINGER_SECONDS) + 1):
        port.pass_second(turns=500, read=500)
    assert (port.reading.estimated, port.reading.share) == (10_000, 1.0)
    port.pass_second(turns=500, read=0)
    assert port.reading.estimated == 10_000, "nobody has turns any more"


def test_turns_that_the_kernel_tells_late_are_not_told_twice() -> None:
    port = Port()
    port.pass_second(turns=0, read=0, share=0.2)
    port.pass_second(turns=100, read=200, share=0.2)
    port.pass_second(turns=900, read=0, share=0.2)
    assert port.reading.estimated == 800


def test_calls_that_wait_in_the_ring_are_not_estimated_and_those_that_nobody_read_are_soon() -> None:
    """A sensor that had no processor for seconds, with 450 calls of a turn before it and 150 beyond it."""
    port = Port()
    port.pass_second(turns=100, read=100)
    port.pass_second(turns=600, read=0, share=0.5, waiting=450)
    assert port.reading.estimated == 150
    port.pass_second(turns=100, read=550, share=0.5)
    assert port.reading.estimated == 150
    # The end waits for them too.
    for _ in range(int(LINGER_SECONDS) + 2):
        port.pass_second(turns=20, read=0, waiting=1_000)
    port.pass_second(turns=0, read=40)
    assert (port.reading.calls, port.reading.estimated) == (690, 210)
    assert port.reading.calls + port.reading.estimated == port.turns


def test_calls_that_wait_as_it_begins_are_not_those_of_its_turns() -> None:
    """They were made before, so they explain none of the kernel's turns since."""
    port = Port()
    port.pass_second(turns=100, read=100)
    for _ in range(3):
        port.pass_second(turns=100, read=0, waiting=300)
    port.pass_second(turns=100, read=400)
    port.pass_second(turns=500, read=100, is_over=True)
    assert port.reading.calls + port.reading.estimated == port.turns


def test_what_was_refused_before_it_had_turns_is_estimated() -> None:
    port = Port()
    port.pass_second(turns=50, read=50)
    port.pass_second(turns=1_000, read=300, is_over=True)
    port.pass_second(turns=1_000, read=100, is_over=True)
    assert (port.reading.estimated, port.reading.share) == (1_600, 1.0)


def test_calls_that_were_refused_before_anybody_knew_are_estimated() -> None:
    port = Port()
    port.pass_second(turns=0, read=0)
    for _ in range(3):
        port.pass_second(turns=1_000, read=100)
    port.pass_second(turns=1_000, read=100, is_over=True)
    assert port.reading.estimated == 4 * 900
    for _ in range(int(LINGER_SECONDS) + 1):
        port.pass_second(turns=100, read=100)
    port.pass_second(turns=1_000, read=100, is_over=True)
    assert port.reading.estimated == 5 * 900, "what was estimated is not estimated again"


def test_what_nobody_read_long_before_is_not_estimated() -> None:
    port = Port()
    for _ in range(20):
        port.pass_second(turns=100, read=0)
    port.pass_second(turns=1_000, read=100, is_over=True)
    assert port.reading.estimated == 900 + (int(EARLIER_SECONDS) - 1) * 100


def test_the_first_calls_of_a_port_are_estimated_too() -> None:
    port = Port()
    port.estimates.update(port.now, [], {}, {})
    port.pass_second(turns=1_000, read=100)
    port.pass_second(turns=1_000, read=100, is_over=True)
    assert port.reading.estimated == 2 * 900


def test_a_number_that_is_used_again_is_no_process_of_the_port_any_more() -> None:
    reading, starts = PortReading(), {10: 500.0, 11: 90.0}
    for pid in (10, 11, 12):
        reading.meet(pid, 100.0)
    reading.drop_ended(lambda pid: starts.get(pid, 0.0))
    assert list(reading.processes) == [11, 12], "10 began later; of 12 nothing is known"
    reading.meet(10, 501.0)
    reading.drop_ended(lambda pid: starts.get(pid, 0.0))
    assert 10 in reading.processes


def test_processes_met_of_late_stay_where_a_port_has_too_many() -> None:
    reading = PortReading()
    for pid in range(MAX_PROCESSES):
        reading.meet(pid, 1.0)
    reading.meet(0, 2.0)
    reading.meet(MAX_PROCESSES, 2.0)
    assert len(reading.processes) == MAX_PROCESSES and 0 in reading.processes and 1 not in reading.processes
