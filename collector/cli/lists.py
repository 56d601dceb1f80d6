"""`apidae get`: the lists of the API. Each is one entry of LISTS, with options from the filters of the list."""

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, get_args
from urllib.parse import parse_qsl, quote

import typer

from collector.api.columns import LIST_COLUMNS, Column, describe_columns
from collector.cli.client import Api, AskedByOption, add_group, command, fail, say

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from collector.inventory.filters import ListQuery

Answer = Mapping[str, Any]
PAGE_ITEMS_MAX = 500  # What the API gives at once.
VALUES_SHOWN = 8  # More values of an option stand in its sentence.
FILTERS_PANEL = "Filters"
PAGE_PANEL = "Sort and page"
# Lists with views, as the API has them (collector/api/views.py).
VIEWED = ("endpoints", "services", "consumers", "findings", "alerts", "incidents", "exposure", "coverage")
LAST_OPTIONS = ("sort", "order", "since", "start", "end", "limit")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Another table of the same command, which a flag chooses."""

    help: str
    path: str
    read: Callable[[Answer], Sequence[Answer]]
    columns: tuple[Column, ...]
    is_filtered: bool = False  # Takes the filters of the list.


@dataclass(frozen=True, slots=True, kw_only=True)
class ListCommand:
    """One command of `apidae get`. `query` is the class of its filters, `module:class`: the command that runs loads it.
    `key` is the place of what `-o name` prints, `items` that of the rows in an answer. `notes` are sentences of an
    answer for standard error; `views` are by flag."""

    help: str
    path: str
    columns: tuple[Column, ...]
    query: str = ""
    key: str = "id"
    items: str = "items"
    notes: Callable[[Answer], Iterator[str]] = lambda answer: iter(())
    views: Mapping[str, View] = field(default_factory=dict)


def _name_clusters(answer: Answer) -> Iterator[str]:
    for cluster in answer["clusters"]:
        if cluster["reason"]:
            yield f"Cluster {cluster['cluster'] or '(unnamed)'}: {cluster['reason']}"


def _describe_specs(answer: Answer) -> Iterator[str]:
    for path, error in answer["file_errors"].items():
        yield f"{path}: {error}"
    for one in answer["seen_in_traffic"]:
        yield f"Seen in traffic: {one['method']} {one['host']}{one['template']} of {one['service']}"
    for one in answer["items"]:
        if one["fit"]:
            yield f"{one['name']}: {one['fit']}"


def _count_edges(answer: Answer) -> Iterator[str]:
    if answer["total"] > len(answer["edges"]):
        yield (
            f"{len(answer['edges']):,} of {answer['total']:,} edges shown, with {answer['calls_shown']:,} of "
            f"{answer['calls']:,} calls; --limit shows more."
        )


def _sum_models(answer: Answer) -> Iterator[str]:
    totals = answer["totals"]
    if totals["cost"] is not None:
        cost = f"{totals['cost']:,.2f} {totals['currency']}".rstrip()
        yield (
            f"The {totals['priced_calls']:,} calls with a price cost {cost}. Tokens are known of "
            f"{totals['counted_calls']:,} calls."
        )
    if totals["left_out"]:
        yield f"{totals['left_out']:,} sums of the fewest calls were not read; narrow the span."
    if totals["unread_states"]:
        yield f"{totals['unread_states']:,} reports of sensors were not read: one node sent too many; narrow the span."


_NAME = "id method host/3 template operation.name=operation service/1"
LISTS: Mapping[str, ListCommand] = {
    "endpoints": ListCommand(
        help="List the endpoints of the inventory.",
        path="endpoints",
        query="collector.inventory.endpoints.filters:EndpointQuery",
        columns=LIST_COLUMNS["endpoints"],
    ),
    "consumers": ListCommand(
        help="List the consumers: who calls.",
        path="consumers",
        query="collector.inventory.consumers.consumers:ConsumerQuery",
        columns=LIST_COLUMNS["consumers"],
    ),
    "exposure": ListCommand(
        help="List what leads to the workloads of watched Kubernetes clusters.",
        path="exposure",
        key="workload",
        query="collector.inventory.endpoints.exposure_list:ExposureQuery",
        columns=LIST_COLUMNS["exposure"],
        notes=_name_clusters,
    ),
    "alerts": ListCommand(
        help="List alerts, newest or gravest first.",
        path="alerts",
        query="collector.api.lists:AlertQuery",
        columns=LIST_COLUMNS["alerts"],
        views={
            "counts": View(
                help="How many there are, by state and severity.",
                path="alerts/summary",
                read=lambda answer: list(answer["items"]),
                columns=describe_columns("state total high medium low"),
            ),
        },
    ),
    "findings": ListCommand(
        help="List what rules found, and what people decided of it, the worst first.",
        path="findings",
        query="collector.risk.finding_query:FindingQuery",
        columns=LIST_COLUMNS["findings"],
        views={
            "by-rule": View(
                help="One line for each rule.",
                path="findings/groups",
                read=lambda answer: list(answer["items"]),
                columns=describe_columns(
                    "rule severity findings open=by_state.open/1 title/2 services=services_total/3 endpoints/4 owasp/5 "
                    "last_seen/6"
                ),
                is_filtered=True,
            )
        },
    ),
    "incidents": ListCommand(
        help="List incidents, all that one actor did, newest first.",
        path="incidents",
        query="collector.api.lists:IncidentQuery",
        columns=LIST_COLUMNS["incidents"],
    ),
    "coverage": ListCommand(
        help="List every listening port and called host: what is spoken, whether it is read, and why not.",
        path="coverage/ports",
        key="service.port",
        query="collector.inventory.coverage.sql:PortQuery",
        columns=LIST_COLUMNS["coverage/ports"],
        views={
            "nodes": View(
                help="The share that is read, of each node.",
                path="coverage",
                read=lambda answer: [{**answer["cluster"], "node": "(all)"}, *answer["nodes"]],
                columns=describe_columns(
                    "node read_connections_ratio=share.read_connections_ratio "
                    "read_bytes_ratio=share.read_bytes_ratio ports/1 read_ports/1 unreadable_ports/2 unseen_ports/3 "
                    "outbound_hosts/3 estimated_calls/4 joined_late/5 lost_calls"
                ),
            ),
            "losses": View(
                help="What was lost, with advice.",
                path="coverage",
                read=lambda answer: list(answer["losses"]),
                columns=describe_columns("node stage/1 reason count meaning advice"),
            ),
            "blind-spots": View(
                help="What is never read or is excluded.",
                path="coverage",
                read=lambda answer: list(answer["blind_spots"]),
                columns=describe_columns("kind nodes places/1 connections/1 bytes/2 calls/2 meaning"),
            ),
        },
    ),
    "audit": ListCommand(
        help="List who decided and exported what, the newest first.",
        path="audit",
        key="number",
        query="collector.api.audit:AuditQuery",
        columns=LIST_COLUMNS["audit"],
    ),
    "config": ListCommand(
        help="List the settings that the collector runs with, and where each came from.",
        path="config",
        key="name",
        columns=describe_columns("name value source/1"),
    ),
    "sensors": ListCommand(
        help="List the sensors with their state, lag and losses.",
        path="sensors",
        key="node",
        query="collector.inventory.sensors:SensorQuery",
        columns=describe_columns(
            "node state capture/1 version/5 lag_ms/4 seen_calls/1 lost_calls loss_ratio/2 certificate_left_days/3 "
            "last_report_at/3 reason fallback_reason"
        ),
    ),
    "services": ListCommand(
        help="List the services that have endpoints.",
        path="services",
        key="service",
        query="collector.inventory.services.services:ServiceQuery",
        columns=LIST_COLUMNS["services"],
    ),
    "mcp-servers": ListCommand(
        help="List the servers of the Model Context Protocol (MCP), with what they offer.",
        path="mcp/servers",
        query="collector.inventory.mcp:McpServerQuery",
        columns=LIST_COLUMNS["mcp/servers"],
    ),
    "mcp-tools": ListCommand(
        help="List the tools, prompts and resources of all MCP servers, with who uses them.",
        path="mcp/tools",
        query="collector.inventory.mcp:McpToolQuery",
        columns=LIST_COLUMNS["mcp/tools"],
    ),
    "models": ListCommand(
        help="List who calls which models, with tokens, cost and classes of data in prompts and answers.",
        path="models",
        query="collector.inventory.models.models:ModelQuery",
        columns=LIST_COLUMNS["models"],
        notes=_sum_models,
    ),
    "map": ListCommand(
        help="List who calls which service, most calls first.",
        path="map",
        key="service",
        items="edges",
        query="collector.inventory.traffic.map:MapQuery",
        columns=describe_columns(
            "client_kind/2 client service namespace/6 calls errors p95_ms/1 endpoints/3 exposure/2 data=data_classes/2"
        ),
        notes=_count_edges,
    ),
    "timeseries": ListCommand(
        help="List calls, errors and latency over time, of everything or of a part.",
        path="timeseries",
        key="time",
        items="points",
        query="collector.inventory.traffic.series:SeriesQuery",
        columns=describe_columns("time calls success/2 client_error/2 errors other/3 p95_ms/1"),
    ),
    "views": ListCommand(
        help="List views: filters of a list, saved under a name for everybody.",
        path="views",
        query="collector.api.views:ViewQuery",
        columns=describe_columns("id/3 list name query by/1 time/2"),
    ),
    "retired": ListCommand(
        help="List retired endpoints, which nobody called for 30 days.",
        path="inventory/tombstones",
        columns=describe_columns(f"{_NAME} calls first_seen/2 last_seen"),
    ),
    "template-edits": ListCommand(
        help="List all edits of templates, newest first.",
        path="template-edits",
        columns=describe_columns("id kind method/1 template host/3 by/2 time/2 exact_since/3 undone_at/1 note/4"),
    ),
    "specs": ListCommand(
        help="List the descriptions of APIs; on standard error what is wrong with files, where services serve one, and "
        "how that fits their calls.",
        path="specs",
        key="name",
        columns=describe_columns(
            "name version/1 service/1 in_force=is_in_force operations deprecated/2 versions/3 source/2 time/4"
        ),
        notes=_describe_specs,
    ),
}
NOTIFIER_COLUMNS = describe_columns(
    "name target last_outcome seen/1 delivered failed filtered/2 quiet/2 dropped/2 limited/2 repeated/3 waiting/1 "
    "audit=audit.delivered/3"
)


def register_lists(get: typer.Typer, only: str = "") -> None:
    """Add the lists to `apidae get`; where `only` names one, that one."""
    for name in LISTS if only not in LISTS else (only,):
        add_list(get, name)

    @command(get, "notifiers")
    def notifiers(api: Api) -> None:
        """List the notifiers and their counts."""
        api.print_items(api.fetch("notifiers")["items"], NOTIFIER_COLUMNS)


def register_notifiers(app: typer.Typer) -> None:
    """Add the group."""
    group = add_group(app, "notifiers", "Programs and addresses that alerts are sent to.")

    @command(group, "test", prints=False)
    def test(
        api: Api,
        name: Annotated[str, typer.Argument(help="Name of a notifier, as `apidae get notifiers` lists it.")],
        asked_by: AskedByOption = "",
    ) -> None:
        """Send a test alert to one notifier now. A failed test exits with 1."""
        answer = api.act(f"notifiers/{quote(name, safe='')}/test", {"asked_by": asked_by})
        sentence = f"Notifier {name}: {answer['outcome']}. {answer['meaning']}"
        if answer["outcome"] != "delivered":
            raise fail(sentence)
        say(sentence)


def load_query(name: str) -> "type[ListQuery]":
    """The class of a list's filters, by `module:class`."""
    module, _, kind = name.partition(":")
    found: type[ListQuery] = getattr(importlib.import_module(module), kind)
    return found


def add_list(get: typer.Typer, name: str) -> None:
    """Add the command of a list."""
    described = LISTS[name]

    def print_list(api: Api, **given: Any) -> None:
        for flag, view in described.views.items():
            if given.pop(flag.replace("-", "_")):
                given.pop("all", False)
                asked = {one: _write_value(value) for one, value in given.items()} if view.is_filtered else {}
                api.print_items(view.read(api.fetch(view.path, asked)), view.columns, view.columns[0].place)
                return
        is_all, view = given.pop("all", False), given.pop("view", "")
        asked = {one: _write_value(value) for one, value in given.items()}
        if view:
            # What is given beside the view replaces what it says.
            asked = {one: value for one, value in asked.items() if value != defaults[one]}
            asked = find_view(api, name, view) | asked
        if is_all:
            asked["limit"] = str(PAGE_ITEMS_MAX)
        items: list[Answer] = []
        for answer in api.fetch_pages(described.path, asked):
            if not items:
                for sentence in described.notes(answer):
                    say(sentence, err=True)
            items += answer[described.items]
            if not is_all:
                break
        api.print_items(items, described.columns, described.key)
        if answer.get("next_cursor"):
            total = answer.get("total")
            of_all = f"{len(items):,} of {total:,} shown" if total else f"{len(items):,} shown, and there are more"
            say(f"{of_all}; --all shows all.", err=True)

    options = [
        *(list_options(load_query(described.query)) if described.query else ()),
        *(_make_flag(flag, view.help) for flag, view in described.views.items()),
    ]
    defaults = {one.name: _write_value(one.default) for one in options}
    if described.query and "cursor" in load_query(described.query).model_fields:
        options.append(_make_flag("all", "All items, page after page.", PAGE_PANEL))
    if name in VIEWED:
        option = typer.Option("--view", help="Name of a view, as `apidae get views` lists it.")
        options.append(
            inspect.Parameter("view", inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[str, option], default="")
        )
    api_parameter = inspect.Parameter("api", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    print_list.__signature__ = inspect.Signature([api_parameter, *options])  # type: ignore[attr-defined]
    command(get, name, help=described.help)(print_list)


def find_view(api: Api, list_name: str, name: str) -> dict[str, str]:
    """The parameters of a view by its name."""
    found = api.fetch("views", {"list": list_name, "limit": str(PAGE_ITEMS_MAX)})["items"]
    for view in found:
        if view["name"].lower() == name.lower():
            return dict(parse_qsl(view["query"]))
    raise fail(f"There is no view {name!r} of {list_name}; `apidae get views --list {list_name}` lists them.")


def list_options(query: "type[ListQuery]") -> Iterator[inspect.Parameter]:
    """An option for each field of a list but the cursor, filters first."""
    fields = sorted(
        query.model_fields.items(), key=lambda pair: LAST_OPTIONS.index(pair[0]) if pair[0] in LAST_OPTIONS else -1
    )
    for name, info in fields:
        if name != "cursor":
            yield _make_option(name, info)


def find_kind(info: "FieldInfo") -> Any:
    """The type of a filter's value without None: words, a number, a flag or text."""
    kinds = (info.annotation, *get_args(info.annotation))
    words = next((one for one in kinds if isinstance(one, type) and issubclass(one, StrEnum)), None)
    number = next((one for one in kinds if one in (int, float)), None)
    return words or number or (bool if bool in kinds else str)


def _make_option(name: str, info: "FieldInfo") -> inspect.Parameter:
    from collector.inventory.filters import Filter

    filters = [one for one in info.metadata if isinstance(one, Filter)]
    kind = find_kind(info)
    enumeration = kind if issubclass(kind, StrEnum) else None
    values = [str(one) for one in enumeration] if enumeration else [one for f in filters for one in f.choices]
    default = info.default if info.default not in ("", None) else None
    settings: dict[str, Any] = {}
    sentence = info.description or ""
    if len(values) > VALUES_SHOWN:
        settings["metavar"] = name.rpartition("_")[2].upper()
        sentence = f"{sentence.rstrip('.')}. {'One' if enumeration else 'Such as one'} of {', '.join(values)}."
    if values and not enumeration:
        settings["autocompletion"] = lambda: values
    if name in ("sort", "order") and not info.description:
        sentence = "What to sort by." if name == "sort" else "Direction of the sort."
    if name == "limit":
        settings |= {"min": 1, "max": PAGE_ITEMS_MAX}
        sentence = "At most this many."
    flag = name.replace("_", "-")
    option = typer.Option(
        *(("--query", "-q") if name == "q" else (f"--{flag}/--no-{flag}",) if kind is bool else (f"--{flag}",)),
        help=sentence.replace("[", "(").replace("]", ")"),
        rich_help_panel=PAGE_PANEL if name in LAST_OPTIONS else FILTERS_PANEL,
        **settings,
    )
    annotation = Annotated[kind | None, option] if default is None else Annotated[kind, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _write_value(value: Any) -> str:
    """As a query parameter has it."""
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _make_flag(name: str, text: str, panel: str = FILTERS_PANEL) -> inspect.Parameter:
    option = typer.Option(f"--{name}", help=text, rich_help_panel=panel)
    return inspect.Parameter(
        name.replace("-", "_"), inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[bool, option], default=False
    )
