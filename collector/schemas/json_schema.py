"""Writes a merged tree as JSON Schema 2020-12, as OpenAPI 3.1 has it, and in words such as `array of object`. Pure.

The order is fixed. `x-apidae-share` is the share of whole parents in which a field was seen, where that is not all.
Types seen in less than one in a thousand values are omitted.
"""

from typing import Any, Final

from collector.schemas.merging import FieldNode

MIN_TYPE_SHARE: Final = 0.001
# Wider forms of a type stand for narrower ones beside them.
_WIDER: Final = {"integer/int32": "integer/int64", "integer/int64": "number"}
Json = dict[str, Any]


def render(node: FieldNode) -> Json:
    """The schema of a field and all that is below it."""
    kinds = _list_kinds(node)
    variants = [_render_kind(kind, node) for kind in kinds if kind != "null"]
    is_nullable = "null" in kinds
    if not variants:
        return {"type": "null"} if is_nullable else {}
    if len(variants) == 1:
        schema = variants[0]
        if is_nullable:
            schema["type"] = [schema["type"], "null"]
            if "enum" in schema:
                schema["enum"] = [*schema["enum"], None]
        return schema
    return {"anyOf": [*variants, *([{"type": "null"}] if is_nullable else [])]}


def _list_kinds(node: FieldNode) -> list[str]:
    """Types that describe the field: narrow ones within wider ones, formats only where all texts have the same."""
    total = sum(node.types.values())
    kinds = {kind for kind, count in node.types.items() if count >= total * MIN_TYPE_SHARE}
    for narrow, wide in _WIDER.items():
        if narrow in kinds and (wide in kinds or (narrow == "integer/int32" and "number" in kinds)):
            kinds.discard(narrow)
    texts = {kind for kind in kinds if kind.startswith("string")}
    if len(texts) > 1:
        kinds = (kinds - texts) | {"string"}
    return sorted(kinds)


def _render_kind(kind: str, node: FieldNode) -> Json:
    name, _, form = kind.partition("/")
    schema: Json = {"type": name}
    if name == "object":
        return _render_object(node)
    if name == "array":
        item = node.children.get("[]")
        schema["items"] = render(item) if item is not None else {}
    elif form:
        schema["format"] = form
    elif name == "string" and node.enum:
        schema["enum"] = list(node.enum)
    return schema


def _render_object(node: FieldNode) -> Json:
    schema: Json = {"type": "object"}
    named = {step: child for step, child in node.children.items() if step != "[]" and not step.startswith("{")}
    if named:
        schema["properties"] = {step: _render_property(named[step], node) for step in sorted(named)}
    required = sorted(step for step, child in named.items() if child.is_required(node))
    if required:
        schema["required"] = required
    keys = {step: child for step, child in node.children.items() if step.startswith("{")}
    if keys:
        merged = FieldNode()
        for child in keys.values():
            _absorb(merged, child)
        schema["additionalProperties"] = render(merged) or True
        schema["x-apidae-keys"] = sorted(step.strip("{}") for step in keys)
    return schema


def _render_property(child: FieldNode, parent: FieldNode) -> Json:
    schema = render(child)
    share = child.share(parent)
    if share is not None and not child.is_required(parent):
        schema["x-apidae-share"] = round(share, 4)
    return schema


def _absorb(target: FieldNode, source: FieldNode) -> None:
    """Values of keys of a map, whatever their pattern, are described together."""
    target.present += source.present
    target.objects += source.objects
    for kind, count in source.types.items():
        target.types[kind] = target.types.get(kind, 0) + count
    target.is_open = True
    for step, child in source.children.items():
        _absorb(target.children.setdefault(step, FieldNode()), child)


def name_type(schema: Any) -> str:
    """One type as a person reads it."""
    if not isinstance(schema, dict) or not schema:
        return "any"
    if "anyOf" in schema:
        return " or ".join(name_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return f"one of {', '.join(str(one) for one in schema['enum'])}"
    kind = schema.get("type", "any")
    text = " or ".join(kind) if isinstance(kind, list) else str(kind)
    if kind == "array":
        return f"array of {name_type(schema.get('items'))}"
    return f"{text} ({schema['format']})" if "format" in schema else text
