"""Commands on consumers, by requests to a collector: who a token or name is, and the label that people give.

What identifies somebody is read from standard input: arguments are in `ps` and in the history of the shell.
"""

import sys
from getpass import getpass
from typing import Annotated, Final

import typer

from collector.cli.client import Api, AskedByOption, add_group, command, describe_columns, fail, say

CHARACTERS_MAX: Final = 16_384
FOUND_COLUMNS = describe_columns(
    "consumer=id label=label.name/1 as=forms/2 endpoints calls errors/4 key_id/5 first_seen/6 last_seen/3"
)
NAME_COLUMNS = describe_columns("consumer=id as=form key_id")
LABEL_COLUMNS = describe_columns("consumer label=name note/1 by=changed_by/2 at=changed_at/3")


def register_consumers(app: typer.Typer, get: typer.Typer, decide: typer.Typer) -> None:
    """Add the commands."""
    group = add_group(app, "consumers", "Find out who calls.")

    @command(group, "identify")
    def identify(
        api: Api,
        issuer: Annotated[
            list[str] | None,
            typer.Option(help="Who may have issued the JWT that a subject is of, exactly as its iss says; repeatable."),
        ] = None,
        names: Annotated[
            bool, typer.Option("--names", help="List all names that were looked up, seen or not.")
        ] = False,
    ) -> None:
        """Answer which consumer a token, API key, cookie, user or subject is. It is read from standard input, and kept
        nowhere."""
        value = _read_value()
        found = api.act("consumers/identify", {"value": value, "issuers": issuer or []})
        if names:
            api.print_items(found["candidates"], NAME_COLUMNS)
            return
        api.print_items(found["items"], FOUND_COLUMNS)
        if not found["items"]:
            say("Nobody called with it in the last 90 days; --names lists what it would be called.", err=True)

    @command(get, "consumer-labels")
    def consumer_labels(api: Api) -> None:
        """List the labels that people gave to consumers."""
        api.print_items(api.fetch("consumers/labels")["items"], LABEL_COLUMNS, "consumer")

    @command(decide, "consumer-label")
    def consumer_label(
        api: Api,
        consumer: Annotated[str, typer.Argument(help="kind:value, as `apidae get consumers` lists it.")],
        name: Annotated[str, typer.Argument(help="What to call it; an empty text takes the label away.")],
        note: Annotated[str, typer.Option(help="What else to know, such as the owner.")] = "",
        asked_by: AskedByOption = "",
    ) -> None:
        """Give a consumer a label, which alerts, notifications, lists and pages show."""
        body = {"consumer": consumer, "name": name, "note": note, "asked_by": asked_by}
        api.print_items([api.act("consumers/labels", body)], LABEL_COLUMNS, "consumer")


def _read_value() -> str:
    """One text from standard input, unseen where somebody types it."""
    value = getpass("Token, key, user or subject: ") if sys.stdin.isatty() else sys.stdin.read(CHARACTERS_MAX + 1)
    if not value.strip():
        raise fail("Standard input is empty; pipe the token, key, user or subject into the command.")
    if len(value) > CHARACTERS_MAX:
        raise fail(f"Standard input is longer than {CHARACTERS_MAX:,} characters; pipe in one token, key or name.")
    return value
