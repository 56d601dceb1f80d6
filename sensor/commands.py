"""The sensor side of the `apidae` command: what runs beside whatever a node is there for gives way first of all."""

import typer

from sensor.courtesy import give_way


def register(app: typer.Typer) -> None:
    """Add the commands of this side; called once it is known that one of them is wanted, or the list of all."""
    give_way()
    # Only now: to import them is a third of a start.
    from sensor import cli

    cli.register(app)
