"""Rows of the coverage report for what the sensor knows that it missed, each with a cause and advice. Pure.

The causes are counters of the kernel side, requests that no attack rule checked, failures in the sensor, and limits due
to its budget of processor time.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import msgspec

from sensor.core.calls import Service
from sensor.core.health import AttackAccount
from sensor.coverage.row import PortCoverage, build_node_row
from sensor.ebpf.abi import Counter

FILE: Final = Path(__file__).parent / "limits.json"


class _Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A counter of the kernel side, by its name in `Counter`, and what to say where it is not 0."""

    counter: str
    name: str
    reason: str
    is_bytes: bool = False  # What is counted.


@lru_cache(maxsize=1)
def _load_limits() -> tuple[tuple[Counter, _Limit], ...]:
    limits = msgspec.json.decode(FILE.read_bytes(), type=tuple[_Limit, ...])
    return tuple((Counter[limit.counter], limit) for limit in limits)


def list_limits(counters: Mapping[Counter, int], unknown_service: Service) -> Iterator[PortCoverage]:
    """Rows of what was missed at all; `connections` is how often, or `bytes` how much."""
    for counter, limit in _load_limits():
        if count := counters.get(counter, 0):
            calls, size = (0, count) if limit.is_bytes else (count, 0)
            yield build_node_row(unknown_service, limit.name, limit.reason, connections=calls, bytes=size)


def explain_limit(counter: Counter) -> tuple[str, str]:
    """Name and reason, with advice, of a counter of the kernel side."""
    return next((limit.name, limit.reason) for one, limit in _load_limits() if one is counter)


_MEANING: Final = (
    "Requests that looked like an attack beyond the budget of heads, or that attack_bytes_per_second had no room for: "
    "they were counted and not held against the attack rules. Raise it, or look at who sends so many."
)


def cover_attacks(account: AttackAccount, unknown_service: Service) -> Iterator[PortCoverage]:
    """A row where there were any; `connections` is how many calls."""
    if count := account.skipped + account.unread:
        yield build_node_row(unknown_service, "requests not held against the attack rules", _MEANING, connections=count)


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
    reason = (
        "The sensor gave up calls, rows or files because its code failed on them, and went on with the next: "
        f"{places}. Report it with the sensor's log, which has a traceback of each."
    )
    yield build_node_row(unknown_service, ROW_NAME, reason, connections=sum(counts.values()))


_RESTRAINT_MEANING: Final = (
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
    limits = ", ".join(f"{limit.value:,} of {limit.most:,} {limit.name}" for limit in restraint.limits if limit.most)
    reason = f"{_RESTRAINT_MEANING} What it reads a second now: {limits}. {_ADVICE}"
    yield build_node_row(
        unknown_service, "seconds held back by the budget", reason, connections=int(restraint.held_seconds)
    )
