"""How long and how far the sensor's budget of processor time held it back, as a row of the coverage. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from sensor.calls import Service
from sensor.coverage.limits import NODE_WORKLOAD
from sensor.coverage.row import CoverageRole, PortCoverage, PortProtocol

_MEANING: Final = (
    "The sensor was above its budget of processor time and read less of each call; calls are counted all the same."
)
_ADVICE: Final = "Raise capture_budget_core_share."


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What may be read a second, now and by the settings."""

    name: str
    value: int
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Restraint:
    """`held_seconds`: since the sensor's start, in which one of `limits` was below its most."""

    held_seconds: float
    limits: tuple[Limit, ...]


def cover_restraint(restraint: Restraint, unknown_service: Service) -> Iterator[PortCoverage]:
    """A row where it was ever held back; `connections` is for how many seconds."""
    if restraint.held_seconds < 1:
        return
    limits = ", ".join(f"{limit.value} of {limit.most} {limit.name}" for limit in restraint.limits if limit.most)
    yield PortCoverage(
        service=msgspec.structs.replace(unknown_service, workload=NODE_WORKLOAD),
        protocol=PortProtocol.MISSED,
        role=CoverageRole.NODE,
        connections=int(restraint.held_seconds),
        bytes=0,
        address="seconds held back by the budget",
        reason=f"{_MEANING} Now a second: {limits}. {_ADVICE}",
    )
