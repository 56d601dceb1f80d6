"""What described calls tell enforcement: whom an HTTP/2 connection carries, and how a credential is coded there."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from common.keyed_hash import hash_siphash
from sensor.agent.enforcement import LEARNING_SECONDS, Enforcement
from sensor.core.calls import CallRecord, Ends, Role
from sensor.core.config import EnforcementSettings, SensorSettings
from sensor.ebpf.abi import EnforcementMark
from sensor.enforce.block import Block, BlockKind
from sensor.http.hpack import encode_huffman
from sensor.http.http1.head import Header, RequestHead
from sensor.http.http2.exchange import OpenCall, StreamExchange, build_stream_exchange
from sensor.http.http2.heads import StreamRequest
from tests.sensor.capture.http2.test_exchange import ENDS, make_call
from tests.sensor.clocks import FakeClock
from tests.sensor.enforce.node import FakeKernel, FakeWatch
from tests.sensor.records import make_record

SECRET, STOLEN, OTHER = b"k" * 16, b"Bearer stolen", b"Bearer honest"
HASH = hash_siphash(SECRET, STOLEN)


def make_head(value: bytes) -> RequestHead:
    headers = [Header(b"accept", b"*/*"), Header(b"authorization", value)]
    return RequestHead("GET", "/users/1", "", "2", "a.example", "", headers, False)


def make_ends(connection: int) -> Ends:
    return msgspec.structs.replace(ENDS, role=Role.SERVER, connection=connection)


class Site:
    """Enforcement of a sensor that sees packets; `packets` has calls that go on."""

    def __init__(self, state: Path) -> None:
        settings = SensorSettings(
            collector="127.0.0.1:1", enforcement=EnforcementSettings(enabled=True), state_dir=state
        )
        self.clock, self.kernel, self.watch = FakeClock(), FakeKernel(), FakeWatch()
        self.enforcement = Enforcement(
            settings,
            self.clock,  # type: ignore[arg-type]
            list_servers=lambda: (),
            list_namespaces=dict,
            proc=Path("/proc"),
        )
        self.open: list[OpenCall] = []
        packets: Any = SimpleNamespace(
            list_open_calls=lambda only: [call for call in self.open if only in (None, call.ends.connection)]
        )
        self.enforcement._capture = packets
        self.enforcement.enforcer.set_key(1, SECRET)
        self.enforcement.set_identify(
            lambda head: make_record(credential=hash_siphash(SECRET, head.headers[1].value)).credentials
        )
        self.enforcement.enforcer.begin(self.kernel, self.watch, "")  # type: ignore[arg-type]
        self.clock.advance(LEARNING_SECONDS)
        block = Block(id="b", kind=BlockKind.CREDENTIAL, hash=HASH, key_id=1, left_ms=60_000)
        self.enforcement.enforcer.take((block,), 1)

    def see(self, value: bytes, connection: int = 7) -> tuple[StreamExchange, CallRecord]:
        request = StreamRequest(make_head(value), None, b"", (), 0, False)
        call = msgspec.structs.replace(make_call(), request=request)
        exchange = build_stream_exchange(make_ends(connection), call, int)
        record = make_record(credential=hash_siphash(SECRET, value))
        self.enforcement.see(exchange, record)
        return exchange, record


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_client_alone_is_cut_and_the_kernel_learns_how_it_writes(site: Site) -> None:
    exchange, record = site.see(STOLEN)
    assert [connection.cookie for _, connection in site.watch.asked] == [7]
    keys = {int.from_bytes(key, "little") for key in site.kernel.maps["blocked_credentials"]}
    assert keys == {HASH, hash_siphash(SECRET, encode_huffman(STOLEN))}
    assert site.kernel.state[2] & EnforcementMark.STREAMED
    assert site.enforcement.is_blocked(exchange, record)
    other = site.see(OTHER, 8)
    assert not site.enforcement.is_blocked(*other) and len(site.watch.asked) == 1


def test_who_shares_a_connection_is_left_and_so_are_the_peers_others(site: Site) -> None:
    site.see(OTHER)
    site.see(STOLEN)
    site.see(STOLEN, 8)
    assert not site.watch.asked and not site.kernel.state[2] & EnforcementMark.STREAMED
    assert site.enforcement.enforcer.report().blocks[0].spared_requests == 2


def test_who_is_on_it_now_is_known_before_it_is_cut(site: Site) -> None:
    """The other's first call goes on while the blocked client's ends."""
    site.open.append(OpenCall(make_ends(7), make_head(OTHER)))
    site.see(STOLEN)
    assert not site.watch.asked


def test_a_call_that_lasts_is_cut_before_its_end(site: Site) -> None:
    site.open.append(OpenCall(make_ends(7), make_head(STOLEN)))
    site.enforcement._look()
    assert [connection.cookie for _, connection in site.watch.asked] == [7]


def test_at_first_nobody_is_known_to_be_alone(site: Site) -> None:
    site.enforcement._began_ns = site.clock.monotonic_ns()
    site.see(STOLEN)
    assert not site.watch.asked
