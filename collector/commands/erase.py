"""`apidae erase CONSUMER`: everything that a stopped collector keeps of one consumer goes."""

from pathlib import Path
from typing import Annotated

import typer

from collector.config import ConfigError, load_settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("erase")(erase)


def erase(
    consumer: Annotated[str, typer.Argument(help="kind:value, as in `apidae consumers`.")],
    config: Annotated[Path | None, typer.Option(help="TOML file of settings.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where the collector keeps everything.")] = None,
) -> None:
    """Erase one consumer: rows, log, detectors' state, alerts. The collector must not run meanwhile."""
    from collector.compose import AUDIT_FILE, BLOCKS_FILE, CHECKPOINT_FILE, open_store
    from collector.erasure.checkpoint import erase_from_checkpoint
    from collector.erasure.log import erase_from_log
    from collector.erasure.tables import erase_from_tables
    from collector.inventory.consumer import ConsumerError, parse_consumer
    from collector.store.base import StoreError
    from collector.store.embedded import lock_directory
    from collector.store.tables.layout import Layout

    try:
        settings = load_settings({"data_dir": data_dir}, config_path=config)
        name = parse_consumer(consumer)
        lock = lock_directory(settings.data_dir)
    except (ConfigError, ConsumerError, StoreError) as error:
        raise _fail(str(error)) from None
    try:
        layout = Layout(cluster=settings.store_cluster)
        store = open_store(settings)
        try:
            rows = erase_from_tables(store, name, suffix=layout.write_table, on_cluster=layout.on_cluster)
        finally:
            store.close()
        batches = erase_from_log(settings.data_dir / "wal", name)
        subjects = erase_from_checkpoint(settings.data_dir / CHECKPOINT_FILE, name.id)
    except (StoreError, OSError, ValueError) as error:
        raise _fail(f"{error} Nothing is left half done by another run of this command.") from None
    finally:
        lock.close()
    for table, count in rows.items():
        typer.echo(f"{table}: {count} rows")
    typer.echo(f"log: {batches} batches")
    typer.echo(f"detectors: {subjects} subjects")
    for file in (BLOCKS_FILE, AUDIT_FILE):
        path = settings.data_dir / file
        if path.exists() and name.value in path.read_text(errors="replace"):
            typer.echo(f"{path} still names it: blocks and who ordered them are kept; end the block first.", err=True)


def _fail(sentence: str) -> typer.Exit:
    typer.echo(sentence, err=True)
    return typer.Exit(1)
