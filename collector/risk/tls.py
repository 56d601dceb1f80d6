"""Weak TLS by service, from the coverage: versions and cipher suites that its servers chose in the last day.

Both hold for the endpoints of a service whose calls are read. Where nobody can read them, `assess_services` gives
findings on the service itself, with an empty `endpoint_id` and the states of all findings. Pure but for
`read_weak_tls`.

Sources: RFC 8996 (versions), RFC 9325 4.1, RFC 7465 and RFC 5246 F.1.1.1 (cipher suites). IANA's registry of TLS cipher
suites recommends none of these suites.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from collector.core.rows import Service
from collector.inventory.coverage.coverage import (
    PROTOCOL_NUMBERS,
    ROLE_NUMBERS,
    CoverageRole,
    PortProtocol,
    WeakChoice,
    read_weak_choices,
)
from collector.risk.finding import (
    SELF,
    Evidence,
    Finding,
    FindingState,
    Rule,
    Severity,
    advance,
    decide,
    identify_service,
    list_words,
    open_service_finding,
)
from collector.storage.records import Reader, read_record, select

_VERSIONS: Final = {
    "SSL 2.0": Severity.HIGH,
    "SSL 3.0": Severity.HIGH,
    "TLS 1.0": Severity.MEDIUM,
    "TLS 1.1": Severity.MEDIUM,
}
# By a part of the suite's name: what is wrong, and how bad that is; the first that fits. CBC with forward secrecy is
# discouraged and no finding.
_SUITES: Final = (
    ("_NULL_", "encrypts nothing (RFC 9325)", Severity.HIGH),
    ("_anon_", "shows nobody who the server is (RFC 5246)", Severity.HIGH),
    ("_EXPORT_", "has keys of 40 bits (RFC 9325)", Severity.HIGH),
    ("_DES_", "has keys of 56 bits (RFC 9325)", Severity.HIGH),
    ("_RC4_", "is RC4, which is broken (RFC 7465)", Severity.HIGH),
    ("_3DES_", "is 3DES, with blocks of 64 bits (RFC 9325)", Severity.MEDIUM),
    ("TLS_RSA_", "has no forward secrecy (RFC 9325)", Severity.LOW),
)
_ORDER: Final = list(Severity)


def find_weak_versions(choices: Iterable[WeakChoice]) -> Evidence | None:
    """Of what a service's servers chose."""
    found = [choice for choice in choices if choice.version in _VERSIONS]
    if not found:
        return None
    versions = {choice.version for choice in found}
    return Evidence(
        why=f"{_count(found)} chose {list_words(versions)}, deprecated by RFC 8996 or before.",
        signs=tuple(versions),
        severity=min((_VERSIONS[version] for version in versions), key=_ORDER.index),
    )


def find_weak_ciphers(choices: Iterable[WeakChoice]) -> Evidence | None:
    """The same of cipher suites."""
    found: list[WeakChoice] = []
    suites: dict[str, tuple[str, Severity]] = {}
    for choice in choices:
        for part, what, severity in _SUITES:
            if part in choice.cipher_suite:
                found.append(choice)
                suites[choice.cipher_suite] = (what, severity)
                break
    if not found:
        return None
    described = "; ".join(f"{suite} {what}" for suite, (what, _) in sorted(suites.items()))
    return Evidence(
        why=f"{_count(found)} chose a weak cipher suite: {described}.",
        signs=tuple(suites),
        severity=min((severity for _, severity in suites.values()), key=_ORDER.index),
    )


def _count(choices: Iterable[WeakChoice]) -> str:
    count = sum(choice.count for choice in choices)
    return f"{count:,} of the handshakes looked at (at most one a second)"


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
    # A port of which a part is read has two rows, which count the same handshakes.
    heard: dict[Service, dict[tuple[str, str, str], WeakChoice]] = defaultdict(dict)
    read: set[Service] = set()
    for row in select(reader, _WEAK, {"since": max(0, since)}):
        service = read_record(Service, row)
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
# By the id of the rule.
_FINDERS: Final = {"weak_tls_version": find_weak_versions, "weak_tls_cipher": find_weak_ciphers}


def assess_services(
    known: Sequence[Finding], weak: Mapping[Service, WeakTls], rules: Iterable[Rule], now: float
) -> list[Finding]:
    """What is to be written, with all findings of services as `known`."""
    found_by = [(rule, _FINDERS[rule.id]) for rule in rules if rule.id in _FINDERS]
    before = {one.id: one for one in known}
    seen: dict[str, Finding] = {}
    read: set[str] = set()
    for service, heard in weak.items():
        for rule, find in found_by:
            name = identify_service(service, rule.id)
            if heard.is_read:
                read.add(name)
                continue
            evidence = find(choices_since_fixed(heard.choices, before.get(name)))
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
