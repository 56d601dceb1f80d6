"""`apidae state migrate` moves the state of a stopped collector from its file to PostgreSQL."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from collector.cli.client import add_group, fail, say
from collector.cli.progress import show_progress
from collector.core.config import CollectorSettings, load_settings
from common.flags import with_flags
from common.settings import ConfigError

Config = Annotated[Path | None, typer.Option(help="TOML file of settings.")]


def register_state(app: typer.Typer) -> None:
    """Add the commands."""
    state = add_group(app, "state", "The database of what people and detectors decide.")
    state.command(
        "migrate",
        help="Move the state from state.db in data_dir to the empty PostgreSQL database of state_url. "
        "The collector must not run.",
    )(with_flags(CollectorSettings, ("data_dir",))(migrate))


def migrate(flags: dict[str, Any], config: Config = None) -> None:
    """Everything or nothing, with its rows counted."""
    from collector.storage.base import StoreError
    from collector.storage.state.moving import move_state

    os.umask(0o077)
    try:
        settings = load_settings(flags, config_path=config)
        if settings.state_url is None:
            raise ConfigError(
                "The setting state_url is not set, which names the PostgreSQL database to move to; set it."
            )
        with show_progress() as progress:
            moved = move_state(
                settings.data_dir,
                settings.state_url.get_secret_value(),
                on_begin=lambda rows: progress.begin("Moving the state", rows),
                on_rows=progress.advance,
            )
    except (ConfigError, StoreError) as error:
        raise fail(str(error)) from None
    except OSError as error:
        raise fail(f"{error.filename or 'The state'}: {error.strerror or error}.") from None
    tables = sum(1 for rows in moved.rows.values() if rows)
    say(
        f"Moved {sum(moved.rows.values()):,} rows of {tables} tables to {moved.place}. "
        f"The file is kept as {moved.file}; start the collector with the same state_url.",
        err=True,
    )
