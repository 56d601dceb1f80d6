"""One sensor and the collector's end of its wire, in one process: request heads in, validated row batches out.

Everything between is the product's code with its defaults: describe, aggregate, convert, serialise, parse, validate.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from collector.receiver.convert import convert_bytes
from collector.storage.columns import RowBatch
from sensor.aggregate.aggregator import Aggregator
from sensor.aggregate.rows import RowColumns
from sensor.core.calls import CallRecord, Exchange, Hop, Role, Service, WorkloadKind
from sensor.core.health import AttackAccount
from sensor.core.keyed import KeyedHash
from sensor.describe.attacks.ssrf import RequestForgery
from sensor.describe.bodies.reader import BodyReader
from sensor.describe.bodies.sampling import SampleRule
from sensor.describe.describer import Describer, DescribeSettings, Undescribed
from sensor.describe.schemas.book import SchemaBook
from sensor.export.convert import BatchConverter
from sensor.http.http2.exchange import StreamExchange
from sensor.routes.templating import Templater
from sensor.routes.vocabulary import load_vocabulary
from tests.sensor.records import make_exchange

START_SECONDS = 1_760_000_000
CALLS_PER_SECOND = 500
DURATION_NS = 2_000_000  # Of a call of which nobody says how long it took.


@dataclass(frozen=True, slots=True)
class OneService:
    """An identity for a node that runs one service."""

    name: str

    def server(self, cgroup_id: int, local_port: int, local_address: str) -> tuple[Service, Hop]:
        service = Service(
            cluster="",
            namespace="",
            workload=self.name,
            workload_kind=WorkloadKind.PROCESS,
            host_name="node",
            port=local_port,
        )
        return service, Hop.ENDPOINT

    def client_workload(
        self, peer_cgroup_id: int, remote_address: str, remote_port: int, server_cgroup_id: int = 0
    ) -> str:
        return ""

    def address_workload(self, address: str, first_ns: int, last_ns: int) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the runner knows of a call that a node saw; no part of the wire."""

    time_ns: int
    consumer: str  # As the collector names it; empty where the call has none.


class Node:
    """A sensor that sees one service, and what a collector makes of its batches."""

    def __init__(self, name: str, *, reads_bodies: bool = False, call_ns: int = 10**9 // CALLS_PER_SECOND) -> None:
        """`reads_bodies`: and what they made the service do; `call_ns`: between two calls that have no time of their
        own."""
        keyed_hash = KeyedHash(1, b"accuracy runner!")
        self.templater = Templater(load_vocabulary(), keyed_hash)
        schemas = SchemaBook(load_vocabulary(), SampleRule())
        schemas.hash_by(keyed_hash)
        bodies = BodyReader(SampleRule(), schemas) if reads_bodies else None
        forgery = RequestForgery(keyed_hash, AttackAccount()) if reads_bodies else None
        self._describer = Describer(
            self.templater, OneService(name), keyed_hash, DescribeSettings(), bodies, forgery=forgery
        )
        self._aggregator = Aggregator()
        self._converter = BatchConverter(node="node", boot_id="00000000000000000000000000000001")
        self._calls = 0
        self._call_ns = call_ns
        self.last_route_id = 0  # Of the last call seen: how the runner tells lines apart, no part of the wire.

    def see(self, head: bytes, status_code: int, client: int) -> Iterator[RowBatch]:
        """One call from client number `client`; gives the batches that leave because of it."""
        time_ns = START_SECONDS * 10**9 + self._calls * self._call_ns
        address = f"198.51.100.{client % 250 + 1}"
        yield from self.see_exchange(_exchange(head, status_code, address, self._calls, time_ns, response_bytes=200))

    def see_exchange(self, exchange: Exchange | StreamExchange) -> Iterator[RowBatch]:
        """One call as capture tells it; gives the batches that leave because of it."""
        time_ns = START_SECONDS * 10**9 + self._calls * self._call_ns
        record = self._describer.describe(exchange)
        self._calls += 1
        if isinstance(record, Undescribed):
            self.last_route_id = 0
            return
        self.last_route_id = record.target.route.route_id
        self._aggregator.add(record)
        if self._calls % CALLS_PER_SECOND == 0:
            yield from self._send(self._aggregator.poll(time_ns))

    def see_whole(self, exchange: Exchange) -> str:
        """One call with its bodies, at its own time; gives its consumer."""
        record = self._describer.describe(exchange)
        self._calls += 1
        assert not isinstance(record, Undescribed), record
        for one in (record, *self._describer.take_late()):
            self._aggregator.add(one)
        return name_consumer(record)

    def see_at(
        self, head: bytes, *, status_code: int, address: str, time_ns: int, response_bytes: int, duration_ns: int
    ) -> Seen:
        """One call from a client at a time; what leaves because of it comes with `poll`."""
        exchange = _exchange(head, status_code, address, self._calls, time_ns, response_bytes, duration_ns)
        record = self._describer.describe(exchange)
        self._calls += 1
        if isinstance(record, Undescribed):
            return Seen(time_ns, "")
        self._aggregator.add(record)
        return Seen(time_ns, name_consumer(record))

    def poll(self, time_ns: int) -> Iterator[RowBatch]:
        """What leaves by a time."""
        yield from self._send(self._aggregator.poll(time_ns), time_ns // 10**9)

    def flush(self, time_ns: int | None = None) -> Iterator[RowBatch]:
        """What is left when the sensor stops."""
        yield from self._send(self._aggregator.flush(), None if time_ns is None else time_ns // 10**9)

    def _send(self, rows: RowColumns, time: int | None = None) -> Iterator[RowBatch]:
        batches = self._converter.convert(
            rows, key_id=1, policy_epoch=0, clock_segment=0, lost_calls_total=0, seen_calls_total=self._calls
        )
        for batch in batches:
            now = START_SECONDS + self._calls * self._call_ns // 10**9 if time is None else time
            received = convert_bytes(batch.payload, now + 10)
            if not isinstance(received, RowBatch):
                raise AssertionError(f"the collector refused a batch of its own sensor: {received}")
            yield received


def name_consumer(record: CallRecord) -> str:
    """The consumer of a call in the default order, as the collector names it."""
    hashes = (("principal", record.credentials.principal), ("credential", record.credentials.credential))
    known = [f"{kind}:{value:016x}" for kind, value in hashes if value]
    return known[0] if known else f"address:{record.ends.client_address}"


def _exchange(
    head: bytes,
    status_code: int,
    address: str,
    call: int,
    time_ns: int,
    response_bytes: int,
    duration_ns: int = DURATION_NS,
) -> Exchange:
    return make_exchange(
        time_unix_ns=time_ns,
        connection=call + 1,
        call=call,
        role=Role.SERVER,
        cgroup_id=1,
        peer_cgroup_id=0,
        local_address="192.0.2.1",
        local_port=80,
        remote_address=address,
        remote_port=40_000,
        request_head=head,
        is_request_head_truncated=False,
        response_head=f"HTTP/1.1 {status_code} X\r\nContent-Type: application/json\r\n\r\n".encode(),
        status_code=status_code,
        request_bytes=len(head),
        response_bytes=response_bytes,
        time_to_first_byte_ns=duration_ns // 2,
        duration_ns=duration_ns,
        calls=1,
        is_final=True,
        is_aborted=False,
        is_lossy=False,
    )
