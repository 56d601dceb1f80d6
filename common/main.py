"""The `apidae` command: gathers the subcommands of the installed sides, so that neither side imports the other.

A side whose extra is not installed keeps its commands, and each names the extra to install. A wrong command line is one
sentence and exit code 2. Other errors are one sentence and exit code 1.

A command loads what it needs and nothing else: the first word chooses the side, and the side gets the words to choose
among its modules.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points, version
from typing import Annotated, Any, Final, NoReturn

import typer
import typer.core

from common.completion import Shell, list_places, write_script

COMMANDS_GROUP: Final = "apidae.commands"


READ: Final = "Read"
DECIDE: Final = "Decide"
MANAGE: Final = "Manage"
RUN: Final = "Run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One extra of the distribution: its entry point has its name. `commands` are in the order of the help, by
    heading."""

    commands: Mapping[str, tuple[str, ...]]
    # Top-level modules that only this extra brings, or only its image has; another missing module is a fault of ours
    # and stays a traceback.
    modules: frozenset[str]

    @property
    def names(self) -> tuple[str, ...]:
        """Of all its commands."""
        return tuple(name for names in self.commands.values() for name in names)


SIDES: Final = {
    "collector": Side(
        commands={
            READ: ("get", "describe", "top", "watch", "gate", "export", "mcp"),
            DECIDE: (
                *("set", "block", "approve", "reject", "lift"),
                *("acknowledge", "silence", "unsilence", "verdict", "known-good", "erase"),
            ),
            MANAGE: (
                *("consumers", "specs", "templates", "notifiers", "certificates", "enrollment", "keys", "config"),
                *("backup", "restore", "state", "tokens", "bindings", "audit", "sessions", "whoami"),
            ),
            RUN: ("collector",),
        },
        modules=frozenset(
            {"collector", "chdb", "clickhouse_connect", "fastapi", "httpx", "jinja2", "starlette", "uvicorn"}
        ),
    ),
    "sensor": Side(
        commands={RUN: ("sensor", "preflight", "enroll", "pause", "resume", "enforcement", "trace", "replay")},
        modules=frozenset({"sensor", "brotli", "capstone", "re2", "stdnum"}),
    ),
}
OWN: Final = ("completion",)  # Of no side.
# By command: its heading in the help, in the order of the help.
HEADINGS: Final = {
    name: heading
    for heading in (READ, DECIDE, MANAGE, RUN)
    for side in SIDES.values()
    for name in (*side.commands.get(heading, ()), *(OWN if heading == MANAGE and side is SIDES["collector"] else ()))
}


class Commands(typer.core.TyperGroup):
    """The commands in the order of HEADINGS. An unknown one is looked for in the groups: `apidae endpoints` is answered
    with `apidae get endpoints`."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Their names."""
        order = list(HEADINGS)
        return sorted(self.commands, key=lambda name: order.index(name) if name in order else len(order))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command of the first word; raises typer's error of usage."""
        try:
            return super().resolve_command(ctx, args)
        except Exception as error:
            groups = [name for name, group in self.commands.items() if args[0] in getattr(group, "commands", ())]
            if groups:
                found = ", ".join(f"`apidae {name} {args[0]}`" for name in sorted(groups, key=list(HEADINGS).index))
                error.message = f"There is no command {args[0]!r}; use {found}"  # type: ignore[attr-defined]
            raise


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(f"apidae {version('apidae')}")
        raise typer.Exit


def build_app(arguments: Sequence[str] = ()) -> typer.Typer:
    """One Typer app of the subcommands. Each entry point names a function (app, words) that adds its commands: all, or
    those that the first of `words` needs.

    Where the first of `arguments` is a command, only its side is loaded: a collector needs no module of the sensor.
    """
    asked = [name for name, side in SIDES.items() if arguments and arguments[0] in side.names]
    app = typer.Typer(
        name="apidae",
        cls=Commands,
        help="Sees every HTTP API your machines and clusters really serve, without touching an app.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for entry_point in sorted(entry_points(group=COMMANDS_GROUP), key=lambda e: e.name):
        if asked and entry_point.name not in asked:
            continue
        try:
            register = entry_point.load()
            register(app, tuple(arguments) if asked else ())
        except ModuleNotFoundError as error:
            _register_missing(app, entry_point.name, error)
    if not asked:
        app.command(name="completion", help="Print the completion of a shell.")(_print_completion)
    for command in _list_registered(app):
        command.rich_help_panel = HEADINGS.get(command.name or "", "")
    app.callback()(_read_options)
    return app


def _print_completion(
    ctx: typer.Context, shell: Annotated[Shell, typer.Argument(help="Whose: `source <(apidae completion bash)`.")]
) -> None:
    """For bash: `apidae completion bash > ~/.local/share/bash-completion/completions/apidae`."""
    print(write_script(shell, list(list_places(ctx.find_root().command))), end="")


def _list_registered(app: typer.Typer) -> list[Any]:
    return [*app.registered_commands, *app.registered_groups]


def _read_options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, help="Print the version.", callback=_print_version)
    ] = False,
) -> None:
    """Sees every HTTP API your machines and clusters really serve, without touching an app."""


def _register_missing(app: typer.Typer, name: str, error: ModuleNotFoundError) -> None:
    """Commands that say which extra is missing. Raises the error where it is not an extra's."""
    side = SIDES.get(name)
    if side is None or (error.name or "").partition(".")[0] not in side.modules:
        raise error
    registered = {one.name for one in _list_registered(app)}
    for command in side.names:
        if command in registered:
            continue
        app.command(
            name=command,
            help=f"Needs the {name} extra: pip install 'apidae[{name}]'.",
            context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
            add_help_option=False,
        )(_make_refusal(command, name, str(error.name)))


def _make_refusal(command: str, extra: str, module: str) -> Callable[[], None]:
    def refuse() -> None:
        fail(f"`apidae {command}` needs the package {module}, which is not installed; pip install 'apidae[{extra}]'", 1)

    return refuse


def fail(sentence: str, code: int, program: str = "apidae") -> NoReturn:
    """Say it on standard error and end."""
    print(f"{program}: {sentence}", file=sys.stderr)
    raise SystemExit(code)


def run_app(app: typer.Typer, program: str = "apidae") -> NoReturn:
    """Runs what the command line says; a wrong one is one sentence that names `program`. Ends the process."""
    command = typer.main.get_command(app)
    try:
        code = command.main(prog_name=program, standalone_mode=False)
    except typer.Abort:
        fail("aborted", 130, program)
    except Exception as error:
        # Typer has no public name for its errors of usage; they are those that can say how they exit.
        code = getattr(error, "exit_code", None)
        message = getattr(error, "format_message", None)
        if not isinstance(code, int) or message is None:
            raise
        if not message():  # No command at all: the help was printed.
            raise SystemExit(code) from None
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else program
        sentence = " ".join(message().split()).rstrip(".").replace("Value error, ", "", 1)
        fail(f"{sentence}; see `{path} --help`", code, program)
    raise SystemExit(code if isinstance(code, int) else 0)


def main() -> None:
    """Entry point of the console script."""
    # gRPC's core writes lines of its own beside our one sentence; who wants them sets the variable.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Nobody here multiplies matrices, and numpy would start a thread for each processor to do it.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    run_app(build_app(sys.argv[1:]))
