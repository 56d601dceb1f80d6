"""A kernel, a describer and a matcher that share one key and one clock."""

from dataclasses import dataclass, field

import pytest

from sensor.aggregate.dictionary import ActorFacts, Facts
from sensor.core.calls import CallRecord, Hop, Service, WorkloadKind
from sensor.core.keyed import KeyedHash
from sensor.describe.bodies.reader import BodyReader
from sensor.describe.bodies.sampling import SampleRule
from sensor.describe.describer import Describer, DescribeSettings
from sensor.ebpf.pieces import Pieces
from sensor.offload.kernel_cache import CacheLimits, KernelCache
from sensor.offload.matcher import KernelMatcher, MatchSettings
from sensor.offload.name_table import NameClassifier, NameTable
from sensor.offload.records import RecordBodies
from sensor.routes.templating import Templater
from sensor.routes.vocabulary import load_vocabulary
from tests.sensor.offload.kernel import Call, Kernel
from tests.sensor.rows import find_actor

SECRET = b"0123456789abcdef"
SEED = 0x5EED
SAMPLE_NS = 10_000_000_000


@dataclass(slots=True)
class Node:
    """Names both ends: services by port, clients by cgroup; cgroups from 100 on are shared by processes."""

    workloads: dict[int, str] = field(default_factory=dict)
    hop: Hop = Hop.ENDPOINT
    holders: dict[str, str] = field(default_factory=dict)  # Workloads by address.
    asked_spans: list[tuple[str, int]] = field(default_factory=list)  # (address, ns) of who was asked for.

    def server(self, cgroup_id: int, local_port: int, local_address: str) -> tuple[Service, Hop]:
        workload = self.workloads.get(local_port, f"shop{local_port}")
        kind = WorkloadKind.PROCESS if workload else WorkloadKind.UNSPECIFIED
        service = Service(
            cluster="", namespace="", workload=workload, workload_kind=kind, host_name="n", port=local_port
        )
        return service, self.hop

    def client_workload(
        self, peer_cgroup_id: int, remote_address: str, remote_port: int, server_cgroup_id: int = 0
    ) -> str:
        if not peer_cgroup_id:
            return ""
        return f"process{remote_port}" if peer_cgroup_id >= 100 else f"client{peer_cgroup_id}"

    @property
    def is_naming_addresses(self) -> bool:
        return bool(self.holders)

    def address_workload(self, address: str, first_ns: int, last_ns: int) -> str:
        self.asked_spans.append((address, last_ns - first_ns))
        return self.holders.get(address, "")

    def is_one_workload(self, cgroup_id: int) -> bool:
        return cgroup_id < 100


class Sensor:
    """The slow path and the fast one, under one roof."""

    def __init__(
        self,
        *,
        limits: CacheLimits | None = None,
        trusted_networks: tuple[str, ...] = (),
        facts: Facts | None = None,
    ) -> None:
        self.now_ns = 1_000
        self.probed: set[tuple[Service, str]] = set()  # Paths for which probes asked.
        self.kernel = Kernel()
        self.node = Node()
        self.facts = facts or Facts()
        self.cache = KernelCache(limits or CacheLimits())
        keyed_hash = KeyedHash(1, SECRET)
        self.templater = Templater(load_vocabulary(), keyed_hash)
        self.pieces = Pieces()
        self.bodies = BodyReader(SampleRule())
        self.describer = Describer(
            self.templater, self.node, keyed_hash, DescribeSettings(trusted_networks=trusted_networks), self.bodies
        )
        self.matcher = KernelMatcher(
            settings=MatchSettings(head_sample_ns=SAMPLE_NS),
            cache=self.cache,
            names=NameTable(self.cache, NameClassifier(is_forwarding_read=bool(trusted_networks)), seed=SEED),
            facts=self.facts,
            templater=self.templater,
            describer=self.describer,
            identity=self.node,
            keyed_hash=keyed_hash,
            secret=SECRET,
            monotonic_ns=lambda: self.now_ns,
            bodies=RecordBodies(cache=self.cache, pieces=self.pieces, reader=self.bodies, facts=self.facts),
            is_probed=lambda service, path: (service, path) in self.probed,
        )
        self.flush()

    def flush(self) -> bool:
        return self.matcher.cache.flush(self.kernel)

    def take(self, call: Call) -> str:
        """One call, all the way: what was described teaches. Gives the way it went."""
        way = self.kernel.take(call)
        for exchange in self.kernel.exchanges:
            record = self.describer.describe(exchange)
            if isinstance(record, CallRecord):
                self.matcher.install_call(exchange, record)
        self.kernel.exchanges.clear()
        self.flush()
        return way

    def describe(self, call: Call) -> CallRecord:
        """What the slow path alone makes of a call."""
        record = self.describer.describe(self.kernel.make_exchange(call))
        assert isinstance(record, CallRecord)
        return record

    def convert(self):
        """Rows of the records so far."""
        _, records = self.kernel.drain()
        return self.matcher.converter.convert(records, offset_ns=0)

    def figure(self, name: str) -> float:
        """One figure of the matcher."""
        return {figure.name: figure.value for figure in self.matcher.figures()}[name]

    def told(self, row) -> tuple[object, ...]:
        """What a row says, as text and numbers."""
        actor = find_actor(self.facts, int(row["actor"]))
        route = self.facts.find_route(int(row["route"]))
        return (route.route_id, int(row["role"]), int(row["hop"]), int(row["status"]), int(row["object"]),
                None if row["number"] < 0 else int(row["number"]), actor)  # fmt: skip


def tell(record: CallRecord) -> tuple[object, ...]:
    """The same of a call record."""
    who, ends, target = record.credentials, record.ends, record.target
    actor = ActorFacts(
        who.principal, who.principal_kind, who.credential, who.is_truncated, ends.client_address, ends.client_workload,
        who.authentication, ends.protocol_version, record.contents.request_content_type, record.protocol.kind,
        ends.client_software, who.carriers,
    )  # fmt: skip
    return (target.route.route_id, int(ends.role), int(ends.hop), record.figures.status_code, target.object_hash,
            target.object_number, actor)  # fmt: skip


@pytest.fixture
def sensor() -> Sensor:
    return Sensor()
