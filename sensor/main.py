"""The `apidae` command: gathers the subcommands that the installed sides register, so that neither side imports the other."""

from importlib.metadata import entry_points

import typer

COMMANDS_GROUP = "apidae.commands"


def build_app() -> typer.Typer:
    """One Typer app of all registered subcommands; each entry point names a function that takes the app and adds its commands."""
    app = typer.Typer(
        name="apidae",
        help="Sees every HTTP API your machines and clusters really serve, without touching an app.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for entry_point in sorted(entry_points(group=COMMANDS_GROUP), key=lambda e: e.name):
        entry_point.load()(app)
    return app


def main() -> None:
    """Entry point of the console script."""
    build_app()()
