"""Rules on contents: secrets, stack traces, too much data at once, and sensitive data where logs keep it."""

from typing import Final

from collector.inventory.endpoints.bodies import BodySide, DataClass
from collector.risk.circumstances import Circumstances
from collector.risk.finding import Evidence, Rule, Severity, list_words

# Tokens are what an entrance is for.
_ISSUED: Final = frozenset(("jwt", "access_token", "api_key"))
_TRACES: Final = frozenset(("stack_trace", "database_error"))
_CLASSES_MAX: Final = 3
_CARD: Final = frozenset(("credit_card", "card_security_code"))
_LOGGED: Final = frozenset((DataClass.IDENTITY, DataClass.HEALTH, DataClass.FINANCIAL, DataClass.CONTACT))

# What lists are filtered by says nothing of the one who asks.
_FILTERS: Final = frozenset(("gender", "nationality", "location", "salary", "bic"))


def _find_secrets(seen: Circumstances) -> Evidence | None:
    found = {one.kind for one in seen.data if one.side is BodySide.RESPONSE and one.data_class is DataClass.SECRET}
    if seen.is_entrance or seen.endpoint.method == "POST":
        found -= _ISSUED  # A POST makes what it answers with.
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
    if seen.is_entrance:
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


def _find_in_url(seen: Circumstances) -> Evidence | None:
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


CONTENT_RULES: Final = (
    Rule(
        id="secrets_in_response",
        title="Secrets in answers",
        severity=Severity.HIGH,
        owasp="API3:2023",
        advice="Leave secrets out of answers, and change those that were told.",
        find=_find_secrets,
    ),
    Rule(
        id="failure_details",
        title="Traces of failures in answers",
        severity=Severity.MEDIUM,
        owasp="API8:2023",
        advice="Answer failures with an id, and keep the trace in your log.",
        find=_find_traces,
    ),
    Rule(
        id="excessive_data",
        title="One answer holds many classes of sensitive data",
        severity=Severity.MEDIUM,
        owasp="API3:2023",
        advice="Return what this caller needs, field by field.",
        find=_find_excess,
    ),
    Rule(
        id="whole_card_numbers",
        title="Whole card numbers in answers",
        severity=Severity.HIGH,
        owasp="API3:2023",
        advice="Mask card numbers, and never keep security codes.",
        find=_find_cards,
    ),
    Rule(
        id="sensitive_data_in_url",
        title="Sensitive data in the URL",
        severity=Severity.MEDIUM,
        owasp="API8:2023",
        advice="Send it in the body, or name the object by an id.",
        find=_find_in_url,
    ),
)
