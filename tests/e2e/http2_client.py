"""An HTTP/2 client over TLS that knows to the byte what it sent and received of each call."""

import socket
import ssl
from collections import Counter
from collections.abc import Sequence

import h2.connection
import h2.events
from h2.config import H2Configuration

from tests.e2e.traffic import BODY, MIX
from tests.e2e.wire import Sent
from tests.waiting import DEADLINE_SECONDS

# Of RFC 9113: a frame's head, and the frames that a call is made of.
FRAME_BYTES = 9
HOST = "shop.example"  # As `build_request` has it.
DATA, HEADERS, CONTINUATION = 0, 1, 9
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class FrameCount:
    """Bytes of the frames of calls by stream, of one direction."""

    def __init__(self, skipped: int = 0) -> None:
        self.sizes: Counter[int] = Counter()
        self._left = b""
        self._skipped = skipped

    def take(self, data: bytes) -> None:
        """Bytes as they were on the wire."""
        self._left += data
        if self._skipped:
            if len(self._left) < self._skipped:
                return
            self._left, self._skipped = self._left[self._skipped :], 0
        while len(self._left) >= FRAME_BYTES:
            size = FRAME_BYTES + int.from_bytes(self._left[:3])
            if len(self._left) < size:
                return
            if self._left[3] in (DATA, HEADERS, CONTINUATION):
                self.sizes[int.from_bytes(self._left[5:9])] += size
            self._left = self._left[size:]


def send_mix_over_http2(
    address: str, port: int, tls: ssl.SSLContext, *, authorization: str, mix: Sequence[tuple[str, str]] = MIX
) -> list[Sent]:
    """The whole mix over one connection, all calls at once."""
    tls.set_alpn_protocols(["h2"])
    plain = socket.create_connection((address, port), timeout=DEADLINE_SECONDS)
    with tls.wrap_socket(plain, server_hostname=address) as connection:
        assert connection.selected_alpn_protocol() == "h2"
        protocol = h2.connection.H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        sent, received = FrameCount(len(PREFACE)), FrameCount()

        def flush() -> None:
            data = protocol.data_to_send()
            sent.take(data)
            connection.sendall(data)

        protocol.initiate_connection()
        statuses: dict[int, int] = {}
        ended: set[int] = set()
        calls = {}
        for method, target in mix:
            stream = protocol.get_next_available_stream_id()
            calls[stream] = method, target
            body = BODY if method == "POST" else b""
            head = [(":method", method), (":path", target), (":scheme", "https"), (":authority", HOST)]
            head.append(("authorization", authorization))
            protocol.send_headers(stream, head, end_stream=not body)
            if body:
                protocol.send_data(stream, body, end_stream=True)
            flush()
        while len(ended) < len(mix):
            data = connection.recv(65_536)
            assert data, f"the server ended the connection after {len(ended)} of {len(mix)} calls"
            received.take(data)
            for event in protocol.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    statuses[event.stream_id] = int(dict(event.headers)[":status"])
                elif isinstance(event, h2.events.DataReceived):
                    protocol.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    ended.add(event.stream_id)
            flush()
    return [
        Sent(
            method=method,
            target=target,
            status=statuses[stream],
            request_bytes=sent.sizes[stream],
            response_bytes=received.sizes[stream],
        )
        for stream, (method, target) in calls.items()
    ]
