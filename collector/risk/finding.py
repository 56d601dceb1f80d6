"""A finding: a rule that an endpoint breaks, with its evidence, its state, and who decided it. Also rules and weights.
Pure.

- Unknown, seen: open.
- Open, not seen in a whole span of traffic: fixed, by `apidae`.
- Accepted or a false positive: stays, unless it grew. A sign that was not there when a person decided opens it again.
- Fixed, seen in later calls: open again.

A `Rule` takes the circumstances of an endpoint and gives evidence where it is broken. `Weights` are read once from
`weights.json`, checked and frozen. A change of a figure there is a change of its version, and every score names its
version.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Final

import msgspec

from collector.core.rows import Service
from collector.inventory.endpoints.endpoint import Endpoint, name_service
from collector.risk.circumstances import Circumstances


class Severity(StrEnum):
    """How bad, gravest first; the names of `findings` in weights.json."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """`why`: a sentence with the figures. `signs`: what it rests on, without figures, so that growth shows.
    `severity`: where the evidence makes it graver or milder than the rule is."""

    why: str
    signs: tuple[str, ...]
    severity: Severity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One thing that should not be. `owasp` is of the API Security Top 10 of 2023."""

    id: str
    title: str
    severity: Severity
    owasp: str
    advice: str
    find: Callable[[Circumstances], Evidence | None]


def list_words(words: Iterable[str]) -> str:
    """`a, b and c`, by alphabet, as people read."""
    named = sorted(word.replace("_", " ") for word in words)
    return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"


FILE = Path(__file__).parent / "weights.json"


class VolumeWeights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From `least` at one record a day to `most` at `records_at_most`, by the logarithm."""

    least: float
    most: float
    records_at_most: int


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Factors between 0 and 1; docs/use/risk.md says what each means."""

    version: str
    sensitivity: Mapping[str, float]
    sensitivity_in_requests: float
    sensitivity_of_further_class: float
    authentication: Mapping[str, float]
    exposure: Mapping[str, float]
    enumerability: Mapping[str, float]
    volume: VolumeWeights
    spec: Mapping[str, float]
    findings: Mapping[str, float]
    findings_counted: int
    levels: Mapping[str, int]  # From this score on, highest first.


@lru_cache(maxsize=1)
def load_weights() -> Weights:
    """Those that came with this build."""
    return msgspec.json.decode(FILE.read_bytes(), type=Weights)


SELF: Final = "apidae"
# A version that only says `seen again` is written this often at most.
REFRESH_SECONDS: Final = 900.0
_ID_BYTES: Final = 8


class FindingState(StrEnum):
    """Where it stands."""

    OPEN = "open"
    ACCEPTED = "accepted"  # It is so, and it is meant so.
    FALSE_POSITIVE = "false_positive"  # It is not so.
    FIXED = "fixed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """As stored and shown. `signs` are what the evidence rests on, without figures. Times are unix seconds."""

    id: str
    endpoint_id: str
    rule: str
    severity: Severity
    owasp: str
    state: FindingState
    title: str
    why: str
    advice: str
    signs: tuple[str, ...]
    first_seen: float
    last_seen: float
    updated_at: float
    changed_at: float  # When the state last changed, by whom and why.
    changed_by: str
    note: str
    is_reopened: bool
    method: str
    host: str
    url_template: str
    service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingChange:
    """One change of state."""

    finding_id: str
    time: float
    state: FindingState
    actor: str
    note: str


def identify_finding(endpoint_id: str, rule: str) -> str:
    """The same endpoint and rule, the same id."""
    return hashlib.blake2b(f"{endpoint_id}\x1f{rule}".encode(), digest_size=_ID_BYTES).hexdigest()


def identify_service(service: Service, rule: str) -> str:
    """The same service and rule, the same id."""
    parts = (service.cluster, service.namespace, service.workload, service.workload_kind, service.host_name)
    return identify_finding("\x1f".join(("service", *map(str, parts), str(service.port))), rule)


def open_finding(rule: Rule, evidence: Evidence, endpoint: Endpoint, now: float) -> Finding:
    """A new one."""
    return replace(
        open_service_finding(rule, evidence, endpoint.service, now),
        id=identify_finding(endpoint.id, rule.id),
        endpoint_id=endpoint.id,
        method=endpoint.method,
        host=endpoint.host,
        url_template=endpoint.path,
    )


def open_service_finding(rule: Rule, evidence: Evidence, service: Service, now: float) -> Finding:
    """A new one on a service of which no endpoint is known."""
    return Finding(
        id=identify_service(service, rule.id),
        endpoint_id="",
        rule=rule.id,
        severity=evidence.severity or rule.severity,
        owasp=rule.owasp,
        state=FindingState.OPEN,
        title=rule.title,
        why=evidence.why,
        advice=rule.advice,
        signs=tuple(sorted(evidence.signs)),
        first_seen=now,
        last_seen=now,
        updated_at=now,
        changed_at=now,
        changed_by=SELF,
        note="",
        is_reopened=False,
        method="",
        host="",
        url_template="",
        service=name_service(service),
    )


def advance(known: Finding | None, seen: Finding | None, now: float) -> Finding | None:
    """The finding as it is from now on; None where there is none. The one given, where nothing is to be written."""
    if known is None:
        return seen
    if seen is None:
        if known.state is not FindingState.OPEN:
            return known
        return decide(known, FindingState.FIXED, SELF, "No call of the last day shows it.", now)
    current = replace(
        seen,
        first_seen=known.first_seen,
        state=known.state,
        changed_at=known.changed_at,
        changed_by=known.changed_by,
        note=known.note,
        is_reopened=known.is_reopened,
    )
    grown = sorted(set(seen.signs) - set(known.signs))
    if known.state is FindingState.FIXED:
        return _reopen(current, "Calls show it again.", now)
    if known.state is not FindingState.OPEN:
        return _reopen(current, f"It grew: {', '.join(grown)}.", now) if grown else known
    is_same = known.signs == seen.signs and known.severity is seen.severity
    return known if is_same and now - known.updated_at < REFRESH_SECONDS else current


def decide(finding: Finding, state: FindingState, actor: str, note: str, now: float) -> Finding:
    """With another state, by whom and why."""
    return replace(
        finding,
        state=state,
        changed_at=now,
        changed_by=actor,
        note=note,
        is_reopened=False,
        # A version must be newer than the one it replaces, even where the clock stands still.
        updated_at=max(now, finding.updated_at + 1e-5),
    )


def _reopen(finding: Finding, note: str, now: float) -> Finding:
    return replace(decide(finding, FindingState.OPEN, SELF, note, now), is_reopened=True)
