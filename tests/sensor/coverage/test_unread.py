"""What no call explains: sums over a table that forgets, by service and client, and its rows of the report."""

from sensor.core.calls import Service
from sensor.coverage.row import PortCount, PortProtocol
from sensor.coverage.unread import (
    ClientLoss,
    UnreadCount,
    UnreadEnd,
    UnreadReason,
    UnreadTotals,
    cover_unread,
    name_unread,
)
from tests.sensor.records import make_service

END = UnreadEnd(7, 80, "10.0.0.1", UnreadReason.POSITION)
OTHER = END._replace(client_address="10.0.0.2")
BARE = END._replace(reason=UnreadReason.NOT_HTTP)
HTTP = PortCount(port=80, kind=PortProtocol.HTTP, connections=1, bytes=1, cgroup_id=7, calls=3)


def test_a_table_that_forgets_an_end_and_begins_anew_loses_no_sum() -> None:
    totals = UnreadTotals()
    for count in (UnreadCount(2, 200), UnreadCount(5, 500), UnreadCount(5, 500), UnreadCount(1, 100)):
        totals.observe(END, count)
    totals.add(OTHER, calls=1, size=9)
    assert totals.totals == {END: UnreadCount(6, 600), OTHER: UnreadCount(1, 9)}


def name(unread: dict[UnreadEnd, UnreadCount], *counts: PortCount) -> dict[ClientLoss, UnreadCount]:
    def find(cgroup_id: int, port: int) -> Service:
        assert (cgroup_id, port) == (7, 80)
        return make_service("web")

    return name_unread(unread, counts, name_service=find, is_proxy=lambda address: address == OTHER.client_address)


def test_a_port_that_speaks_something_else_misses_nothing() -> None:
    assert name({BARE: UnreadCount(4, 40)}) == {}
    assert list(name({BARE: UnreadCount(4, 40)}, HTTP).values()) == [UnreadCount(4, 40)]


def test_behind_a_proxy_no_client_is_named() -> None:
    assert [key.client_address for key in name({END: UnreadCount(1, 1), OTHER: UnreadCount(1, 1)})] == ["10.0.0.1", ""]


def test_a_row_sums_up_a_service_and_names_who_sent_most() -> None:
    counts = {END._replace(client_address=f"10.0.1.{n}"): UnreadCount(n, 10 * n) for n in range(1, 10)}
    (row,) = cover_unread(name(counts))
    assert (row.protocol, row.connections, row.bytes) == (PortProtocol.MISSED, 45, 450)
    assert row.address == "calls whose requests were not read" and row.service == make_service("web")
    named = "10.0.1.9 (9 calls, 90 bytes), 10.0.1.8 (8 calls, 80 bytes), 10.0.1.7 (7 calls, 70 bytes)"
    assert row.reason.endswith(f"Most is of {named}.")
