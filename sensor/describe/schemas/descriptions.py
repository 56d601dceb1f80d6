"""Reduces API descriptions that a service serves itself (OpenAPI 2.0 and 3.x as JSON) to an outline for the collector.

The outline has what the collector compares calls with: paths, methods, names, types, required fields, and which calls
need credentials. It has no sentence, example, default or enum value, and no name that is sensitive by its form.
Descriptions are looked for only where they are usually served.
"""

import json
import re
from collections.abc import Iterator
from typing import Final

from sensor.sensitive.values import find_kinds, find_suspects

OUTLINE_BYTES_MAX: Final = 256 * 1024
NODES_MAX: Final = 20_000
TEXT_CHARACTERS_MAX: Final = 300
DEPTH_MAX: Final = 40
# The usual names; of those the collector knows (collector/specs/report.py) the ones that JSON is served under.
_TARGET: Final = re.compile(r"/(?:openapi|swagger)(?:\.json)?/?$|/v[23]/api-docs(?:/|$)|/api-docs(?:\.json)?/?$")
_METHODS: Final = frozenset(("get", "put", "post", "delete", "options", "head", "patch", "trace", "query"))
# Keywords by what they hold (OpenAPI 2.0, 3.0.4, 3.1.1). All others are left out.
_TEXTS: Final = frozenset(("$ref", "type", "format", "in", "name", "operationId", "url", "host", "basePath"))
_ROOT_TEXTS: Final = frozenset(("openapi", "swagger"))
_INFO_TEXTS: Final = frozenset(("title", "version"))
_FLAGS: Final = frozenset(("required", "deprecated", "nullable", "additionalProperties"))
_TEXT_LISTS: Final = frozenset(("required", "consumes", "produces", "type"))
_OBJECT_LISTS: Final = frozenset(("parameters", "allOf", "anyOf", "oneOf", "servers"))
_OBJECTS: Final = frozenset(("schema", "items", "additionalProperties", "requestBody", "components")) | _METHODS
# Objects by names of the author's own: paths, codes, media types, fields.
_MAPS: Final = frozenset(
    (
        *("paths", "responses", "content", "properties", "patternProperties", "schemas", "definitions", "parameters"),
        "requestBodies",
    )
)
Node = dict[str, object]


def names_description(path: str) -> bool:
    """Whether a description is usually served under this path."""
    return _TARGET.search(path) is not None


def write_outline(tree: object) -> str | None:
    """The outline as JSON; None of what is no description, or too long. Cost: some 5 ms of one of 60 KB."""
    if not isinstance(tree, dict) or not isinstance(tree.get("paths"), dict):
        return None
    version = tree.get("openapi") or tree.get("swagger")
    if not isinstance(version, str) or not version[:1].isdigit():
        return None
    copied = _Copy().copy_object(tree, 0)
    copied |= {name: tree[name] for name in _ROOT_TEXTS if isinstance(tree.get(name), str)}
    info = tree.get("info")
    if isinstance(info, dict):
        copied["info"] = {name: _cut(info[name]) for name in _INFO_TEXTS if isinstance(info.get(name), str)}
    texts = list(dict.fromkeys(_list_texts(copied)))
    sensitive = {texts[index] for index in find_suspects(texts) if find_kinds(texts[index])}
    outline = json.dumps(_scrub(copied, sensitive) if sensitive else copied, separators=(",", ":"))
    return outline if len(outline) <= OUTLINE_BYTES_MAX else None


class _Copy:
    """What the keywords above hold, NODES_MAX of them."""

    def __init__(self) -> None:
        self._left = NODES_MAX

    def copy_object(self, found: Node, depth: int) -> Node:
        copied: Node = {}
        if depth > DEPTH_MAX:
            return copied
        for key, value in found.items():
            kept = self._copy_value(key, value, depth)
            if kept is not None:
                copied[key] = kept
        if isinstance(found.get("security"), list):
            copied["security"] = _copy_security(found["security"])
        return copied

    def _copy_value(self, key: str, value: object, depth: int) -> object | None:
        if self._left <= 0:
            return None
        self._left -= 1
        if isinstance(value, str):
            return _cut(value) if key in _TEXTS else None
        if isinstance(value, bool):
            return value if key in _FLAGS else None
        if isinstance(value, list):
            if key in _OBJECT_LISTS:
                return [self.copy_object(one, depth + 1) for one in value if isinstance(one, dict)]
            return [_cut(one) for one in value if isinstance(one, str)] if key in _TEXT_LISTS else None
        if not isinstance(value, dict):
            return None
        if key in _MAPS:
            return self._copy_map(value, depth + 1)
        return self.copy_object(value, depth + 1) if key in _OBJECTS else None

    def _copy_map(self, found: Node, depth: int) -> Node:
        copied: Node = {}
        for name, value in found.items():
            if isinstance(value, dict) and len(name) <= TEXT_CHARACTERS_MAX and self._left > 0:
                self._left -= 1
                copied[name] = self.copy_object(value, depth + 1)
        return copied


def _copy_security(found: object) -> list[Node]:
    """Which schemes, without scopes: an empty alternative means that none is needed."""
    alternatives = found if isinstance(found, list) else []
    return [{name: [] for name in one} for one in alternatives if isinstance(one, dict)]


def _cut(text: object) -> str:
    return str(text)[:TEXT_CHARACTERS_MAX]


def _list_texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from _list_texts(one)
    elif isinstance(value, dict):
        for name, one in value.items():
            yield name
            yield from _list_texts(one)


def _scrub(value: object, sensitive: set[str]) -> object:
    """Without these names and texts."""
    if isinstance(value, list):
        return [_scrub(one, sensitive) for one in value if not (isinstance(one, str) and one in sensitive)]
    if isinstance(value, dict):
        return {
            name: _scrub(one, sensitive)
            for name, one in value.items()
            if name not in sensitive and not (isinstance(one, str) and one in sensitive)
        }
    return value
