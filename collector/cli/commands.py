"""The collector's commands: `apidae collector`, and those that ask a running one (collector/cli).

Standard output is for programs: one JSON line when the collector is ready. Standard error has the log, and one sentence
when it cannot start. Exit: 0 after SIGTERM or SIGINT, 1 where it could not start or go on, 2 for an unknown flag, 3
where a stop had to cut work off after 10 s.
"""

import asyncio
import logging
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from collector.cli import findings, inventory, lists, response, schemas, trust
from collector.core.config import CollectorSettings, load_settings
from common.flags import with_flags
from common.log_lines import escape, open_log
from common.settings import ConfigError

Config = Annotated[Path | None, typer.Option(help="TOML file of settings.")]


def register(app: typer.Typer) -> None:
    """Add the collector's commands."""
    app.command(
        name="collector",
        help="Run the collector: receive from sensors, keep the inventory, detect, alert, serve the API.",
    )(run)
    keys = typer.Typer(
        help="The installation key, under which sensors hash consumers and objects.", no_args_is_help=True
    )
    keys.command(name="rotate", help="Make a new key. The running collector sends it to its sensors.")(rotate_key)
    app.add_typer(keys, name="keys")
    for add_commands in (
        trust.register,
        lists.register_lists,
        findings.register_evidence,
        schemas.register_schema,
        response.register_block,
        schemas.register_spec,
        findings.register_risk,
        response.register_erase,
        findings.register_detection,
        inventory.register_template,
        inventory.register_change,
    ):
        add_commands(app)


@with_flags(CollectorSettings)
def run(flags: dict[str, Any], config: Config = None) -> None:
    """Run the collector until SIGTERM or SIGINT."""
    try:
        settings = load_settings(flags, config_path=config)
    except ConfigError as error:
        _fail(error)
    open_log(settings.log_level.value)
    # The store's client tells each try in lines of its own, with traces; what failed is in our sentence and counters.
    for noisy in ("urllib3.connectionpool", "clickhouse_connect"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    # What is in data_dir is for this user only, in a directory that somebody else made, too.
    os.umask(0o077)
    # Here, not above: the engine and its arrays cost the other commands a second each.
    from collector.core.keys import KeyFileError
    from collector.server.app import build_app
    from collector.server.listeners import StartError
    from collector.server.run import run_collector
    from collector.storage.base import StoreError

    try:
        asyncio.run(run_collector(settings, build_app))
    except (StartError, StoreError, KeyFileError, OSError, ValueError, RuntimeError) as error:
        logging.getLogger(__name__).debug("The start failed.", exc_info=True)
        _fail(error)
    # Everything is closed. To free hundreds of MB object by object would take seconds more than a stop has.
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)


@with_flags(CollectorSettings, ("data_dir",))
def rotate_key(flags: dict[str, Any], config: Config = None) -> None:
    """Put a new installation key before the one in use, which stays for 8 days."""
    from collector.core.keys import KEYS_FILE, KeyFileError, rotate_installation_key

    try:
        settings = load_settings(flags, config_path=config)
        key = rotate_installation_key(settings.data_dir / KEYS_FILE, time.time())
    except (ConfigError, KeyFileError) as error:
        _fail(error)
    print(f"The installation key is number {key.key_id} now; the one before stays in use for 8 days.")


def _fail(error: Exception) -> NoReturn:
    print(f"apidae collector: {escape(str(error))}", file=sys.stderr)
    raise typer.Exit(1)
