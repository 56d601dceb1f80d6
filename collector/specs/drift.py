"""Finds how an endpoint differs from its description: what was seen and its operation in, `Drift`s out. Pure.

What was not seen proves nothing. So it reports only what was seen and is not described, and required fields that were
missing. `compare_parameters` compares query, headers and cookies. It skips headers that clients, proxies and tracing
send unasked, and those that OpenAPI says to ignore (Accept, Content-Type, Authorization). It also skips those of a
credential where one is required, because a security scheme describes them.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from collector.inventory.endpoints.endpoint import FULL_COVERAGE
from collector.schemas.merging import FieldNode, Part, PartSchema
from collector.schemas.service import EndpointSchema
from collector.specs.document import Json, Spec, SpecOperation, SpecParameter


class DriftKind(StrEnum):
    """In what an endpoint differs."""

    UNDOCUMENTED_PARAMETER = "undocumented_parameter"
    UNDOCUMENTED_STATUS = "undocumented_status"
    UNDOCUMENTED_MEDIA_TYPE = "undocumented_media_type"
    UNDOCUMENTED_FIELD = "undocumented_field"
    OTHER_TYPE = "other_type"
    MISSING_FIELD = "missing_field"
    MISSING_PARAMETER = "missing_parameter"
    WEAKER_AUTHENTICATION = "weaker_authentication"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One difference. `place`: query, header, cookie, request, `2xx response` ..; `name`: parameter, field, status."""

    kind: DriftKind
    place: str
    name: str
    sentence: str


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
            yield from _find_missing_parameters(one, place, known.values())
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


def _find_missing_parameters(part: PartSchema, place: str, known: Iterable[SpecParameter]) -> Iterable[Drift]:
    requests = part.root.objects
    # One of those whose names may not be shown may be it.
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


DEPTH_MAX: Final = 8
SCHEMAS_MAX: Final = 10_000  # Alternatives of one schema, those of alternatives included.
DRIFTS_MAX: Final = 200  # Of one endpoint.
MIN_OBJECTS: Final = 3
# Their values are text, whatever they look like.
_UNTYPED: Final = frozenset(("application/x-www-form-urlencoded", "multipart/form-data", "text/csv"))
REQUEST: Final = "request"  # The place of what is in a request's body.


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is compared. `statuses`: calls by code; `authenticated_share` of the 2xx calls that could be assessed."""

    schema: EndpointSchema
    statuses: Mapping[int, int]
    authenticated_share: float | None


def find_drift(
    seen: Seen, operation: SpecOperation, spec: Spec, *, has_required_requests: bool = False
) -> tuple[Drift, ...]:
    """Differences, in a fixed order. `has_required_requests`: also fields that requests must have and did not; what a
    service serves all the same is no drift of it, but a change that will require them breaks its callers."""
    found = [
        *_compare_authentication(seen, operation),
        *_compare_statuses(seen, operation),
        *compare_parameters(seen.schema, operation, spec),
    ]
    for part in seen.schema.parts:
        if part.part is Part.REQUEST_BODY:
            found += _compare_body(part, REQUEST, operation.bodies, spec, has_required=has_required_requests)
        elif part.part is Part.RESPONSE_BODY:
            described = _find_class(operation, part.status_class)
            if described is not None:
                place = f"{part.status_class}xx response"
                found += _compare_body(part, place, described, spec, has_required=True)
    return tuple(found[:DRIFTS_MAX])


def _compare_authentication(seen: Seen, operation: SpecOperation) -> Iterable[Drift]:
    share = seen.authenticated_share
    if operation.requires_authentication and share is not None and share < FULL_COVERAGE:
        yield Drift(
            kind=DriftKind.WEAKER_AUTHENTICATION,
            place=REQUEST,
            name="credentials",
            sentence=f"Credentials are required, and {1 - share:.0%} of the calls that were served had none.",
        )


def _compare_statuses(seen: Seen, operation: SpecOperation) -> Iterable[Drift]:
    codes = operation.responses
    if "default" in codes or not codes:
        return
    for code, calls in sorted(seen.statuses.items()):
        if code >= 100 and str(code) not in codes and f"{code // 100}XX" not in {one.upper() for one in codes}:
            yield Drift(
                kind=DriftKind.UNDOCUMENTED_STATUS,
                place="response",
                name=str(code),
                sentence=f"Status {code} was answered {calls} times and is not described.",
            )


def _find_class(operation: SpecOperation, status_class: int) -> Mapping[str, Json] | None:
    """Schemas by media type of all responses of a class; None where it is not described."""
    found: dict[str, Json] = {}
    is_known = False
    for code, content in operation.responses.items():
        if code == "default" or code[:1] == str(status_class):
            is_known = True
            for kind, schema in content.items():
                found[kind] = {"anyOf": [found[kind], schema]} if kind in found else schema
    return found if is_known else None


def _compare_body(
    part: PartSchema, place: str, described: Mapping[str, Json], spec: Spec, *, has_required: bool
) -> list[Drift]:
    schema = _find_media_type(described, part.media_type)
    if schema is None:
        if not described:
            return []
        sentence = f"Bodies of {part.media_type or 'no media type'} were seen, which is not described."
        return [Drift(kind=DriftKind.UNDOCUMENTED_MEDIA_TYPE, place=place, name=part.media_type, sentence=sentence)]
    found: list[Drift] = []
    _compare(part.root, schema, place, "", spec, found, 0, has_required)
    if part.media_type in _UNTYPED:
        return [one for one in found if one.kind is not DriftKind.OTHER_TYPE]
    return found


def _find_media_type(described: Mapping[str, Json], media_type: str) -> Json | None:
    for kind in (media_type, media_type.partition("/")[0] + "/*", "*/*"):
        if kind in described:
            return described[kind]
    if media_type.endswith("+json"):
        return described.get("application/json")
    return None


def _compare(
    node: FieldNode, schema: Any, place: str, path: str, spec: Spec, found: list[Drift], depth: int, has_required: bool
) -> None:
    flat = flatten(schema, spec)
    if depth > DEPTH_MAX or not flat.is_known:
        return
    wrong = _find_wrong_types(node, flat.types)
    if wrong:
        sentence = (
            f"{path or 'The body'} is {' or '.join(sorted(flat.types))} as described, and was {', '.join(wrong)}."
        )
        found.append(Drift(kind=DriftKind.OTHER_TYPE, place=place, name=path, sentence=sentence))
        return
    item = node.children.get("[]")
    if item is not None and flat.items is not None:
        _compare(item, flat.items, place, f"{path}[]", spec, found, depth + 1, has_required)
    for name in sorted(name for name in node.children if name != "[]" and not name.startswith("{")):
        inner = f"{path}.{name}" if path else name
        if name in flat.properties:
            child = node.children[name]
            _compare(child, flat.properties[name], place, inner, spec, found, depth + 1, has_required)
        elif flat.properties and not flat.is_map:
            sentence = f"The field {inner} was seen and is not described."
            found.append(Drift(kind=DriftKind.UNDOCUMENTED_FIELD, place=place, name=inner, sentence=sentence))
    if has_required:
        found += _find_missing_fields(node, flat.required, place, path)


def _find_missing_fields(node: FieldNode, required: Iterable[str], place: str, path: str) -> Iterable[Drift]:
    hidden = any(name.startswith("{") for name in node.children)
    for name in sorted(required):
        child = node.children.get(name)
        share = child.share(node) if child is not None else 0.0
        if node.objects < MIN_OBJECTS or share is None or share >= MIN_MISSING_SHARE or (child is None and hidden):
            continue
        inner = f"{path}.{name}" if path else name
        sentence = f"The field {inner} is required, and {1 - share:.0%} of {node.objects} objects did not have it."
        yield Drift(kind=DriftKind.MISSING_FIELD, place=place, name=inner, sentence=sentence)


@dataclass(slots=True, kw_only=True)
class _Flat:
    """A schema with its alternatives added together."""

    types: set[str]
    properties: dict[str, Any]
    required: set[str]
    items: Any
    is_map: bool
    is_known: bool


class _TooManyError(Exception):
    """Of the schemas that are to be added together."""


def flatten(schema: Any, spec: Spec) -> _Flat:
    """A schema with its alternatives; nothing is known where there are more than `SCHEMAS_MAX` of them."""
    try:
        return _flatten(spec.resolve(schema), spec, (), itertools.count(1))
    except _TooManyError:
        return _make_unknown()


def _make_unknown() -> _Flat:
    return _Flat(types=set(), properties={}, required=set(), items=None, is_map=False, is_known=False)


def _flatten(schema: Any, spec: Spec, above: tuple[Any, ...], counter: Iterator[int]) -> _Flat:
    """`above`: those that this one is an alternative or a part of."""
    flat = _make_unknown()
    if not isinstance(schema, dict) or len(above) > DEPTH_MAX or not schema:
        return flat
    if next(counter) > SCHEMAS_MAX:
        raise _TooManyError
    flat.is_known = True
    kind = schema.get("type")
    flat.types = set(kind) if isinstance(kind, list) else {str(kind)} if kind else set()
    if schema.get("nullable") is True and flat.types:
        flat.types.add("null")
    properties = schema.get("properties")
    flat.properties = dict(properties) if isinstance(properties, dict) else {}
    if flat.properties and not flat.types:
        flat.types = {"object"}
    required = schema.get("required")
    flat.required = {str(name) for name in required} if isinstance(required, list) else set()
    flat.items = schema.get("items")
    flat.is_map = bool(schema.get("additionalProperties")) or "patternProperties" in schema
    for key in ("allOf", "anyOf", "oneOf"):
        options = schema.get(key)
        if isinstance(options, list):
            within = (*above, schema)
            inner = [spec.resolve(one) for one in options]
            # A base that lists its subtypes, each of which names it: within itself it adds nothing.
            inner = [one for one in inner if not any(one is other for other in within)]
            _add(flat, [_flatten(one, spec, within, counter) for one in inner], is_all=key == "allOf")
    return flat


def _add(flat: _Flat, options: list[_Flat], *, is_all: bool) -> None:
    for one in options:
        flat.properties |= one.properties
        flat.items = flat.items if flat.items is not None else one.items
        flat.is_map = flat.is_map or one.is_map
        if is_all:
            flat.required |= one.required
    if all(one.types for one in options):
        flat.types |= {kind for one in options for kind in one.types}
    else:
        flat.types = flat.types if is_all else set()
        flat.is_map = flat.is_map or not all(one.is_known for one in options)


def _find_wrong_types(node: FieldNode, described: set[str]) -> list[str]:
    """Types that were seen and do not fit: an integer is a number too."""
    if not described:
        return []
    seen = _list_types(node)
    if "number" in described:
        seen.discard("integer")
    return sorted(seen - described)


def _list_types(node: FieldNode) -> set[str]:
    """Types of more than one in a thousand values."""
    total = sum(node.types.values())
    names: set[str] = set()
    for kind, count in node.types.items():
        if count * 1_000 >= total:
            names.add(kind.partition("/")[0])
    return names
