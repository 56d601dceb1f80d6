"""The options that all commands have which ask a collector."""

import getpass
import os
from enum import StrEnum
from typing import Annotated

import typer

URL = "http://127.0.0.1:8080"


class Output(StrEnum):
    """How to print."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def name_decider(given: str = "") -> str:
    """Who decides: as given, else the user's name, else `uid:10001` where the user has none, as in a container."""
    if given:
        return given
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # KeyError: Python 3.12.
        return f"uid:{os.getuid()}"


ByOption = Annotated[
    str,
    typer.Option("--by", callback=name_decider, show_default="your user name", help="Name to keep with the decision."),
]
UrlOption = Annotated[str, typer.Option("--url", envvar="APIDAE_URL", help="Address of the collector's HTTP side.")]
TokenOption = Annotated[str, typer.Option("--token", envvar="APIDAE_TOKEN", help="API token; none with --no-auth.")]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to print.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=500, help="At most this many.")]
SinceOption = Annotated[str, typer.Option("--since", help="1h, 24h, 7d, 30d or 90d.")]
