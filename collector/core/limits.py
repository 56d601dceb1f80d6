"""A limit of what the collector keeps in memory, and how much of it is in use."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One limit; `then` says what happens at it."""

    name: str
    used: int
    maximum: int
    then: str

    @property
    def is_reached(self) -> bool:
        return self.used >= self.maximum


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionProgress:
    """What the detectors did with what came."""

    evaluated_calls: int = 0
    late_calls: int = 0
    waiting_batches: int = 0
