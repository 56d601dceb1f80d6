"""Loads the settings of a program into one frozen model. Both sides use it.

A setting is a field of the model. `state_dir` of the sensor has its value from the first of these that names it:

- the flag `--state-dir`
- the variable `APIDAE_SENSOR_STATE_DIR`
- `state_dir = ...` in the TOML file of `--config`, of `APIDAE_SENSOR_CONFIG`, or else in /etc/apidae/sensor.toml
- the default of the field

A field that holds a `Group` is a group, a table in the file. Each of its fields is a setting, named `group.field`,
and its flag is `--group-field`. A list of sections is an array of tables in the file, and JSON in a variable.

A wrong value or an unknown name is a `ConfigError` of one sentence. It names the setting, the value, where it came from
and what is allowed. A secret is in no sentence and in no repr. The flags (common/flags.py), the schema of the chart and
docs/reference/settings.md are made from the same models.
"""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, TypeVar, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo

# Marks a list that has no form with commas: its items are tables, or may hold a comma.
AS_JSON: Final = "as JSON"
DIRECTORY: Final = Path("/etc/apidae")
_CREDENTIAL: Final = re.compile(r"""(?<=://)[^/@\s"]+(?=@)|(?<=\?)[^\s"]+""")  # A URL's user and query.


class ConfigError(Exception):
    """A setting is wrong; one sentence that names it, its value, where it came from, and what is allowed."""


class LogLevel(StrEnum):
    """The least severe messages that are logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class KubernetesUse(StrEnum):
    """Whether the Kubernetes API is asked (docs/use/kubernetes.md)."""

    AUTO = "auto"  # In a Pod yes, elsewhere where a kubeconfig is given.
    ON = "on"
    OFF = "off"


class Section(BaseModel):
    """An entry of a list, as of `notifiers`; lists hold one model for each `kind`."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True)


class Group(Section):
    """Settings that belong together."""

    @field_validator("*", mode="before")
    @classmethod
    def _read_text(cls, value: object, info: ValidationInfo) -> object:
        """Flags and variables give text: a list has commas or is JSON, and an empty path is no path."""
        field = cls.model_fields[str(info.field_name)]
        if not isinstance(value, str):
            return value
        if get_origin(field.annotation) is tuple:
            return _split_list(value, has_commas=AS_JSON not in field.metadata)
        if value == "" and Path in walk_types(field.annotation):
            if field.default is not None:
                raise ValueError("must name a file or a directory; leave it out for the default")
            return None
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveSetting:
    """What a program runs with. `value` is text; of a secret it says only whether there is one."""

    name: str
    value: str
    source: str  # A flag, a variable, `the file PATH`, or `the default`.
    is_secret: bool
    meaning: str


class ProgramSettings(Group):
    """All settings of a program."""

    _sources: dict[str, str] = PrivateAttr(default_factory=dict)  # Where each setting came from that was named.
    _directory: Path = PrivateAttr(default=DIRECTORY)

    @property
    def directory(self) -> Path:
        """Of the settings file, also where there is none: other files of the administrator's lie beside it."""
        return self._directory

    program: ClassVar[str]  # `sensor` or `collector`.
    # What a name of an earlier version is now, as the end of a sentence: "now NAME", or why it is not needed.
    removed: ClassVar[Mapping[str, str]] = {}


_Model = TypeVar("_Model", bound=ProgramSettings)


def _split_list(text: str, *, has_commas: bool) -> object:
    if text.lstrip().startswith("["):
        try:
            return json.loads(text)
        except ValueError as error:
            raise ValueError(f"is not JSON ({error}); correct it") from None
    if not has_commas:
        raise ValueError("must be a list; as a flag or variable it is JSON")
    return [part.strip() for part in text.split(",") if part.strip()]


def _read_secret(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, dict):
        return value
    match list(value.items()):
        case [("file", str(path))]:
            try:
                return Path(path).read_text().strip()
            except OSError as error:
                raise ValueError(f"the file {path} cannot be read ({error.strerror}); correct it") from None
        case [("environment", str(name))]:
            text = (info.context or {}).get("environment", os.environ).get(name, "")
            if not text:
                raise ValueError(f"the variable {name} is not set; set it")
            return text
    raise ValueError('must be text, {file = "PATH"} or {environment = "NAME"}')


# Text, or where the text is: `url = {file = "/run/secrets/slack"}` or `url = {environment = "SLACK_URL"}`.
Secret = Annotated[SecretStr, BeforeValidator(_read_secret)]


def walk_types(annotation: Any) -> Iterator[Any]:
    """The type, and those that it is made of."""
    yield annotation
    for part in get_args(annotation):
        yield from walk_types(part)


def describe(field: FieldInfo) -> str:
    """What a setting means: the text below it in its model."""
    return " ".join((field.description or "").split())


def is_secret(field: FieldInfo) -> bool:
    """Whether its value is a credential."""
    return SecretStr in walk_types(field.annotation)


def find_sections(field: FieldInfo) -> list[type[Section]]:
    """The models of a group (one), or of a list's entries (one for each kind)."""
    return [one for one in walk_types(field.annotation) if isinstance(one, type) and issubclass(one, Section)]


def list_settings(model: type[Section]) -> dict[str, FieldInfo]:
    """Every setting by its name, those of a group as `group.field`."""
    found: dict[str, FieldInfo] = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Group):
            found |= {f"{name}.{inner}": one for inner, one in field.annotation.model_fields.items()}
        else:
            found[name] = field
    return found


def read_removed(table: str) -> dict[str, str]:
    """The lines `name, name: what it is now` of a table, by name."""
    lines = [line.strip().partition(": ") for line in table.strip().splitlines()]
    return {name: now for names, _, now in lines for name in names.split(", ")}


def name_flag(name: str) -> str:
    """The flag of a setting."""
    return f"--{name.replace('.', '-').replace('_', '-')}"


def name_variable(model: type[ProgramSettings], name: str) -> str:
    """The environment variable of a setting."""
    return f"APIDAE_{model.program}_{name.replace('.', '_')}".upper()


def load(
    model: type[_Model],
    flags: Mapping[str, Any],
    *,
    config_path: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    defaults: Mapping[str, Any] | None = None,
) -> _Model:
    """The settings from all sources. In `flags` None means not given, and `_` may stand for the `.` of a name;
    `defaults` stand in for what no source has. Raises ConfigError."""
    config_variable = name_variable(model, "config")
    named = environment.get(config_variable)
    path = config_path or (Path(named) if named else None)
    if path is None and (default := DIRECTORY / f"{model.program}.toml").exists():
        path = default
    settings = list_settings(model)
    values, sources = dict(defaults or {}), dict[str, str]()

    def add(name: str | None, value: object, source: str, shown: str) -> None:
        if name not in settings:
            raise ConfigError(_explain_unknown(model, shown, source))
        values[name], sources[name] = value, source

    for name, value in _read_file(path, model) if path is not None else ():
        add(name, value, f"the file {path}", name)
    by_variable = {name_variable(model, name): name for name in settings}
    for variable, value in environment.items():
        if variable.startswith(name_variable(model, "")) and variable != config_variable:
            add(by_variable.get(variable), value, variable, variable)
    by_identifier = {name.replace(".", "_"): name for name in settings}
    for name, value in flags.items():
        if value is not None:
            add(by_identifier.get(name.replace(".", "_")), value, name_flag(name), name_flag(name))
    try:
        loaded = model.model_validate(_nest(values), context={"environment": environment})
    except ValidationError as error:
        raise ConfigError(_explain(model, error, sources)) from None
    loaded._sources.update(sources)
    if path is not None:
        loaded._directory = path.parent
    return loaded


def list_effective(settings: ProgramSettings) -> tuple[EffectiveSetting, ...]:
    """Every setting with its value and where that came from; secrets are masked, those inside of lists too."""
    dumped = settings.model_dump(mode="json")
    found = []
    for name, field in list_settings(type(settings)).items():
        value = dumped
        for part in name.split("."):
            value = value[part]
        hidden = is_secret(field) and AS_JSON not in field.metadata
        found.append(
            EffectiveSetting(
                name=name,
                value=("(set)" if value else "") if hidden else _write_value(value),
                source=settings._sources.get(name, "the default"),
                is_secret=hidden,
                meaning=describe(field),
            )
        )
    return tuple(found)


def _write_value(value: Any) -> str:
    """As in a variable: a list with commas, or JSON. What a URL may hold of a credential is masked."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list) and all(isinstance(one, str | int | float) for one in value):
        return ",".join(map(str, value))
    return _CREDENTIAL.sub("***", json.dumps(value) if isinstance(value, list | dict) else str(value))


def _read_file(path: Path, model: type[ProgramSettings]) -> Iterator[tuple[str, object]]:
    try:
        with path.open("rb") as file:
            found = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"the settings file {path} cannot be read ({error.strerror}); correct --config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the settings file {path} is not TOML ({error}); correct it") from None
    groups = {name.partition(".")[0] for name in list_settings(model) if "." in name}
    for name, value in found.items():
        if name not in groups:
            yield name, value
        elif isinstance(value, dict):
            yield from ((f"{name}.{inner}", one) for inner, one in value.items())
        else:
            raise ConfigError(f"{name} in the file {path} is not a table; write [{name}] and its settings below it")


def _nest(values: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in values.items():
        group, _, inner = name.rpartition(".")
        (nested.setdefault(group, {}) if group else nested)[inner] = value
    return nested


def _explain_unknown(model: type[ProgramSettings], shown: str, source: str) -> str:
    is_from_file = shown != source
    name_as = {name_variable(model, ""): lambda name: name_variable(model, name), "--": name_flag}
    spell = next((spell for prefix, spell in name_as.items() if shown.startswith(prefix)), str)
    where = f"{shown} in {source}" if is_from_file else shown
    for name, now in model.removed.items():
        if shown == spell(name):
            return f"{where} was removed in 0.2: {now}"
    near = difflib.get_close_matches(shown, map(spell, list_settings(model)), n=1)
    hint = f"did you mean {near[0]}?" if near else "remove it"
    return f"{where} is not a setting of the {model.program}; {hint}"


def _explain(model: type[ProgramSettings], error: ValidationError, sources: Mapping[str, str]) -> str:
    """One sentence for the first fault."""
    fault = error.errors(include_url=False, include_context=False)[0]
    message = fault["msg"].removeprefix("Value error, ")
    if not fault["loc"]:
        return message
    first, *rest = (str(part) for part in fault["loc"])
    field = model.model_fields[first]
    name = setting = first
    if AS_JSON in field.metadata and rest:
        # An entry of a list; behind its place stands its kind.
        name = ".".join((f"{first}[{rest[0]}]", *rest[2:]))
    elif rest and f"{first}.{rest[0]}" in list_settings(model):
        name = setting = f"{first}.{rest[0]}"
    source = sources.get(setting, "the default")
    if fault["type"] == "missing":
        fix = f"give {name_flag(name)} or {name_variable(model, name)}" if name == first else f"add it in {source}"
        return f"{name} is not set; {fix}"
    if fault["type"] == "extra_forbidden":
        return f"{name} (from {source}) is not a setting; remove it"
    if fault["type"].startswith("union_tag"):
        kinds = ", ".join(get_args(one.model_fields["kind"].annotation)[0] for one in find_sections(field))
        return f"{name} (from {source}) has no known kind; give one of {kinds}"
    sections = [model, *(one for other in model.model_fields.values() for one in find_sections(other))]
    secrets = {inner for one in sections for inner, other in one.model_fields.items() if is_secret(other)}
    # What should be a table and is text may hold a secret too.
    is_open = "." in name or AS_JSON not in field.metadata
    is_shown = is_open and isinstance(fault["input"], str | int | float) and name.rpartition(".")[2] not in secrets
    value = f" is {fault['input']!r}" if is_shown else ""
    return f"{name}{value} (from {source}): {message[:1].lower() + message[1:]}"


def split_address(text: str) -> tuple[str, int]:
    """HOST:PORT to its parts, an IPv6 address in brackets; port 0 to 65535. Raises ValueError with a sentence."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    # A slash is of a URL: http://host:port would be the host http://host.
    if not colon or not host or "/" in host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("must be HOST:PORT, as in collector.example:7443 or [2001:db8::1]:7443")
    return host, int(port)
