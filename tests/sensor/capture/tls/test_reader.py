"""Plain text of TLS to exchanges: a client's end is left to its server's, sockets may be known late."""

import pytest

from sensor.capture.syscalls import streams
from sensor.capture.syscalls.streams import Verdict
from sensor.capture.tls.reader import TlsReader
from sensor.core.calls import Exchange, Role
from sensor.ebpf.abi import SYSCALL_EVENT, Binding, Library, SyscallEvent, SyscallKind
from sensor.http.http2.exchange import StreamExchange
from sensor.http.http2.frames import PREFACE
from sensor.http.http2.heads import UNKNOWN_PATH, StreamRequest
from tests.sensor.http.hpack_encoder import Encoder
from tests.sensor.http.http2_wire import write_headers, write_settings

REQUEST = b"GET /orders/7 HTTP/1.1\r\nHost: shop\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LOOPBACK = b"\x7f\0\0\1" + bytes(12)
SERVER, CLIENT = b"\x0a\0\0\1" + bytes(12), b"\x0a\0\0\2" + bytes(12)


class Session:
    """One session as the kernel tells it."""

    def __init__(
        self, reader: TlsReader, number: int, *, is_server: bool = True, client_port: int = 50_000, host: bytes = SERVER
    ) -> None:
        self.reader, self.number, self.is_server = reader, number, is_server
        self.client_port, self.host = client_port, host  # Of the server.
        self.at = {SyscallKind.READ: 0, SyscallKind.WRITE: 0}
        self.is_bound = True
        self.time_ns = 1_000
        self.binding = Binding.NESTED

    def tell(self, kind: SyscallKind, data: bytes) -> list[Exchange | StreamExchange]:
        return self.reader.take([self.pack(kind, data)])

    def pack(self, kind: SyscallKind, data: bytes) -> memoryview:
        """A record of the ring."""
        other = SyscallKind.WRITE if kind is SyscallKind.READ else SyscallKind.READ
        event = SyscallEvent(
            time_ns=self.time_ns,
            socket=self.number,
            cgroup_id=3,
            sequence=self.at.get(kind, 0),
            other=self.at[other],
            size=len(data),
            length=len(data),
            hash=0,
            local_port=(443 if self.is_server else self.client_port) * self.is_bound,
            remote_port=(self.client_port if self.is_server else 443) * self.is_bound,
            kind=kind,
            family=4 * self.is_bound,
            bound=self.binding if self.is_bound else 0,
            library=Library.OPENSSL,
            process=10,
            local_address=(self.host if self.is_server else CLIENT) if self.is_bound else bytes(16),
            remote_address=(CLIENT if self.is_server else self.host) if self.is_bound else bytes(16),
        )
        if kind in self.at:
            self.at[kind] += len(data)
        return memoryview(SYSCALL_EVENT.pack(*event) + data + bytes(100))


def make_reader(refused: list[Verdict] | None = None) -> TlsReader:
    return TlsReader(
        to_unix_ns=lambda time_ns: time_ns,
        refuse=lambda event, verdict: refused.append(verdict) if refused is not None else None,
    )


def test_a_call_of_a_server() -> None:
    reader = make_reader()
    session = Session(reader, 9)
    assert session.tell(SyscallKind.READ, REQUEST) == []
    (call,) = session.tell(SyscallKind.WRITE, RESPONSE)
    assert isinstance(call, Exchange)
    assert (call.ends.role, call.ends.connection, call.ends.local_port, call.figures.status_code) == (
        Role.SERVER,
        9,
        443,
        200,
    )
    assert (call.figures.request_bytes, call.figures.response_bytes) == (len(REQUEST), len(RESPONSE))
    assert call.ends.is_encrypted
    port = reader.read_port(3, 443)
    assert port is not None
    assert (port.calls, port.connections, port.libraries) == (1, 1, {"OpenSSL"})


def test_an_answer_that_came_while_probes_came_out_hides_no_call() -> None:
    for was_closing in (False, True):
        reader = TlsReader(
            to_unix_ns=int, refuse=lambda event, verdict: None, was_closing=lambda pid, at, closing=was_closing: closing
        )
        session = Session(reader, 9)
        for _ in range(3):
            session.tell(SyscallKind.WRITE, RESPONSE)
        assert (len(reader.unread), dict(reader.stage.count().dropped)) == (
            (0, {}) if was_closing else (1, {"request_head_lost": 3})
        )


def test_an_end_that_can_be_the_clients_only_has_no_client() -> None:
    """Whoever holds it may write into the Java agent's memory that it served a request, of whom it called."""
    for is_server, remote in ((True, ("::", 0)), (False, ("10.0.0.1", 443))):
        session = Session(make_reader(), 9, is_server=is_server)
        session.binding = Binding.LAST | Binding.CLIENT
        first, second = (SyscallKind.READ, SyscallKind.WRITE)[:: 1 if is_server else -1]
        session.tell(first, REQUEST)
        (call,) = session.tell(second, RESPONSE)
        assert isinstance(call, Exchange) and call.ends.role is (Role.SERVER if is_server else Role.CLIENT)
        assert (call.ends.remote_address, call.ends.remote_port) == remote


def test_a_client_on_this_node_is_left_to_its_server() -> None:
    reader = make_reader()
    server, client = Session(reader, 9), Session(reader, 8, is_server=False)
    client.tell(SyscallKind.WRITE, REQUEST)
    server.tell(SyscallKind.READ, REQUEST)
    assert len(server.tell(SyscallKind.WRITE, RESPONSE)) == 1
    assert client.tell(SyscallKind.READ, RESPONSE) == []
    assert reader.local_clients == 1


def test_a_client_is_left_to_its_server_whatever_is_read_at_once() -> None:
    """The next connection's socket has the number of the server's, as a busy reader finds both in the ring."""
    reader = make_reader()
    server, client = Session(reader, 9), Session(reader, 8, is_server=False)
    calls = [
        (client, SyscallKind.WRITE, REQUEST),
        (server, SyscallKind.READ, REQUEST),
        (server, SyscallKind.WRITE, RESPONSE),
        (client, SyscallKind.READ, RESPONSE),
    ]
    later = Session(reader, 9, client_port=50_001)
    calls += [(later, SyscallKind.READ, REQUEST), (later, SyscallKind.WRITE, RESPONSE)]
    told = reader.take([session.pack(kind, data) for session, kind, data in calls])
    assert [one.ends.role for one in told if isinstance(one, Exchange)] == [Role.SERVER, Role.SERVER]
    assert reader.local_clients == 1


def test_a_connection_that_is_left_to_its_server_is_refused_once() -> None:
    refused: list[Verdict] = []
    reader = make_reader(refused)
    server, client = Session(reader, 9), Session(reader, 8, is_server=False)
    for number in range(4):
        client.tell(SyscallKind.WRITE, REQUEST)
        server.tell(SyscallKind.READ, REQUEST)
        assert len(server.tell(SyscallKind.WRITE, RESPONSE)) == 1
        assert client.tell(SyscallKind.READ, RESPONSE) == []
        assert refused == ([Verdict.LEFT] if number else [])  # A connection of one call ends by itself.
    count = reader.stage.count()
    assert (count.seen, count.used) == (6, 6)  # What was on its way when the kernel heard of it is let go.
    assert reader.local_clients == 2


@pytest.mark.parametrize(
    ("data", "verdicts"),
    [
        (b"\x81\x85abcdhello", [Verdict.UPGRADED]),  # Text, masked.
        (b"\xc2\xfe\x01\x00abcd", [Verdict.UPGRADED]),  # Binary, compressed, longer.
        (b"\x00\x00\x12\x01\x05\x00\x00\x00\x01", []),  # A frame of HTTP/2 whose connection nobody saw begin.
        (b"\x81\x05hello", []),  # No client's: not masked.
        (b"\x04\x9aSMTP", []),
        (b"", []),
    ],
)
def test_a_session_that_was_upgraded_while_nobody_looked_is_known_by_its_frames(
    data: bytes, verdicts: list[Verdict]
) -> None:
    refused: list[Verdict] = []
    session = Session(make_reader(refused), 9)
    assert session.tell(SyscallKind.OTHER, data) == []
    assert refused == verdicts


@pytest.mark.parametrize(("host", "told"), [(LOOPBACK, 0), (SERVER, 1)])
def test_a_client_of_a_server_that_is_read_in_turns(host: bytes, told: int) -> None:
    """A connection that was made while nobody looked at the server: on loopback it is known whose it is."""
    refused: list[Verdict] = []
    reader = make_reader(refused)
    server = Session(reader, 9, host=host)
    client = Session(reader, 8, is_server=False, client_port=50_001, host=host)
    server.tell(SyscallKind.READ, REQUEST)
    assert len(server.tell(SyscallKind.WRITE, RESPONSE)) == 1
    client.tell(SyscallKind.WRITE, REQUEST)
    assert len(client.tell(SyscallKind.READ, RESPONSE)) == told
    assert reader.local_clients == 1 - told
    assert not refused  # By the server's port alone it is not certain for all that comes.


def test_a_client_of_another_node_is_told() -> None:
    reader = make_reader()
    client = Session(reader, 8, is_server=False)
    client.tell(SyscallKind.WRITE, REQUEST)
    (call,) = client.tell(SyscallKind.READ, RESPONSE)
    assert isinstance(call, Exchange)
    assert (call.ends.role, call.ends.remote_address) == (Role.CLIENT, "10.0.0.1")


def test_a_socket_that_is_known_late_is_the_calls() -> None:
    reader = make_reader()
    session = Session(reader, 9)
    session.is_bound = False
    session.tell(SyscallKind.READ, REQUEST)
    session.is_bound = True
    (call,) = session.tell(SyscallKind.WRITE, RESPONSE)
    assert isinstance(call, Exchange)
    assert (call.ends.local_port, call.ends.remote_address) == (443, "10.0.0.2")
    assert reader.unbound_calls == 0


def test_a_call_whose_socket_nobody_knows_is_told_and_counted() -> None:
    reader = make_reader()
    session = Session(reader, 9)
    session.is_bound = False
    session.tell(SyscallKind.READ, REQUEST)
    (call,) = session.tell(SyscallKind.WRITE, RESPONSE)
    assert isinstance(call, Exchange)
    assert (call.ends.role, call.ends.local_port, call.ends.cgroup_id) == (Role.SERVER, 0, 3)
    assert reader.unbound_calls == 1


def test_paths_that_http2_sent_while_nobody_looked_are_unknown_and_counted_and_never_another_calls() -> None:
    """A turn ends, two paths go by, and the next turn meets the connection within."""
    reader = make_reader()
    session, request, response = Session(reader, 9), Encoder(), Encoder()

    def call(stream: int, path: bytes) -> bytes:
        fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":path", path), (b":authority", b"shop")]
        return write_headers(stream, request.encode(fields), is_end=True)

    def read(stream: int, sent: bytes) -> str:
        session.tell(SyscallKind.READ, sent)
        answer = write_headers(stream, response.encode([(b":status", b"200")]), is_end=True)
        (one,) = session.tell(SyscallKind.WRITE, answer)
        assert isinstance(one, StreamExchange) and isinstance(one.call.request, StreamRequest)
        return one.call.request.head.path

    session.tell(SyscallKind.READ, PREFACE + write_settings())
    session.tell(SyscallKind.WRITE, write_settings())
    assert [read(1, call(1, b"/a")), read(3, call(3, b"/b")), read(5, call(5, b"/a"))] == ["/a", "/b", "/a"]
    call(7, b"/c")
    call(9, b"/d")
    session.at[SyscallKind.CUT] = session.at[SyscallKind.WRITE]
    session.tell(SyscallKind.CUT, b"")
    paths = [read(stream, call(stream, path)) for stream, path in ((11, b"/d"), (13, b"/a"), (15, b"/e"), (17, b"/e"))]
    assert paths == [UNKNOWN_PATH, UNKNOWN_PATH, "/e", "/e"]
    port = reader.read_port(3, 443)
    assert port is not None and (port.calls, port.without_path, reader.calls_without_path) == (7, 2, 2)


ASKED = b"GET /live HTTP/1.1\r\nHost: shop\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
GRANTED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
FRAME, ANSWER = b"\x81\x85maskhello", b"\x81\x05hello"


def open_socket(session: Session, granted: bytes = GRANTED) -> Exchange:
    """What is reported at the 101."""
    session.tell(SyscallKind.READ, ASKED)
    (began,) = session.tell(SyscallKind.WRITE, granted)
    assert isinstance(began, Exchange)
    assert (began.figures.calls, began.figures.is_final, began.figures.status_code) == (1, False, 101)
    return began


def close_socket(session: Session) -> Exchange:
    """What is reported at its end, three seconds after all else."""
    (ended,) = session.tell(SyscallKind.CLOSED, b"")
    assert isinstance(ended, Exchange)
    assert (ended.figures.calls, ended.figures.is_final, ended.figures.status_code) == (0, True, 101)
    return ended


def test_a_websocket_is_reported_at_its_101_and_at_its_end_with_its_messages() -> None:
    refused: list[Verdict] = []
    session = Session(make_reader(refused), 9)
    began = open_socket(session)
    for _ in range(3):
        assert session.tell(SyscallKind.READ, FRAME) == []
    session.tell(SyscallKind.WRITE, ANSWER[:3])
    session.tell(SyscallKind.WRITE, ANSWER[3:])
    session.time_ns += 3_000_000_000
    ended = close_socket(session)
    assert refused == [Verdict.FOLLOWED]
    assert (ended.request_messages, ended.response_messages) == (3, 1)
    assert ended.figures.duration_ns == 3_000_000_000
    assert ended.figures.request_bytes == len(ASKED) + 3 * len(FRAME)
    assert ended.figures.response_bytes == len(GRANTED) + len(ANSWER)
    assert ended.ends == began.ends and ended.ends.remote_port == 50_000 and ended.ends.is_encrypted
    assert session.tell(SyscallKind.CLOSED, b"") == []


def test_bytes_that_were_not_copied_are_no_messages_but_within_a_payload() -> None:
    session = Session(make_reader(), 9)
    open_socket(session)
    session.tell(SyscallKind.READ, b"\x82\xfe\x10\x00mask")  # 4,096 bytes follow.
    session.at[SyscallKind.READ] += 4_096
    session.tell(SyscallKind.READ, FRAME)
    session.at[SyscallKind.WRITE] += 7
    session.tell(SyscallKind.WRITE, ANSWER)
    ended = close_socket(session)
    assert (ended.request_messages, ended.response_messages) == (2, None)
    assert ended.figures.response_bytes == len(GRANTED) + 7 + len(ANSWER)


@pytest.mark.parametrize("kind", [SyscallKind.CUT, SyscallKind.READ])
def test_where_frames_were_missed_duration_and_addresses_are_known(
    kind: SyscallKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody looked for a while, or there were too many."""
    monkeypatch.setattr(streams, "FRAMES_BURST", 1)
    monkeypatch.setattr(streams, "FRAMES_PER_SECOND", 1)
    refused: list[Verdict] = []
    session = Session(make_reader(refused), 9)
    open_socket(session)
    session.tell(SyscallKind.READ, FRAME)
    session.tell(kind, FRAME if kind is SyscallKind.READ else b"")
    assert refused[1:] == ([Verdict.UPGRADED] if kind is SyscallKind.READ else [])
    session.time_ns += 3_000_000_000
    ended = close_socket(session)
    assert (ended.request_messages, ended.response_messages) == (None, None)
    assert (ended.figures.duration_ns, ended.ends.remote_port) == (3_000_000_000, 50_000)


def test_frames_that_came_with_the_101_leave_the_messages_unknown() -> None:
    refused: list[Verdict] = []
    session = Session(make_reader(refused), 9)
    open_socket(session, GRANTED + ANSWER)
    assert refused == [Verdict.UPGRADED]
    assert close_socket(session).request_messages is None


def test_after_another_upgrade_nothing_more_is_asked_for() -> None:
    refused: list[Verdict] = []
    session = Session(make_reader(refused), 9)
    session.tell(SyscallKind.READ, ASKED.replace(b"websocket", b"other"))
    (call,) = session.tell(SyscallKind.WRITE, GRANTED)
    assert isinstance(call, Exchange) and call.figures.is_final
    session.tell(SyscallKind.READ, FRAME)
    assert refused[:1] == [Verdict.UPGRADED]
