"""Commands on the metrics that a collector exports of endpoints, and on targets of coverage, by requests to it."""

from typing import Annotated, Any, Final

import typer

from collector.cli.client import Api, AskedByOption, command, describe_columns, fail, say

ENDPOINT_COLUMNS: Final = describe_columns("id method host template service is_chosen/1")
TARGET_COLUMNS: Final = describe_columns(
    "cluster namespace target=ratio read=recent_ratio connections/1 seconds/1 is_missed below_since/2 by=changed_by/3"
)
_TARGETS_PATH: Final = "coverage/targets"
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

    @command(get, "coverage-targets")
    def coverage_targets(api: Api) -> None:
        """List how much of the HTTP connections shall be read, and how much is read."""
        api.print_items(api.fetch(_TARGETS_PATH)["items"], TARGET_COLUMNS, "namespace")

    @command(decide, "coverage-target")
    def coverage_target(
        api: Api,
        ratio: Annotated[float, typer.Argument(help="Share that shall be read, such as 0.95.")] = 0.0,
        cluster: Annotated[str, typer.Option(help="Of this cluster; else of all.")] = "",
        namespace: Annotated[str, typer.Option(help="Of this namespace; else of all.")] = "",
        minutes: Annotated[int, typer.Option(help="How long the share may be below it.")] = 15,
        is_off: Annotated[bool, typer.Option("--off", help="Take the target away.")] = False,
        asked_by: AskedByOption = "",
    ) -> None:
        """Set how much of the HTTP connections shall be read; less raises an alert."""
        if not ratio and not is_off:
            raise fail("Give the share that shall be read, such as 0.95, or --off.")
        body = {"cluster": cluster, "namespace": namespace, "ratio": None if is_off else ratio, "seconds": minutes * 60}
        found = api.act(_TARGETS_PATH, {**body, "asked_by": asked_by})
        api.print_items(found["items"], TARGET_COLUMNS, "namespace")


def _print(api: Api, found: dict[str, Any]) -> None:
    api.print_items(found["items"], ENDPOINT_COLUMNS)
    say(f"The rule is {found['query'] or 'empty'}; at most {found['maximum']} endpoints have metrics.", err=True)
