"""The collector's commands: `apidae collector`, the program itself, and those that ask a running one (collector/cli).

What the words of the command line do not need is not loaded: a question of `get` waits for no module of the server.

Standard output of `apidae collector` is for programs: one JSON line when it is ready. Standard error has the log, and
one sentence when it cannot start. Exit: 0 after SIGTERM or SIGINT, 1 where it could not start or go on, 2 for an
unknown flag, 3 where a stop had to cut work off after 10 s.
"""

import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from collector.cli import consumers, describe, findings, inventory, lists, metrics, models, response, schemas, users
from collector.cli.client import add_group
from collector.cli.config import register_config
from collector.cli.gate import register_gate
from collector.cli.top.command import register_top
from collector.cli.watch import register_watch
from collector.core.keys import (
    API_TOKEN_FILE,
    APPROVAL_TOKEN_FILE,
    BACKUP_TOKEN_FILE,
    SENSOR_TOKEN_FILE,
    WEBHOOK_SECRET_FILE,
)
from common.log_lines import escape, open_log
from common.time_slice import let_others_first

Config = Annotated[Path | None, typer.Option(help="TOML file of settings.")]


class OwnToken(StrEnum):
    """Tokens that the collector makes, by their files."""

    SENSOR = SENSOR_TOKEN_FILE
    API = API_TOKEN_FILE
    APPROVAL = APPROVAL_TOKEN_FILE
    BACKUP = BACKUP_TOKEN_FILE
    WEBHOOK = WEBHOOK_SECRET_FILE


GRPC_LISTENER = "event_engine_listener"  # An experiment of gRPC's core, on by default since 1.80.

SERVER = ("collector", "keys")
TRUST = ("certificates", "enrollment")
BACKUP = ("backup", "restore")
STATE = ("state",)
MCP = ("mcp",)


def register(app: typer.Typer, words: Sequence[str] = ()) -> None:
    """Add the commands: all, or those that the first of `words` needs."""
    first = words[0] if words else ""
    if first in ("", *SERVER):
        register_server(app)
    if first in ("", *TRUST):
        from collector.cli.trust import register_trust

        register_trust(app)
    if first in ("", *BACKUP):
        from collector.cli.backup import register_backup

        register_backup(app)
    if first in ("", *STATE):
        from collector.cli.state import register_state

        register_state(app)
    if first in ("", *MCP):
        from collector.cli.mcp import register_mcp

        register_mcp(app)
    if first in (*SERVER, *TRUST, *BACKUP, *STATE, *MCP):
        return
    get = add_group(app, "get", "List what the collector knows.")
    if first in ("", "get"):  # Each list loads its filters.
        lists.register_lists(get, words[1] if len(words) > 1 and first == "get" else "")
    findings.register_reading(get)
    schemas.register_schema(app, get)
    response.register_reading(get)
    inventory.register_change(get)
    describe.register_describe(add_group(app, "describe", "Show all that is known of one thing."))
    register_top(app)
    register_watch(app)
    register_gate(app)
    register_config(app)
    decide = add_group(app, "set", "Change one thing: what it is, or what happens with it.")
    findings.register_decisions(app, decide)
    consumers.register_consumers(app, get, decide)
    metrics.register_metrics(get, decide)
    models.register_prices(get, decide)
    response.register_response(app, decide)
    schemas.register_specs(app)
    inventory.register_templates(app)
    lists.register_notifiers(app)
    users.register_users(app)


def register_server(app: typer.Typer) -> None:
    """Add the program, and the rotation of its key."""
    from collector.core.config import CollectorSettings
    from common.flags import with_flags

    app.command(
        name="collector",
        help="Run the collector: receive from sensors, keep the inventory, detect, alert, serve the API.",
    )(with_flags(CollectorSettings)(run))
    keys = add_group(app, "keys", "The installation key, under which sensors hash consumers and objects.")
    keys.command(name="rotate", help="Make a new key. The running collector sends it to its sensors.")(
        with_flags(CollectorSettings, ("data_dir",))(rotate_key)
    )
    keys.command(name="first-token", help="Switch the first API token on or off, whoever else can enter.")(
        with_flags(CollectorSettings, ("data_dir",))(switch_first_token)
    )
    keys.command(name="replace-token", help="Make a new token. It holds from the next start of the collector on.")(
        with_flags(CollectorSettings, ("data_dir",))(replace_own_token)
    )


def run(flags: dict[str, Any], config: Config = None) -> None:
    """Run the collector until SIGTERM or SIGINT."""
    import asyncio

    from collector.core.config import load_settings
    from common.settings import ConfigError

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
    # It is often on a node that it watches, and stores with all processors at once.
    let_others_first()
    # gRPC's newer listener wakes twice as many threads for each message of a sensor. Read when gRPC is loaded, below.
    os.environ.setdefault("GRPC_EXPERIMENTS", f"-{GRPC_LISTENER}")
    # Here, not above: the engine and its arrays cost the other commands a second each.
    from collector.core.keys import KeyFileError
    from collector.server.app import build_app
    from collector.server.listeners import StartError
    from collector.server.run import run_collector
    from collector.storage.base import StoreError

    try:
        has_to_begin_anew = asyncio.run(run_collector(settings, build_app))
    except (StartError, StoreError, KeyFileError, OSError, ValueError, RuntimeError) as error:
        logging.getLogger(__name__).debug("The start failed.", exc_info=True)
        _fail(error)
    # Everything is closed. To free hundreds of MB object by object would take seconds more than a stop has.
    logging.shutdown()
    sys.stdout.flush()
    if has_to_begin_anew:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)  # What is ignored here would be ignored there.
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    os._exit(0)


def rotate_key(flags: dict[str, Any], config: Config = None) -> None:
    """Put a new installation key before the one in use, which stays for 8 days."""
    from collector.cli.trust import open_secrets
    from collector.trust.installation_keys import InstallationKeyTable

    with open_secrets(flags, config) as (_, state, key):
        new = InstallationKeyTable(state, key).rotate(time.time())
    print(f"The installation key is number {new.key_id} now; the one before stays in use for 8 days.")


def replace_own_token(
    flags: dict[str, Any],
    name: Annotated[OwnToken, typer.Argument(help="Which one.", show_default=False)],
    config: Config = None,
) -> None:
    """One of those that the collector made, in the state and in its file for people."""
    from collector.cli.trust import open_secrets
    from collector.trust.secrets import SecretTable
    from collector.trust.secrets import replace_token as replace

    with open_secrets(flags, config) as (settings, state, key):
        path = settings.data_dir / name.value
        replace(SecretTable(state, key), path, time.time())
    print(f"{path} holds a new token; restart the collector.")


def switch_first_token(
    flags: dict[str, Any],
    to: Annotated[users.Switch, typer.Argument(help="On or off.", show_default=False)],
    config: Config = None,
) -> None:
    """In the state, as whoever may read it: the way back in."""
    from collector.cli.trust import open_state
    from collector.core.errors import ConflictError
    from collector.trust.principal import HOST
    from collector.trust.tokens import TokenTable

    with open_state(flags, config) as (_, state):
        try:
            TokenTable(state, time.time).switch_first(to is users.Switch.ON, by=HOST, has_login=False)
        except ConflictError as error:
            raise ValueError(str(error)) from None
    print(f"The first token is {to.value}; collectors that run know within a second.")


def _fail(error: Exception) -> NoReturn:
    print(f"apidae collector: {escape(str(error))}", file=sys.stderr)
    raise typer.Exit(1)
