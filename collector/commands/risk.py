"""`apidae risk` and `apidae findings`: why an endpoint is a risk, what rules found, and a person's word on it."""

import json
from typing import Annotated
from urllib.parse import quote

import typer

from collector.commands.client import act, fetch
from collector.commands.options import URL, ByOption, LimitOption, Output, OutputOption, TokenOption, UrlOption
from collector.commands.table import describe_columns, print_items

TERM_COLUMNS = describe_columns(
    ("term", "name", 0),
    ("weight", "weight", 0),
    ("evidence", "evidence", 0),
    ("lower", "lower", 2),
    ("then", "score_if_lowered", 0),
    ("owasp", "owasp", 3),
)
FINDING_COLUMNS = describe_columns(
    ("id", "id", 0),
    ("severity", "severity", 0),
    ("state", "state", 0),
    ("title", "title", 0),
    ("service", "service", 1),
    ("method", "method", 2),
    ("host", "host", 5),
    ("template", "url_template", 0),
    ("why", "why", 3),
    ("owasp", "owasp", 4),
    ("first_seen", "first_seen", 6),
    ("by", "changed_by", 7),
    ("note", "note", 7),
)


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command("risk")
    def risk(
        endpoint: Annotated[str, typer.Argument(help="Id of an endpoint, as in `apidae endpoints -o json`.")],
        url: UrlOption = URL,
        token: TokenOption = "",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Explain the risk of one endpoint: every term, what was seen, what would lower it."""
        found = fetch(url, token, f"endpoints/{quote(endpoint, safe='')}/risk", {})
        if output is Output.JSON:
            typer.echo(json.dumps(found, indent=2))
            return
        typer.echo(f"Risk {found['score']} of 100 ({found['level']}, formula {found['formula']}).", err=True)
        print_items(found["terms"], TERM_COLUMNS, output)
        if found["findings"] and output is Output.TABLE:
            print_items(found["findings"], FINDING_COLUMNS, output)

    @app.command("findings")
    def findings(
        query: Annotated[str, typer.Option("--query", "-q", help="Words that must all occur.")] = "",
        state: Annotated[str, typer.Option(help="open, accepted, false_positive or fixed; default all.")] = "",
        severity: Annotated[str, typer.Option(help="critical, high, medium or low.")] = "",
        rule: str = "",
        endpoint: Annotated[str, typer.Option(help="Id of an endpoint.")] = "",
        decide: Annotated[str, typer.Option("--set", metavar="ID=STATE", help="Decide on one finding.")] = "",
        by: ByOption = "",
        note: Annotated[str, typer.Option(help="With --set: why.")] = "",
        limit: LimitOption = 50,
        url: UrlOption = URL,
        token: TokenOption = "",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List what rules found, or decide on one: --set ID=accepted --by ada --note 'public by design'."""
        if decide:
            name, _, wanted = decide.partition("=")
            answer = act(
                url, token, f"findings/{quote(name, safe='')}/state", {"state": wanted, "by": by, "note": note}
            )
            print_items([answer], FINDING_COLUMNS, output)
            return
        asked = {"q": query, "state": state, "severity": severity, "rule": rule, "endpoint_id": endpoint}
        print_items(fetch(url, token, "findings", {**asked, "limit": str(limit)})["items"], FINDING_COLUMNS, output)
