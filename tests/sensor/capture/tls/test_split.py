"""One count of the kernel in two: sums stay the kernel's, and neither part ever shrinks."""

from hypothesis import given
from hypothesis import strategies as st

from sensor.capture.tls.split import PortReading, PortSplit
from sensor.coverage.row import PortCount, PortProtocol

PORT = 443


def make_count(connections: int, size: int = 0, exchanges: int = 0, late: int = 0) -> PortCount:
    return PortCount(
        port=PORT,
        kind=PortProtocol.ENCRYPTED,
        connections=connections,
        bytes=size,
        cgroup_id=7,
        joined_late=late,
        exchanges=exchanges,
    )


def split(parts: PortSplit, count: PortCount, reading: PortReading) -> dict[PortProtocol, PortCount]:
    return {one.kind: one for one in parts.split([count], lambda cgroup_id, port: reading)}


def test_a_port_that_is_read_is_one_row_of_https() -> None:
    reading = PortReading(calls=46, connections=2, libraries={"OpenSSL"})
    rows = split(PortSplit(), make_count(2, 9_000, 46), reading)
    https = rows.pop(PortProtocol.HTTPS)
    assert (https.connections, https.bytes, https.calls, https.exchanges, https.read_by) == (2, 9_000, 46, 0, "OpenSSL")
    assert not rows


def test_what_nobody_reads_stays_encrypted() -> None:
    count = make_count(3, 100)
    assert PortSplit().split([count], lambda cgroup_id, port: None) == [count]


def test_what_was_once_told_unread_stays_so() -> None:
    parts = PortSplit()
    assert split(parts, make_count(2, 10), PortReading())[PortProtocol.ENCRYPTED].connections == 2
    rows = split(parts, make_count(5, 40), PortReading(calls=5, connections=5, libraries={"OpenSSL"}))
    assert (rows[PortProtocol.HTTPS].connections, rows[PortProtocol.ENCRYPTED].connections) == (3, 2)


def test_half_read() -> None:
    rows = split(PortSplit(), make_count(4, 1_000, 40), PortReading(calls=20, connections=2, libraries={"GnuTLS"}))
    assert (rows[PortProtocol.HTTPS].connections, rows[PortProtocol.HTTPS].bytes) == (2, 500)
    rest = rows[PortProtocol.ENCRYPTED]
    assert (rest.connections, rest.bytes, rest.exchanges, rest.calls) == (2, 500, 20, 0)


@given(
    st.lists(
        st.tuples(*[st.integers(0, 50)] * 5),
        min_size=1,
        max_size=20,
    )
)
def test_sums_are_the_kernels_and_nothing_shrinks(steps: list[tuple[int, int, int, int, int]]) -> None:
    parts, reading = PortSplit(), PortReading(libraries={"OpenSSL"})
    total = [0, 0, 0, 0]
    before: dict[PortProtocol, PortCount] = {}
    for connections, size, exchanges, late, read in steps:
        total = [sum(pair) for pair in zip(total, (connections, size, exchanges, min(late, connections)), strict=True)]
        reading.connections = min(reading.connections + read, total[0])
        reading.calls += read
        rows = split(parts, make_count(*total), reading)
        assert sum(row.connections for row in rows.values()) == total[0]
        assert sum(row.bytes for row in rows.values()) == total[1]
        assert sum(row.joined_late for row in rows.values()) == total[3]
        for kind, row in before.items():
            now = rows[kind]
            assert now.connections >= row.connections and now.bytes >= row.bytes and now.exchanges >= row.exchanges
        before = rows
