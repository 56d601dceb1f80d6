"""Of a call whose two ends are both read one is reported: the server's."""

from sensor.capture.syscalls.local_clients import LocalClients
from sensor.capture.syscalls.streams import Conversations, Verdict
from sensor.core.calls import Exchange, Role
from sensor.core.health import StageCounter
from sensor.ebpf.abi import SyscallEvent, SyscallKind
from sensor.http.http2.exchange import StreamExchange

READ, WRITE = SyscallKind.READ, SyscallKind.WRITE
REQUEST = b"GET /orders/7 HTTP/1.1\r\nHost: shop\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SERVER, CLIENT = b"\x0a\0\0\1" + bytes(12), b"\x0a\0\0\2" + bytes(12)


class Node:
    """Reads events as capture by system calls does."""

    def __init__(self) -> None:
        self.refused: list[Verdict] = []
        self.conversations = Conversations(
            to_unix_ns=int,
            stage=StageCounter("exchange"),
            refuse=lambda event, verdict: self.refused.append(verdict),
        )
        self.local = LocalClients(self.conversations.leave)

    def take(self, event: SyscallEvent, data: bytes) -> list[Exchange | StreamExchange]:
        found: list[Exchange | StreamExchange] = []
        if not self.local.is_left(event):
            self.local.note_ends(event)
            self.conversations.take_event(event, data, found)
        return self.local.drop_left(found)


class End:
    """One end of a connection."""

    def __init__(self, node: Node, number: int, *, is_server: bool, client_port: int = 50_000) -> None:
        self.node, self.number, self.is_server, self.client_port = node, number, is_server, client_port
        self.at = {READ: 0, WRITE: 0}

    def move(self, kind: SyscallKind, data: bytes) -> list[Exchange | StreamExchange]:
        event = SyscallEvent(
            time_ns=1_000,
            socket=self.number,
            cgroup_id=3,
            sequence=self.at[kind],
            other=self.at[WRITE if kind is READ else READ],
            size=len(data),
            length=len(data),
            hash=self.client_port,
            local_port=80 if self.is_server else self.client_port,
            remote_port=self.client_port if self.is_server else 80,
            kind=kind,
            family=4,
            bound=0,
            library=0,
            process=0,
            local_address=SERVER if self.is_server else CLIENT,
            remote_address=CLIENT if self.is_server else SERVER,
        )
        self.at[kind] += len(data)
        return self.node.take(event, data)


def converse(server: End | None, client: End) -> list[Role]:
    """One call; the ends that reported it."""
    found = client.move(WRITE, REQUEST)
    if server is not None:
        found += server.move(READ, REQUEST) + server.move(WRITE, RESPONSE)
    found += client.move(READ, RESPONSE)
    return [one.ends.role for one in found if isinstance(one, Exchange)]


def test_a_call_whose_ends_are_both_read_is_reported_by_its_server() -> None:
    node = Node()
    server, client = End(node, 9, is_server=True), End(node, 8, is_server=False)
    assert [converse(server, client) for _ in range(3)] == [[Role.SERVER]] * 3
    # Of a connection that carries more than one call nothing more is wanted of the client's end.
    assert (node.local.calls, node.refused) == (2, [Verdict.LEFT])


def test_a_call_to_a_server_that_is_not_read_is_reported_by_its_client() -> None:
    node = Node()
    converse(End(node, 9, is_server=True), End(node, 8, is_server=False))
    assert converse(None, End(node, 7, is_server=False, client_port=50_001)) == [Role.CLIENT]


def test_a_socket_whose_number_is_used_again_is_another_one() -> None:
    """As the kernel does with the memory of a closed one."""
    node = Node()
    server, client = End(node, 9, is_server=True), End(node, 8, is_server=False)
    for _ in range(2):
        converse(server, client)
    assert node.refused == [Verdict.LEFT]
    assert converse(None, End(node, 8, is_server=False, client_port=50_001)) == [Role.CLIENT]
    again = End(node, 8, is_server=True, client_port=50_002)
    (found,) = again.move(READ, REQUEST) + again.move(WRITE, RESPONSE)
    assert isinstance(found, Exchange) and found.ends.role is Role.SERVER


def test_a_call_that_ends_with_its_socket_leaves_nothing_of_the_next_connection() -> None:
    """The client's second call is told as its socket's number comes again."""
    node = Node()
    server, client = End(node, 9, is_server=True), End(node, 8, is_server=False)
    converse(server, client)
    client.move(WRITE, REQUEST)
    server.move(READ, REQUEST)
    server.move(WRITE, RESPONSE[:20])
    client.move(READ, RESPONSE[:20])
    again = End(node, 8, is_server=False, client_port=50_001)
    assert [converse(None, again) for _ in range(2)] == [[Role.CLIENT]] * 2
