"""The `apidae` command: gathers the subcommands of the installed sides, so that neither side imports the other.

A side whose extra is not installed keeps its commands, and each names the extra to install. A wrong command line is one
sentence and exit code 2. Other errors are one sentence and exit code 1.
"""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Final, NoReturn

import typer

COMMANDS_GROUP: Final = "apidae.commands"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One extra of the distribution: its entry point has its name."""

    commands: tuple[str, ...]
    # Top-level modules that only this extra brings, or only its image has; another missing module is a fault of ours
    # and stays a traceback.
    modules: frozenset[str]


SIDES: Final = {
    "sensor": Side(
        commands=("sensor", "enroll", "preflight", "pause", "resume", "replay", "enforcement"),
        modules=frozenset({"sensor", "brotli", "capstone", "re2", "stdnum"}),
    ),
    "collector": Side(
        commands=(
            "collector",
            "keys",
            "enrollment",
            "certificates",
            "endpoints",
            "consumers",
            "alerts",
            "incidents",
            "notifiers",
            "silence",
            "unsilence",
            "coverage",
            "evidence",
            "exposure",
            "sensors",
            "block",
            "approve",
            "lift",
            "blocks",
            "ladder",
            "schema",
            "services",
            "export",
            "specs",
            "templates",
            "diff",
            "tombstones",
            "risk",
            "findings",
            "sensitivity",
            "erase",
            "verdict",
            "known-good",
        ),
        modules=frozenset(
            {"collector", "chdb", "clickhouse_connect", "fastapi", "httpx", "jinja2", "starlette", "uvicorn"}
        ),
    ),
}


def build_app(arguments: Sequence[str] = ()) -> typer.Typer:
    """One Typer app of the subcommands; each entry point names a function that takes the app and adds its commands.

    Where the first of `arguments` is a command, only its side is loaded: a collector needs no module of the sensor.
    """
    asked = [name for name, side in SIDES.items() if arguments and arguments[0] in side.commands]
    app = typer.Typer(
        name="apidae",
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
        except ModuleNotFoundError as error:
            _register_missing(app, entry_point.name, error)
        else:
            register(app)
    return app


def _register_missing(app: typer.Typer, name: str, error: ModuleNotFoundError) -> None:
    """Commands that say which extra is missing. Raises the error where it is not an extra's."""
    side = SIDES.get(name)
    if side is None or (error.name or "").partition(".")[0] not in side.modules:
        raise error
    for command in side.commands:
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
        fail(f"{' '.join(message().split()).rstrip('.')}; see `{path} --help`", code, program)
    raise SystemExit(code if isinstance(code, int) else 0)


def main() -> None:
    """Entry point of the console script."""
    # gRPC's core writes lines of its own beside our one sentence; who wants them sets the variable.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Nobody here multiplies matrices, and numpy would start a thread for each processor to do it.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    run_app(build_app(sys.argv[1:]))
