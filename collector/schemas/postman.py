"""Writes a Postman collection (format v2.1) from an OpenAPI document of `collector.schemas.openapi`. Pure.

Bodies and parameters are placeholders by type, and credentials are variables of the collection
(`{{header_x_api_key}}`): no value of a call is in them.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from collector.schemas.json_schema import Json

SCHEMA: Final = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"
DEPTH_MAX: Final = 8
_PARAMETER: Final = re.compile(r"\{([^{}]*)\}")
_PLACEHOLDERS: Final = {
    "date-time": "2000-01-01T00:00:00Z",
    "date": "2000-01-01",
    "uuid": "00000000-0000-0000-0000-000000000000",
    "email": "name@example.com",
    "uri": "https://example.com/",
}


def build_postman(document: Json) -> Json:
    """One request an operation, in folders by the first segment of the path."""
    folders: dict[str, list[Json]] = {}
    schemes = document.get("components", {}).get("securitySchemes", {})
    for path, item in document["paths"].items():
        for method, operation in item.items():
            folder = path.strip("/").split("/")[0] or "/"
            items = folders.setdefault(folder, [])
            items.append(_build_item(path, method.upper(), operation, schemes))
            items += _build_shared(items[-1], operation.get("x-apidae-operations", ()))
    title = document["info"]["title"]
    servers = document.get("servers", [])
    return {
        "info": {
            "_postman_id": _make_id(title),
            "name": title,
            "description": document["info"]["description"],
            "schema": SCHEMA,
        },
        "item": [{"name": name, "item": items} for name, items in sorted(folders.items())],
        "variable": [
            {"key": "baseUrl", "value": servers[0]["url"] if servers else "http://localhost"},
            *({"key": key, "value": ""} for name in schemes for key in _list_variables(name, schemes[name])),
        ],
    }


def _make_id(title: str) -> str:
    digest = hashlib.blake2b(title.encode(), digest_size=16).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:]}"


def _build_item(path: str, method: str, operation: Json, schemes: Json) -> Json:
    parameters = operation.get("parameters", [])
    query, headers = _list_pairs(parameters, "query"), _list_pairs(parameters, "header")
    segments = [_PARAMETER.sub(r":\1", part) for part in path.strip("/").split("/") if part]
    if segments and path.endswith("/"):
        segments.append("")
    required: Json = next(iter(operation.get("security", ())), {})  # The first alternative: it asks for the least.
    for name in required:
        _add_key(name, schemes[name], headers, query)
    url: Json = {"raw": "{{baseUrl}}/" + "/".join(segments), "host": ["{{baseUrl}}"], "path": segments}
    if query:
        url["query"] = query
        url["raw"] += "?" + "&".join(f"{one['key']}={one['value']}" for one in query if not one["disabled"])
        url["raw"] = url["raw"].removesuffix("?")
    variables = [{"key": one["name"], "value": _text(one["schema"])} for one in parameters if one["in"] == "path"]
    if variables:
        url["variable"] = variables
    request: Json = {"method": method, "header": headers, "url": url}
    for name in required:
        if schemes[name].get("scheme") in _AUTHENTICATIONS:
            request["auth"] = _build_authentication(name, schemes[name]["scheme"])
    body = _build_body(operation.get("requestBody", {}).get("content", {}))
    if body:
        request["body"] = body
    return {"name": f"{method} {path}", "request": request, "response": []}


# Schemes that Postman fills in by itself, and what it asks for.
_AUTHENTICATIONS: Final = {
    "basic": ("username", "password"),
    "digest": ("username", "password"),
    "bearer": ("token",),
}


def _list_variables(name: str, scheme: Json) -> list[str]:
    """The variables of the collection that hold what a scheme asks for."""
    if scheme["type"] == "apiKey":
        return [name]
    return [f"{name}_{what}" for what in _AUTHENTICATIONS.get(scheme.get("scheme", ""), ())]


def _build_authentication(name: str, scheme: str) -> Json:
    values = [{"key": what, "value": f"{{{{{name}_{what}}}}}", "type": "string"} for what in _AUTHENTICATIONS[scheme]]
    return {"type": scheme, scheme: values}


def _add_key(name: str, scheme: Json, headers: list[Json], query: list[Json]) -> None:
    """A key as a pair of its own: a request may need several, and Postman's `auth` holds one."""
    if scheme["type"] != "apiKey":
        return
    value = f"{{{{{name}}}}}"
    if "x-apidae-scheme" in scheme:
        value = f"{scheme['x-apidae-scheme']} {value}"
    match scheme["in"]:
        case "query":
            query.append({"key": scheme["name"], "value": value, "disabled": False})
        case "cookie":
            headers.append({"key": "Cookie", "value": f"{scheme['name']}={value}", "disabled": False})
        case _:
            headers.append({"key": scheme["name"], "value": value, "disabled": False})


def _list_pairs(parameters: Iterable[Json], place: str) -> list[Json]:
    return [
        {"key": one["name"], "value": _text(one["schema"]), "disabled": not one.get("required", False)}
        for one in parameters
        if one["in"] == place
    ]


def _build_shared(item: Json, operations: Iterable[Json]) -> Iterator[Json]:
    """A request for each operation that shares the path and is asked for in a JSON body."""
    for one in operations:
        arguments = _example(one.get("parameters"), 0)
        body: Json
        match one["protocol"], one["kind"]:
            case "graphql", kind:
                query = f"{kind} {one['name']} {{ __typename }}"
                body = {"operationName": one["name"], "query": query, "variables": arguments or {}}
            case "mcp", "tool" | "prompt":
                method = "tools/call" if one["kind"] == "tool" else "prompts/get"
                named = {"name": one["name"], "arguments": arguments or {}}
                body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": named}
            case "json_rpc" | "mcp", _:
                body = {"jsonrpc": "2.0", "id": 1, "method": one["name"], "params": arguments or {}}
            case _:
                continue  # SOAP's is XML, which is not described.
        raw = {"mode": "raw", "raw": json.dumps(body, indent=2), "options": {"raw": {"language": "json"}}}
        request = {**item["request"], "body": raw}
        yield {"name": f"{item['name']} {one['name']}", "request": request, "response": []}


def _build_body(content: Json) -> Json:
    for media_type, described in content.items():
        example = _example(described["schema"], 0)
        if media_type == "application/x-www-form-urlencoded" and isinstance(example, dict):
            pairs = [{"key": key, "value": str(value)} for key, value in example.items()]
            return {"mode": "urlencoded", "urlencoded": pairs}
        if media_type == "multipart/form-data" and isinstance(example, dict):
            fields = [{"key": key, "type": "text", "value": str(value)} for key, value in example.items()]
            return {"mode": "formdata", "formdata": fields}
        if media_type.endswith("json"):
            raw = json.dumps(example, indent=2)
            return {"mode": "raw", "raw": raw, "options": {"raw": {"language": "json"}}}
    return {}


def _text(schema: Json) -> str:
    return str(_example(schema, 0))


def _example(schema: Any, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > DEPTH_MAX:
        return None
    if "anyOf" in schema:
        return _example(schema["anyOf"][0], depth)
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type")
    match kind[0] if isinstance(kind, list) else kind:
        case "object":
            return {name: _example(one, depth + 1) for name, one in schema.get("properties", {}).items()}
        case "array":
            return [_example(schema.get("items"), depth + 1)]
        case "integer" | "number":
            return 0
        case "boolean":
            return False
        case "string":
            return _PLACEHOLDERS.get(schema.get("format", ""), "string")
    return None
