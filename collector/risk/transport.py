"""Weak TLS by service, from the coverage: versions and cipher suites that its servers chose in the last day.

`judge_services` gives findings on services whose calls nobody can read. They have no endpoints, so the findings are the
service's own, with an empty `endpoint_id`. They follow the rules on TLS and have the states of all findings. Pure.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from collector.core.rows import Service, read_service
from collector.inventory.coverage.coverage import PROTOCOL_NUMBERS, ROLE_NUMBERS, CoverageRole, PortProtocol, WeakChoice
from collector.inventory.coverage.reader import read_weak_choices
from collector.inventory.query import Reader, select
from collector.risk.finding import (
    SELF,
    Evidence,
    Finding,
    FindingState,
    Rule,
    advance,
    decide,
    identify_service,
    open_service_finding,
)
from collector.risk.rules.transport import WEAK_CIPHER, WEAK_VERSION, judge_cipher, judge_version

# A choice that was not made for so long is none any more.
SECONDS: Final = 86_400
# Rows of ports that are read; one has 16 choices at most.
ROWS_MAX: Final = 10_000
_LISTENING: Final = next(number for number, role in ROLE_NUMBERS.items() if role is CoverageRole.LISTENING)
_WEAK: Final = f"""
SELECT node, cluster, namespace, workload, workload_kind, host_name, port, protocol, handshakes
FROM coverage_rows FINAL
WHERE role = {_LISTENING} AND time >= fromUnixTimestamp({{since:UInt32}}) AND position(handshakes, '"weak_choices"') > 0
ORDER BY time DESC
LIMIT {ROWS_MAX}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeakTls:
    """Of one service. `is_read`: its calls are in the inventory, so that its endpoints have the findings."""

    choices: tuple[WeakChoice, ...]
    is_read: bool


def read_weak_tls(reader: Reader, now: float) -> dict[Service, WeakTls]:
    """Every service that has any. Raises StoreError."""
    since = int(now) - SECONDS
    # A port of which a part is read has two rows, which tell of the same handshakes.
    heard: dict[Service, dict[tuple[str, str, str], WeakChoice]] = defaultdict(dict)
    read: set[Service] = set()
    for row in select(reader, _WEAK, {"since": max(0, since)}):
        service = read_service(row)
        if PROTOCOL_NUMBERS.get(int(row["protocol"])) is PortProtocol.HTTPS:
            read.add(service)
        for choice in read_weak_choices(json.loads(row["handshakes"])["weak_choices"]):
            if choice.last_seen >= since:
                heard[service].setdefault((row["node"], choice.version, choice.cipher_suite), choice)
    return {
        service: WeakTls(choices=_sum_nodes(choices), is_read=service in read) for service, choices in heard.items()
    }


def _sum_nodes(choices: Mapping[tuple[str, str, str], WeakChoice]) -> tuple[WeakChoice, ...]:
    sums: dict[tuple[str, str], WeakChoice] = {}
    for (_, version, suite), choice in sorted(choices.items()):
        before = sums.get((version, suite))
        sums[version, suite] = WeakChoice(
            version=version,
            cipher_suite=suite,
            count=choice.count + (before.count if before else 0),
            last_seen=max(choice.last_seen, before.last_seen if before else 0),
        )
    return tuple(sums.values())


NO_ENDPOINT: Final = ""
_GONE: Final = "No handshake of the last day shows it."
_READ: Final = "Its calls are read now: its endpoints have the finding."
_JUDGES: Final[tuple[tuple[Rule, Callable[[Iterable[WeakChoice]], Evidence | None]], ...]] = (
    (WEAK_VERSION, judge_version),
    (WEAK_CIPHER, judge_cipher),
)


def judge_services(known: Sequence[Finding], weak: Mapping[Service, WeakTls], now: float) -> list[Finding]:
    """What is to be written, with all findings of services as `known`."""
    before = {one.id: one for one in known}
    seen: dict[str, Finding] = {}
    read: set[str] = set()
    for service, heard in weak.items():
        for rule, judge in _JUDGES:
            name = identify_service(service, rule.id)
            if heard.is_read:
                read.add(name)
                continue
            evidence = judge(choices_since_fixed(heard.choices, before.get(name)))
            if evidence is not None:
                seen[name] = open_service_finding(rule, evidence, service, now)
    written = []
    for name in {**before, **seen}:
        old = before.get(name)
        if name in seen:
            current = advance(old, seen[name], now)
        elif old is not None and old.state is FindingState.OPEN:
            current = decide(old, FindingState.FIXED, SELF, _READ if name in read else _GONE, now)
        else:
            continue
        if current is not None and current is not old:
            written.append(current)
    return written


def choices_since_fixed(choices: tuple[WeakChoice, ...], finding: Finding | None) -> tuple[WeakChoice, ...]:
    """Those that count: of what was marked as fixed, what was chosen after that."""
    if finding is None or finding.state is not FindingState.FIXED:
        return choices
    return tuple(choice for choice in choices if choice.last_seen > finding.changed_at)
