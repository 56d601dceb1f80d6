"""How many calls were left out, of which service and why; as rows of the coverage."""

from dataclasses import dataclass
from typing import Final

from sensor.calls import Service
from sensor.coverage.row import CoverageRole, PortCoverage, PortProtocol

# Services and reasons; those past it are added together under the service of the node.
ENTRIES_MAX: Final = 4_096


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A call that is not told: its service, what kind of call it is, and why it is left out."""

    service: Service
    kind: str  # A few words, out of a fixed set.
    reason: str  # A sentence, out of a fixed set.


class Account:
    """Calls left out since the sensor's start. Not thread-safe."""

    __slots__ = ("_calls", "_other", "calls")

    def __init__(self) -> None:
        self._calls: dict[LeftOut, int] = {}
        self._other = 0
        self.calls = 0

    def add(self, left_out: LeftOut, calls: int = 1) -> None:
        """`calls` more."""
        self.calls += calls
        if left_out in self._calls or len(self._calls) < ENTRIES_MAX:
            self._calls[left_out] = self._calls.get(left_out, 0) + calls
        else:
            self._other += calls

    def cover(self, unknown_service: Service) -> list[PortCoverage]:
        """One row a (service, kind, reason)."""
        entries = list(self._calls.items())
        if self._other:
            entries.append(
                (LeftOut(unknown_service, "others", "left out, of services beyond the table's size"), self._other)
            )
        return [
            PortCoverage(
                service=one.service,
                protocol=PortProtocol.LEFT_OUT,
                connections=0,
                bytes=0,
                address=one.kind,
                reason=one.reason,
                role=CoverageRole.NODE,
                calls=calls,
            )
            for one, calls in entries
        ]
