"""Findings on services whose calls nobody can read: they have no endpoints, so these stand for themselves. Pure.

Of the rules on TLS, with the same states as all other findings; `endpoint_id` is empty.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from collector.inventory.coverage import WeakChoice
from collector.risk.finding import SELF, Finding, FindingState, advance, decide, identify_service, open_service_finding
from collector.risk.rule import Evidence, Rule
from collector.risk.rules.transport import WEAK_CIPHER, WEAK_VERSION, judge_cipher, judge_version
from collector.risk.transport import WeakTls
from collector.rows import Service

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
