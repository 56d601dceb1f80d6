"""How much anybody may take: no rate limit seen, answers without an end."""

from typing import Final

from collector.risk.circumstances import Circumstances
from collector.risk.rule import Evidence, Rule, Severity, list_words

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
