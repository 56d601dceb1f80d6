"""Rows of the coverage report for what the sensor knows that it missed, each with a cause and advice. Pure.

The causes are counters of the kernel side, requests that no attack rule checked, failures in the sensor, and limits due
to its budget of processor time.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from sensor.core.calls import Service
from sensor.core.health import AttackAccount
from sensor.coverage.row import CoverageRole, PortCoverage, PortProtocol
from sensor.ebpf.abi import Counter

NODE_WORKLOAD: Final = "node"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limit:
    counter: Counter
    name: str
    meaning: str
    advice: str
    is_bytes: bool = False  # What is counted.


_MORE_CPU: Final = "Give the sensor more CPU (capture_budget_core_share) or a larger ring (ring_bytes)."
_LIMITS: Final = (
    _Limit(
        counter=Counter.ORPHANS,
        name="responses without a request",
        meaning="Joined in the middle of a call, or a server that speaks unasked (408): no call is told.",
        advice="Right after a start it is normal.",
    ),
    _Limit(
        counter=Counter.RESYNC,
        name="positions lost",
        meaning="Bytes of a connection were missed where a message may have ended: its call is marked lossy.",
        advice="Look for packet loss and offloads that reorder.",
    ),
    _Limit(
        counter=Counter.EVENTS_LOST,
        name="heads lost at the ring",
        meaning="Heads or ends of calls found the ring full: such calls are added up, without their path.",
        advice=_MORE_CPU,
    ),
    _Limit(
        counter=Counter.OVERFLOW,
        name="calls added up at the ring",
        meaning="Records found the ring full: such calls are added up by service and status, without path and caller.",
        advice=_MORE_CPU,
    ),
    _Limit(
        counter=Counter.UNLEARNED,
        name="heads past the budget",
        meaning="The head of such a call was not looked at: it is counted without its path and its caller.",
        advice="Raise heads_per_second, or look who sends so much that is new.",
    ),
    _Limit(
        counter=Counter.SHARES_SPENT,
        name="heads past a caller's share",
        meaning="Of heads past the budget, those of a caller or address that had its share: some was kept for others.",
        advice="Look who sends so much that is new, or looks like an attack.",
    ),
    _Limit(
        counter=Counter.BODIES_REFUSED,
        name="bodies past the budget",
        meaning="Bodies of samples of which less or nothing was read.",
        advice="Raise body_bytes_per_second; records that such calls returned are estimated.",
    ),
    _Limit(
        counter=Counter.FRAMES_LOST,
        name="HTTP/2 events lost at the ring",
        meaning="Frames found their ring full: streams among them are lost, others lossy.",
        advice=_MORE_CPU,
    ),
    _Limit(
        counter=Counter.BLOCKS_REFUSED,
        name="HTTP/2 heads past a cgroup's share",
        meaning="The ring was half full and a cgroup sent more than its share of heads: such calls have no names.",
        advice=_MORE_CPU,
    ),
    _Limit(
        counter=Counter.RAW_REFUSED,
        name="HTTP/2 bytes not followed",
        meaning="Around lost or reordered packets more bytes came than may go up: calls in them are lossy or lost.",
        advice="Look for packet loss.",
        is_bytes=True,
    ),
    _Limit(
        counter=Counter.UPGRADES_UNTOLD,
        name="ends of WebSockets lost at the ring",
        meaning="The ring was full: such WebSockets are told as begun, without bytes, messages and time.",
        advice=_MORE_CPU,
    ),
    _Limit(
        counter=Counter.CONTENDED,
        name="segments held too long",
        meaning="Two CPUs had one connection at once for too long; the segment was not read.",
        advice="Nothing, unless it grows: then report it.",
    ),
    _Limit(
        counter=Counter.TAIL_FAILED,
        name="segments with too many messages",
        meaning="A segment had more messages than the kernel lets a program follow.",
        advice="Nothing: a client that pipelines so deep is rare.",
    ),
    _Limit(
        counter=Counter.STORAGE_FAILED,
        name="connections without memory",
        meaning="The kernel gave no memory for the state of a connection: nothing of it is read.",
        advice="Look at the memory limit of the sensor's cgroup.",
    ),
    _Limit(
        counter=Counter.PORTS_FULL,
        name="counts past the table of ports",
        meaning="More listening ports than the table holds: their traffic is in no row.",
        advice="Look who listens on so many ports.",
    ),
    _Limit(
        counter=Counter.PEERS_FULL,
        name="counts past the table of called hosts",
        meaning="More hosts are called encrypted than the table holds: the others are in no row.",
        advice="Nothing: the hosts that came first are listed.",
    ),
    _Limit(
        counter=Counter.HELLOS_REFUSED,
        name="handshakes past the budget",
        meaning="Handshakes were not looked at because their cgroup's budget of heads was spent.",
        advice="Raise heads_per_second.",
    ),
)


def list_limits(counters: Mapping[Counter, int], unknown_service: Service) -> Iterator[PortCoverage]:
    """Rows of what was missed at all; `connections` is how often, or `bytes` how much."""
    for limit in _LIMITS:
        if count := counters.get(limit.counter, 0):
            yield PortCoverage(
                service=msgspec.structs.replace(unknown_service, workload=NODE_WORKLOAD),
                protocol=PortProtocol.MISSED,
                role=CoverageRole.NODE,
                connections=0 if limit.is_bytes else count,
                bytes=count if limit.is_bytes else 0,
                address=limit.name,
                reason=f"{limit.meaning} {limit.advice}",
            )


_MEANING: Final = (
    "Requests that looked like an attack beyond the budget of heads, or that attack_bytes_per_second had no room for: "
    "they were counted and not held against the attack rules. Raise it, or look at who sends so many."
)


def cover_attacks(account: AttackAccount, unknown_service: Service) -> Iterator[PortCoverage]:
    """A row where there were any; `connections` is how many calls."""
    if account.skipped or account.unread:
        yield PortCoverage(
            service=msgspec.structs.replace(unknown_service, workload=NODE_WORKLOAD),
            protocol=PortProtocol.MISSED,
            role=CoverageRole.NODE,
            connections=account.skipped + account.unread,
            bytes=0,
            address="requests not held against the attack rules",
            reason=_MEANING,
        )


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
    limits = ", ".join(f"{limit.value} of {limit.most} {limit.name}" for limit in restraint.limits if limit.most)
    yield PortCoverage(
        service=msgspec.structs.replace(unknown_service, workload=NODE_WORKLOAD),
        protocol=PortProtocol.MISSED,
        role=CoverageRole.NODE,
        connections=int(restraint.held_seconds),
        bytes=0,
        address="seconds held back by the budget",
        reason=f"{_RESTRAINT_MEANING} Now a second: {limits}. {_ADVICE}",
    )
