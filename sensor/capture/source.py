"""The interface of every source of calls: packets, system calls, TLS on top of either, or a fake."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from common.figures import Figure
from sensor.core.calls import Exchange
from sensor.core.config import CaptureWay
from sensor.core.health import StageCount
from sensor.coverage.row import PortCount
from sensor.ebpf.abi import Counter
from sensor.http.http2.exchange import StreamExchange
from sensor.offload.actors import Records
from sensor.offload.kernel_cache import KernelMaps
from sensor.offload.records import OverflowTotals


class Bell(Protocol):
    """`sensor.ebpf.ring.Bell`."""

    @property
    def fd(self) -> int: ...

    def watch(self, map_fd: int) -> None: ...

    def arm(self, *, is_for_records: bool) -> None: ...

    def hush(self) -> None: ...


class Capture(KernelMaps, Protocol):
    """What sees calls: `sensor.capture.packets.capture`, `sensor.capture.syscalls.capture`, or a fake. All calls come
    from the
    loop's thread and do not block."""

    @property
    def way(self) -> CaptureWay:
        """How it sees them; never AUTO."""

    @property
    def fallback_reason(self) -> str:
        """Why packets cannot be captured, where system calls stand in for them; empty elsewhere."""

    @property
    def limitation(self) -> str:
        """What it does not see of the ports that are read, in a sentence; empty where there is no such thing."""

    def read(self) -> list[Exchange | StreamExchange]:
        """Calls that were sent up whole."""

    def find_client_socket(self, local_address: str, local_port: int, remote_address: str, remote_port: int) -> int:
        """The cookie of the client's socket of a connection to a server of this node; 0 where it is not known."""

    def has_events(self) -> bool:
        """Whether `read` did not come to the end."""

    @property
    def bell(self) -> Bell | None:
        """Rings when something comes into a ring that was read; None where there is none, and who reads has to look."""

    def is_pressing(self) -> bool:
        """Whether the events that wait are to be read soon: they are many, or something depends on it."""

    def has_records(self) -> bool:
        """Whether records wait."""

    def is_due(self, ahead_seconds: float) -> bool:
        """Whether they cannot wait till somebody looks again, in so many seconds."""

    def read_records(self, *, is_all: bool = False) -> Records:
        """Calls that were recognised, where it is time for a batch of them; valid until `release_records`."""

    def release_records(self) -> None: ...

    def overflow(self) -> Mapping[bytes, OverflowTotals]:
        """Totals since the load of calls that could only be added up."""

    def pending_bytes(self) -> int:
        """What waits to be read."""

    def counters(self) -> Mapping[Counter, int]:
        """The kernel's totals since the load."""

    def program_ns(self, *, calls: int) -> int:
        """Time in the kernel's programs so far, estimated; `calls` is the counter's."""

    def tls_calls(self) -> int:
        """Calls so far over TLS that were seen where processes encrypt, those beyond the budget too."""

    def limit_tls(self, calls_per_second: int) -> None:
        """How many of them are read a second of each process."""

    def counts(self) -> Sequence[StageCount]:
        """The accounts of its stages, in calls."""

    def coverage(self) -> Sequence[PortCount]:
        """Connections and bytes by port and protocol."""

    def figures(self) -> tuple[Figure, ...]:
        """Which way of capture this is, and what it alone counts; for metrics."""

    def set_listening(self, ports: Iterable[int]) -> None:
        """Which ports to count."""

    def detach(self) -> None:
        """Take every program off the kernel's hooks; what was seen stays readable."""

    def attach(self) -> None: ...

    def close(self) -> None: ...
