"""Conversations between a real HTTP/2 client and a real server (python-hyper's h2), recorded in both directions.

What each call was is known because the conversation made it so.
"""

import random
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import Event
from h2.settings import SettingCodes

from sensor.http.reassembly import Direction

AUTHORITY = b"shop.example:8443"
ROUTES = [b"/orders.v1.Orders/Get", b"/orders.v1.Orders/List", b"/shop.Cart/Watch", b"/api/v1/items?page=2", b"/"]


@dataclass(kw_only=True)
class Truth:
    """One call as both ends had it."""

    stream: int
    method: str
    path: str
    token: bytes
    is_grpc: bool = False
    status: int = 0
    grpc_status: int | None = None
    request_messages: int = 0
    response_messages: int = 0
    is_aborted: bool = False
    is_ended: bool = False


@dataclass
class Conversation:
    """Bytes in the order they were sent, and the calls that ended, in the order they ended."""

    sent: list[tuple[Direction, bytes]] = field(default_factory=list)
    ended: list[Truth] = field(default_factory=list)


def frame_message(size: int) -> bytes:
    return b"\0" + size.to_bytes(4) + b"m" * size


class Talk:
    """Drives both ends."""

    def __init__(self, seed: int, *, table_bytes: int = 4_096) -> None:
        self.chance = random.Random(seed)
        self.client = H2Connection(H2Configuration(client_side=True))
        self.server = H2Connection(H2Configuration(client_side=False))
        self.conversation = Conversation()
        self.open: list[Truth] = []
        self.answered: set[int] = set()
        self.client.initiate_connection()
        self.server.initiate_connection()
        if table_bytes != 4_096:
            for end in (self.client, self.server):
                end.update_settings({SettingCodes.HEADER_TABLE_SIZE: table_bytes})
        self.flush()

    def flush(self) -> None:
        """Until both have nothing more to say."""
        is_moving = True
        while is_moving:
            is_moving = self._move(self.client, self.server, Direction.FORWARD)
            is_moving = self._move(self.server, self.client, Direction.BACKWARD) or is_moving

    def _move(self, sender: H2Connection, receiver: H2Connection, direction: Direction) -> bool:
        data = sender.data_to_send()
        if not data:
            return False
        self.conversation.sent.append((direction, data))
        events: list[Event] = receiver.receive_data(data)
        for event in events:
            if hasattr(event, "flow_controlled_length") and event.flow_controlled_length:
                receiver.increment_flow_control_window(event.flow_controlled_length)
        return True

    def start_call(self) -> None:
        chance = self.chance
        stream = self.client.get_next_available_stream_id()
        path = chance.choice(ROUTES)
        if chance.random() < 0.3:
            path = b"/users/%d" % chance.randrange(10**6)
        is_grpc = b"." in path
        token = b"Bearer token-%d" % chance.randrange(20)
        truth = Truth(
            stream=stream,
            method="POST" if is_grpc else chance.choice(["GET", "POST", "DELETE"]),
            path=path.partition(b"?")[0].decode(),
            token=token,
            is_grpc=is_grpc,
        )
        headers = [
            (b":method", truth.method.encode()),
            (b":path", path),
            (b":scheme", b"http"),
            (b":authority", AUTHORITY),
            (b"authorization", token),
            (b"user-agent", b"tests/1.0"),
        ]
        if is_grpc:
            headers += [(b"te", b"trailers"), (b"content-type", b"application/grpc+proto")]
        if chance.random() < 0.2:
            headers.append((b"x-long", b"v" * chance.choice([200, 3_000, 17_000])))
        has_body = is_grpc or truth.method == "POST"
        self.client.send_headers(stream, headers, end_stream=not has_body)
        if has_body:
            for _ in range(chance.choice([1, 1, 3])):
                self._send(self.client, stream)
                truth.request_messages += 1
            self.client.end_stream(stream)
        self.open.append(truth)

    def _send(self, end: H2Connection, stream: int) -> None:
        data = frame_message(self.chance.choice([0, 5, 300, 2_000]))
        padding = self.chance.choice([None, None, 0, 40])
        if end.local_flow_control_window(stream) > len(data) + 256:
            end.send_data(stream, data, pad_length=padding)
        else:
            end.send_data(stream, frame_message(0))
            self.flush()

    def answer(self, truth: Truth) -> None:
        """One step of a call's response."""
        chance, server, stream = self.chance, self.server, truth.stream
        if chance.random() < 0.08:
            self.flush()  # So that both have seen the same of it.
            (self.client if chance.random() < 0.5 else server).reset_stream(stream, ErrorCodes.CANCEL)
            truth.is_aborted = True
            self._end(truth)
            return
        if stream not in self.answered:
            if chance.random() < 0.1:
                server.send_headers(stream, [(b":status", b"103"), (b"link", b"</a.css>")])
            self.answered.add(stream)
            truth.status = 200 if truth.is_grpc else chance.choice([200, 201, 404, 418])
            headers = [
                (b":status", b"%d" % truth.status),
                (b"server", b"h2"),
                (b"x-trace", chance.randbytes(6).hex().encode()),
            ]
            headers.append((b"content-type", b"application/grpc+proto" if truth.is_grpc else b"application/json"))
            if chance.random() < 0.15:
                if truth.is_grpc:  # Trailers only.
                    truth.grpc_status = 5
                    headers.append((b"grpc-status", b"5"))
                server.send_headers(stream, headers, end_stream=True)
                self._end(truth)
                return
            server.send_headers(stream, headers)
            return
        if chance.random() < 0.5:
            self._send(server, stream)
            truth.response_messages += 1
            return
        if truth.is_grpc:
            truth.grpc_status = chance.choice([0, 0, 7, 16])
            server.send_headers(stream, [(b"grpc-status", b"%d" % truth.grpc_status)], end_stream=True)
        else:
            server.end_stream(stream)
        self._end(truth)

    def _end(self, truth: Truth) -> None:
        truth.is_ended = True
        self.open.remove(truth)
        self.conversation.ended.append(truth)


def converse(seed: int, steps: int, *, table_bytes: int = 4_096, is_finished: bool = True) -> Conversation:
    """A conversation of so many steps; calls that are open at its end are finished, or left."""
    talk = Talk(seed, table_bytes=table_bytes)
    for _ in range(steps):
        if not talk.open or (len(talk.open) < 20 and talk.chance.random() < 0.3):
            talk.start_call()
            talk.flush()
        else:
            talk.answer(talk.chance.choice(talk.open))
        if talk.chance.random() < 0.05:
            talk.client.ping(b"12345678")
        if talk.chance.random() < 0.7:
            talk.flush()
    while is_finished and talk.open:
        talk.answer(talk.chance.choice(talk.open))
        talk.flush()
    talk.flush()
    return talk.conversation
