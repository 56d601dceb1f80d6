"""The rules that find risks of an endpoint: their texts are rows of rules.json, and what finds each is here. Pure.

Rules on access, credentials, TLS, contents, limits and API descriptions (docs/use/risk.md lists them). They use figures
and bits that the sensor reported, no values.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

import msgspec

from collector.alerting.wording import format_time
from collector.inventory.endpoints.bodies import BodySide, DataClass
from collector.inventory.endpoints.endpoint import FULL_COVERAGE
from collector.inventory.endpoints.exposure import ExposureLevel
from collector.inventory.endpoints.spec_status import SpecStatus
from collector.risk.finding import Circumstances, Evidence, Rule, Severity, list_words
from collector.risk.model_rules import find_data_to_provider, find_key_in_url, find_open_model
from collector.risk.tls import find_weak_ciphers, find_weak_versions

_TRACES: Final = frozenset(("stack_trace", "database_error"))
_CLASSES_MAX: Final = 3
_CARD: Final = frozenset(("credit_card", "card_security_code"))
# What can be used against a person at once, from wherever it was read.
_GRAVE: Final = frozenset((DataClass.HEALTH, DataClass.FINANCIAL))
_LOGGED: Final = frozenset((DataClass.IDENTITY, DataClass.HEALTH, DataClass.FINANCIAL, DataClass.CONTACT))

# What lists are filtered by says nothing of the one who asks.
_FILTERS: Final = frozenset(("gender", "nationality", "location", "salary", "bic"))


def _find_secrets(seen: Circumstances) -> Evidence | None:
    found = seen.leaked_secrets
    if not found or not seen.is_ours:
        return None
    return Evidence(
        why=f"Answers hold {list_words(found)}.",
        signs=tuple(found),
        severity=Severity.CRITICAL if seen.is_open else None,
    )


def _find_traces(seen: Circumstances) -> Evidence | None:
    bodies = seen.endpoint.bodies
    # One is enough: whoever can make it fail can make it fail again.
    found = {
        one.kind for one in (bodies.data if bodies else ()) if one.side is BodySide.RESPONSE and one.kind in _TRACES
    }
    if not found or not seen.is_ours:
        return None
    return Evidence(
        why=f"Answers hold a {list_words(found)}: names of files, classes and versions.", signs=tuple(found)
    )


def _find_excess(seen: Circumstances) -> Evidence | None:
    classes = seen.classes(BodySide.RESPONSE) - {DataClass.TECHNICAL, DataClass.CUSTOM}
    if seen.is_login:
        classes -= {DataClass.SECRET}  # Tokens are what it is for.
    if len(classes) < _CLASSES_MAX or not seen.is_ours:
        return None
    return Evidence(why=f"One answer holds {list_words(classes)} data.", signs=tuple(classes))


def _find_cards(seen: Circumstances) -> Evidence | None:
    found = _CARD & seen.kinds(BodySide.RESPONSE)
    if not found or not seen.is_ours:
        return None
    return Evidence(
        why=f"Answers hold a whole {list_words(found)} (PCI DSS 3.4 lets six and four digits show).", signs=tuple(found)
    )


def _find_data_in_url(seen: Circumstances) -> Evidence | None:
    found = {
        (one.kind, one.side)
        for one in seen.data
        if one.side in (BodySide.PATH, BodySide.QUERY) and one.data_class in _LOGGED and one.kind not in _FILTERS
    }
    if not found or not seen.is_ours:
        return None
    kinds = {kind for kind, _ in found}
    return Evidence(
        why=f"The URL holds {list_words(kinds)}; logs, histories and Referer keep it.",
        signs=tuple(sorted(f"{kind} in {side}" for kind, side in found)),
    )


# Of the authenticated calls; fewer are one odd client.
_SHARE_MIN: Final = 0.05
_HEADS_MIN: Final = 3
# Signed URLs are made to be handed on; these are not.
_IN_URL: Final = frozenset(("api_key_query",))
# What a thief may use again. Signatures are made anew for each call.
_REUSABLE: Final = frozenset(
    ("basic", "bearer_opaque", "bearer_jwt", "jwt_custom_header", "api_key_header", "api_key_query", "api_key_cookie",
     "cookie_session")
)  # fmt: skip


def _find_credentials_in_url(seen: Circumstances) -> Evidence | None:
    if not seen.is_ours:
        return None
    kinds = seen.endpoint.authentication.kinds
    carried = _IN_URL.intersection(kinds)
    secrets = {
        one.kind
        for one in seen.data
        if one.side in (BodySide.QUERY, BodySide.PATH) and one.data_class is DataClass.SECRET
    }
    if not carried and not secrets:
        return None
    calls = sum(kinds[name] for name in carried)
    what = list_words(carried | secrets)
    counted = f" in {calls:,} 2xx calls" if calls else ""
    return Evidence(
        why=f"The URL holds {what}{counted}; logs, histories and Referer keep it.", signs=(*carried, *secrets)
    )


def _find_credentials_in_clear(seen: Circumstances) -> Evidence | None:
    endpoint, bodies = seen.endpoint, seen.endpoint.bodies
    used = _REUSABLE.intersection(endpoint.authentication.kinds)
    if not used or not seen.is_external or bodies is None or bodies.heads_read < _HEADS_MIN:
        return None
    # Ingresses that facts say speak TLS end it in front, whether or not their headers say so.
    is_encrypted = any(fact.is_tls and fact.is_external for fact in endpoint.exposure.facts)
    clear = bodies.heads_read - bodies.encrypted_heads - bodies.loopback_heads
    if is_encrypted or clear < max(_HEADS_MIN, (1 - FULL_COVERAGE) * bodies.heads_read):
        return None
    return Evidence(
        why=f"Of {bodies.heads_read:,} heads read, {clear:,} came in clear text and none of the proxies in front says "
        f"that it ended TLS; they carried {list_words(used)}.",
        signs=tuple(used),
    )


def _find_weak_jwt(weakness: str, sentence: str, seen: Circumstances) -> Evidence | None:
    authentication = seen.endpoint.authentication
    weak = authentication.weaknesses.get(weakness, 0)
    visible = seen.endpoint.status.success - authentication.unseen_calls
    if not seen.is_ours or not weak or weak < _SHARE_MIN * visible:
        return None
    return Evidence(why=f"{weak:,} of {visible:,} 2xx calls were let in by a JWT that {sentence}.", signs=(weakness,))


# Calls of one endpoint in the span after which a limit would have shown, if there is one.
_LIMIT_CALLS_MIN: Final = 5_000
_CALLS_OF_ONE_MIN: Final = 500
_RECORDS_MAX: Final = 1_000  # In one answer; pages of APIs have up to some hundreds.


def _find_no_limit(seen: Circumstances) -> Evidence | None:
    endpoint = seen.endpoint
    each = endpoint.calls / endpoint.consumers if endpoint.consumers else endpoint.calls
    if not seen.personal_kinds or not seen.is_ours or endpoint.limited_calls:
        return None
    if endpoint.calls < _LIMIT_CALLS_MIN or each < _CALLS_OF_ONE_MIN:
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


def _find_by_status(status: SpecStatus, otherwise: str, seen: Circumstances) -> Evidence | None:
    endpoint = seen.endpoint
    if endpoint.spec.status is not status or not endpoint.status.success:
        return None
    return Evidence(
        why=f"{endpoint.spec.reason or otherwise} {endpoint.status.success:,} calls were served.",
        signs=(endpoint.spec.spec or status,),
        severity=Severity.MEDIUM if seen.is_external else None,
    )


def _find_weaker(seen: Circumstances) -> Evidence | None:
    spec, authentication = seen.endpoint.spec, seen.endpoint.authentication
    if spec.requires_authentication is not True or authentication.coverage is None:
        return None
    # Many descriptions ask for credentials everywhere, and forget the login that issues them.
    if authentication.coverage >= FULL_COVERAGE or seen.is_login:
        return None
    return Evidence(
        why=f"{spec.spec} asks for credentials; {1 - authentication.coverage:.0%} of the 2xx calls carried none.",
        signs=(spec.spec,),
    )


# Served calls before a missing credential is a habit and not a chance.
_HABIT_CALLS_MIN: Final = 3
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
    if not (kinds and seen.is_ours and seen.is_open and seen.endpoint.status.success >= _HABIT_CALLS_MIN):
        return None
    where = "from outside" if seen.is_external else "without being reached from outside, as far as is known"
    is_grave = seen.is_external or any(
        one.side is BodySide.RESPONSE and one.data_class in _GRAVE and one.kind not in _FILTERS for one in seen.data
    )
    return Evidence(
        why=f"Returns {list_words(kinds)} to callers without credentials, {where}.",
        signs=(*kinds, *(("external",) if seen.is_external else ())),
        severity=Severity.CRITICAL if is_grave else None,
    )


def _find_half_open_data(seen: Circumstances) -> Evidence | None:
    coverage = seen.endpoint.authentication.coverage
    kinds = seen.personal_kinds
    if not kinds or not seen.is_ours or seen.is_login or coverage is None:
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
    if endpoint.status.success < _HABIT_CALLS_MIN:
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


def _find_open_mcp_server(seen: Circumstances) -> Evidence | None:
    served = seen.endpoint.status.success
    if not (seen.is_mcp_server and seen.is_external and seen.is_open) or served < _HABIT_CALLS_MIN:
        return None
    return Evidence(
        why=f"An MCP server answered {served:,} calls without credentials, and is reached from outside.",
        signs=("external",),
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
    if not past.authenticated_at or seen.is_login or recent.visible < _RECENT_CALLS_MIN:
        return None
    coverage = recent.authenticated / recent.visible
    if coverage >= _RECENT_COVERAGE_MAX:
        return None
    return Evidence(
        why=f"Of the last {recent.visible:,} 2xx calls {coverage:.0%} carried credentials; nearly all did at "
        f"{format_time(int(past.authenticated_at))}.",
        signs=("login gone",),
        severity=Severity.CRITICAL if seen.is_external and seen.personal_kinds else None,
    )


# Callers of a service that is in use: where one or two call, it is being developed.
_USERS_MIN: Final = 3


def _find_introspection(seen: Circumstances) -> Evidence | None:
    endpoint, bodies = seen.endpoint, seen.endpoint.bodies
    if bodies is None or not bodies.schemas_served or not seen.is_ours:
        return None
    if endpoint.consumers < _USERS_MIN or not (seen.is_open or seen.is_external):
        return None
    return Evidence(
        why=f"{bodies.schemas_served:,} calls got the schema of a service that {endpoint.consumers:,} callers use.",
        signs=(("external",) if seen.is_external else ()) + (("no credentials",) if seen.is_open else ()),
        severity=Severity.MEDIUM if seen.is_external and seen.is_open else None,
    )


FILE: Final = Path(__file__).parent / "rules.json"
Finder = Callable[[Circumstances], Evidence | None]
_FINDERS: Final[dict[str, Finder]] = {
    "personal_data_without_authentication": _find_open_data,
    "personal_data_partly_authenticated": _find_half_open_data,
    "guessable_objects": _find_guessable,
    "change_without_authentication": _find_open_change,
    "inner_page_from_outside": _find_inner_page,
    "mcp_server_without_authentication": _find_open_mcp_server,
    "model_endpoint_without_authentication": find_open_model,
    "sensitive_data_to_model_provider": find_data_to_provider,
    "model_provider_key_in_url": find_key_in_url,
    "internal_reached_from_outside": _find_new_exposure,
    "missing_authentication": _find_lost_login,
    "credentials_in_url": _find_credentials_in_url,
    "credentials_in_clear": _find_credentials_in_clear,
    "jwt_unsigned": partial(_find_weak_jwt, "jwt_unsigned", "is not signed"),
    "jwt_known_key": partial(_find_weak_jwt, "jwt_known_key", "is signed with a key out of tutorials"),
    "jwt_no_expiry": partial(_find_weak_jwt, "jwt_no_expiry", "never expires"),
    "jwt_long_lived": partial(_find_weak_jwt, "jwt_long_lived", "is good for more than a day"),
    "weak_tls_version": lambda seen: find_weak_versions(seen.weak_tls) if seen.is_ours else None,
    "weak_tls_cipher": lambda seen: find_weak_ciphers(seen.weak_tls) if seen.is_ours else None,
    "secrets_in_response": _find_secrets,
    "failure_details": _find_traces,
    "excessive_data": _find_excess,
    "whole_card_numbers": _find_cards,
    "sensitive_data_in_url": _find_data_in_url,
    "shadow_endpoint": partial(_find_by_status, SpecStatus.SHADOW, "No description of its service has it."),
    "zombie_endpoint": partial(_find_by_status, SpecStatus.ZOMBIE, "It is deprecated."),
    "authentication_weaker_than_described": _find_weaker,
    "no_rate_limit_observed": _find_no_limit,
    "endless_answers": _find_endless,
    "introspection_open": _find_introspection,
}


@lru_cache(maxsize=1)
def load_rules() -> tuple[tuple[Rule, Finder], ...]:
    """Every rule with what finds it. Raises KeyError for a rule that nothing finds."""
    rules = msgspec.json.decode(FILE.read_bytes(), type=tuple[Rule, ...])
    return tuple((rule, _FINDERS[rule.id]) for rule in rules)
