"""Makes the flags of a command from the settings of its program (common/settings.py)."""

import inspect
from collections.abc import Callable, Collection
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_origin

import typer

from common.settings import AS_JSON, ProgramSettings, describe, is_secret, list_settings, name_flag, walk_types


def with_flags(
    model: type[ProgramSettings], only: Collection[str] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command with a flag for each setting of `model`, or for those in `only`. The decorated function gets the flags
    that were given as its first argument, by name; its other parameters stay options of their own.

    Secrets and lists of tables have no flag. A removed setting has a hidden one, so that `load` can say what it is now.
    """

    def decorate(run: Callable[..., None]) -> Callable[..., None]:
        _, *own = inspect.signature(run, eval_str=True).parameters.values()
        generated = {
            name.replace(".", "_"): _make_option(name, field.annotation, describe(field))
            for name, field in list_settings(model).items()
            if (only is None or name in only) and not is_secret(field) and AS_JSON not in field.metadata
        }
        for name in model.removed if only is None else ():
            generated[name] = Annotated[str | None, typer.Option(name_flag(name), hidden=True)]
        options = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
            for name, annotation in generated.items()
        ]
        others = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own]

        def command(**given: Any) -> None:
            flags = {name: given.pop(name, None) for name in generated}
            run(flags, **given)

        command.__signature__ = inspect.Signature([*options, *others])  # type: ignore[attr-defined]
        command.__annotations__ = {one.name: one.annotation for one in (*options, *others)}
        command.__doc__ = run.__doc__
        return command

    return decorate


def _make_option(name: str, annotation: Any, description: str) -> Any:
    types = list(walk_types(annotation))
    flag = name_flag(name)
    if bool in types:
        names = (flag,) if flag.startswith("--no-") else (f"{flag}/--no-{flag.removeprefix('--')}",)
        return Annotated[bool | None, typer.Option(*names, help=description)]
    if get_origin(annotation) is tuple:
        return Annotated[str | None, typer.Option(flag, metavar="A,B", help=description)]
    if annotation in (int, float):
        return Annotated[annotation | None, typer.Option(flag, help=description)]
    choices = next((one for one in types if isinstance(one, type) and issubclass(one, StrEnum)), None)
    metavar = "|".join(choices) if choices is not None else "PATH" if Path in types else None
    kind: Any = int if int in types else str
    return Annotated[kind | None, typer.Option(flag, metavar=metavar, help=description)]
