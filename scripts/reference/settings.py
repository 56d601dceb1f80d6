"""Formats docs/reference/settings.md: every setting of both programs with its type, default and bounds, the names that
it has in the environment, as a flag and in the chart, and one sentence."""

import enum
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from collector.core import config as collector_config
from common.main import build_app
from scripts.helm.settings_schema import SIDES, define_settings
from sensor.core import config as sensor_config

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"
PREFIXES: Final = {"sensor": sensor_config.ENVIRONMENT_PREFIX, "collector": collector_config.ENVIRONMENT_PREFIX}
_UNITS: Final = {
    "_bytes": "bytes",
    "_seconds": "s",
    "_ms": "ms",
    "_bits": "bits",
    "_core_share": "cores",
}
_TYPES: Final = {"boolean": "boolean", "integer": "integer", "number": "number", "string": "text", "array": "list"}
_HEAD: Final = """# Settings

`scripts/generate` makes this page from the programs. A setting has the value of the first of these that names it:

1. the flag
2. the environment variable
3. the TOML file that `--config` or `APIDAE_SENSOR_CONFIG` or `APIDAE_COLLECTOR_CONFIG` names, else
   `/etc/apidae/sensor.toml` or `/etc/apidae/collector.toml`. A key has the setting's name.
4. the default

- An unknown name in the file or in the environment is an error at the start.
- A list is a TOML array. In the environment and as a flag it is text with commas.
- A value of type *secret* is never logged. In the chart it comes from a Secret of yours.
- The chart sets some settings itself, such as `collector` and `node`. It rejects values that a program would reject.
"""


def format_settings() -> str:
    """The page as it is kept."""
    return "\n".join([_HEAD, *(line for side in SIDES for line in _format_side(side))])


def write_settings() -> None:
    """Updates docs/reference/settings.md."""
    PAGE.write_text(format_settings())


def _format_side(side: str) -> Iterator[str]:
    plain, _ = define_settings(SIDES[side])
    flags = set(list_flags(side))
    yield f"## {side.capitalize()}\n"
    yield "| Setting | Meaning | Type | Default | Allowed | Environment | Flag | Chart |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, field in SIDES[side].model_fields.items():
        schema = plain["properties"].get(name)
        flag = f"--{name.replace('_', '-')}"
        cells = (
            f"`{name}`",
            (field.description or "").replace("|", "\\|"),
            "secret" if schema is None else _name_type(schema),
            _format_default(name, field),
            _format_bounds(name, schema or {}),
            f"`{PREFIXES[side]}{name.upper()}`",
            f"`{flag}`" if flag in flags else "",
            f"`{side}.{'settingsFromSecrets' if schema is None else 'settings'}.{name}`",
        )
        yield "| " + " | ".join(cells) + " |"
    yield ""


def list_flags(command: str) -> Iterator[str]:
    """Names of the flags of one command."""
    group: Any = typer.main.get_command(build_app([command]))
    for parameter in group.commands[command].params:
        yield from parameter.opts


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


def list_undescribed(settings: type[BaseModel]) -> list[str]:
    """Settings whose description is not one or two sentences."""
    sentence = re.compile(r"[A-Z`].*[.]", re.DOTALL)
    return [name for name, field in settings.model_fields.items() if not sentence.fullmatch(field.description or "")]
