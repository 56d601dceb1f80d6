"""Counts what connections carried and no call explains: by service, client and reason.

A client that hides calls from the sensor shows here. Each way of capture fills one `UnreadTotals` and gives its sums
since the sensor's start. The report names the clients of which most is unread (docs/use/coverage.md). The collector
raises an alert about one that does it in volume.
"""

import enum
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import nlargest
from typing import Final, NamedTuple

from common.bounded import BoundedDict
from sensor.core.calls import Service
from sensor.coverage.row import CoverageRole, PortCount, PortCoverage, PortProtocol

# Clients of ports that are remembered, some 200 bytes each: the one heard of longest ago goes.
ENDS_MAX: Final = 16_384
# Clients of a service that are named, in the report and to the collector.
NAMED_MAX: Final = 3


class UnreadReason(enum.IntEnum):
    """Why bytes of a client belong to no call; values are those of the kernel's enum and of the wire."""

    POSITION = 1  # Behind a fault of HTTP/1, missed bytes, or the most requests that are followed.
    SEGMENT = 2  # Behind the last message that the kernel reads of a segment.
    NOT_HTTP = 3  # The first bytes of a connection are no request of HTTP/1 or 2.
    HEAD = 4  # Of a request head, past what is read.


# Statuses by which servers refuse what they cannot read either, or send unasked: 400, 408, 414, 431 and 505.
REFUSALS: Final = frozenset((400, 408, 414, 431, 505))
NAMES: Final = {
    UnreadReason.POSITION: "calls whose requests were not read",
    UnreadReason.SEGMENT: "bytes behind too many pipelined requests",
    UnreadReason.NOT_HTTP: "connections that do not begin with HTTP",
    UnreadReason.HEAD: "request heads past what is read",
}
_MEANING: Final = {
    UnreadReason.POSITION: "Requests were malformed, too many at once, or missed: what followed there was not read.",
    UnreadReason.SEGMENT: "A client sent more requests in one segment than the sensor follows.",
    UnreadReason.NOT_HTTP: "This port speaks HTTP, and a client's first bytes are not HTTP.",
    UnreadReason.HEAD: "Only fields that say who calls what are read behind the first 32 KiB of a head, up to 256 KiB.",
}


class UnreadEnd(NamedTuple):
    """Whose bytes: the server's cgroup and port, and the textual address of the client's end."""

    cgroup_id: int
    port: int
    client_address: str
    reason: UnreadReason
    is_encrypted: bool = False


class UnreadCount(NamedTuple):
    """Calls that were answered, at least, and bytes that the client sent."""

    calls: int
    bytes: int

    def add(self, calls: int, size: int) -> "UnreadCount":
        """Both sums."""
        return UnreadCount(self.calls + calls, self.bytes + size)


NO_UNREAD: Final = UnreadCount(0, 0)
Unread = Mapping[UnreadEnd, UnreadCount]


class UnreadTotals:
    """Sums by end, since the start. Not thread-safe."""

    def __init__(self) -> None:
        self.totals: BoundedDict[UnreadEnd, UnreadCount] = BoundedDict(ENDS_MAX)
        self._seen: BoundedDict[UnreadEnd, UnreadCount] = BoundedDict(ENDS_MAX)

    def add(self, end: UnreadEnd, *, calls: int, size: int) -> None:
        """More of an end."""
        self.totals.renew(end, self.totals.get(end, NO_UNREAD).add(calls, size))

    def observe(self, end: UnreadEnd, count: UnreadCount) -> None:
        """Totals of an end in a table that may forget it and begin anew."""
        before = self._seen.get(end, NO_UNREAD)
        if count == before:
            return
        if count.calls < before.calls or count.bytes < before.bytes:
            before = NO_UNREAD
        self._seen.renew(end, count)
        self.add(end, calls=count.calls - before.calls, size=count.bytes - before.bytes)


class ClientLoss(NamedTuple):
    """What of one client of a service is unread, since the start."""

    service: Service
    is_encrypted: bool
    client_address: str
    reason: UnreadReason


ClientLosses = Mapping[ClientLoss, UnreadCount]


def name_unread(
    unread: Unread,
    counts: Iterable[PortCount],
    *,
    name_service: Callable[[int, int], Service],
    is_proxy: Callable[[str], bool],
) -> dict[ClientLoss, UnreadCount]:
    """By service; `name_service` is of a cgroup and port. Of ports that speak something else than HTTP, by their
    `counts`, nothing is missed. Behind a proxy nobody knows the client: its address is empty."""
    ports = {(count.cgroup_id, count.port) for count in counts if count.calls}
    sums: dict[ClientLoss, UnreadCount] = {}
    for end, count in unread.items():
        if end.reason is UnreadReason.NOT_HTTP and (end.cgroup_id, end.port) not in ports:
            continue
        address = "" if is_proxy(end.client_address) else end.client_address
        key = ClientLoss(name_service(end.cgroup_id, end.port), end.is_encrypted, address, end.reason)
        sums[key] = sums.get(key, NO_UNREAD).add(*count)
    return sums


def cover_unread(losses: ClientLosses) -> Iterator[PortCoverage]:
    """A row of each service and reason; `connections` is how many calls it was at least."""
    groups: dict[tuple[Service, UnreadReason], dict[str, UnreadCount]] = defaultdict(dict)
    for key, count in losses.items():
        clients = groups[key.service, key.reason]
        clients[key.client_address] = clients.get(key.client_address, NO_UNREAD).add(*count)
    for (service, reason), clients in groups.items():
        total = _sum(clients.values())
        yield PortCoverage(
            service=service,
            protocol=PortProtocol.MISSED,
            role=CoverageRole.NODE,  # The port has a row of its own, and is counted by it.
            connections=total.calls,
            bytes=total.bytes,
            address=NAMES[reason],
            reason=f"{_MEANING[reason]} Most is of {_list_clients(clients)}.",
        )


def _sum(counts: Iterable[UnreadCount]) -> UnreadCount:
    total = NO_UNREAD
    for count in counts:
        total = total.add(*count)
    return total


def _list_clients(clients: Mapping[str, UnreadCount]) -> str:
    most = nlargest(NAMED_MAX, clients.items(), key=lambda one: one[1])
    return ", ".join(
        f"{address or 'clients of a proxy'} ({count.calls:,} calls, {count.bytes:,} bytes)" for address, count in most
    )
