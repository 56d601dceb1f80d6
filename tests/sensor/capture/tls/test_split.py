"""One count of the kernel in two: sums become the kernel's, and neither part ever shrinks."""

from hypothesis import given
from hypothesis import strategies as st

from sensor.capture.tls.split import SETTLE_SECONDS, PortReading, PortSplit
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


def split(
    parts: PortSplit, count: PortCount, reading: PortReading | None, now: float = 0.0, *, is_last: bool = False
) -> dict[PortProtocol, PortCount]:
    return {one.kind: one for one in parts.split([count], lambda cgroup_id, port: reading, now, is_last=is_last)}


def test_a_port_that_is_read_is_one_row_of_https() -> None:
    reading = PortReading(calls=46, connections=2, libraries={"OpenSSL"})
    rows = split(PortSplit(), make_count(2, 9_000, 46), reading)
    https = rows.pop(PortProtocol.HTTPS)
    assert (https.connections, https.bytes, https.calls, https.exchanges, https.read_by) == (2, 9_000, 46, 0, "OpenSSL")
    assert not rows


def test_what_nobody_reads_stays_encrypted() -> None:
    parts, count = PortSplit(), make_count(3, 100)
    assert not split(parts, count, None, 0.0)
    assert not split(parts, count, None, SETTLE_SECONDS - 1)
    assert split(parts, count, None, SETTLE_SECONDS) == {PortProtocol.ENCRYPTED: count}


def test_what_nobody_read_is_encrypted_at_the_end() -> None:
    count = make_count(3, 100)
    assert split(PortSplit(), count, None, is_last=True) == {PortProtocol.ENCRYPTED: count}


def test_a_connection_whose_calls_are_read_later_is_of_https() -> None:
    """The kernel counts it when it begins TLS, and a look may come before its first call is reported."""
    parts = PortSplit()
    assert not split(parts, make_count(2, 500, 1), None)
    rows = split(parts, make_count(2, 9_000, 46), PortReading(calls=46, connections=2), SETTLE_SECONDS)
    https = rows.pop(PortProtocol.HTTPS)
    assert (https.connections, https.bytes, https.calls) == (2, 9_000, 46)
    assert not rows


def test_a_port_that_always_has_new_connections_is_of_https() -> None:
    parts = PortSplit()
    for number in range(1, 100):
        reading = PortReading(calls=number, connections=number)
        rows = split(parts, make_count(number + 1, 100 * number), reading, number * SETTLE_SECONDS / 4)
        assert {kind: row.connections for kind, row in rows.items()} in (
            {PortProtocol.HTTPS: number},
            {PortProtocol.HTTPS: number, PortProtocol.ENCRYPTED: 1},
        )


def test_what_was_once_reported_unread_stays_so() -> None:
    parts, reading = PortSplit(), PortReading()
    split(parts, make_count(2, 10), reading)
    assert split(parts, make_count(2, 10), reading, SETTLE_SECONDS)[PortProtocol.ENCRYPTED].connections == 2
    reading = PortReading(calls=5, connections=5, libraries={"OpenSSL"})
    rows = split(parts, make_count(5, 40), reading, 2 * SETTLE_SECONDS)
    assert (rows[PortProtocol.HTTPS].connections, rows[PortProtocol.ENCRYPTED].connections) == (3, 2)


def test_calls_are_reported_where_all_connections_were_thought_unread() -> None:
    """As of one whose first call takes longer than anybody waits."""
    parts = PortSplit()
    split(parts, make_count(1, 10), PortReading())
    split(parts, make_count(1, 10), PortReading(), SETTLE_SECONDS)
    rows = split(parts, make_count(1, 40), PortReading(calls=3, connections=1), 2 * SETTLE_SECONDS)
    assert (rows[PortProtocol.HTTPS].connections, rows[PortProtocol.HTTPS].calls) == (0, 3)


def test_calls_that_are_read_since_an_agent_came_are_not_estimated_too() -> None:
    """Also where connections of the time before stay in the other row, and where calls are reported late."""
    parts = PortSplit()
    for look in (0, SETTLE_SECONDS):
        rows = split(parts, make_count(1, 10, 20), None, look)
    assert rows[PortProtocol.ENCRYPTED].exchanges == 20
    for number in range(1, 10):
        reading = PortReading(calls=20 * number, connections=number, libraries={"Java"})
        now = (number + 1) * SETTLE_SECONDS
        rows = split(parts, make_count(1 + number, 20 * number, 20 + 20 * number + 5), reading, now - 1)
        reading.calls += 5
        rows = split(parts, make_count(1 + number, 20 * number, 20 + 20 * number + 5), reading, now)
    assert (rows[PortProtocol.HTTPS].calls, rows[PortProtocol.ENCRYPTED].exchanges) == (185, 20)


def test_half_read() -> None:
    reading = PortReading(calls=20, connections=2, libraries={"GnuTLS"})
    rows = split(PortSplit(), make_count(4, 1_000, 40), reading, is_last=True)
    assert (rows[PortProtocol.HTTPS].connections, rows[PortProtocol.HTTPS].bytes) == (2, 500)
    rest = rows[PortProtocol.ENCRYPTED]
    assert (rest.connections, rest.bytes, rest.exchanges, rest.calls) == (2, 500, 20, 0)


@given(
    st.lists(
        st.tuples(*[st.integers(0, 50)] * 6),
        min_size=1,
        max_size=20,
    )
)
def test_sums_become_the_kernels_and_nothing_shrinks(steps: list[tuple[int, int, int, int, int, int]]) -> None:
    parts, reading = PortSplit(), PortReading(libraries={"OpenSSL"})
    total, now = [0, 0, 0, 0], 0.0
    before: dict[PortProtocol, PortCount] = {}
    for connections, size, exchanges, late, read, pause in steps:
        total = [sum(pair) for pair in zip(total, (connections, size, exchanges, min(late, connections)), strict=True)]
        reading.connections = min(reading.connections + read, total[0])
        reading.calls += read
        now += pause
        rows = split(parts, make_count(*total), reading, now)
        settled = sum(row.connections for row in rows.values())
        assert reading.connections <= settled <= total[0]
        if rows or not total[0]:
            assert sum(row.bytes for row in rows.values()) == total[1]
            assert sum(row.joined_late for row in rows.values()) == total[3]
        check_growth(before, rows)
        before = rows
    rows = split(parts, make_count(*total), reading, now, is_last=True)
    assert sum(row.connections for row in rows.values()) == total[0]
    assert sum(row.bytes for row in rows.values()) == total[1]
    check_growth(before, rows)


def check_growth(before: dict[PortProtocol, PortCount], rows: dict[PortProtocol, PortCount]) -> None:
    for kind, row in before.items():
        now = rows[kind]
        assert now.connections >= row.connections and now.bytes >= row.bytes and now.exchanges >= row.exchanges
