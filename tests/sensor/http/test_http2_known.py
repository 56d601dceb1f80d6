"""Frames that were met before are taken without a reading, and mean the same: conversations told both ways."""

import pytest

from scripts.bench_cases.http2 import converse as repeat
from scripts.bench_cases.http2 import write_events, write_rest, write_rpc
from sensor.capture.http2.assembler import StreamAssembler
from sensor.core.health import StageCounter
from sensor.http.http2.connection import Http2Connection
from sensor.http.http2.heads import StreamRequest
from tests.sensor.http.http2_conversation import converse


def tell(events: list[bytes]):
    """Every call, heads included, and what was counted."""
    assembler = StreamAssembler(to_unix_ns=int, stage=StageCounter("exchange"))
    told = assembler.take(map(memoryview, events))
    connection = assembler._streams.find(1)
    assert connection is not None
    calls = []
    for one in told:
        request = one.call.request
        assert isinstance(request, StreamRequest)
        headers = [(header.name, header.value) for header in request.head.headers]
        fields = [
            getattr(one.call, name) for name in one.call.__struct_fields__ if name not in ("request", "rpc", "pattern")
        ]
        calls.append((one.exchange, request.head.method, request.head.path, headers, fields))
    return calls, connection.counts, [reader._position for reader in connection._readers]


def tell_unknown(events: list[bytes], monkeypatch: pytest.MonkeyPatch):
    """The same where all is read."""
    monkeypatch.setattr(Http2Connection, "take_known", lambda self, direction, data, start, *rest: (0, start))
    return tell(events)


@pytest.mark.parametrize("write", [write_rpc, write_rest])
def test_repeated_calls(write, monkeypatch):
    events = write_events(repeat(write, 300))
    taken = []
    original = Http2Connection.take_known

    def take_known(self, direction, data, *rest):
        result = original(self, direction, data, *rest)
        taken.append(result[0] == len(data))
        return result

    monkeypatch.setattr(Http2Connection, "take_known", take_known)
    known = tell(events)
    assert sum(taken) > len(taken) * (0.9 if write is write_rpc else 0.4)
    assert len(known[0]) == 300
    assert known == tell_unknown(events, monkeypatch)


@pytest.mark.parametrize("table_bytes", [4_096, 256, 0])
@pytest.mark.parametrize("seed", range(8))
def test_conversations(seed, table_bytes, monkeypatch):
    events = write_events(converse(seed, 200, table_bytes=table_bytes).sent)
    assert tell(events) == tell_unknown(events, monkeypatch)
