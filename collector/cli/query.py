"""`apidae endpoints|consumers|alerts|incidents|notifiers|coverage|exposure|sensors`: ask a collector."""

from typing import Annotated
from urllib.parse import quote

import typer

from collector.cli.client import (
    URL,
    ByOption,
    LimitOption,
    Output,
    OutputOption,
    SinceOption,
    TokenOption,
    UrlOption,
    act,
    describe_columns,
    fail,
    fetch,
    print_items,
)

ENDPOINT_COLUMNS = describe_columns(
    ("method", "method", 0),
    ("host", "host", 8),
    ("template", "template", 0),
    ("service", "service.workload", 0),
    ("calls", "calls", 0, "is_estimated"),
    ("2xx", "status.2xx", 5),
    ("4xx", "status.4xx", 4),
    ("5xx", "status.5xx", 3),
    ("not_read", "status.not_read", 6),
    ("p95_ms", "latency_ms.p95", 2),
    ("credentials", "authentication.level", 0),
    ("consumers", "consumers", 1),
    ("tier", "tier", 6),
    ("last_seen", "last_seen", 7),
    ("protocols", "protocols", 5),
    ("data", "bodies.data_classes", 3),
    ("records", "bodies.records_returned", 6),
    ("exposure", "exposure.level", 4),
    ("spec", "spec.status", 6),
    ("namespace", "service.namespace", 6),
    ("kind", "kubernetes.kind", 8),
    ("image", "container_image_name", 8),
    ("image_tags", "container_image_tags", 9),
    ("risk", "risk.score", 2),
)
CONSUMER_COLUMNS = describe_columns(
    ("consumer", "id", 0),
    ("endpoints", "endpoints", 0),
    ("calls", "calls", 0),
    ("errors", "errors", 1),
    ("denied", "denied", 1),
    ("objects", "objects", 0, "has_estimated_objects"),
    ("held_by", "holders.label", 3),
    ("last_seen", "last_seen", 2),
)
EXPOSURE_COLUMNS = describe_columns(
    ("cluster", "cluster", 4),
    ("namespace", "namespace", 0),
    ("workload", "workload", 0),
    ("port", "port", 0),
    ("exposure", "exposure.level", 0),
    ("reasons", "exposure.reasons", 1),
    ("since", "exposure.since", 3),
)
ALERT_COLUMNS = describe_columns(
    ("id", "id", 6),
    ("state", "state", 0),
    ("severity", "severity", 0),
    ("kind", "kind", 5),
    ("title", "title", 0),
    ("opened_at", "opened_at", 0),
    ("observed_rate", "observed_rate", 3),
    ("expected_rate", "expected_rate", 4),
    ("silence", "silence.kind", 2),
    ("silenced_by", "silence.by", 7),
    ("silenced_at", "silence.at", 8),
    ("until", "silence.until", 7),
    ("reason", "silence.reason", 7),
)
INCIDENT_COLUMNS = describe_columns(
    ("id", "id", 6),
    ("state", "state", 0),
    ("severity", "severity", 0),
    ("actor", "actor", 2),
    ("title", "title", 0),
    ("alerts", "alerts", 3),
    ("risks", "risks", 4),
    ("opened_at", "opened_at", 0),
)
NOTIFIER_COLUMNS = describe_columns(
    ("name", "name", 0),
    ("target", "target", 0),
    ("last_outcome", "last_outcome", 0),
    ("seen", "seen", 1),
    ("delivered", "delivered", 0),
    ("failed", "failed", 0),
    ("dropped", "dropped", 2),
    ("limited", "limited", 2),
    ("repeated", "repeated", 3),
    ("waiting", "waiting", 1),
)
PORT_COLUMNS = describe_columns(
    ("node", "node", 3),
    ("role", "role", 8),
    ("port", "service.port", 0),
    ("service", "service.workload", 0),
    ("address", "address", 7),
    ("protocol", "protocol", 0),
    ("reading", "reading", 0),
    ("connections", "connections", 2),
    ("bytes", "bytes", 4),
    ("calls", "calls", 5),
    ("estimated_calls", "estimated_calls", 5),
    ("joined_late", "joined_late", 9),
    ("lost_calls", "lost_calls", 9),
    ("first_seen", "first_seen", 10),
    ("reason", "reason", 1),
)
NODE_COLUMNS = describe_columns(
    ("node", "node", 0),
    ("read_connections", "share.read_connections_ratio", 0),
    ("read_bytes", "share.read_bytes_ratio", 0),
    ("ports", "ports", 1),
    ("read_ports", "read_ports", 1),
    ("unreadable_ports", "unreadable_ports", 2),
    ("unseen_ports", "unseen_ports", 3),
    ("outbound_hosts", "outbound_hosts", 3),
    ("estimated_calls", "estimated_calls", 4),
    ("joined_late", "joined_late", 5),
    ("lost_calls", "lost_calls", 0),
)
BLIND_SPOT_COLUMNS = describe_columns(
    ("kind", "kind", 0),
    ("nodes", "nodes", 0),
    ("places", "places", 1),
    ("connections", "connections", 1),
    ("bytes", "bytes", 2),
    ("calls", "calls", 2),
    ("meaning", "meaning", 0),
)
LOSS_COLUMNS = describe_columns(
    ("node", "node", 0),
    ("stage", "stage", 1),
    ("reason", "reason", 0),
    ("count", "count", 0),
    ("meaning", "meaning", 0),
    ("advice", "advice", 0),
)
SENSOR_COLUMNS = describe_columns(
    ("node", "node", 0),
    ("state", "state", 0),
    ("capture", "capture", 1),
    ("version", "version", 5),
    ("lag_ms", "lag_ms", 4),
    ("seen_calls", "seen_calls", 1),
    ("lost_calls", "lost_calls", 0),
    ("loss_ratio", "loss_ratio", 2),
    ("certificate_left_days", "certificate_left_days", 3),
    ("last_report_at", "last_report_at", 3),
    ("reason", "reason", 0),
    ("fallback_reason", "fallback_reason", 0),
)


def register(app: typer.Typer) -> None:
    """Add the commands that ask a collector."""

    @app.command("endpoints")
    def endpoints(
        query: Annotated[str, typer.Option("--query", "-q", help="Words that must all occur.")] = "",
        method: Annotated[str, typer.Option(help="HTTP method, such as GET.")] = "",
        service: Annotated[str, typer.Option(help="As `apidae services` lists it.")] = "",
        host: Annotated[str, typer.Option(help="Host, as in the list.")] = "",
        namespace: Annotated[str, typer.Option(help="Namespace in Kubernetes.")] = "",
        label: Annotated[str, typer.Option(help="Of the workload: key=value, or a key.")] = "",
        tier: Annotated[str, typer.Option(help="confirmed, unconfirmed or probed.")] = "",
        auth: Annotated[str, typer.Option(help="none, partial, full or unknown.")] = "",
        protocol: Annotated[str, typer.Option(help="http/1.1, http/2, grpc, websocket, ..")] = "",
        spec: Annotated[str, typer.Option(help="documented, shadow, zombie or none.")] = "",
        sort: Annotated[
            str,
            typer.Option(
                help="calls, last_seen, first_seen, template, p95, errors, authentication, consumers or risk."
            ),
        ] = "calls",
        since: SinceOption = "24h",
        limit: LimitOption = 50,
        url: UrlOption = URL,
        token: TokenOption = "",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List the endpoints of the inventory."""
        filters = {"q": query, "method": method, "service": service, "host": host, "tier": tier, "auth": auth}
        filters |= {"namespace": namespace, "label": label, "spec": spec}
        asked = {**filters, "protocol": protocol, "sort": sort, "since": since, "limit": str(limit)}
        print_items(fetch(url, token, "endpoints", asked)["items"], ENDPOINT_COLUMNS, output)

    @app.command("consumers")
    def consumers(
        query: Annotated[str, typer.Option("--query", "-q", help="Part of kind:value.")] = "",
        since: SinceOption = "24h",
        limit: LimitOption = 50,
        url: UrlOption = URL,
        token: TokenOption = "",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List the consumers: who calls."""
        asked = {"q": query, "since": since, "limit": str(limit)}
        print_items(fetch(url, token, "consumers", asked)["items"], CONSUMER_COLUMNS, output)

    @app.command("exposure")
    def exposure(
        query: Annotated[str, typer.Option("--query", "-q", help="Words that must all occur.")] = "",
        level: Annotated[str, typer.Option(help="external or internal.")] = "",
        limit: LimitOption = 50,
        url: UrlOption = URL,
        token: TokenOption = "",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List what leads to the workloads of watched Kubernetes clusters."""
        found = fetch(url, token, "exposure", {"q": query, "level": level, "limit": str(limit)})
        for cluster in found["clusters"]:
            if cluster["reason"]:
                typer.echo(f"Cluster {cluster['cluster'] or '(unnamed)'}: {cluster['reason']}", err=True)
        print_items(found["items"], EXPOSURE_COLUMNS, output)

    @app.command("alerts")
    def alerts(
        state: Annotated[str, typer.Option("--state", help="open, silenced or closed; default all.")] = "",
        kind: str = "",
        limit: LimitOption = 50,
        url: UrlOption = URL,
        token: TokenOption = "",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List alerts, newest first."""
        asked = {"state": state, "kind": kind, "limit": str(limit)}
        print_items(fetch(url, token, "alerts", asked)["items"], ALERT_COLUMNS, output)

    @app.command("incidents")
    def incidents(
        state: Annotated[str, typer.Option("--state", help="open, silenced or closed; default all.")] = "",
        limit: LimitOption = 50,
        url: UrlOption = URL,
        token: TokenOption = "",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List incidents, all that one actor did, newest first."""
        asked = {"state": state, "limit": str(limit)}
        print_items(fetch(url, token, "incidents", asked)["items"], INCIDENT_COLUMNS, output)

    @app.command("notifiers")
    def notifiers(
        test: Annotated[str, typer.Option("--test", help="Send a test alert to this one now.")] = "",
        by: ByOption = "",
        url: UrlOption = URL,
        token: TokenOption = "",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List the notifiers and their counts, or test one. A failed test exits with 1."""
        if not test:
            print_items(fetch(url, token, "notifiers", {})["items"], NOTIFIER_COLUMNS, output)
            return
        answer = act(url, token, f"notifiers/{quote(test, safe='')}/test", {"by": by})
        if answer["outcome"] != "delivered":
            raise fail(f"Notifier {test}: {answer['outcome']}. {answer['meaning']}")
        typer.echo(f"Notifier {test}: {answer['outcome']}. {answer['meaning']}")

    @app.command("coverage")
    def coverage(
        query: Annotated[str, typer.Option("--query", "-q", help="Words that must all occur.")] = "",
        node: str = "",
        service: str = "",
        protocol: str = "",
        reading: Annotated[str, typer.Option(help="read, unreadable, unseen, not_http, silent or lost.")] = "",
        role: Annotated[str, typer.Option(help="listening, outbound or node.")] = "",
        sort: str = "bytes",
        is_by_node: Annotated[bool, typer.Option("--nodes", help="The share that is read, of each node.")] = False,
        is_losses: Annotated[bool, typer.Option("--losses", help="What was lost, with advice.")] = False,
        is_blind: Annotated[bool, typer.Option("--blind-spots", help="What is never read or is excluded.")] = False,
        limit: LimitOption = 50,
        url: UrlOption = URL,
        token: TokenOption = "",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List every listening port and called host: what is spoken, whether it is read, and why not."""
        if is_by_node:
            found = fetch(url, token, "coverage", {})
            print_items([{**found["cluster"], "node": "(all)"}, *found["nodes"]], NODE_COLUMNS, output)
        elif is_losses:
            print_items(fetch(url, token, "coverage", {})["losses"], LOSS_COLUMNS, output)
        elif is_blind:
            print_items(fetch(url, token, "coverage", {})["blind_spots"], BLIND_SPOT_COLUMNS, output)
        else:
            filters = {"q": query, "node": node, "service": service, "protocol": protocol, "reading": reading}
            asked = {**filters, "role": role, "sort": sort, "limit": str(limit)}
            print_items(fetch(url, token, "coverage/ports", asked)["items"], PORT_COLUMNS, output)

    @app.command("sensors")
    def sensors(url: UrlOption = URL, token: TokenOption = "", output: OutputOption = Output.TABLE) -> None:
        """List the sensors with their state, lag and losses."""
        print_items(fetch(url, token, "sensors", {})["items"], SENSOR_COLUMNS, output)
