"""`apidae describe`: all that is known of one thing, in sections, as its page shows it.

A kind is one entry of KINDS: where its answer is, and its sections. A section is a field list or a table, of the answer
or of a route of its own. `-o json` and `-o yaml` print the answer itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote

import typer

from collector.api.columns import Column, describe_columns, pick
from collector.cli.client import Api, SinceOption, command, fail, say
from collector.cli.output import Printer, write_value

ROWS_SHOWN = 10  # Of one section.


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Rows at the dotted `place` of an answer: a list, or counts by name. Without a place it is the answer's own
    fields, one a line. `path` is a route of its own, with the id for `{}`; without one it is the main answer. `more` is
    the command that shows all rows."""

    title: str
    columns: tuple[Column, ...]
    place: str = ""
    path: str = ""
    asked: Mapping[str, str] | None = None
    more: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One command. `path` is the route, with the id for `{}`. Without a `{}` the answer is a list, and
    `key` the place of the id in an item. `has_span`: it takes --since."""

    help: str
    listed: str
    path: str
    sections: tuple[Section, ...]
    key: str = "id"
    has_span: bool = False


COUNT_COLUMNS = describe_columns("name calls")
_TIMES = "first_seen last_seen"
FINDING_ROWS = describe_columns("id severity state title owasp/3 why/1")
ALERT_ROWS = describe_columns("id state/1 severity confidence/2 title opened_at/1")
ENDPOINT_ROWS = describe_columns("id method host/3 template calls errors=status.5xx/2 risk=risk.score/1")
CALLER_ROWS = describe_columns("client_kind client calls errors p95_ms endpoints data=data_classes")
CALLEE_ROWS = describe_columns("service calls errors p95_ms endpoints data=data_classes")
KINDS: Mapping[str, Kind] = {
    "endpoint": Kind(
        help="Show one endpoint: traffic, data, credentials, exposure, risk, findings, alerts, consumers.",
        listed="endpoints",
        path="endpoints/{}",
        has_span=True,
        sections=(
            Section(
                title="",
                columns=describe_columns(
                    "id method template operation=operation.name host service port=service.port "
                    "namespace=service.namespace kind tier protocols "
                    f"calls~is_estimated calls_per_second consumers {_TIMES} "
                    "2xx=status.2xx 3xx=status.3xx 4xx=status.4xx 5xx=status.5xx not_read=status.not_read "
                    "p50_ms=latency_ms.p50 p95_ms=latency_ms.p95 p99_ms=latency_ms.p99 max_ms=latency_max_ms "
                    "credentials=authentication.level credential_kinds=authentication.kinds "
                    "exposure=exposure.level exposure_reasons=exposure.reasons "
                    "data=bodies.data_classes records_returned=bodies.records_returned "
                    "risk=risk.score risk_level=risk.level specification=spec.status "
                    "workload_kind=kubernetes.kind image=container_image_name"
                ),
            ),
            Section(
                title="Data",
                place="bodies.data",
                columns=describe_columns("kind data_class side calls share"),
            ),
            Section(
                title="Risk",
                place="terms",
                path="endpoints/{}/risk",
                columns=describe_columns("term=name weight evidence lower/2 owasp/3"),
                more="apidae get risk {}",
            ),
            Section(
                title="Findings",
                place="items",
                path="findings",
                asked={"endpoint_id": "{}"},
                columns=FINDING_ROWS,
                more="apidae get findings --endpoint-id {}",
            ),
            Section(
                title="Busiest consumers",
                place="top_consumers",
                columns=describe_columns("consumer=id calls errors last_seen/1 held_by=holders.label/2"),
                more="apidae get consumers --endpoint {}",
            ),
            Section(title="Status codes", place="status_codes", columns=COUNT_COLUMNS),
        ),
    ),
    "mcp-server": Kind(
        help="Show one MCP server: how it is reached, its tools, prompts and resources, and who uses them.",
        listed="mcp-servers",
        path="mcp/servers/{}",
        has_span=True,
        sections=(
            Section(
                title="",
                columns=describe_columns(
                    "id name version service path cluster transports protocol_versions tools prompts resources clients "
                    f"sessions calls authentication exposure risk left_out unread_at {_TIMES}"
                ),
            ),
            Section(
                title="Tools, prompts and resources",
                place="items",
                columns=describe_columns(
                    "kind name arguments=arguments.name/1 may_destroy/4 read_only=is_read_only/6 "
                    "open_world=is_open_world/6 sampled_calls/2 errors=sampled_errors/5 consumers/3 changed_at/2 "
                    "listed=is_listed/4 last_seen/5"
                ),
            ),
            Section(
                title="Who uses what",
                place="uses",
                columns=describe_columns("consumer kind/1 name sampled_calls sampled_errors/1 last_seen/2"),
            ),
        ),
    ),
    "service": Kind(
        help="Show one service: traffic, callers, what it calls, endpoints and findings.",
        listed="services",
        path="services/{}",
        has_span=True,
        sections=(
            Section(
                title="",
                columns=describe_columns(
                    "service cluster namespace workload port endpoints calls errors p95_ms risk findings exposure "
                    "last_seen"
                ),
            ),
            Section(title="Callers", place="callers", columns=CALLER_ROWS, more="apidae get map --service {}"),
            Section(title="What it calls", place="callees", columns=CALLEE_ROWS),
            Section(
                title="Endpoints by calls",
                place="items",
                path="endpoints",
                asked={"service": "{}"},
                columns=ENDPOINT_ROWS,
                more="apidae get endpoints --service {}",
            ),
            Section(
                title="Findings",
                place="items",
                path="findings",
                asked={"q": "{}"},
                columns=FINDING_ROWS,
                more="apidae get findings --query {}",
            ),
        ),
    ),
    "consumer": Kind(
        help="Show one consumer: endpoints, addresses, client software.",
        listed="consumers",
        path="consumers/{}",
        has_span=True,
        sections=(
            Section(
                title="",
                columns=describe_columns(
                    "id label=label.name note=label.note principal_kind endpoints calls calls_per_second errors "
                    f"denied addresses {_TIMES} held_by=holders.label"
                ),
            ),
            Section(
                title="Endpoints",
                place="touched",
                columns=describe_columns(
                    "endpoint_id method host/3 template calls errors/1 objects~has_estimated_objects last_seen/2"
                ),
                more="apidae get endpoints --consumer {}",
            ),
            Section(title="Services", place="calls_by_service", columns=COUNT_COLUMNS),
            Section(title="Credentials", place="calls_by_credential", columns=COUNT_COLUMNS),
            Section(title="Addresses", place="calls_by_address", columns=COUNT_COLUMNS),
            Section(title="Workloads", place="calls_by_workload", columns=COUNT_COLUMNS),
            Section(title="Client software", place="calls_by_software", columns=COUNT_COLUMNS),
        ),
    ),
    "alert": Kind(
        help="Show one alert: what was observed and expected, why, and the calls behind it.",
        listed="alerts",
        path="alerts/{}",
        sections=(
            Section(
                title="",
                columns=describe_columns(
                    "id state severity confidence title why advice runbook risk kind endpoint_id service host "
                    "consumer held_by node nodes opened_at updated_at closed_at window_start window_end calls "
                    "observed_rate expected_rate threshold_rate loss_ratio incident_id verdict verdict_by "
                    "acknowledged_by silence=silence.kind silenced_by=silence.by until=silence.until "
                    "reason=silence.reason"
                ),
            ),
            Section(
                title="Fields with data",
                place="explanation.data",
                path="alerts/{}/evidence",
                columns=describe_columns("kind data_class side fields calls share"),
            ),
            Section(
                title="Objects",
                place="explanation.objects",
                path="alerts/{}/evidence",
                columns=describe_columns("objects=sentence in_order=is_in_order"),
            ),
            Section(title="Answers", place="explanation.statuses", path="alerts/{}/evidence", columns=COUNT_COLUMNS),
            Section(title="Software", place="explanation.softwares", path="alerts/{}/evidence", columns=COUNT_COLUMNS),
            Section(title="Addresses", place="explanation.addresses", path="alerts/{}/evidence", columns=COUNT_COLUMNS),
            Section(
                title="Calls behind it",
                place="items",
                path="alerts/{}/evidence",
                columns=describe_columns(
                    "start calls 4xx=client_errors 5xx=errors objects~has_estimated_objects/1 credentials/2 "
                    "records=records_returned/2"
                ),
                more="apidae get evidence {}",
            ),
        ),
    ),
    "incident": Kind(
        help="Show one incident: all alerts about one actor, and what happened when.",
        listed="incidents",
        path="incidents/{}",
        sections=(
            Section(
                title="",
                place="incident",
                columns=describe_columns(
                    "id state severity actor title kinds risks alerts opened_at updated_at closed_at"
                ),
            ),
            Section(title="Alerts", place="alerts", columns=ALERT_ROWS),
            Section(
                title="Affected data",
                place="data",
                columns=describe_columns("kind data_class side service endpoint=endpoint_id calls"),
            ),
            Section(title="Timeline", place="timeline", columns=describe_columns("time happening severity title")),
        ),
    ),
    "finding": Kind(
        help="Show one finding: evidence, advice, and who decided what.",
        listed="findings",
        path="findings/{}",
        sections=(
            Section(
                title="",
                place="finding",
                columns=describe_columns(
                    "id rule severity state title why advice runbook owasp endpoint_id service method host "
                    f"template=url_template signs {_TIMES} changed_at changed_by note"
                ),
            ),
            Section(title="Changes", place="changes", columns=describe_columns("time state actor note")),
        ),
    ),
    "sensor": Kind(
        help="Show one sensor: state, lag, losses of each stage, certificate.",
        listed="sensors",
        path="sensors",
        key="node",
        sections=(
            Section(
                title="",
                columns=describe_columns(
                    "node cluster state reason version kernel_release capture fallback_reason is_connected first_seen "
                    "last_report_at lag_ms spool_bytes memory_bytes cpu_seconds seen_calls lost_calls loss_ratio "
                    "certificate_not_after certificate_left_days policy_epoch policy_refusal"
                ),
            ),
            Section(title="Stages", place="stages", columns=describe_columns("stage seen used dropped")),
        ),
    ),
}


def register_describe(describe: typer.Typer) -> None:
    """Add a command for each kind."""
    for name, kind in KINDS.items():
        _add_kind(describe, name, kind)


def _add_kind(describe: typer.Typer, name: str, kind: Kind) -> None:
    identity = Annotated[str, typer.Argument(metavar="ID", help=f"As `apidae get {kind.listed}` lists it.")]
    if kind.has_span:

        @command(describe, name, help=kind.help)
        def show_span(api: Api, identity: identity, since: SinceOption = "24h") -> None:
            print_kind(api, name, str(identity), {"since": since})

    else:

        @command(describe, name, help=kind.help)
        def show(api: Api, identity: identity) -> None:
            print_kind(api, name, str(identity), {})


def print_kind(api: Api, name: str, identity: str, asked: Mapping[str, str]) -> None:
    """Fetches one thing and prints its sections."""
    kind = KINDS[name]
    answer = _fetch_main(api, name, kind, identity, asked)
    if api.print_document(answer):
        return
    if not api.output.is_table:
        raise fail(f"One {name} is printed as table, wide, json or yaml; {api.output} is for lists.")
    answers: dict[str, Mapping[str, Any] | None] = {"": answer}
    for section in kind.sections:
        key = section.path + str(section.asked)
        if section.path and key not in answers:
            given = {one: value.format(identity) for one, value in (section.asked or {}).items()}
            answers[key] = api.find(section.path.format(quote(identity, safe="")), given)
        found = answers[key if section.path else ""]
        if found is not None:
            _print_section(api, section, found, identity)


def _fetch_main(api: Api, name: str, kind: Kind, identity: str, asked: Mapping[str, str]) -> Mapping[str, Any]:
    if "{}" in kind.path:
        return api.fetch(kind.path.format(quote(identity, safe=":")), asked)
    items = api.fetch(kind.path, asked)["items"]
    found = [item for item in items if identity in (str(pick(item, kind.key)), item.get(kind.key))]
    if not found:
        raise fail(f"There is no {name} {identity!r}; `apidae get {kind.listed}` lists them.")
    return dict(found[0])


def _print_section(api: Api, section: Section, answer: Mapping[str, Any], identity: str) -> None:
    value: Any = answer
    for step in section.place.split(".") if section.place else ():
        value = value.get(step) if isinstance(value, Mapping) else None
    if isinstance(value, Mapping) and section.columns == COUNT_COLUMNS:
        value = [{"name": key, "calls": count} for key, count in value.items()]
    if isinstance(value, Mapping):
        _print_fields(section, value)
    if not isinstance(value, list) or not value:
        return
    typer.echo()
    say(f"{section.title} ({len(value)})" if len(value) <= ROWS_SHOWN else section.title)
    shown = value[:ROWS_SHOWN]
    columns = [one for one in section.columns if any(pick(item, one.place) not in (None, "") for item in shown)]
    Printer(api.output, api.has_headers).print_items(shown, columns)
    if len(value) > ROWS_SHOWN and section.more:
        say(f"{ROWS_SHOWN} of {len(value)} and more: {section.more.format(identity)}")


def _print_fields(section: Section, item: Mapping[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from collector.cli.output import open_console, print_lines, style_cell, write_word

    table = Table.grid(padding=(0, 2, 0, 0))
    for column in section.columns:
        if write_value(pick(item, column.place)) not in ("", "no"):
            table.add_row(Text(column.name, "dim"), style_cell(column, write_word(item, column)))
    print_lines(open_console(), table)
