"""The exchange of a stream's call has each figure at its place."""

from sensor.core.calls import Ends, Role
from sensor.http.grpc import StreamingKind
from sensor.http.http1.head import Malformed
from sensor.http.http2.exchange import build_stream_exchange
from sensor.http.http2.streams import StreamCall
from tests.sensor.records import make_exchange

ENDS = Ends(
    connection=7,
    role=Role.CLIENT,
    cgroup_id=11,
    peer_cgroup_id=13,
    local_address="10.0.0.1",
    local_port=17,
    remote_address="10.0.0.2",
    remote_port=19,
)


def make_call(*, started_ns: int = 100, answered_ns: int = 105, ended_ns: int = 130) -> StreamCall:
    return StreamCall(
        stream=23,
        request=Malformed("method"),
        status_code=204,
        response_content_type="",
        rpc=None,
        grpc_status=None,
        streaming=StreamingKind.UNKNOWN,
        request_messages=None,
        response_messages=None,
        request_bytes=29,
        response_bytes=31,
        started_ns=started_ns,
        answered_ns=answered_ns,
        ended_ns=ended_ns,
        calls=1,
        is_final=True,
        is_aborted=False,
        is_lossy=True,
        has_unknown_fields=False,
        is_inferred=False,
    )


def test_each_figure_is_at_its_place() -> None:
    built = build_stream_exchange(ENDS, make_call(), lambda ns: ns + 1_000)
    assert built.exchange == make_exchange(
        time_unix_ns=1_100,
        connection=7,
        call=23,
        role=Role.CLIENT,
        cgroup_id=11,
        peer_cgroup_id=13,
        local_address="10.0.0.1",
        local_port=17,
        remote_address="10.0.0.2",
        remote_port=19,
        request_head=b"",
        is_request_head_truncated=False,
        response_head=b"",
        status_code=204,
        request_bytes=29,
        response_bytes=31,
        time_to_first_byte_ns=5,
        duration_ns=30,
        calls=1,
        is_final=True,
        is_aborted=False,
        is_lossy=True,
    )


def test_a_call_without_answer_or_end_has_no_times() -> None:
    built = build_stream_exchange(ENDS, make_call(answered_ns=0, ended_ns=0), int)
    assert (built.exchange.figures.time_to_first_byte_ns, built.exchange.figures.duration_ns) == (0, 0)
