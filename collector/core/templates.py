"""Jinja templates in a sandbox: an unknown name is an error, not an empty text. `tojson` quotes for JSON and YAML."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from jinja2 import StrictUndefined, Template
from jinja2.sandbox import ImmutableSandboxedEnvironment


def compile_template(
    text: str, filters: Mapping[str, Callable[..., Any]] | None = None, *, is_trimmed: bool = False
) -> Template:
    """`is_trimmed`: lines that hold a tag alone leave no line behind. Raises TemplateError."""
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=is_trimmed,
        lstrip_blocks=is_trimmed,
        keep_trailing_newline=is_trimmed,
    )
    environment.filters |= {"tojson": _quote, **(filters or {})}
    return environment.from_string(text)


def _quote(value: object) -> str:
    """As JSON. A name that is not there says so by being shown."""
    return msgspec.json.encode(value, enc_hook=str).decode()
