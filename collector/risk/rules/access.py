"""Rules on access: personal data, changes and internal pages without credentials, and authentication that is missing
now.
"""

from typing import Final

from collector.alerting.wording import format_time
from collector.inventory.endpoints.endpoint import FULL_COVERAGE
from collector.inventory.endpoints.exposure import ExposureLevel
from collector.risk.circumstances import Circumstances
from collector.risk.finding import Evidence, Rule, Severity, list_words

# Served calls before a missing credential is a habit and not a chance.
_CALLS_MIN: Final = 3
_RECENT_CALLS_MIN: Final = 20
_RECENT_COVERAGE_MAX: Final = 0.5
_CHANGING: Final = frozenset(("PUT", "PATCH", "DELETE"))
# What programs show of themselves, and what is for those who run them; by segment.
_INNER_WORDS: Final = (
    "actuator heapdump threaddump jolokia pprof phpinfo server-status server-info .env .git debug trace "
    "elmah.axd adminer phpmyadmin console swagger-stats admin administrator internal _internal "
    "management env configprops h2-console druid telescope"
)
_INNER: Final = frozenset(_INNER_WORDS.split())
_INTEGER_SHARE: Final = 0.5


def _find_open_data(seen: Circumstances) -> Evidence | None:
    kinds = seen.personal_kinds
    if not (kinds and seen.is_ours and seen.is_open and seen.endpoint.status.success >= _CALLS_MIN):
        return None
    where = "from outside" if seen.is_external else "without being reached from outside, as far as is known"
    return Evidence(
        why=f"Returns {list_words(kinds)} to callers without credentials, {where}.",
        signs=(*kinds, *(("external",) if seen.is_external else ())),
        severity=Severity.CRITICAL if seen.is_external else Severity.HIGH,
    )


def _find_half_open_data(seen: Circumstances) -> Evidence | None:
    coverage = seen.endpoint.authentication.coverage
    kinds = seen.personal_kinds
    if not kinds or not seen.is_ours or seen.is_entrance or coverage is None:
        return None
    if not 1 - FULL_COVERAGE <= coverage < FULL_COVERAGE:
        return None
    return Evidence(
        why=f"Returns {list_words(kinds)}; {1 - coverage:.0%} of its 2xx calls carried no credentials.",
        signs=(*kinds, *(("external",) if seen.is_external else ())),
    )


def _find_guessable(seen: Circumstances) -> Evidence | None:
    endpoint = seen.endpoint
    share = endpoint.integer_object_calls / endpoint.calls if endpoint.calls else 0.0
    if not (seen.personal_kinds and seen.is_ours and seen.is_open and share >= _INTEGER_SHARE):
        return None
    return Evidence(
        why=f"Anybody may count through its objects: {share:.0%} of its calls name one by an integer, none needs "
        f"credentials, and answers hold {list_words(seen.personal_kinds)}.",
        signs=tuple(seen.personal_kinds),
    )


def _find_open_change(seen: Circumstances) -> Evidence | None:
    endpoint = seen.endpoint
    if endpoint.method not in _CHANGING or not (seen.is_ours and seen.is_open):
        return None
    if endpoint.status.success < _CALLS_MIN:
        return None
    return Evidence(
        why=f"{endpoint.status.success:,} calls changed or deleted something without credentials.",
        signs=("external",) if seen.is_external else ("inside",),
        severity=Severity.HIGH if seen.is_external else None,
    )


def _find_inner_page(seen: Circumstances) -> Evidence | None:
    endpoint = seen.endpoint
    found = _INNER.intersection(endpoint.template.lower().split("/"))
    if not (found and seen.is_external and seen.is_open and endpoint.status.success):
        return None
    return Evidence(
        why=f"`{min(found)}` is for those who run the service; it answers 2xx to callers from outside without "
        "credentials.",
        signs=tuple(sorted(found)),
    )


def _find_new_exposure(seen: Circumstances) -> Evidence | None:
    past = seen.past
    if not seen.is_external or past.exposure_before != ExposureLevel.INTERNAL or not past.exposure_since:
        return None
    reasons = "; ".join(seen.endpoint.exposure.reasons)
    return Evidence(
        why=f"Was internal, and is reached from outside since {format_time(int(past.exposure_since))}: {reasons}.",
        signs=("external",),
    )


def _find_lost_login(seen: Circumstances) -> Evidence | None:
    recent, past = seen.recent, seen.past
    if not past.authenticated_at or seen.is_entrance or recent.judged < _RECENT_CALLS_MIN:
        return None
    coverage = recent.authenticated / recent.judged
    if coverage >= _RECENT_COVERAGE_MAX:
        return None
    return Evidence(
        why=f"Of the last {recent.judged:,} 2xx calls {coverage:.0%} carried credentials; nearly all did until "
        f"{format_time(int(past.authenticated_at))}.",
        signs=("login gone",),
        severity=Severity.CRITICAL if seen.is_external and seen.personal_kinds else None,
    )


ACCESS_RULES: Final = (
    Rule(
        id="personal_data_without_authentication",
        title="Personal data without authentication",
        severity=Severity.HIGH,
        owasp="API2:2023",
        advice="Refuse calls without credentials, or leave the personal fields out.",
        find=_find_open_data,
    ),
    Rule(
        id="personal_data_partly_authenticated",
        title="Personal data also without authentication",
        severity=Severity.MEDIUM,
        owasp="API2:2023",
        advice="See which callers come without credentials, and refuse them.",
        find=_find_half_open_data,
    ),
    Rule(
        id="guessable_objects",
        title="Personal objects can be counted through",
        severity=Severity.MEDIUM,
        owasp="API1:2023",
        advice="Ask whose an object is before answering, and name objects by random ids.",
        find=_find_guessable,
    ),
    Rule(
        id="change_without_authentication",
        title="Changes without authentication",
        severity=Severity.MEDIUM,
        owasp="API5:2023",
        advice="Refuse changes without credentials.",
        find=_find_open_change,
    ),
    Rule(
        id="inner_page_from_outside",
        title="Page for operators open to everybody",
        severity=Severity.HIGH,
        owasp="API8:2023",
        advice="Serve it on an inner port, or ask for credentials.",
        find=_find_inner_page,
    ),
    Rule(
        id="internal_reached_from_outside",
        title="Internal API reached from outside",
        severity=Severity.HIGH,
        owasp="API9:2023",
        advice="See which change opened it, and whether that was meant.",
        find=_find_new_exposure,
    ),
    Rule(
        id="missing_authentication",
        title="Missing authentication",
        severity=Severity.HIGH,
        owasp="API2:2023",
        advice="See which release took the login away.",
        find=_find_lost_login,
    ),
)
