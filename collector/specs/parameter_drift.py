"""How the parameters of an endpoint differ from its description: query, headers, cookies; pure.

Headers that clients, proxies and tracing send unasked are nobody's parameters, nor are those that OpenAPI says to
ignore (Accept, Content-Type, Authorization), nor those of a credential where one is required (a security scheme
describes them).
"""

from collections.abc import Iterable
from typing import Final

from collector.schemas.merging import FieldNode, Part, PartSchema
from collector.schemas.reader import EndpointSchema
from collector.specs.document import Spec, SpecOperation, SpecParameter
from collector.specs.kinds import Drift, DriftKind

MIN_REQUESTS: Final = 3
MIN_MISSING_SHARE: Final = 0.99  # Of the requests, fewer than that had a parameter that is required.
# Of the values, more than that are of another type.
MIN_TYPE_SHARE: Final = 0.001
_PLACES: Final = ((Part.QUERY, "query"), (Part.HEADER, "header"), (Part.COOKIE, "cookie"))
_UNASKED_WORDS: Final = (
    "accept authorization content-type content-length content-encoding content-md5 content-language cache-control "
    "pragma connection keep-alive te trailer expect from user-agent origin referer dnt priority range date max- "
    "forwards if-match if-none-match if-modified-since if-unmodified-since if-range upgrade-insecure-requests "
    "save-data x-requested-with x-request-id x-correlation-id x-trace-id request-id correlation-id traceparent "
    "tracestate baggage x-amz-date x-amz-content-sha256 x-amz-security-token x-csrf-token x-xsrf-token purpose "
    "early-data device-memory viewport-width width rtt downlink ect cdn-loop true-client-ip "
)
_UNASKED: Final = frozenset(_UNASKED_WORDS.split())
_UNASKED_PREFIXES: Final = ("accept-", "sec-", "x-forwarded-", "x-b3-", "x-envoy-", "x-datadog-", "uber-trace-", "cf-")
_CREDENTIALS: Final = ("key", "token", "auth", "signature", "secret")
_NUMBERS: Final = frozenset(("integer", "number", "boolean"))


def compare_parameters(schema: EndpointSchema, operation: SpecOperation, spec: Spec) -> Iterable[Drift]:
    """Differences by place: those not described, then those described otherwise."""
    for part, place in _PLACES:
        known = {_fold(place, one.name): one for one in operation.parameters if one.place == place}
        for one in schema.find(part):
            yield from _find_undescribed(one, place, known, operation)
            yield from _find_missing(one, place, known.values())
            yield from _find_other_types(one, place, known.values(), spec)


def _fold(place: str, name: str) -> str:
    """Names of headers have no case."""
    return name.lower() if place == "header" else name


def _find_undescribed(part: PartSchema, place: str, known: Iterable[str], operation: SpecOperation) -> Iterable[Drift]:
    names = set(known)
    if place == "cookie" and not names:
        return  # Cookies of a session and of a browser are nobody's parameters.
    bases = {name.partition("[")[0] for name in names}
    for name in sorted(part.root.children):
        folded = _fold(place, name)
        if name.startswith("{") or folded in names or folded.partition("[")[0] in bases:
            continue
        if place == "header" and _is_unasked(folded, operation):
            continue
        yield Drift(
            kind=DriftKind.UNDOCUMENTED_PARAMETER,
            place=place,
            name=name,
            sentence=f"The {place} parameter {name} was sent and is not described.",
        )


def _is_unasked(name: str, operation: SpecOperation) -> bool:
    is_credential = operation.requires_authentication is not False and any(word in name for word in _CREDENTIALS)
    return name in _UNASKED or name.startswith(_UNASKED_PREFIXES) or is_credential


def _find_missing(part: PartSchema, place: str, known: Iterable[SpecParameter]) -> Iterable[Drift]:
    requests = part.root.objects
    # One of those whose names may not be told may be it.
    if requests < MIN_REQUESTS or any(name.startswith("{") for name in part.root.children):
        return
    for one in known:
        if not one.is_required or (place == "header" and _fold(place, one.name) in _UNASKED):
            continue
        child = _find(part.root, place, one.name)
        share = child.share(part.root) if child is not None else 0.0
        if share is None or share >= MIN_MISSING_SHARE:
            continue
        yield Drift(
            kind=DriftKind.MISSING_PARAMETER,
            place=place,
            name=one.name,
            sentence=f"The {place} parameter {one.name} is required, and {1 - share:.0%} of {requests} requests that "
            "were served did not have it.",
        )


def _find_other_types(part: PartSchema, place: str, known: Iterable[SpecParameter], spec: Spec) -> Iterable[Drift]:
    """Only of numbers and booleans: every value is text, and text may look like anything."""
    for one in known:
        child = _find(part.root, place, one.name)
        described = spec.resolve(one.schema)
        kind = described.get("type") if isinstance(described, dict) else None
        if child is None or not isinstance(kind, str) or kind not in _NUMBERS:
            continue
        allowed = {kind, "null", *(("integer",) if kind == "number" else ())}
        if kind == "boolean":
            allowed.add("integer")  # 0 and 1.
        total = sum(child.types.values())
        others = {name.partition("/")[0] for name, count in child.types.items() if count >= MIN_TYPE_SHARE * total}
        wrong = sorted(others - allowed)
        if wrong:
            sentence = f"The {place} parameter {one.name} is {kind} as described, and was {', '.join(wrong)}."
            yield Drift(kind=DriftKind.OTHER_TYPE, place=place, name=one.name, sentence=sentence)


def _find(root: FieldNode, place: str, name: str) -> FieldNode | None:
    """The parameter as it was seen."""
    folded = _fold(place, name)
    return next((child for known, child in root.children.items() if _fold(place, known) == folded), None)
