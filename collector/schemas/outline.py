"""A JSON schema in a few words: `string (uuid)`, `integer or null`, `array of object`; pure."""

from typing import Any


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
