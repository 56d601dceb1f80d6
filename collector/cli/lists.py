"""The commands that print a list of the API: one entry of LISTS each, with options from the filters of the list."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import quote

import typer

from collector.api.lists import AlertQuery, IncidentQuery
from collector.cli.client import (
    Api,
    AskedByOption,
    Column,
    LimitOption,
    command,
    describe_columns,
    fail,
    say,
)
from collector.inventory.consumers.consumers import ConsumerQuery
from collector.inventory.coverage.sql import PortQuery
from collector.inventory.endpoints.exposure_list import ExposureQuery
from collector.inventory.endpoints.filters import EndpointQuery
from collector.inventory.filters import ListQuery, list_members

Answer = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Another table of the same command, which a flag chooses."""

    help: str
    path: str
    read: Callable[[Answer], Sequence[Answer]]
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListCommand:
    """One command. `notes` are sentences of an answer for standard error; `views` are by flag."""

    help: str
    path: str
    columns: tuple[Column, ...]
    query: type[ListQuery] | None = None
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


_NAME = "method host/3 template operation.name=operation service/1"
# By name; of a command in a group after the group's.
LISTS: Mapping[str, ListCommand] = {
    "endpoints": ListCommand(
        help="List the endpoints of the inventory.",
        path="endpoints",
        query=EndpointQuery,
        columns=describe_columns(
            "method host/8 template service calls~is_estimated 2xx=status.2xx/5 4xx=status.4xx/4 "
            "5xx=status.5xx/3 not_read=status.not_read/6 p95_ms=latency_ms.p95/2 credentials=authentication.level "
            "consumers/1 tier/6 last_seen/7 protocols/5 data=bodies.data_classes/3 records=bodies.records_returned/6 "
            "exposure=exposure.level/4 spec=spec.status/6 kind=kubernetes.kind/8 "
            "image=container_image_name/8 image_tags=container_image_tags/9 risk=risk.score/2 "
            "credential_kinds=authentication.kinds/9"
        ),
    ),
    "consumers": ListCommand(
        help="List the consumers: who calls.",
        path="consumers",
        query=ConsumerQuery,
        columns=describe_columns(
            "consumer=id endpoints calls errors/1 denied/1 objects~has_estimated_objects held_by=holders.label/3 "
            "last_seen/2"
        ),
    ),
    "exposure": ListCommand(
        help="List what leads to the workloads of watched Kubernetes clusters.",
        path="exposure",
        query=ExposureQuery,
        columns=describe_columns(
            "cluster/4 namespace workload port exposure=exposure.level reasons=exposure.reasons/1 "
            "since=exposure.since/3"
        ),
        notes=_name_clusters,
    ),
    "alerts": ListCommand(
        help="List alerts, newest first.",
        path="alerts",
        query=AlertQuery,
        columns=describe_columns(
            "id/6 state severity confidence kind/5 title nodes/5 opened_at observed_rate/3 expected_rate/4 "
            "silence=silence.kind/2 silenced_by=silence.by/7 silenced_at=silence.at/8 until=silence.until/7 "
            "reason=silence.reason/7"
        ),
    ),
    "incidents": ListCommand(
        help="List incidents, all that one actor did, newest first.",
        path="incidents",
        query=IncidentQuery,
        columns=describe_columns("id/6 state severity actor/2 title alerts/3 risks/4 opened_at"),
    ),
    "coverage": ListCommand(
        help="List every listening port and called host: what is spoken, whether it is read, and why not.",
        path="coverage/ports",
        query=PortQuery,
        columns=describe_columns(
            "node/3 role/8 port=service.port service address/7 protocol reading connections/2 "
            "bytes/4 calls/5 estimated_calls/5 joined_late/9 lost_calls/9 first_seen/10 reason/1"
        ),
        views={
            "nodes": View(
                help="The share that is read, of each node.",
                path="coverage",
                read=lambda answer: [{**answer["cluster"], "node": "(all)"}, *answer["nodes"]],
                columns=describe_columns(
                    "node read_connections=share.read_connections_ratio read_bytes=share.read_bytes_ratio ports/1 "
                    "read_ports/1 unreadable_ports/2 unseen_ports/3 outbound_hosts/3 estimated_calls/4 joined_late/5 "
                    "lost_calls"
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
    "sensors": ListCommand(
        help="List the sensors with their state, lag and losses.",
        path="sensors",
        columns=describe_columns(
            "node state capture/1 version/5 lag_ms/4 seen_calls/1 lost_calls loss_ratio/2 certificate_left_days/3 "
            "last_report_at/3 reason fallback_reason"
        ),
    ),
    "services": ListCommand(
        help="List the services that have endpoints.",
        path="services",
        columns=describe_columns("service cluster/2 namespace/1 endpoints"),
    ),
    "tombstones": ListCommand(
        help="List endpoints that nobody called for 30 days.",
        path="inventory/tombstones",
        columns=describe_columns(f"{_NAME} calls first_seen/2 last_seen id/4"),
    ),
    "templates list": ListCommand(
        help="List all edits, newest first.",
        path="template-edits",
        columns=describe_columns("id kind method/1 template host/3 by/2 time/2 exact_since/3 undone_at/1 note/4"),
    ),
    "specs list": ListCommand(
        help="List the descriptions; on standard error what is wrong with files, where services serve one, and how "
        "that fits their calls.",
        path="specs",
        columns=describe_columns(
            "name version/1 service/1 in_force=is_in_force operations deprecated/2 versions/3 source/2 time/4"
        ),
        notes=_describe_specs,
    ),
}
NOTIFIER_COLUMNS = describe_columns(
    "name target last_outcome seen/1 delivered failed dropped/2 limited/2 repeated/3 waiting/1"
)


def register_lists(app: typer.Typer) -> None:
    """Add the lists that are no group's, and `notifiers`."""
    for name in LISTS:
        if " " not in name:
            add_list(app, name)

    @command(app, "notifiers")
    def notifiers(
        api: Api,
        test: Annotated[str, typer.Option("--test", help="Send a test alert to this one now.")] = "",
        asked_by: AskedByOption = "",
    ) -> None:
        """List the notifiers and their counts, or test one. A failed test exits with 1."""
        if not test:
            api.print_items(api.fetch("notifiers")["items"], NOTIFIER_COLUMNS)
            return
        answer = api.act(f"notifiers/{quote(test, safe='')}/test", {"asked_by": asked_by})
        if answer["outcome"] != "delivered":
            raise fail(f"Notifier {test}: {answer['outcome']}. {answer['meaning']}")
        say(f"Notifier {test}: {answer['outcome']}. {answer['meaning']}")


def add_list(app: typer.Typer, name: str) -> None:
    """Add the command of a list to the app or to its group."""
    described = LISTS[name]

    def print_list(api: Api, **given: Any) -> None:
        for flag, view in described.views.items():
            if given.pop(flag.replace("-", "_")):
                api.print_items(view.read(api.fetch(view.path)), view.columns)
                return
        answer = api.fetch(described.path, {one: str(value) for one, value in given.items()})
        for sentence in described.notes(answer):
            say(sentence, err=True)
        api.print_items(list(answer["items"]), described.columns)

    options = [
        *(list_options(described.query) if described.query is not None else ()),
        *(_make_option(flag, view.help, False) for flag, view in described.views.items()),
    ]
    api_parameter = inspect.Parameter("api", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    print_list.__signature__ = inspect.Signature([api_parameter, *options])  # type: ignore[attr-defined]
    command(app, name.rpartition(" ")[2], help=described.help)(print_list)


def list_options(query: type[ListQuery]) -> Iterator[inspect.Parameter]:
    """An option for each field of a list but the cursor, filters first: one page is printed."""
    last = ("sort", "order", "since", "limit")
    fields = sorted(query.model_fields.items(), key=lambda pair: last.index(pair[0]) if pair[0] in last else -1)
    for name, info in fields:
        if name == "limit":
            yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=LimitOption, default=info.default)
        elif name != "cursor":
            members = list_members(info)
            sentences = [info.description or "", f"One of {', '.join(members)}." if members else ""]
            default = "" if info.default is None else str(info.default)
            yield _make_option(name, " ".join(filter(None, sentences)), default)


def _make_option(name: str, text: str, default: str | bool) -> inspect.Parameter:
    names = ("--query", "-q") if name == "q" else (f"--{name.replace('_', '-')}",)
    option = typer.Option(*names, help=text)
    annotation = Annotated[bool, option] if isinstance(default, bool) else Annotated[str, option]
    return inspect.Parameter(
        name.replace("-", "_"), inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default
    )
