"""The collector's commands: `apidae collector`, and those that ask a running one (collector/cli).

Standard output is for programs: one JSON line when the collector is ready. Standard error has the log, and one sentence
when it cannot start. Exit: 0 after SIGTERM or SIGINT, 1 where it could not start, 2 for an unknown flag.
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
from collector.core.config import ConfigError, load_settings


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


def run(
    config: Annotated[Path | None, typer.Option(help="TOML file of settings.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where everything is kept.")] = None,
    grpc_listen: Annotated[str | None, typer.Option(help="HOST:PORT for sensors; port 0 takes a free one.")] = None,
    http_listen: Annotated[str | None, typer.Option(help="HOST:PORT for people; port 0 takes a free one.")] = None,
    tls_cert_file: Annotated[Path | None, typer.Option(help="PEM certificates of both listeners.")] = None,
    tls_key_file: Annotated[Path | None, typer.Option(help="PEM key of the certificate.")] = None,
    tls_server_names: Annotated[
        str | None, typer.Option(help="Names for the certificate that the collector makes, with commas.")
    ] = None,
    ca_cert_file: Annotated[Path | None, typer.Option(help="PEM authority of sensors' certificates.")] = None,
    ca_key_file: Annotated[Path | None, typer.Option(help="PEM key of the authority.")] = None,
    sensor_auth: Annotated[str | None, typer.Option(help="auto, certificate, token or any.")] = None,
    no_auth: Annotated[bool | None, typer.Option("--no-auth", help="No tokens; loopback only.")] = None,
    cluster: Annotated[str | None, typer.Option(help="Name of the Kubernetes cluster that is watched.")] = None,
    kubernetes: Annotated[str | None, typer.Option(help="auto, on or off: whether its API server is asked.")] = None,
    kubeconfig: Annotated[Path | None, typer.Option(help="How to reach it from outside.")] = None,
    disk_limit_bytes: Annotated[int | None, typer.Option(help="The tables stay below this.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
) -> None:
    """Run the collector until SIGTERM or SIGINT."""
    flags = {
        "data_dir": data_dir,
        "grpc_listen": grpc_listen,
        "http_listen": http_listen,
        "tls_cert_file": tls_cert_file,
        "tls_key_file": tls_key_file,
        "tls_server_names": tls_server_names,
        "ca_cert_file": ca_cert_file,
        "ca_key_file": ca_key_file,
        "sensor_auth": sensor_auth,
        "no_auth": no_auth,
        "cluster": cluster,
        "kubernetes": kubernetes,
        "kubeconfig": kubeconfig,
        "disk_limit_bytes": disk_limit_bytes,
        "log_level": log_level,
    }
    try:
        settings = load_settings(flags, config_path=config)
    except ConfigError as error:
        _fail(error)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=settings.log_level.value.upper(), handlers=[handler])
    # The store's client tells each try in lines of its own, with traces; what failed is in our sentence and counters.
    for noisy in ("urllib3.connectionpool", "clickhouse_connect"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    # What is in data_dir is for this user only, in a directory that somebody else made, too.
    os.umask(0o077)
    # Here, not above: the engine and its arrays cost the other commands a second each.
    from collector.core.keys import KeyFileError
    from collector.server.listeners import StartError
    from collector.server.run import run_collector
    from collector.storage.base import StoreError

    try:
        asyncio.run(run_collector(settings, lambda: load_settings(flags, config_path=config)))
    except (StartError, StoreError, KeyFileError, OSError, ValueError, RuntimeError) as error:
        logging.getLogger(__name__).debug("The start failed.", exc_info=True)
        _fail(error)


def rotate_key(
    config: Annotated[Path | None, typer.Option(help="TOML file of settings.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where the collector keeps everything.")] = None,
) -> None:
    """Put a new installation key before the one in use, which stays for 8 days."""
    from collector.core.keys import KEYS_FILE, KeyFileError, rotate_installation_key

    try:
        settings = load_settings({"data_dir": data_dir}, config_path=config)
        key = rotate_installation_key(settings.data_dir / KEYS_FILE, time.time())
    except (ConfigError, KeyFileError) as error:
        _fail(error)
    print(f"The installation key is number {key.key_id} now; the one before stays in use for 8 days.")


class LineFormatter(logging.Formatter):
    """One line a record, whatever text from outside its message holds: a line end, or a sequence that steers the
    terminal, is written as its escape. Lines of a traceback begin with a tab, so none looks like a record."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name for it
        """The record's line."""
        record.message = _escape(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name for it
        """The traceback behind it."""
        return "\n".join(f"\t{_escape(line)}" for line in super().formatException(ei).split("\n"))


def _escape(text: str) -> str:
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def _fail(error: Exception) -> NoReturn:
    print(f"apidae collector: {error}", file=sys.stderr)
    raise typer.Exit(1)
