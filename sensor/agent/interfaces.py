"""The interfaces between the sensor's loop and its parts: capture, enforcement, the view of the node, and the
describer.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from common.figures import Figure
from common.settings import ConsumerColumn
from sensor.agent.pipeline import Describer
from sensor.coverage.limits import Restraint
from sensor.coverage.row import PortCount, PortCoverage
from sensor.ebpf.abi import Counter
from sensor.enforce.block import Block, EnforcementReport
from sensor.enrich.kubernetes.pod import WorkloadFacts
from sensor.enrich.own_traffic import CollectorTraffic, FindClient
from sensor.export.state import InstallationKey
from sensor.offload.kernel_cache import KernelMaps


class Enforcement(Protocol):
    """What stops clients; `sensor.agent.enforcement`, or a fake."""

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
    """Who listens on this node; `sensor.agent.compose.Node`, or a fake."""

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

    def set_consumer_order(self, order: tuple[ConsumerColumn, ...]) -> None:
        """The consumer of a call is the first of these that is known."""
        ...

    def forget(self) -> None:
        """Another key follows."""
        ...

    def figures(self) -> tuple[Figure, ...]:
        """For metrics."""
        ...
