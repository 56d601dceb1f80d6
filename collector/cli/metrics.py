"""Commands on the metrics that a collector exports of endpoints, by requests to it."""

from typing import Annotated, Any, Final

import typer

from collector.cli.client import Api, AskedByOption, command, describe_columns, say

ENDPOINT_COLUMNS: Final = describe_columns("id method host template service is_chosen/1")
_PATH: Final = "metrics/endpoints"


def register_metrics(get: typer.Typer, decide: typer.Typer) -> None:
    """Add the commands."""

    @command(get, "metric-endpoints")
    def metric_endpoints(api: Api) -> None:
        """List the endpoints that have metrics of their own."""
        _print(api, api.fetch(_PATH))

    @command(decide, "metric-endpoint")
    def metric_endpoint(
        api: Api,
        endpoint: Annotated[str, typer.Argument(help="Id of an endpoint, as `apidae get endpoints` lists it.")],
        is_off: Annotated[bool, typer.Option("--off", help="No longer.")] = False,
        asked_by: AskedByOption = "",
    ) -> None:
        """Give an endpoint metrics of its own."""
        _print(api, api.act(_PATH, {"remove" if is_off else "add": [endpoint], "asked_by": asked_by}))

    @command(decide, "metric-rule")
    def metric_rule(
        api: Api,
        query: Annotated[str, typer.Argument(help="Filters and sort as in a URL: `risk_min=70&sort=risk`.")] = "",
        asked_by: AskedByOption = "",
    ) -> None:
        """Give endpoints that match a query metrics of their own; without a query none."""
        _print(api, api.act(_PATH, {"query": query, "asked_by": asked_by}))


def _print(api: Api, found: dict[str, Any]) -> None:
    api.print_items(found["items"], ENDPOINT_COLUMNS)
    say(f"The rule is {found['query'] or 'empty'}; at most {found['maximum']} endpoints have metrics.", err=True)
