"""Formats docs/reference/cli.md: every command with its arguments and options, from the Typer app."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import typer

from common.main import SIDES, build_app
from common.settings import list_settings, name_flag
from scripts.helm.settings_schema import SIDES as MODELS

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
_HEAD: Final = """# Commands

`scripts/generate` makes this page from the programs; `apidae COMMAND --help` says the same.

- Commands with `--url` and `--token` ask a running collector. Set `APIDAE_URL` and `APIDAE_TOKEN` once instead.
- The exit status is 0 on success, 1 after an error and 2 for a wrong command line. `apidae collector` ends with 3 where
  its stop had to cut work off after 10 s.
- Every command also has `--help`.
"""


def format_commands() -> str:
    """The page as it is kept."""
    # Typer's own copy of click has no public types.
    group: Any = typer.main.get_command(build_app())
    lines = [_HEAD]
    for side, listed in SIDES.items():
        lines.append(f"## Commands of the {side}\n")
        for name in listed.names:
            lines += _format_command(f"apidae {name}", group.commands[name])
    return "\n".join(lines)


def write_commands() -> None:
    """Updates docs/reference/cli.md."""
    PAGE.write_text(format_commands())


def _format_command(path: str, command: Any) -> Iterator[str]:
    yield f"### `{path}`\n"
    yield f"{_format_text(command.help)}\n"
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from _format_command(f"{path} {name}", inner)
        return
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    words = [_name_argument(one) for one in arguments]
    yield "```\n" + " ".join([path, "[OPTIONS]", *words]) + "\n```\n"
    context = typer.Context(command)
    side = path.removeprefix("apidae ")
    flags = set[str]()
    if side in MODELS:
        flags = {name_flag(name) for name in (*list_settings(MODELS[side]), *MODELS[side].removed)}
        yield f"Every [setting](settings.md#{side}) is an option, but for secrets and lists of tables.\n"
    rows = [_format_parameter(one, context) for one in command.params if not {"--help", *flags} & {*one.opts}]
    if rows:
        yield "| Option | Value | Default | Meaning |"
        yield "|---|---|---|---|"
        yield from rows
        yield ""


def _name_argument(argument: Any) -> str:
    name = argument.name.upper()
    return name if argument.required else f"[{name}]"


def _format_parameter(parameter: Any, context: typer.Context) -> str:
    is_option = parameter.param_type_name == "option"
    names = [*parameter.opts, *parameter.secondary_opts] if is_option else [_name_argument(parameter)]
    cells = (
        ", ".join(f"`{name}`" for name in names),
        _format_value(parameter, context),
        _format_default(parameter),
        _format_meaning(parameter),
    )
    return "| " + " | ".join(cells) + " |"


def _format_value(parameter: Any, context: typer.Context) -> str:
    if getattr(parameter, "is_flag", False):
        return ""
    name = str(parameter.metavar or parameter.display_type(context)).strip("<>").replace("|", " or ")
    single = name.removeprefix("list[").removesuffix("]")
    return single if single == name else f"{single}, repeatable"


def _format_default(parameter: Any) -> str:
    shown = parameter.show_default
    if isinstance(shown, str):
        return shown
    value = parameter.default
    if value in (None, False, "", ()) or callable(value):
        return ""
    return f"`{value}`"


def _format_meaning(parameter: Any) -> str:
    text = _format_text(parameter.help)
    return f"{text} Environment: `{parameter.envvar}`." if parameter.envvar else text


def _format_text(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")
