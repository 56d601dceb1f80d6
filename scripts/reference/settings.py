"""Formats docs/reference/settings.md: every setting of both programs with its type, default, bounds and one sentence,
and what a name of version 0.1 is now."""

import enum
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, get_args

from pydantic.fields import FieldInfo

from common.settings import ProgramSettings, Section, describe, find_sections, is_secret, list_settings
from scripts.helm.settings_schema import SIDES, define_settings

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"
_UNITS: Final = {
    "_bytes": "bytes",
    "_seconds": "s",
    "_ms": "ms",
    "_bits": "bits",
    "_core_share": "cores",
}
_TYPES: Final = {"boolean": "boolean", "integer": "integer", "number": "number", "string": "text", "array": "list"}
_HEAD: Final = """# Settings

`scripts/generate` makes this page from the programs. A setting has the value of the first of these that names it, here
for `state_dir` of the sensor and for `enforcement.max_blocks`, which is in a group:

| Source | Alone | In a group |
|---|---|---|
| 1. flag | `--state-dir` | `--enforcement-max-blocks` |
| 2. environment | `APIDAE_SENSOR_STATE_DIR` | `APIDAE_SENSOR_ENFORCEMENT_MAX_BLOCKS` |
| 3. TOML file | `state_dir = ".."` | `max_blocks = 20` below `[enforcement]` |
| 4. default | | |
| In the Helm chart | `sensor.settings.state_dir` | `sensor.settings.enforcement.max_blocks` |

- The file is that of `--config`, else of `APIDAE_SENSOR_CONFIG` or `APIDAE_COLLECTOR_CONFIG`, else
  `/etc/apidae/sensor.toml` or `/etc/apidae/collector.toml`.
- An unknown name or a wrong value is an error at the start, of one sentence.
- A list is a TOML array. In the environment and as a flag it is text with commas.
- `notifiers` and `integrations` are arrays of tables. In the environment they are JSON, and they have no flag.
- A *secret* is text, `{file = "PATH"}` or `{environment = "NAME"}`. It is never logged. In the chart it is a key of a
  Secret of yours: `{name: SECRET, key: KEY}`.
- The chart sets some settings itself, such as `collector` and `node`. It rejects values that a program would reject.
"""


def format_settings() -> str:
    """The page as it is kept."""
    lines = [_HEAD]
    for side, model in SIDES.items():
        lines += _format_side(side, model)
    for side, model in SIDES.items():
        lines += _format_removed(side, model)
    return "\n".join(lines)


def write_settings() -> None:
    """Updates docs/reference/settings.md."""
    PAGE.write_text(format_settings())


def _format_side(side: str, model: type[ProgramSettings]) -> Iterator[str]:
    schemas = define_settings(model)["properties"]
    yield f"## {side.capitalize()}\n"
    yield "| Setting | Meaning | Type | Default | Allowed |"
    yield "|---|---|---|---|---|"
    for name, field in list_settings(model).items():
        schema = schemas
        for part in name.split("."):
            schema = schema.get("properties", schema)[part]
        yield _format_row(f"`{name}`", field, schema)
    yield ""
    for name, field in model.model_fields.items():
        if len(sections := find_sections(field)) > 1:
            yield from _format_kinds(name, sections, schemas[name]["items"]["oneOf"])


def _format_kinds(name: str, sections: Iterable[type[Section]], schemas: Iterable[dict[str, Any]]) -> Iterator[str]:
    yield f"### Kinds of `{name}`\n"
    yield "| Kind | Key | Meaning | Type | Default | Allowed |"
    yield "|---|---|---|---|---|---|"
    for model, schema in zip(sections, schemas, strict=True):
        (kind,) = get_args(model.model_fields["kind"].annotation)
        yield f"| `{kind}` | | {model.__doc__} | | | |"
        for key, field in model.model_fields.items():
            if key not in ("kind", "name"):
                yield "| " + _format_row(f"`{key}`", field, schema["properties"][key])
    yield ""


def _format_row(name: str, field: FieldInfo, schema: dict[str, Any]) -> str:
    cells = (
        name,
        describe(field).replace("|", "\\|"),
        "secret" if is_secret(field) else _name_type(schema),
        _format_default(name, field),
        _format_bounds(name.strip("`"), schema),
    )
    return "| " + " | ".join(cells) + " |"


def _format_removed(side: str, model: type[ProgramSettings]) -> Iterator[str]:
    yield f"## Names of the {side} that 0.2 removed\n"
    yield "| Name in 0.1 | Now |"
    yield "|---|---|"
    for now in dict.fromkeys(model.removed.values()):
        names = ", ".join(f"`{name}`" for name, other in model.removed.items() if other == now)
        yield f"| {names} | {now.removeprefix('now ').replace('; remove it', '')} |"
    yield ""


def _name_type(schema: dict[str, Any]) -> str:
    return "choice" if "enum" in schema else _TYPES[schema["type"]]


def _format_default(name: str, field: FieldInfo) -> str:
    value = field.default
    if field.default_factory is not None:
        return "the host name"
    if field.is_required():
        return "none: required"
    if value is None or value in ("", ()):
        return ""
    if isinstance(value, tuple):
        return ", ".join(f"`{_show(part)}`" for part in value)
    size = _format_number(name, value) if isinstance(value, int) and "_bytes" in name else ""
    return f"`{_show(value)}` ({size})" if "B" in size else f"`{_show(value)}`"


def _show(value: object) -> str:
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _format_bounds(name: str, schema: dict[str, Any]) -> str:
    """Allowed values and the unit."""
    choices = schema.get("enum") or schema.get("items", {}).get("enum")
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    unit = next((unit for end, unit in _UNITS.items() if name.endswith(end)), "")
    if name.endswith("_per_second"):
        unit = f"{name.removesuffix('_per_second').rpartition('_')[2]}/s"
    parts = []
    if "maxLength" in schema:
        parts.append(f"at most {schema['maxLength']} characters")
    if "maxItems" in schema:
        parts.append(f"at most {schema['maxItems']} items")
    high = _format_number(name, schema["maximum"]) if "maximum" in schema else ""
    if "exclusiveMinimum" in schema:
        parts.append(f"more than {schema['exclusiveMinimum']:g}, at most {high}")
    elif "minimum" in schema:
        low = _format_number(name, schema["minimum"])
        parts.append(f"{low} to {high}" if high else f"at least {low}")
    text = ", ".join(parts)
    if text.endswith("B"):
        return text + unit.removeprefix("bytes")
    return f"{text} {unit}".strip()


def _format_number(name: str, value: float) -> str:
    """With separators of thousands; a round number of bytes in a larger unit."""
    if "_bytes" in name:
        for size, unit in ((10**9, "GB"), (10**6, "MB"), (1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB")):
            if value >= size and value % size == 0:
                return f"{int(value // size):,} {unit}"
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


def list_undescribed(settings: type[Section]) -> list[str]:
    """Settings whose description is not one or two sentences."""
    sentence = re.compile(r"[A-Za-z`].*[.]", re.DOTALL)
    return [name for name, field in list_settings(settings).items() if not sentence.fullmatch(describe(field))]
