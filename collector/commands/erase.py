"""`apidae erase CONSUMER`: everything that a running collector keeps of one consumer goes."""

from typing import Annotated

import typer

from collector.commands.client import act
from collector.commands.options import URL, ByOption, TokenOption, UrlOption

TIMEOUT_SECONDS = 900.0  # Tables are rewritten, and what they held before is waited for.


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("erase")(erase)


def erase(
    consumer: Annotated[str, typer.Argument(help="kind:value, as in `apidae consumers`.")],
    reason: Annotated[str, typer.Option(help="For the audit log; its name is blanked there.")] = "",
    lifts_blocks: Annotated[bool, typer.Option("--lift-blocks", help="Lift what stops it now.")] = False,
    by: ByOption = "",
    url: UrlOption = URL,
    token: TokenOption = "",
) -> None:
    """Erase one consumer: rows, log, detectors' state, alerts, blocks. It is known again when it calls again."""
    wish = {"consumer": consumer, "reason": reason, "lifts_blocks": lifts_blocks, "by": by}
    erased = act(url, token, "erasures", wish, timeout_seconds=TIMEOUT_SECONDS)
    for table, count in erased["rows"].items():
        typer.echo(f"{table}: {count} rows")
    for name in ("log_batches", "detector_subjects", "alerts", "notifications", "blocks", "audit_lines"):
        typer.echo(f"{name.replace('_', ' ')}: {erased[name]}")
