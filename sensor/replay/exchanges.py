"""From a transaction on the wire to the exchange that the sensor would describe, its heads cut as the kernel cuts
them."""

from typing import Final

from sensor.calls import Exchange, Role
from sensor.conversations import join_bodies
from sensor.protocols.http1_faults import RULES, Fault
from sensor.protocols.http1_pairs import Transaction
from sensor.protocols.http2_calls import StreamCall
from sensor.replay.flows import FlowTransaction, format_address
from sensor.streams.exchange import Ends, StreamExchange, build_stream_exchange

# bpf/conn.h, REQUEST_COPY and RESPONSE_COPY.
REQUEST_HEAD_BYTES: Final = 8_192
RESPONSE_HEAD_BYTES: Final = 1_024


def build_flow_exchange(flow: FlowTransaction, call: StreamCall) -> StreamExchange:
    """The exchange of a call of HTTP/2, whose heads were read already."""
    ends = Ends(
        connection=flow.connection,
        role=Role.SERVER,
        cgroup_id=0,
        peer_cgroup_id=0,
        local_address=format_address(flow.server[0]),
        local_port=flow.server[1],
        remote_address=format_address(flow.client[0]),
        remote_port=flow.client[1],
    )
    return build_stream_exchange(ends, call, int)


def build_exchange(flow: FlowTransaction, transaction: Transaction) -> Exchange | None:
    """The exchange as seen at the server's end; None where no whole request head was seen."""
    request, response = transaction.request, transaction.response
    if request is None or request.head is None or Fault.HEAD_CUT in request.faults:
        return None
    raw = request.head.raw
    status_code, response_head, response_bytes = 0, b"", 0
    first_ns = last_ns = request.started_ns
    if response is not None:
        if response.head is not None:
            status_code, response_head = response.head.start.status_code, response.head.raw[:RESPONSE_HEAD_BYTES]
        response_bytes = response.wire_bytes + sum(interim.wire_bytes for interim in transaction.interim)
        first_ns, last_ns = response.started_ns, max(response.ended_ns, request.ended_ns)
    is_aborted = response is None or not response.is_complete
    request_bytes, socket = request.wire_bytes, transaction.socket
    messages: tuple[int | None, int | None] = (None, None)
    if socket is not None:
        request_bytes += socket.bytes[0]
        response_bytes += socket.bytes[1]
        last_ns = max(last_ns, socket.last_ns)
        messages = socket.counters[0].messages, socket.counters[1].messages
    return Exchange(
        time_unix_ns=request.started_ns,
        connection=flow.connection,
        call=transaction.number,
        role=Role.SERVER,
        cgroup_id=0,
        peer_cgroup_id=0,
        local_address=format_address(flow.server[0]),
        local_port=flow.server[1],
        remote_address=format_address(flow.client[0]),
        remote_port=flow.client[1],
        request_head=raw[:REQUEST_HEAD_BYTES],
        is_request_head_truncated=len(raw) > REQUEST_HEAD_BYTES,
        response_head=response_head,
        status_code=status_code,
        request_bytes=request_bytes,
        response_bytes=response_bytes,
        time_to_first_byte_ns=max(first_ns - request.started_ns, 0),
        duration_ns=max(last_ns - request.started_ns, 0),
        calls=1,
        is_final=True,
        is_aborted=is_aborted and not transaction.is_lossy,
        is_lossy=transaction.is_lossy,
        is_ambiguous=any(RULES[fault].is_ambiguous for fault in request.faults),
        request_messages=messages[0],
        response_messages=messages[1],
        bodies=join_bodies(request, response),
    )
