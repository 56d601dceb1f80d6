"""Writes OpenAPI 3.1 of one service from its calls: endpoints and their schemas in, a document out. Pure.

The document describes what was seen, not what was meant. `required` are fields and parameters that all samples had.
`x-apidae-*` say how often things were seen. It has no value of a call except closed sets of API words.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Final

from collector.inventory.endpoints.endpoint import FULL_COVERAGE
from collector.schemas.json_schema import Json, render
from collector.schemas.merging import Part, PartSchema
from collector.schemas.security import Carrier, build_scheme, list_alternatives
from collector.schemas.service import NOTHING_KNOWN, Described, DescribedOperation, EndpointSchema

NO_OPERATIONS: Final[Mapping[str, Sequence[DescribedOperation]]] = {}
VERSION: Final = "3.1.1"
_METHODS: Final = frozenset(("GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"))
_BYTES: Final[Json] = {"type": "string", "format": "binary"}
_NO_BODY: Final = frozenset((204, 205, 304))
_PARAMETER: Final = re.compile(r"\{([^{}]*)\}")
_NOT_NAME: Final = re.compile(r"[^A-Za-z0-9]+")
_PLACES: Final = ((Part.QUERY, "query"), (Part.HEADER, "header"), (Part.COOKIE, "cookie"))


def build_openapi(
    service: str,
    endpoints: Sequence[Described],
    schemas: Mapping[str, EndpointSchema],
    operations: Mapping[str, Sequence[DescribedOperation]] = NO_OPERATIONS,
) -> Json:
    """The document. Two endpoints with the same method and path on different hosts are one operation. `operations`: by
    endpoint, those that share its path, which OpenAPI has no place for: `x-apidae-operations`."""
    schemes: dict[str, Json] = {}
    paths: dict[str, Json] = {}
    names: set[str] = set()
    for path, methods in _group(endpoints).items():
        item = {
            method.lower(): _build_operation(path, method, group, schemas, schemes, names, operations)
            for method, group in sorted(methods.items())
            if method in _METHODS
        }
        if item:
            paths[path] = item
    document: Json = {
        "openapi": VERSION,
        "info": {
            "title": service,
            "version": "observed",
            "description": "What calls showed of this service; not a promise of it.",
        },
        "servers": [_build_server(host) for host in sorted({one.host for one in endpoints} - {"", "other"})],
        "paths": paths,
    }
    if not document["servers"]:
        del document["servers"]
    if schemes:
        document["components"] = {"securitySchemes": dict(sorted(schemes.items()))}
    return document


def _build_server(host: str) -> Json:
    """A part of a host that is a parameter is a variable, which needs a default."""
    server: Json = {"url": f"http://{host}"}
    names = _PARAMETER.findall(host)
    return {**server, "variables": {name: {"default": name} for name in names}} if names else server


def _group(endpoints: Iterable[Described]) -> dict[str, dict[str, list[Described]]]:
    """By path and method. Paths that differ in names of parameters only are one in OpenAPI: the first name holds."""
    shown: dict[str, str] = {}
    groups: dict[str, dict[str, list[Described]]] = defaultdict(lambda: defaultdict(list))
    for one in sorted(endpoints, key=lambda one: (one.template, one.method, one.host, one.id)):
        path = shown.setdefault(_PARAMETER.sub("{}", one.template), one.template)
        groups[path][one.method].append(one)
    return groups


def _build_operation(
    path: str,
    method: str,
    group: Sequence[Described],
    schemas: Mapping[str, EndpointSchema],
    schemes: dict[str, Json],
    names: set[str],
    operations: Mapping[str, Sequence[DescribedOperation]],
) -> Json:
    known = [schemas.get(one.id, NOTHING_KNOWN) for one in group]
    busiest = known[max(range(len(group)), key=lambda place: group[place].calls)]
    alternatives = list_alternatives([pair for one in group for pair in one.credentials])
    secured = {carrier.key for carriers in alternatives for carrier in carriers}
    operation: Json = {
        "operationId": _name_operation(method, path, names),
        "parameters": [
            *(
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                for name in _PARAMETER.findall(path)
            ),
            *(
                parameter
                for part, place in _PLACES
                for parameter in build_parameters(busiest, part, place)
                if (place, parameter["name"].lower()) not in secured  # The security of the operation says it.
            ),
        ],
        "responses": _build_responses(group, busiest),
        "x-apidae-endpoints": sorted(one.id for one in group),
        "x-apidae-calls": sum(one.calls for one in group),
    }
    content = _build_content(busiest.find(Part.REQUEST_BODY))
    if content:
        operation["requestBody"] = {"content": content}
    shared = [one for endpoint in group for one in operations.get(endpoint.id, ())]
    if shared:
        operation["x-apidae-operations"] = [_build_shared(one) for one in shared]
    security = _build_security(group, alternatives, schemes)
    if security:
        operation["security"] = security
    return operation


def _build_shared(one: DescribedOperation) -> Json:
    """What shares the path. Its calls are an estimate, and among those of the path."""
    described: Json = {
        "x-apidae-endpoint": one.samples.id,
        "protocol": one.samples.operation.protocol,
        "kind": one.samples.operation.kind,
        "name": one.samples.operation.name,
        "sampledCalls": one.samples.operation.sampled_calls,
        "shareOfCalls": round(one.samples.share, 4),
    }
    asked = one.schema.find(Part.REQUEST_BODY)
    answered = one.schema.find(Part.RESPONSE_BODY, 2)
    if asked:
        described["parameters"] = render(asked[0].root)
    if answered:
        described["result"] = render(answered[0].root)
    return described


def _name_operation(method: str, path: str, names: set[str]) -> str:
    """Unique within the document."""
    words = [part for part in _NOT_NAME.split(path) if part]
    name = "_".join([method.lower(), *words]) or method.lower()
    unique, number = name, 2
    while unique in names:
        unique, number = f"{name}_{number}", number + 1
    names.add(unique)
    return unique


def build_parameters(schema: EndpointSchema, part: Part, place: str) -> list[Json]:
    """The parameters of one part as OpenAPI has them; names that may not be shown are omitted."""
    found: list[Json] = []
    for one in schema.find(part):
        for name, node in sorted(one.root.children.items()):
            if name.startswith("{"):
                continue
            parameter: Json = {"name": name, "in": place, "schema": render(node) or {"type": "string"}}
            if node.is_required(one.root):
                parameter["required"] = True
            share = node.share(one.root)
            if share is not None:
                parameter["x-apidae-share"] = round(share, 4)
            found.append(parameter)
    return found


def _build_responses(group: Sequence[Described], schema: EndpointSchema) -> Json:
    statuses: dict[int, int] = defaultdict(int)
    for one in group:
        for code, calls in one.statuses.items():
            statuses[code] += calls
    responses: Json = {}
    for code in sorted(code for code in statuses if 100 <= code <= 599):
        response: Json = {"description": _describe_status(code), "x-apidae-calls": statuses[code]}
        content = {} if code in _NO_BODY else _build_content(schema.find(Part.RESPONSE_BODY, code // 100))
        if content:
            response["content"] = content
        responses[str(code)] = response
    return responses or {"default": {"description": "No answer was seen."}}


def _describe_status(code: int) -> str:
    try:
        return HTTPStatus(code).phrase
    except ValueError:
        return f"Status {code}"


def _build_content(parts: Iterable[PartSchema]) -> Json:
    content: Json = {}
    for one in parts:
        media_type = one.media_type or "application/octet-stream"
        schema = render(one.root)
        if media_type.startswith("text/") and schema == _BYTES:  # Sensors keep what they do not read as bytes.
            schema = {"type": "string"}
        content[media_type] = {"schema": schema, "x-apidae-samples": one.samples}
    return content


def _build_security(
    group: Sequence[Described], alternatives: Sequence[tuple[Carrier, ...]], schemes: dict[str, Json]
) -> list[Json]:
    """One alternative for each set of carriers that was served; and none at all where calls without were served."""
    found: list[Json] = []
    for carriers in alternatives:
        names = []
        for carrier in carriers:
            scheme = build_scheme(carrier)
            name = unique = carrier.scheme_name
            number = 2
            while unique in schemes and schemes[unique] != scheme:
                unique, number = f"{name}_{number}", number + 1
            schemes[unique] = scheme
            names.append(unique)
        found.append({name: [] for name in names})
    shares = [one.authenticated_share for one in group if one.authenticated_share is not None]
    if found and min(shares, default=1.0) < FULL_COVERAGE:
        found.append({})
    return found
