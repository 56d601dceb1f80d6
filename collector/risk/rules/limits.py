"""Rules on limits and descriptions: no rate limit seen, answers without an end, and calls that differ from a
description.

Endpoints may be missing in the API description, be described no longer, or be less protected than described.
"""

from typing import Final

from collector.inventory.endpoints.endpoint import FULL_COVERAGE
from collector.inventory.endpoints.spec_status import SpecStatus
from collector.risk.circumstances import Circumstances
from collector.risk.finding import Evidence, Rule, Severity, list_words

# Calls of one endpoint in the span after which a limit would have shown, if there is one.
_CALLS_MIN: Final = 5_000
_CALLS_OF_ONE_MIN: Final = 500
_RECORDS_MAX: Final = 1_000  # In one answer; pages of APIs have up to some hundreds.


def _find_no_limit(seen: Circumstances) -> Evidence | None:
    endpoint = seen.endpoint
    each = endpoint.calls / endpoint.consumers if endpoint.consumers else endpoint.calls
    if not seen.personal_kinds or not seen.is_ours or endpoint.limited_calls:
        return None
    if endpoint.calls < _CALLS_MIN or each < _CALLS_OF_ONE_MIN:
        return None
    return Evidence(
        why=f"{endpoint.calls:,} calls of {endpoint.consumers:,} callers, none answered 429, of an endpoint that "
        f"returns {list_words(seen.personal_kinds)}.",
        signs=("no 429",),
        severity=Severity.MEDIUM if seen.is_external else None,
    )


def _find_endless(seen: Circumstances) -> Evidence | None:
    if not seen.is_ours or seen.records_per_call < _RECORDS_MAX:
        return None
    return Evidence(why=f"An answer holds {seen.records_per_call:,.0f} records on average.", signs=("no pages",))


LIMIT_RULES: Final = (
    Rule(
        id="no_rate_limit_observed",
        title="No rate limit observed",
        severity=Severity.LOW,
        owasp="API4:2023",
        advice="Limit the calls of each caller.",
        find=_find_no_limit,
    ),
    Rule(
        id="endless_answers",
        title="Answers without an end",
        severity=Severity.LOW,
        owasp="API4:2023",
        advice="Page lists, with a largest page.",
        find=_find_endless,
    ),
)


def _find_status(seen: Circumstances, status: SpecStatus, otherwise: str) -> Evidence | None:
    endpoint = seen.endpoint
    if endpoint.spec.status is not status or not endpoint.status.success:
        return None
    return Evidence(
        why=f"{endpoint.spec.reason or otherwise} {endpoint.status.success:,} calls were served.",
        signs=(endpoint.spec.spec or status,),
        severity=Severity.MEDIUM if seen.is_external else None,
    )


def _find_shadow(seen: Circumstances) -> Evidence | None:
    return _find_status(seen, SpecStatus.SHADOW, "No description of its service has it.")


def _find_zombie(seen: Circumstances) -> Evidence | None:
    return _find_status(seen, SpecStatus.ZOMBIE, "It is deprecated.")


def _find_weaker(seen: Circumstances) -> Evidence | None:
    spec, authentication = seen.endpoint.spec, seen.endpoint.authentication
    if spec.requires_authentication is not True or authentication.coverage is None:
        return None
    if authentication.coverage >= FULL_COVERAGE:
        return None
    return Evidence(
        why=f"{spec.spec} asks for credentials; {1 - authentication.coverage:.0%} of the 2xx calls carried none.",
        signs=(spec.spec,),
    )


DESCRIPTION_RULES: Final = (
    Rule(
        id="shadow_endpoint",
        title="Not described",
        severity=Severity.LOW,
        owasp="API9:2023",
        advice="Describe it, or take it away.",
        find=_find_shadow,
    ),
    Rule(
        id="zombie_endpoint",
        title="Deprecated and still called",
        severity=Severity.LOW,
        owasp="API9:2023",
        advice="Move its callers on, then take it away.",
        find=_find_zombie,
    ),
    Rule(
        id="authentication_weaker_than_described",
        title="Less protected than described",
        severity=Severity.HIGH,
        owasp="API2:2023",
        advice="Refuse calls without credentials, as the description says.",
        find=_find_weaker,
    ),
)
