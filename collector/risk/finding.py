"""A finding: a rule that an endpoint breaks, with its evidence, its state, and who decided it. Also what rules read,
and weights. Pure.

- Unknown, seen: open.
- Open, not seen in a whole span of traffic: fixed, by `apidae`.
- Accepted or a false positive: stays, unless it grew. A sign that was not there when a person decided opens it again.
- Fixed, seen in later calls: open again.

Score and rules read `Circumstances`: one endpoint as measured, its past, and its last minutes. `Weights` are read once
from `weights.json`, checked and frozen. A change of a figure there is a change of its version, and every score names
its version.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Final

import msgspec

from collector.core.rows import Service
from collector.inventory.coverage.coverage import WeakChoice
from collector.inventory.endpoints.bodies import PERSONAL, BodySide, DataClass, DataFound
from collector.inventory.endpoints.endpoint import FULL_COVERAGE, Endpoint
from collector.inventory.endpoints.exposure import ExposureLevel
from collector.inventory.models.sums import ModelSum
from collector.inventory.naming import name_service

# Seen in fewer of the bodies than this, a kind is a chance hit of the classifier.
SHARE_MIN: Final = 0.05
# Each of these alone names nobody: a phone may be a shop's, a drug may be in a catalogue, a salary in an offer.
_WEAK: Final = frozenset(
    (
        "person_name", "phone", "address", "email", "date_of_birth", "gender", "nationality", "location", "bic",
        "routing_number", "salary", "crypto_address", "diagnosis", "medication", "blood_type",
    )
)  # fmt: skip
_NAMING: Final = frozenset(("person_name", "date_of_birth"))
_LIST_RECORDS_MIN: Final = 5  # E-mail addresses of so many records are a list of people.
# Where people show who they are: what they send there is not what the endpoint is protected by. A name counts only
# where a secret may have gone in unseen, such as a code or a position of an RPC.
_LOGIN_NAMES_TEXT: Final = (
    "login log-in signin sign-in sign_in logon log-on authenticate auth token tokens oauth oauth2 register "
    "registration signup sign-up sign_up session sessions password password-reset reset-password "
    "forgot-password refresh callback otp mfa verify"
)
_LOGIN_NAMES: Final = frozenset(_LOGIN_NAMES_TEXT.split())
# Words of an operation's name: `logIn`, `user.login`, `SignInUser`.
_WORD_START: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")
_SEPARATOR: Final = re.compile("-")
_PAIR: Final = re.compile(r"\b(?:sign|log|reset)-(?:in|on|up|password)\b")
_MOST: Final = 0.5  # Of the calls read, from which what they do is what the endpoint is for.
# What a server hands out to a caller who logs in or asks for a key.
_ISSUED: Final = frozenset(("jwt", "access_token", "api_key"))
_SENT: Final = (BodySide.REQUEST, BodySide.PATH, BodySide.QUERY)
_RECORDS_OF_ONE: Final = 1.5  # In an answer, on average; more are not made for the caller alone.


def names_person(kinds: frozenset[str]) -> bool:
    """Whether kinds of personal data together name a person."""
    return bool(kinds - _WEAK) or (bool(kinds & _NAMING) and len(kinds) >= 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What was known of an endpoint when it was assessed last. Times are unix seconds; 0: never."""

    exposure: str = ""
    exposure_before: str = ""
    exposure_since: float = 0.0
    authenticated_at: float = 0.0  # When nearly all of its calls carried credentials last.
    score: int = -1
    computed_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """The last minutes: served calls whose credentials could be seen, and those with some."""

    visible: int = 0
    authenticated: int = 0


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """One endpoint; `now` in unix seconds, `seconds` that its figures cover. `weak_tls`: of its service;
    `is_mcp_server`: it answered as one. `model_uses`: who asked which models there."""

    endpoint: Endpoint
    past: Past
    recent: Recent
    now: float
    seconds: int
    weak_tls: tuple[WeakChoice, ...] = ()
    is_mcp_server: bool = False
    model_uses: tuple[ModelSum, ...] = ()

    @cached_property
    def data(self) -> tuple[DataFound, ...]:
        """Kinds found often enough to count."""
        bodies = self.endpoint.bodies
        return tuple(one for one in bodies.data if one.share >= SHARE_MIN) if bodies is not None else ()

    def kinds(self, *sides: BodySide) -> frozenset[str]:
        """Kinds found in these places."""
        return frozenset(one.kind for one in self.data if one.side in sides)

    def classes(self, *sides: BodySide) -> frozenset[DataClass]:
        """Classes found in these places."""
        return frozenset(one.data_class for one in self.data if one.side in sides)

    @cached_property
    def personal_kinds(self) -> frozenset[str]:
        """Kinds in responses that describe a person, where together they name one; else none. What the caller sent is
        no news to the caller, unless it comes back of several persons."""
        found = {one for one in self.data if one.side is BodySide.RESPONSE and one.data_class in PERSONAL}
        kinds = frozenset(one.kind for one in found)
        sent = {one.kind for one in self.data if one.side in _SENT and one.share >= _MOST}
        if kinds <= sent and self.records_per_call < _RECORDS_OF_ONE:
            return frozenset()
        is_list = "email" in kinds and self.records_per_call >= _LIST_RECORDS_MIN
        return kinds if names_person(kinds) or is_list else frozenset()

    @property
    def records_per_call(self) -> float:
        """Mean of the served calls."""
        bodies, served = self.endpoint.bodies, self.endpoint.status.success
        return bodies.records_returned / served if bodies is not None and served else 0.0

    @property
    def records_per_day(self) -> float:
        """At the pace of the span; at least one for each served call."""
        bodies, served = self.endpoint.bodies, self.endpoint.status.success
        records = max(bodies.records_returned if bodies is not None else 0, served)
        return records * 86_400 / max(self.seconds, 1)

    @property
    def is_open(self) -> bool:
        """Answered 2xx without any credential. A login is how credentials come to be, and no gap."""
        authentication = self.endpoint.authentication
        return authentication.coverage is not None and authentication.coverage < 1 - FULL_COVERAGE and not self.is_login

    @cached_property
    def is_login(self) -> bool:
        """Where people log in or register: by what the calls do, or by a POST of that name or with a password."""
        bodies = self.endpoint.bodies
        if bodies is not None and bodies.logins:
            read = max(bodies.requests_read, bodies.responses_read, 1)
            if bodies.logins >= _MOST * read or self._sends_passwords:
                return True
        operation = self.endpoint.operation
        if operation is not None:
            name = _WORD_START.sub("-", operation.name).lower()
            last = [] if operation.kind == "query" else [*_SEPARATOR.split(name), *_PAIR.findall(name)]
        else:
            words = [part for part in self.endpoint.template.lower().split("/") if part and part[0] != "{"]
            # `/auth/google` is a login, and `/auth/users` is not one.
            last = words[-1:] if self.personal_kinds else words[-2:]
        is_named = not _LOGIN_NAMES.isdisjoint(last)
        return self.endpoint.method == "POST" and (is_named or self._sends_passwords)

    @property
    def _sends_passwords(self) -> bool:
        """Most requests do; where few do, as at a path of many operations, the others are no logins."""
        return any(one.kind == "password" and one.side is BodySide.REQUEST and one.share >= _MOST for one in self.data)

    @cached_property
    def leaked_secrets(self) -> frozenset[str]:
        """Kinds of secrets in responses that were not issued to the caller, by a login or as a new key."""
        bodies = self.endpoint.bodies
        if bodies is None:
            return frozenset()
        coverage = self.endpoint.authentication.coverage
        is_made = self.endpoint.method == "POST" and coverage is not None and coverage >= FULL_COVERAGE
        issues = (self.is_login or is_made) and self.records_per_call < _RECORDS_OF_ONE
        return frozenset(
            one.kind
            for one in self.data
            if one.side is BodySide.RESPONSE
            and one.data_class is DataClass.SECRET
            and not (one.kind in _ISSUED and (issues or one.calls - bodies.logins < SHARE_MIN * bodies.responses_read))
        )

    @property
    def is_external(self) -> bool:
        """Reached from outside."""
        return self.endpoint.exposure.level is ExposureLevel.EXTERNAL

    @property
    def is_ours(self) -> bool:
        """Served by us: what third parties serve is theirs to mend."""
        return self.endpoint.exposure.level is not ExposureLevel.THIRD_PARTY


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


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that should not be: a row of rules.json. `owasp` is of the API Security Top 10 of 2023."""

    id: str
    title: str
    severity: Severity
    owasp: str
    advice: str
    # The samples of an operation show this of the operation alone; all else is its path's, and found there.
    is_of_operation: bool = False

    @property
    def runbook(self) -> str:
        """The path of its page of the documentation on this collector (collector/ui/documentation)."""
        return find_runbook(self.id)


def find_runbook(rule: str) -> str:
    """The path of the page of the rule of this id."""
    return f"/docs/findings/{rule}"


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
# What only says `seen again` is written this often at most.
REFRESH_SECONDS: Final = 3_600.0
EXPIRED: Final = "The time of the decision is over."
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
    decided_until: float = 0.0  # When what a person decided opens again; 0: never.
    method: str
    host: str
    url_template: str
    service: str

    @property
    def runbook(self) -> str:
        """That of its rule."""
        return find_runbook(self.rule)


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingChange:
    """One change of state. Those of one decision of a person have its `decision_id` in common."""

    finding_id: str
    time: float
    state: FindingState
    actor: str
    note: str
    decision_id: str = ""


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
        decided_until=known.decided_until,
    )
    grown = sorted(set(seen.signs) - set(known.signs))
    if known.state is FindingState.FIXED:
        return _reopen(current, "Calls show it again.", now)
    if 0 < known.decided_until <= now:
        return _reopen(current, EXPIRED, now)
    if known.state is not FindingState.OPEN:
        return _reopen(current, f"It grew: {', '.join(grown)}.", now) if grown else known
    is_same = known.signs == seen.signs and known.severity is seen.severity
    return known if is_same and now - known.updated_at < REFRESH_SECONDS else current


def decide(finding: Finding, state: FindingState, actor: str, note: str, now: float, *, until: float = 0.0) -> Finding:
    """With another state, by whom, why and until when."""
    return replace(
        finding,
        state=state,
        changed_at=now,
        changed_by=actor,
        note=note,
        is_reopened=False,
        decided_until=until,
        updated_at=now,
    )


def expire(finding: Finding, now: float) -> Finding:
    """Open again after the time of a decision."""
    return _reopen(finding, EXPIRED, now)


def _reopen(finding: Finding, note: str, now: float) -> Finding:
    return replace(decide(finding, FindingState.OPEN, SELF, note, now), is_reopened=True)
