"""Known workloads: what clients send, and so what the inventory must hold, to the call and to the byte."""

import re
import socket
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.e2e.inventory import Endpoint
from tests.e2e.scripted import Expected
from tests.e2e.wire import RawClient, Sent, build_request

# 23 calls, a prime: no doubling, halving or folding gives it by chance.
MIX: tuple[tuple[str, str], ...] = (
    *(("GET", f"/orders/{number}") for number in range(1_001, 1_008)),
    *(("POST", "/orders") for _ in range(5)),
    *(("HEAD", f"/orders/{number}") for number in range(2_001, 2_004)),
    *(("DELETE", f"/orders/{number}") for number in range(3_001, 3_004)),
    *(("GET", f"/users/{number}") for number in range(41, 43)),
    *(("GET", "/invoices?page=2") for _ in range(3)),
)
BODY = b'{"product": 7}'


@dataclass(slots=True)
class Counts:
    """Of one (method, template)."""

    calls: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    statuses: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    def as_tuple(self) -> tuple[int, int, int, tuple[tuple[int, int], ...]]:
        """Comparable."""
        return self.calls, self.request_bytes, self.response_bytes, tuple(sorted(self.statuses.items()))


Table = dict[tuple[str, str], tuple[int, int, int, tuple[tuple[int, int], ...]]]


def read_key(call: Sent | Expected) -> tuple[str, str]:
    """(method, template) of what was sent; numbers in paths become `{}`."""
    target = call.target if isinstance(call, Sent) else call.path
    return call.method, re.sub(r"/\d+", "/{}", target.partition("?")[0])


def read_endpoint_key(endpoint: Endpoint) -> tuple[str, str]:
    """(method, template) of what the inventory holds; whatever a parameter is called becomes `{}`."""
    return endpoint.method, re.sub(r"\{[^}]*\}", "{}", endpoint.template)


def expect(calls: Iterable[Sent | Expected]) -> Table:
    """{(method, template): (calls, request bytes, response bytes, statuses)} of what was sent."""
    counts: dict[tuple[str, str], Counts] = defaultdict(Counts)
    for call in calls:
        one = counts[read_key(call)]
        one.calls += 1
        one.request_bytes += call.request_bytes
        one.response_bytes += call.response_bytes
        one.statuses[call.status] += 1
    return {key: value.as_tuple() for key, value in counts.items()}


def observe(endpoints: Iterable[Endpoint]) -> Table:
    """The same table of what the inventory holds."""
    return {
        read_endpoint_key(endpoint): (
            endpoint.calls,
            endpoint.request_bytes,
            endpoint.response_bytes,
            endpoint.status_codes,
        )
        for endpoint in endpoints
    }


def send_mix(client: RawClient, mix: Sequence[tuple[str, str]] = MIX) -> None:
    """The whole mix over one connection."""
    for method, target in mix:
        client.call(method, target, BODY if method == "POST" else b"")


def send_split(address: str, port: int) -> list[Sent]:
    """One GET cut at each of its bytes in turn (new connections: the first bytes of all are the hardest), then one in
    single bytes.
    """
    length = len(build_request("GET", "/orders/1"))
    calls: list[Sent] = []
    for position in range(1, length):
        with RawClient(address, port) as client:
            calls.append(client.call("GET", "/orders/1", cuts=(position,)))
    with RawClient(address, port) as client:
        client.call("GET", "/orders/1", cuts=tuple(range(1, length)))
        client.call("GET", "/orders/1", cuts=tuple(range(1, length)))  # Again on a known connection.
        calls += client.calls
    return calls


def send_pipelined(address: str, port: int, depth: int) -> list[Sent]:
    """23 GETs, `depth` outstanding at a time, in one segment each time."""
    targets = [f"/orders/{number}" for number in range(1, 24)]
    with RawClient(address, port) as client:
        for start in range(0, len(targets), depth):
            client.pipeline(targets[start : start + depth])
        return client.calls


def has_ipv6() -> bool:
    """Whether ::1 can be used."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False
