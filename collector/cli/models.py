"""Commands on the prices of models, by requests to the collector."""

import json
import math
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from collector.cli.client import Api, AskedByOption, command, describe_columns, fail, say

PRICE_COLUMNS: Final = describe_columns("model provider/2 input output cache_read/3 cache_creation/4 source/5 date/1")
_PATH: Final = "models/prices"
_FILE_BYTES_MAX: Final = 1_000_000


def register_prices(get: typer.Typer, decide: typer.Typer) -> None:
    """Add the commands."""

    @command(get, "model-prices")
    def model_prices(api: Api) -> None:
        """List the prices of a million tokens, by which the cost of calls to models is computed."""
        _print(api, api.fetch(_PATH))

    @command(decide, "model-prices")
    def set_model_prices(
        api: Api,
        file: Annotated[
            Path | None, typer.Argument(help="TOML or JSON file of prices.", exists=True, dir_okay=False)
        ] = None,
        is_off: Annotated[bool, typer.Option("--off", help="Take all prices away.")] = False,
        asked_by: AskedByOption = "",
    ) -> None:
        """Set the prices of models in place of those before."""
        if (file is None) == (not is_off):
            raise fail("Give a file of prices, or --off.")
        found = read_prices(file) if file is not None else {"prices": []}
        _print(api, api.act(_PATH, {**found, "asked_by": asked_by}))


def read_prices(file: Path) -> dict[str, Any]:
    """The content of a file of prices. Raises typer.Exit with one sentence."""
    if file.stat().st_size > _FILE_BYTES_MAX:
        raise fail(f"{file} is larger than {_FILE_BYTES_MAX:,} bytes; give a file of prices.")
    try:
        text = file.read_text()
        found = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise fail(f"{file} is not TOML, or JSON of a name that ends in .json: {error}.") from None
    if not isinstance(found, dict) or not isinstance(found.get("prices"), list):
        raise fail(f"{file} has no list `prices`; docs/use/models.md shows one.")
    unknown = sorted(set(found) - {"currency", "prices"})
    if unknown:
        raise fail(f"{file} has {unknown[0]!r}, which is not known; use `currency` and `prices`.")
    for one in found["prices"]:
        for name, value in one.items() if isinstance(one, dict) else ():
            if isinstance(value, float) and not math.isfinite(value):
                raise fail(f"{file} has {name} = {value}; give a number of the currency from 0 on.")
    # TOML has dates of its own.
    return {**found, "prices": [_write_dates(one) for one in found["prices"]]}


def _write_dates(one: Any) -> Any:
    if not isinstance(one, dict):
        return one
    return {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in one.items()}


def _print(api: Api, found: dict[str, Any]) -> None:
    api.print_items(found["prices"], PRICE_COLUMNS, "model")
    if found["prices"] and found.get("currency"):
        say(f"Prices are of one million tokens, in {found['currency']}.", err=True)
    if not found["prices"]:
        say("No prices are set, so no cost is shown.", err=True)
