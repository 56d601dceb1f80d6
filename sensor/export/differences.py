"""What of a sensor's reports changed since the stream's last ones: nothing else is sent.

One `Differences` belongs to one stream, on which messages arrive in their order or not at all. So what was sent on it
is what the collector has, and a new stream begins with everything. Everything is sent again every ten minutes, so that
a message that the collector could not use does no harm for longer.

A port of which only counts changed is sent once a minute. On a new stream it is sent at once, for who has just started
a sensor looks at it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from sensor.core.health import StageCount
from sensor.coverage.row import PortCoverage
from sensor.enrich.kubernetes.pod import WorkloadFacts

FEATURE: Final = "report_difference"  # Of a collector that takes differences.
WHOLE_SECONDS: Final = 600.0
COUNTS_SECONDS: Final = 60.0  # Between two reports of counts.
SETTLED_SECONDS: Final = 300.0  # Age of a stream from which on they wait so.


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
        self._counts_at = self._settled_at = 0.0
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
        if self._coverage_at is None:
            self._settled_at = now_seconds + SETTLED_SECONDS
        is_counted = now_seconds < self._settled_at or now_seconds - self._counts_at >= COUNTS_SECONDS
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
            self._coverage_at, is_counted = now_seconds, True
            report = CoverageReport(ports=ports, workloads=workloads, node_addresses=addresses)
        else:
            report = CoverageReport(
                ports=[port for port in ports if self._has_changed(found[port.key], is_counted=is_counted)],
                workloads=[one for key, one in facts.items() if self._workloads.get(key) != one],
                node_addresses=addresses if addresses != self._addresses else (),
                is_difference=True,
            )
        if is_counted:
            self._counts_at = now_seconds
        sent = {port.key for port in report.ports}
        self._ports = {key: port if key in sent else self._ports[key] for key, port in found.items()}
        self._workloads, self._addresses = facts, addresses
        return report

    def send_counts(self) -> None:
        """The next report has counts, whenever the last ones were sent: the sensor stops, or says more by itself."""
        self._counts_at = -COUNTS_SECONDS

    def _has_changed(self, port: PortCoverage, *, is_counted: bool) -> bool:
        known = self._ports.get(port.key)
        if known is None or (known.reason, known.is_http_like) != (port.reason, port.is_http_like):
            return True
        return is_counted and known != port

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
