"""What the loop needs of its parts: capture, the view of the node, and what describes and recognises calls."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from common.figures import Figure
from sensor.calls import Exchange
from sensor.config import CaptureWay
from sensor.coverage.restraint import Restraint
from sensor.coverage.row import PortCount, PortCoverage
from sensor.enforce.block import Block
from sensor.enforce.report import EnforcementReport
from sensor.enrich.kubernetes.facts import WorkloadFacts
from sensor.enrich.own_traffic import CollectorTraffic, FindClient
from sensor.health import StageCount
from sensor.kernel.abi import Counter
from sensor.kernel.state import Numbers
from sensor.pipeline import Describer
from sensor.recognition.actors import Records
from sensor.recognition.mirror import KernelMaps
from sensor.recognition.records import OverflowTotals
from sensor.rest import Bell
from sensor.streams.exchange import StreamExchange
from sensor.succession import Estate, Taker
from sensor.uplink.state import InstallationKey


class Testator(Protocol):
    """A capture that another sensor can go on with."""

    def bequeath(self, numbers: Numbers) -> Estate:
        """Everything it needs; from then on nothing is read here. `numbers`: the last that were taught."""
        ...

    def keep(self) -> None:
        """Nobody took it."""
        ...


class Heirs(Protocol):
    """Sensors that wait for this one to stop: `sensor.succession`, or a fake."""

    def open(self) -> None: ...

    def find(self) -> Taker | None:
        """One that can go on with what this one holds."""
        ...

    def release(self) -> bool:
        """Capture has ended here; whether another one, which could not go on with it, begins now."""
        ...

    def close(self) -> None: ...


class Capture(KernelMaps, Protocol):
    """What sees calls: `sensor.kernel.capture`, `sensor.kernel.syscall_capture`, or a fake. All calls come from the
    loop's thread and do not block."""

    @property
    def way(self) -> CaptureWay:
        """How it sees them; never AUTO."""
        ...

    @property
    def fallback_reason(self) -> str:
        """Why packets cannot be captured, where system calls stand in for them; empty elsewhere."""
        ...

    @property
    def limitation(self) -> str:
        """What it does not see of the ports that are read, in a sentence; empty where there is no such thing."""
        ...

    @property
    def is_inherited(self) -> bool:
        """Whether it goes on where another sensor stopped, without a gap."""
        ...

    @property
    def testator(self) -> Testator | None:
        """What of it another sensor can go on with."""
        ...

    def read(self) -> list[Exchange | StreamExchange]:
        """Calls that were sent up whole."""
        ...

    def find_client_socket(self, local_address: str, local_port: int, remote_address: str, remote_port: int) -> int:
        """The cookie of the client's socket of a connection to a server of this node; 0 where it is not known."""
        ...

    def has_events(self) -> bool:
        """Whether `read` did not come to the end."""
        ...

    @property
    def bell(self) -> Bell | None:
        """Rings when something comes into a ring that was read; None where there is none, and who reads has to look."""
        ...

    def is_pressing(self) -> bool:
        """Whether the events that wait are to be read soon: they are many, or something depends on it."""
        ...

    def has_records(self) -> bool:
        """Whether records wait."""
        ...

    def is_due(self, ahead_seconds: float) -> bool:
        """Whether they cannot wait till somebody looks again, in so many seconds."""
        ...

    def read_records(self, *, is_all: bool = False) -> Records:
        """Calls that were recognised, where it is time for a batch of them; valid until `release_records`."""
        ...

    def release_records(self) -> None: ...

    def overflow(self) -> Mapping[bytes, OverflowTotals]:
        """Totals since the load of calls that could only be added up."""
        ...

    def pending_bytes(self) -> int:
        """What waits to be read."""
        ...

    def counters(self) -> Mapping[Counter, int]:
        """The kernel's totals since the load."""
        ...

    def program_ns(self, *, calls: int) -> int:
        """Time in the kernel's programs so far, estimated; `calls` is the counter's."""
        ...

    def tls_calls(self) -> int:
        """Calls so far over TLS that were seen where processes encrypt, those beyond the budget too."""
        ...

    def limit_tls(self, calls_per_second: int) -> None:
        """How many of them are read a second of each process."""
        ...

    def counts(self) -> Sequence[StageCount]:
        """The accounts of its stages, in calls."""
        ...

    def coverage(self) -> Sequence[PortCount]:
        """Connections and bytes by port and protocol."""
        ...

    def figures(self) -> tuple[Figure, ...]:
        """Which way of capture this is, and what it alone counts; for metrics."""
        ...

    def set_listening(self, ports: Iterable[int]) -> None:
        """Which ports to count."""
        ...

    def detach(self) -> None:
        """Take every program off the kernel's hooks; what was seen stays readable."""
        ...

    def attach(self) -> None: ...

    def close(self) -> None: ...


class Enforcement(Protocol):
    """What stops clients; `sensor.enforcement`, or a fake."""

    def begin(self, capture: object, key: InstallationKey) -> None:
        """On what captures from now on."""
        ...

    async def keep(self) -> None:
        """Tick until cancelled."""
        ...

    @property
    def is_naming(self) -> bool:
        """Whether calls say whom to stop: they are to be read soon."""
        ...

    def end(self) -> None:
        """Lift everything."""
        ...

    def set_key(self, key: InstallationKey) -> None: ...

    def take(self, blocks: tuple[Block, ...], epoch: int) -> None:
        """All that the collector wants stopped."""
        ...

    def on_connection(self, is_connected: bool) -> None: ...

    def report(self) -> EnforcementReport: ...

    def figures(self) -> tuple[Figure, ...]: ...


class NodeView(Protocol):
    """Who listens on this node; `sensor.compose.Node`, or a fake."""

    @property
    def degradation(self) -> str:
        """What of it cannot be named now, in one sentence; empty where everything can."""
        ...

    def start(self) -> None:
        """Begin to follow who is on this node. Called in a thread; may take seconds."""
        ...

    def stop(self) -> None: ...

    def refresh(self) -> None:
        """Read the node anew. Called in a thread; may take tens of milliseconds."""
        ...

    def identify_own_traffic(self, collector: CollectorTraffic) -> None:
        """What the collector says of its own traffic from now on."""
        ...

    def set_client_finder(self, find_client: FindClient) -> None:
        """How the capture that is open knows the socket of a client on this node."""
        ...

    def find_lost_scope(self) -> str:
        """Why nothing can be seen any more, in one sentence; empty while it can. A few microseconds."""
        ...

    def rename(self) -> bool:
        """Take up names that others told since the last time; says whether there were any."""
        ...

    def figures(self) -> tuple[Figure, ...]:
        """For metrics."""
        ...

    def workloads(self) -> Sequence[WorkloadFacts]:
        """What is told of Kubernetes workloads and containers on this node."""
        ...

    def ports(self) -> Iterable[int]:
        """Ports on which somebody listens."""
        ...

    def cover(
        self, counts: Sequence[PortCount], counters: Mapping[Counter, int], restraint: Restraint
    ) -> Sequence[PortCoverage]:
        """What is read of each port and what is not, what the kernel side missed, and what the budget held back."""
        ...


class NodeDescriber(Describer, Protocol):
    """What describes and recognises under one installation key."""

    def reveal(self, hashes: Sequence[int]) -> Mapping[int, str]: ...

    def flush(self, maps: KernelMaps) -> bool:
        """Tell the kernel what was learned; whether there was anything."""
        ...

    def limit(self, *, heads_per_second: int, body_bytes_per_second: int) -> None:
        """How many heads and bytes of bodies may go up a second."""
        ...

    def check_services(self) -> None:
        """The node was read anew."""
        ...

    def rest(self) -> Numbers:
        """Have the kernel recognise nothing any more, once flushed; the last numbers that it was taught."""
        ...

    def forget(self) -> None:
        """Another key follows."""
        ...

    def figures(self) -> tuple[Figure, ...]:
        """For metrics."""
        ...
