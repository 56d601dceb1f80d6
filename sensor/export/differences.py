"""What of a sensor's reports changed since the stream's last ones: nothing else is sent.

One `Differences` belongs to one stream, on which messages arrive in their order or not at all. So what was sent on it
is what the collector has, and a new stream begins with everything. Everything is sent again every ten minutes, so that
a message that the collector could not use does no harm for longer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from sensor.core.health import StageCount
from sensor.coverage.row import PortCoverage
from sensor.enrich.kubernetes.pod import WorkloadFacts

FEATURE: Final = "report_difference"  # Of a collector that takes differences.
WHOLE_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageReport:
    """What to send of a node's coverage."""

    ports: Sequence[PortCoverage]
    workloads: Sequence[WorkloadFacts]
    node_addresses: Sequence[str]
    is_difference: bool = False

    @property
    def is_empty(self) -> bool:
        """Nothing changed."""
        return self.is_difference and not (self.ports or self.workloads or self.node_addresses)


class Differences:
    """Of one stream. Without `is_taken` everything is sent each time, for an older collector."""

    def __init__(self, *, is_taken: bool) -> None:
        self._is_taken = is_taken
        self._ports: dict[object, PortCoverage] = {}
        self._workloads: dict[object, WorkloadFacts] = {}
        self._addresses: tuple[str, ...] = ()
        self._stages: Sequence[StageCount] | None = None
        self._coverage_at: float | None = None  # When all of it was sent last.
        self._stages_at = 0.0

    def compare_coverage(
        self,
        ports: Sequence[PortCoverage],
        workloads: Sequence[WorkloadFacts],
        node_addresses: Sequence[str],
        now_seconds: float,
    ) -> CoverageReport:
        """What is to be sent of it, which is taken for sent."""
        found: dict[object, PortCoverage] = {port.key: _drop_ages(port) for port in ports}
        facts: dict[object, WorkloadFacts] = {(one.cluster, one.namespace, one.workload): one for one in workloads}
        addresses = tuple(node_addresses)
        is_whole = (
            not self._is_taken
            or self._coverage_at is None
            or now_seconds - self._coverage_at >= WHOLE_SECONDS
            or not self._ports.keys() <= found.keys()
            or bool(self._addresses and not addresses)
        )
        if is_whole:
            self._coverage_at = now_seconds
            report = CoverageReport(ports=ports, workloads=workloads, node_addresses=addresses)
        else:
            report = CoverageReport(
                ports=[port for port in ports if self._ports.get(port.key) != found[port.key]],
                workloads=[one for key, one in facts.items() if self._workloads.get(key) != one],
                node_addresses=addresses if addresses != self._addresses else (),
                is_difference=True,
            )
        self._ports, self._workloads, self._addresses = found, facts, addresses
        return report

    def compare_stages(self, stages: Sequence[StageCount], now_seconds: float) -> bool:
        """Whether they are as they were sent last; else they are taken for sent."""
        is_recent = now_seconds - self._stages_at < WHOLE_SECONDS
        if self._is_taken and self._stages is not None and is_recent and tuple(self._stages) == tuple(stages):
            return True
        self._stages, self._stages_at = stages, now_seconds
        return False


def _drop_ages(port: PortCoverage) -> PortCoverage:
    """Without the ages of choices, which grow by themselves: a choice that is made again is counted."""
    choices = port.handshakes.weak_choices
    if not choices:
        return port
    ageless = tuple(replace(choice, age_seconds=0) for choice in choices)
    return replace(port, handshakes=replace(port.handshakes, weak_choices=ageless))
