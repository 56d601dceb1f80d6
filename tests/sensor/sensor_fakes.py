"""What a sensor in the test's loop has around it: a capture, a node, enforcement, and who describes calls."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from common.consumer_order import CONSUMER_ORDER, ConsumerColumn
from common.figures import Figure
from sensor.aggregate.dictionary import Facts
from sensor.capture.source import Capture
from sensor.core.attachments import Journal
from sensor.core.calls import CallRecord, Calls, Exchange, make_calls
from sensor.core.config import CaptureWay
from sensor.core.health import StageCount
from sensor.core.keyed import InstallationKey
from sensor.coverage.limits import Restraint
from sensor.coverage.row import PortCount, PortCoverage
from sensor.coverage.unread import ClientLosses, Unread, UnreadCount, UnreadEnd
from sensor.describe.describer import Undescribed
from sensor.ebpf.abi import RECORD, Counter
from sensor.enforce.block import Block, EnforcementReport
from sensor.enrich.kubernetes.pod import WorkloadFacts
from sensor.enrich.own_traffic import CollectorTraffic, FindClient
from sensor.export.convert import ServiceWay
from sensor.http.http2.exchange import StreamExchange
from sensor.offload.kernel_cache import KernelMaps, MapName
from tests.sensor.clocks import FakeClock
from tests.sensor.records import make_exchange, make_record, make_route


def make_users_exchange(path: bytes = b"/users", *, is_encrypted: bool = False) -> Exchange:
    return make_exchange(request_head=b"GET " + path + b" HTTP/1.1\r\n\r\n", is_encrypted=is_encrypted)


class FakeCapture(Capture):
    """Gives what a test put in; `read` raises what it put in instead."""

    way = CaptureWay.CGROUP_SKB

    def __init__(self) -> None:
        self.waiting: list[Exchange | StreamExchange] = []
        self.records = np.empty(0, RECORD)
        self.sums: dict[bytes, tuple[int, int, int, int]] = {}
        self.totals = dict.fromkeys(Counter, 0)
        self.refusal: OSError | None = None
        self.taught: dict[str, dict[bytes, bytes]] = {}
        self.error: Exception | None = None
        self.moves: list[str] = []
        self.listening: set[int] = set()
        self.hidden: dict[UnreadEnd, UnreadCount] = {}

    def read(self) -> list[Exchange | StreamExchange]:
        if self.error:
            error, self.error = self.error, None
            raise error
        taken, self.waiting = self.waiting, []
        return taken

    def has_events(self) -> bool:
        return bool(self.waiting)

    def is_pressing(self) -> bool:
        return False

    def has_records(self) -> bool:
        return bool(len(self.records))

    def is_due(self, ahead_seconds: float) -> bool:
        return self.has_records()

    def read_records(self, *, is_all: bool = False) -> np.ndarray:
        return self.records

    def release_records(self) -> None:
        self.records = np.empty(0, RECORD)

    def overflow(self) -> Mapping[bytes, tuple[int, int, int, int]]:
        return self.sums

    def pending_bytes(self) -> int:
        return len(self.waiting) + len(self.records)

    def counters(self) -> Mapping[Counter, int]:
        return self.totals

    def program_ns(self, *, calls: int) -> int:
        return 0

    def update(self, name: str, elements: Mapping[bytes, bytes]) -> None:
        if self.refusal:
            raise self.refusal
        self.taught.setdefault(name, {}).update(elements)

    def delete(self, name: str, keys: Iterable[bytes]) -> None:
        for key in keys:
            self.taught.get(name, {}).pop(key, None)

    def counts(self) -> Sequence[StageCount]:
        return (
            StageCount(stage="kernel", seen=10, used=9, dropped=(("ring_full", 1),)),
            StageCount(stage="tls", seen=9, used=7, dropped=(("ring_full", 2),)),
        )

    def coverage(self) -> Sequence[PortCount]:
        return ()

    def unread(self) -> Unread:
        return self.hidden

    def figures(self) -> tuple[Figure, ...]:
        return ()

    def set_listening(self, ports: Iterable[int]) -> None:
        self.listening = set(ports)

    def detach(self) -> None:
        self.moves.append("detach")

    def attach(self) -> None:
        self.moves.append("attach")

    def close(self) -> None:
        self.moves.append("close")


class FakeNode:
    """Fails at its reports where a test says so."""

    degradation = ""

    def __init__(self) -> None:
        self.is_failing = False
        self.failures = 0
        self.collectors: list[CollectorTraffic] = []
        self.refreshes = 0
        self.finders: list[FindClient] = []
        self.attachments = Journal()

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def refresh(self) -> None:
        self.refreshes += 1

    def identify_own_traffic(self, collector: CollectorTraffic) -> None:
        self.collectors.append(collector)

    def set_client_finder(self, find_client: FindClient) -> None:
        self.finders.append(find_client)

    lost_scope = ""

    def find_lost_scope(self) -> str:
        return self.lost_scope

    def rename(self) -> bool:
        return False

    def figures(self) -> tuple[Figure, ...]:
        return ()

    def list_addresses(self) -> Sequence[str]:
        return ()

    def workloads(self) -> Sequence[WorkloadFacts]:
        return ()

    def ports(self) -> Iterable[int]:
        return [80]

    def cover(
        self, counts: Sequence[PortCount], counters: Mapping[Counter, int], restraint: Restraint, unread: Unread
    ) -> Sequence[PortCoverage]:
        if self.is_failing:
            self.failures += 1
            raise RuntimeError("a bug")
        return ()

    def name_unread(self, unread: Unread, counts: Sequence[PortCount]) -> ClientLosses:
        return {}


class FakeEnforcement:
    """Notes what it gets; its own enforcer."""

    is_naming = False

    def __init__(self) -> None:
        self.enforcer = self
        self.moves: list[str] = []
        self.taken: list[tuple[tuple[Block, ...], int]] = []

    def begin(self, capture: object, key: InstallationKey) -> None:
        self.moves.append("begin")

    async def keep(self) -> None:
        await asyncio.Event().wait()

    def end(self) -> None:
        self.moves.append("end")

    def set_key(self, key_id: int, secret: bytes) -> None:
        self.moves.append(f"key {key_id}")

    def take(self, blocks: tuple[Block, ...], epoch: int) -> None:
        self.taken.append((blocks, epoch))

    def on_connection(self, is_connected: bool) -> None: ...

    def report(self) -> EnforcementReport:
        epoch = self.taken[-1][1] if self.taken else 0
        return EnforcementReport(epoch=epoch, is_enabled=False, reason="fake", blocks=())

    def figures(self) -> tuple[Figure, ...]:
        return ()


class FakeProcessor:
    """Fails on /bug, tells nothing of /none, and has a text of /unwritable that cannot be sent."""

    def __init__(self, clock: FakeClock, key: InstallationKey, facts: Facts) -> None:
        self._clock = clock
        self.key = key
        self._facts = facts
        self.learned: list[Exchange] = []
        self.heads_per_second = 0
        self.forgotten_count = 0
        self.is_teaching = True
        self.consumer_order = CONSUMER_ORDER
        self.has_operations = False
        self.counted = 0

    def name_losses(self, counts: Iterable[PortCount]) -> dict[ServiceWay, int]:
        return {}

    def count_rows(self, calls: Calls) -> None:
        self.counted += int(calls["calls"].sum())

    def describe(self, exchange: Exchange) -> CallRecord | Undescribed:
        if b"/bug" in exchange.request_head:
            raise RuntimeError("a bug")
        if b"/none" in exchange.request_head:
            return Undescribed("request_method")
        # A record that the aggregator cannot take: it has no number where one belongs.
        time_unix_ns = None if b"/odd" in exchange.request_head else self._clock.unix_ns()
        workload = "\udcff" if b"/unwritable" in exchange.request_head else ""
        return make_record(time_unix_ns=time_unix_ns, principal=self.key.key_id, client_workload=workload)

    def take_late(self) -> list[CallRecord]:
        return []

    def install_call(self, exchange: Exchange, record: CallRecord) -> None:
        if b"/dull" in exchange.request_head:
            raise RuntimeError("a bug")
        self.learned.append(exchange)

    def convert(self, records: np.ndarray, *, offset_ns: int) -> Calls:
        if (records["status"] == 999).any():
            raise RuntimeError("a bug")
        calls = make_calls(len(records))
        calls["time_unix_ns"] = self._clock.unix_ns()
        calls["route"] = self._facts.route(make_route())
        calls["status"], calls["calls"] = 200, records["calls"]
        return calls

    def convert_overflow(self, totals: Mapping[bytes, tuple[int, int, int, int]], *, time_unix_ns: int) -> Calls:
        calls = make_calls(len(totals))
        calls["time_unix_ns"], calls["route"] = time_unix_ns, self._facts.route(make_route())
        calls["calls"] = [total[0] for total in totals.values()]
        return calls

    def flush(self, maps: KernelMaps) -> bool:
        maps.update(MapName.SETTINGS, {b"k": b"v"})
        return self.is_teaching

    def limit(self, *, heads_per_second: int, body_bytes_per_second: int) -> None:
        self.heads_per_second = heads_per_second

    def check_services(self) -> None: ...

    def set_consumer_order(self, order: tuple[ConsumerColumn, ...]) -> None:
        self.consumer_order = order

    def forget(self) -> None:
        self.forgotten_count += 1

    def figures(self) -> tuple[Figure, ...]:
        return (Figure(name="taught_roots", documentation="Roots", value=3, is_total=False),)

    def reveal(self, hashes: Sequence[int]) -> Mapping[int, str]:
        return dict.fromkeys(hashes, "word")
