"""`apidae evidence ALERT`: the rows behind an alert."""

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from collector.commands.client import fetch
from collector.commands.options import URL, LimitOption, Output, OutputOption, TokenOption, UrlOption
from collector.commands.table import describe_columns, print_items
from collector.rates import word_measure

EVIDENCE_COLUMNS = describe_columns(
    ("start", "start", 0),
    ("calls", "calls", 0),
    ("4xx", "client_errors", 1),
    ("5xx", "errors", 1),
    ("not_read", "not_read", 3),
    ("objects", "objects", 0, "has_estimated_objects"),
    ("credentials", "credentials", 2),
    ("records", "records_returned", 2),
    ("request_bytes", "request_bytes", 3),
    ("response_bytes", "response_bytes", 3),
    ("numeric_calls", "numeric_calls", 4),
    ("steps", "monotonic_steps", 4),
)


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("evidence")
    def evidence(
        alert: Annotated[str, typer.Argument(help="An alert's id, as `apidae alerts` lists it.")],
        limit: LimitOption = 500,
        url: UrlOption = URL,
        token: TokenOption = "",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List the calls behind an alert by minute or hour, with what was observed, expected and allowed."""
        found = fetch(url, token, f"alerts/{quote(alert, safe='')}/evidence", {"limit": str(limit)})
        for sentence in _describe(found):
            typer.echo(sentence, err=True)
        print_items(found["items"], EVIDENCE_COLUMNS, output)


def _describe(found: Mapping[str, Any]) -> list[str]:
    """What stands above the rows."""
    lines = []
    if found["observed"] is not None:
        named = [word for word in ("observed", "expected", "limit") if found[word] is not None]
        lines.append(", ".join(f"{word} {word_measure(found[word], found['unit'])}" for word in named))
    window = found["window"]
    if window is not None:
        lines.append(f"judged window, {window['start']} to {window['end']}: {window['calls']} calls")
    crowd = found["crowd"]
    if crowd is not None:
        lines.append(
            f"{crowd['consumers']} consumers in it, {crowd['new_consumers']} without a call in the hour before"
        )
        lines += [trait["sentence"] for trait in crowd["traits"]]
    lines += found["notes"]
    if found["request"] is not None:
        lines.append(f"the same by {found['request']['path']}?{urlencode(found['request']['parameters'])}")
    if found["next_cursor"] is not None:
        lines.append("there are more rows; ask the API with next_cursor")
    return lines
