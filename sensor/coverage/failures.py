"""What was given up because something failed, as a row of the coverage. Pure."""

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from sensor.calls import Service
from sensor.coverage.limits import NODE_WORKLOAD
from sensor.coverage.row import CoverageRole, PortCoverage, PortProtocol

ROW_NAME: Final = "failures"
# Places that the row names; the metrics have all.
_PLACES_MAX: Final = 3


def cover_failures(counts: Mapping[tuple[str, str], int], unknown_service: Service) -> Iterator[PortCoverage]:
    """A row where something failed; `counts` by place in the code and class of the exception, `connections` is how
    often."""
    if not counts:
        return
    most = sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:_PLACES_MAX]
    places = ", ".join(f"{place} ({exception}, {count} times)" for (place, exception), count in most)
    yield PortCoverage(
        service=msgspec.structs.replace(unknown_service, workload=NODE_WORKLOAD),
        protocol=PortProtocol.MISSED,
        role=CoverageRole.NODE,
        connections=sum(counts.values()),
        bytes=0,
        address=ROW_NAME,
        reason=(
            "The sensor gave up calls, rows or files because its code failed on them, and went on with the next: "
            f"{places}. Report it with the sensor's log, which has a traceback of each."
        ),
    )
