"""Within a cgroup's budget of heads each consumer has a share: who floods a service keeps nobody else's attack down."""

import contextlib
import ipaddress
import socket
import subprocess
from collections.abc import Callable, Iterator

import pytest

from sensor.ebpf.abi import Counter, NameKind
from tests.bpf.recognised import Watch
from tests.bpf.wire import receive_exactly, request, response, serving

pytestmark = pytest.mark.kernel

BURST = 400  # A consumer's share is 25 of them, an address's 100.
FLOOD, FLOOD_BETWEEN, SLOW = 450, 20, 12
ANSWER = response(200)
SERVER = "127.0.0.1"

Head = Callable[[int], bytes]


def attack(number: int, token: str = "", agent: str = "") -> bytes:
    """A request whose query looks like one."""
    fields = f"Authorization: Bearer {token}\r\n" * bool(token) + f"User-Agent: {agent}\r\n" * bool(agent)
    return request("GET", f"/find?q='{number:06}", fields)


def answer_all(connection: socket.socket) -> None:
    """Without pauses."""
    received = b""
    while part := connection.recv(65_536):
        received += part
        count, received = received.count(b"\r\n\r\n"), received.rpartition(b"\r\n\r\n")[2]
        connection.sendall(ANSWER * count)


def call(client: socket.socket, head: bytes) -> None:
    """One call, to its end."""
    client.sendall(head)
    receive_exactly(client, len(ANSWER))


@contextlib.contextmanager
def from_address(address: str, server: str, port: int) -> Iterator[socket.socket]:
    """A client's connection from one of this host's addresses."""
    with socket.create_connection((server, port), timeout=10, source_address=(address, 0)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield client


@contextlib.contextmanager
def own_addresses(*addresses: str) -> Iterator[None]:
    """Addresses of IPv6 that this host has meanwhile."""
    added = []
    try:
        for address in addresses:
            change = ["ip", "-6", "address", "add", f"{address}/128", "dev", "lo", "nodad"]
            subprocess.run(change, check=True, capture_output=True)
            added.append(address)
        yield
    finally:
        for address in added:
            subprocess.run(["ip", "-6", "address", "del", f"{address}/128", "dev", "lo"], check=True)


def read_heads(watch: Watch, flood: Head, slow: Head, addresses: tuple[str, str], listen: str) -> set[bytes]:
    """The heads that came up of one who floods a service, and of one who attacks it slowly beside."""
    watch.teacher.name(True, b"q", NameKind.QUERY_IGNORED)
    with serving(answer_all, host=listen) as port:
        watch.teacher.path(slow(0), cgroup_id=watch.cgroup_id, port=port)
        for head in (flood(0), slow(0)):
            watch.teacher.profile(head)
        with from_address(addresses[0], SERVER, port) as one, from_address(addresses[1], SERVER, port) as other:
            call(one, flood(0))  # What was owed before is paid at the rate of this moment.
            call(other, slow(0))
            watch.restart()
            watch.teacher.set(heads_per_second=1, heads_burst=BURST)
            for number in range(FLOOD):
                call(one, flood(number))
            for number in range(SLOW):
                for between in range(FLOOD_BETWEEN):
                    call(one, flood(FLOOD + FLOOD_BETWEEN * number + between))
                call(other, slow(number))
            total = FLOOD + SLOW * (FLOOD_BETWEEN + 1)
            count = watch.counted(Counter.HEADS)
            records, exchanges = watch.collect(port, total - count, count)
    assert len(records) + len(exchanges) == total
    return {one.request_head for one in exchanges}


def slow_attack(number: int) -> bytes:
    """As the one beside the flood sends them."""
    return attack(900_000 + number)


@pytest.mark.parametrize(
    ("flood", "slow", "addresses"),
    [
        (attack, slow_attack, ("127.0.0.2", "127.0.0.3")),
        (lambda number: attack(number, f"t{number:08}"), slow_attack, ("127.0.0.2", "127.0.0.3")),
        (lambda number: request("GET", f"/%27{number:06}"), slow_attack, ("127.0.0.2", "127.0.0.3")),
        (lambda number: attack(number, agent=f"${{{number}}}"), slow_attack, ("127.0.0.2", "127.0.0.3")),
        (
            lambda number: attack(number, "token-of-one"),
            lambda number: attack(900_000 + number, "token-of-another"),
            ("127.0.0.2", "127.0.0.2"),
        ),
    ],
    ids=["one", "a token each time", "unplain heads", "a line each time", "a token behind one address"],
)
@pytest.mark.parametrize("listen", [SERVER, "::"])
def test_who_floods_keeps_down_no_head_of_another(
    watch: Watch, flood: Head, slow: Head, addresses: tuple[str, str], listen: str
) -> None:
    heads = read_heads(watch, flood, slow, addresses, listen)
    assert [number for number in range(SLOW) if slow(number) not in heads] == []
    assert len(heads) > BURST * 3 // 4  # Who floods has what nobody else wants.
    assert watch.counted(Counter.SHARES_SPENT) >= FLOOD - BURST


def test_a_network_of_ipv6_is_one_address(watch: Watch) -> None:
    """Who has all of a network of 64 bits has the share of one; the neighbour in the next has one too."""
    network = ipaddress.ip_network("fd61:7069:6461:6501::/64")
    addresses = [str(network[number]) for number in range(1, 41)]
    other = "fd61:7069:6461:6502::1"
    head = attack(0)
    with own_addresses(*addresses, other), serving(answer_all, host="::1") as port:
        watch.teacher.name(True, b"q", NameKind.QUERY_IGNORED)
        watch.teacher.path(head, cgroup_id=watch.cgroup_id, port=port, address="::1")
        watch.teacher.profile(head)
        with from_address(other, "::1", port) as client:
            call(client, head)
        watch.restart()
        watch.teacher.set(heads_per_second=1, heads_burst=BURST)
        for count, address in enumerate(addresses):
            with from_address(address, "::1", port) as client:
                for number in range(BURST // 40 + 1):  # Fewer than a consumer's share.
                    call(client, attack(1_000 * count + number))
        kept = watch.counted(Counter.SHARES_SPENT)
        with from_address(other, "::1", port) as client:
            for number in range(SLOW):
                call(client, slow_attack(number))
        _, exchanges = watch.collect(port, 0, watch.counted(Counter.HEADS))
    heads = {one.request_head for one in exchanges}
    assert [number for number in range(SLOW) if slow_attack(number) not in heads] == []
    assert kept > BURST // 10  # Of the last eighth of the cgroup's budget none was theirs.
