"""The interface of every source of calls: packets, system calls, and TLS around either."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from types import MappingProxyType
from typing import Final

import numpy as np

from common.figures import Figure
from sensor.core.calls import Exchange, Handshake
from sensor.core.config import CaptureWay
from sensor.core.health import StageCount
from sensor.coverage.row import PortCount
from sensor.coverage.unread import Unread
from sensor.ebpf.abi import RECORD, Counter, OverflowTotals, Records
from sensor.ebpf.ring import Bell
from sensor.http.http2.exchange import OpenCall, StreamExchange
from sensor.offload.kernel_cache import MapName

NO_RECORDS: Final = np.empty(0, RECORD)


EVENTS_OF_A_CALL_MIN: Final = 2  # The request and the response.


def estimate_lost_calls(lost_events: int, events: int, calls: int) -> int:
    """Calls that lost events were of, by how many events a call has had so far."""
    each = max(events / calls if calls else 0.0, EVENTS_OF_A_CALL_MIN)
    return ceil(lost_events / each)


class Capture(ABC):
    """What sees calls: `sensor.capture.packets.capture`, `sensor.capture.syscalls.capture`, or TLS around one of them.
    All calls come from the loop's thread and do not block. The methods with a body here are those of a capture that
    copies every call to user space."""

    way: CaptureWay  # How it sees them; never AUTO.
    fallback_reason: str = ""  # Why packets cannot be captured, where system calls stand in for them.
    limitation: str = ""  # What it does not see of the ports that are read, in a sentence.
    bell: Bell | None = None  # Rings when something comes into a ring that was read; None: whoever reads has to look.
    maps: Mapping[str, int] = MappingProxyType({})  # The fds of the kernel's maps by name; good until `close`.

    @abstractmethod
    def read(self) -> list[Exchange | StreamExchange]:
        """Calls that were copied whole."""

    @abstractmethod
    def has_events(self) -> bool:
        """Whether `read` did not come to the end."""

    @abstractmethod
    def is_pressing(self) -> bool:
        """Whether the events that wait are to be read soon: they are many, or something depends on it."""

    @abstractmethod
    def pending_bytes(self) -> int:
        """What waits to be read."""

    @abstractmethod
    def counters(self) -> Mapping[Counter, int]:
        """The kernel's totals since the load."""

    @abstractmethod
    def program_ns(self, *, calls: int) -> int:
        """Time in the kernel's programs so far, estimated; `calls` is the counter's."""

    @abstractmethod
    def counts(self) -> Sequence[StageCount]:
        """The accounts of its stages, in calls."""

    @abstractmethod
    def coverage(self) -> Sequence[PortCount]:
        """Connections and bytes by port and protocol."""

    @abstractmethod
    def unread(self) -> Unread:
        """What clients of this node's servers sent that no call explains, since the load."""

    @abstractmethod
    def figures(self) -> tuple[Figure, ...]:
        """Which way of capture this is, and what it alone counts; for metrics."""

    @abstractmethod
    def set_listening(self, ports: Iterable[int]) -> None:
        """Which ports to count; others are client ends."""

    @abstractmethod
    def detach(self) -> None:
        """Take every program off the kernel's hooks; what was seen stays readable."""

    @abstractmethod
    def attach(self) -> None:
        """Start looking. Raises sensor.ebpf.loader.LoadError."""

    @abstractmethod
    def close(self) -> None:
        """Detach and free everything. Read what is in the rings before."""

    def find_client_socket(self, local_address: str, local_port: int, remote_address: str, remote_port: int) -> int:
        """The cookie of the client's socket of a connection to a server of this node; 0 where it is not known."""
        return 0

    def list_open_calls(self, connection: int | None = None) -> list[OpenCall]:
        """Calls of HTTP/2 at servers of this node that have not ended; of one connection where it is given."""
        return []

    def pop_handshakes(self) -> list[Handshake]:
        """TLS connections that workloads of this node opened since the last time, at most one a second to each host."""
        return []

    # Calls that the kernel matched, or only added up

    def has_records(self) -> bool:
        """Whether records wait."""
        return False

    def is_due(self, ahead_seconds: float) -> bool:
        """Whether they cannot wait till somebody looks again, in so many seconds."""
        return False

    def read_records(self, *, is_all: bool = False) -> Records:
        """Calls that were matched, where it is time for a batch of them; valid until `release_records`."""
        return NO_RECORDS

    def release_records(self) -> None:  # noqa: B027
        """The last records are read."""

    def overflow(self) -> Mapping[bytes, OverflowTotals]:
        """Totals since the load of calls that could only be added up: by OVERFLOW_KEY."""
        return {}

    def update(self, name: MapName, elements: Mapping[bytes, bytes]) -> None:  # noqa: B027
        """Write elements of the kernel route cache. Raises OSError where the kernel refuses."""

    def delete(self, name: MapName, keys: Iterable[bytes]) -> None:  # noqa: B027
        """Remove elements; one that is not there is no error."""

    # TLS

    def tls_calls(self) -> int:
        """Calls so far over TLS that were seen where processes encrypt, those beyond the budget too."""
        return 0

    def limit_tls(self, calls_per_second: int) -> None:  # noqa: B027
        """How many of them are read a second of each process."""
