"""`apidae trace`: the stages that calls of one port or service pass, live, and where they stop.

Asks the running sensor over its control socket (`sensor.agent.trace`). Where a collector is named, it also asks that
for the endpoint once the rows are acknowledged: the last stage. Standard output has one line an event, or JSON lines.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from common.log_lines import escape
from sensor.agent.pause import ControlError, request_trace
from sensor.agent.trace import CALLS_MAX, SECONDS_MAX
from sensor.core.config import SensorSettings

Event = Mapping[str, Any]

URL_VARIABLE: Final = "APIDAE_URL"
TOKEN_VARIABLE: Final = "APIDAE_TOKEN"
TOKEN_FILE_VARIABLE: Final = "APIDAE_TOKEN_FILE"
CA_FILE_VARIABLE: Final = "APIDAE_CA_FILE"
_ENDPOINTS_MAX: Final = 200
# From its log to its tables a collector takes some seconds.
_TABLE_TRIES: Final = 20
_TABLE_WAIT_SECONDS: Final = 0.5
_TIMEOUT_SECONDS: Final = 10.0
_LATE: Final = {
    "reason": "acknowledged, and not in the tables yet",
    "fix": "The collector has it in its log: look whether its writer is behind, on /settings and in its log.",
}
_WORD: Final = "{word}"
_ARROW: Final = " > "
_SUMS: Final = ("connections", "unread", "read", "excluded", "dropped", "sent", "acknowledged")  # By stage.

RunDir = Annotated[Path, typer.Option(help="Where the running sensor has its control socket.")]
_PANEL: Final = "The collector's tables"


def trace(
    port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="Port of the server, on this node or another.")
    ] = None,
    service: Annotated[str, typer.Option(metavar="NAME", help="Workload, or NAMESPACE/WORKLOAD, of the server.")] = "",
    calls: Annotated[int, typer.Option(min=1, max=CALLS_MAX, help="End after this many calls.")] = 20,
    seconds: Annotated[int, typer.Option(min=1, max=SECONDS_MAX, help="End after so long.")] = 30,
    is_json: Annotated[bool, typer.Option("--json", help="For programs: one JSON object a line.")] = False,
    run_dir: RunDir = SensorSettings.model_fields["run_dir"].default,
    url: Annotated[
        str, typer.Option(help=f"Address of the collector's API. Environment: {URL_VARIABLE}.", rich_help_panel=_PANEL)
    ] = "",
    token_file: Annotated[
        Path | None,
        typer.Option(
            help=f"File with an API token. Environment: {TOKEN_FILE_VARIABLE}, or {TOKEN_VARIABLE}.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(help=f"Authority of its certificate. Environment: {CA_FILE_VARIABLE}.", rich_help_panel=_PANEL),
    ] = None,
) -> None:
    """`apidae trace`; ends with 1 where the sensor cannot be asked."""
    if not port and not service:
        raise typer.BadParameter("name a port with --port, or a service with --service")
    asked = {"port": port or 0, "service": service, "calls": calls, "seconds": seconds}
    try:
        tables = open_tables(url, token_file, ca_file)
        events: Iterable[Event] = request_trace(run_dir, asked)
        if tables is not None:
            events = follow_to_tables(events, tables)
        for event in events:
            for line in [json.dumps(event)] if is_json else format_event(event):
                typer.echo(line)
    except ControlError as error:
        typer.echo(f"apidae: {escape(str(error))}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@dataclass(frozen=True, slots=True)
class Tables:
    """The API of a collector, as far as it says what is in its tables."""

    url: str
    token: str
    context: Any  # An ssl.SSLContext; None without TLS.

    def find_endpoint(self, call: Event) -> Event | None:
        """The endpoint that has a call, in the tables; None while there is none. Raises OSError or ValueError."""
        from urllib.parse import urlencode  # With its like below 3 MB that a sensor has no use for.
        from urllib.request import Request, urlopen

        workload = str(call["service"]).rpartition(":")[0].rpartition("/")[2]
        asked = {
            "service": workload,
            "method": call["method"],
            "last_seen_since": call["window"],
            "operations": "exclude",
            "hops": "include",
            "limit": _ENDPOINTS_MAX,
        }
        request = Request(f"{self.url.rstrip('/')}/api/v1/endpoints?{urlencode(asked)}")
        if self.token:
            request.add_unredirected_header("Authorization", f"Bearer {self.token}")  # For nobody else.
        with urlopen(request, timeout=_TIMEOUT_SECONDS, context=self.context) as answer:
            return choose_endpoint(call, json.load(answer)["items"])


def choose_endpoint(call: Event, endpoints: Iterable[Event]) -> Event | None:
    """The one whose service and template fit a call best; None where none does."""
    fitting = [one for one in endpoints if _measure_fit(call, one)]
    return max(fitting, key=lambda one: _measure_fit(call, one), default=None)


def _measure_fit(call: Event, endpoint: Event) -> int:
    """How well an endpoint fits a call; 0 where it is another one. The endpoint's template may have names for what the
    sensor's has only kinds of: of `/orders/search` and `/orders/{order_id}` the second one fits `/orders/{integer}`."""
    place, _, port = str(call["service"]).rpartition(":")
    service = endpoint["service"]
    if (str(service["port"]), service["namespace"]) != (port, place.rpartition("/")[0]):
        return 0
    parts, others = (str(text["template"]).strip("/").split("/") for text in (call, endpoint))
    if len(parts) != len(others):
        return 0
    fits = list(map(_measure_part, parts, others))
    return 1 + sum(fits) if min(fits) >= 0 else 0


def _measure_part(part: str, other: str) -> int:
    """The same for one part of a call's template and of an endpoint's; -1 where it is another one."""
    if part == other or ("{" in part and "{" in other and part.partition("{")[0] == other.partition("{")[0]):
        return 2
    if part == _WORD or other.startswith("{"):  # A word that the sensor may not show, or one of many at its place.
        return 1
    return 0 if part.startswith("{") else -1


def open_tables(url: str, token_file: Path | None, ca_file: Path | None) -> Tables | None:
    """None where no collector is named. Raises ControlError."""
    url = url or os.environ.get(URL_VARIABLE, "")
    if not url:
        return None
    if not url.startswith(("http://", "https://")):
        raise ControlError(f"The URL is {url!r}; it must begin with http:// or https://; set --url or {URL_VARIABLE}.")
    token = _read_token(token_file or Path(os.environ.get(TOKEN_FILE_VARIABLE, "")))
    if not url.startswith("https://"):
        return Tables(url, token, None)
    import ssl

    authority = ca_file or Path(os.environ.get(CA_FILE_VARIABLE, ""))
    try:
        return Tables(url, token, ssl.create_default_context(cafile=str(authority) if authority.name else None))
    except OSError as error:
        why = error.strerror or "it holds no certificate"
        raise ControlError(
            f"The CA file {authority} cannot be read ({why}); correct --ca-file or {CA_FILE_VARIABLE}."
        ) from None


def _read_token(path: Path) -> str:
    """The API token, of a file that is named, else of the environment. Raises ControlError."""
    try:
        token = path.read_text(errors="replace") if path.name else os.environ.get(TOKEN_VARIABLE, "")
    except OSError as error:
        raise ControlError(
            f"The token file {path} cannot be read ({error.strerror}); correct --token-file or {TOKEN_FILE_VARIABLE}."
        ) from None
    token = token.strip()
    if not (token.isascii() and token.isprintable()):  # An error of the request would quote it.
        raise ControlError(f"The API token is not printable ASCII; correct --token-file or {TOKEN_VARIABLE}.")
    return token


def follow_to_tables(
    events: Iterable[Event],
    tables: Tables,
    *,
    wait: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> Iterator[Event]:
    """The same events, and one more for the calls of each endpoint once it is in the tables. Between events each is
    looked for at most twice a second, and what was not found is waited for before the end. A collector that cannot be
    asked is not asked again."""
    calls: dict[int, Event] = {}
    waiting: list[_Waiting] = []
    failure: dict[str, str] = {}
    next_look = now()
    for event in events:
        if event["event"] == "end":
            for _ in range(_TABLE_TRIES):
                yield from _look_for_all(tables, waiting, failure)
                if not waiting:
                    break
                wait(_TABLE_WAIT_SECONDS)
            yield from (one.report(**_LATE) for one in waiting)
        yield event
        if event["event"] == "call" and "method" in event:
            calls[event["number"]] = event
        elif event["event"] == "settled" and event["reason"] == "acknowledged":
            waiting += _group_calls([calls.pop(number) for number in event["numbers"] if number in calls])
        if waiting and now() >= next_look:
            yield from _look_for_all(tables, waiting, failure)
            next_look = now() + _TABLE_WAIT_SECONDS


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Calls of one endpoint that are not found in the tables yet."""

    calls: list[Event]

    def report(self, **found: str) -> Event:
        """The event of what was found."""
        return {"event": "stored", "numbers": [call["number"] for call in self.calls], "stage": "tables", **found}


def _group_calls(calls: Iterable[Event]) -> list[_Waiting]:
    groups: dict[tuple[str, str, str], _Waiting] = {}
    for call in calls:
        key = call["service"], call["method"], call["template"]
        groups.setdefault(key, _Waiting([])).calls.append(call)
    return list(groups.values())


def _look_for_all(tables: Tables, waiting: list[_Waiting], failure: dict[str, str]) -> Iterator[Event]:
    """Asks once for each, and removes what needs no other look; `failure` gets why nothing can be asked."""
    for one in list(waiting):
        found = failure or _look_for(tables, one.calls[-1], failure)
        if found:
            waiting.remove(one)
            yield one.report(**found)


def _look_for(tables: Tables, call: Event, failure: dict[str, str]) -> Mapping[str, str]:
    """What an event says of a call's endpoint; empty while it is not in the tables."""
    from http.client import HTTPException
    from urllib.error import HTTPError

    try:
        endpoint = tables.find_endpoint(call)
    except HTTPError as error:
        return {"reason": f"the collector answered {error.code}", "fix": "Check --url and the token's role."}
    except (HTTPException, OSError, ValueError, LookupError, TypeError) as error:  # No answer, or somebody else's.
        why = str(error) or type(error).__name__
        failure |= {"reason": f"the collector's API cannot be asked ({why})", "fix": "Check --url and --ca-file."}
        return failure
    return {"endpoint": str(endpoint["id"]), "template": str(endpoint["template"])} if endpoint is not None else {}


def format_event(event: Event) -> Iterator[str]:
    """Lines for people, in which texts from outside move no cursor."""
    yield from map(escape, _format(event))


def _format(event: Event) -> Iterator[str]:
    match event["event"]:
        case "begin":
            yield from _format_begin(event)
        case "call":
            yield from _format_call(event)
        case "port":
            yield from _format_port(event)
        case "sent":
            batches = ", ".join(str(one) for one in event["batches"])
            yield _join(_list_numbers(event["numbers"]), f"row in batch {batches}" if batches else "row dropped")
            yield from _format_reason(event)
        case "settled":
            yield _join(_list_numbers(event["numbers"]), str(event["reason"]))
            yield from _format_fix(event)
        case "stored":
            if "endpoint" in event:
                yield _join(_list_numbers(event["numbers"]), f"in the tables as {event['endpoint']}", event["template"])
            else:
                yield _join(_list_numbers(event["numbers"]), "not found in the tables")
                yield from _format_reason(event)
        case "lost":
            what = event.get("name") or event["reason"]
            yield f"lost meanwhile on this node, at stage {event['stage']}: {what} ({event['calls']:,})"
            yield from _format_reason(event) if "name" in event else _format_fix(event)
        case "end":
            yield from _format_end(event)


def _format_begin(event: Event) -> Iterator[str]:
    reads = ", TLS is read" if event["read_tls"] else ", TLS is not read (read_tls)"
    uplink = "connected to the collector" if event["connected"] else "the collector is away"
    yield f"sensor {event['state']}, by {event['way']}{reads}, {uplink}"
    if event.get("reason"):
        yield f"  {event['reason']}"
    for port in event["ports"]:
        yield f"{port['role']} {port['service']} at {port['address']}: {port['protocol']} so far"
        if port["protocol"] != "silent":  # As most are that one begins to look at.
            yield from _format_reason(port)
    yield f"ends after {event['calls']} calls or {event['seconds']} s"


def _format_call(event: Event) -> Iterator[str]:
    time_of_day = str(event["time"])[11:23]
    client = f"{event['client'] or '?'}:{event['client_port']}" if event["client_port"] else event["client"] or "?"
    begin = f"#{event['number']} {time_of_day} {client} {event['way']}"
    if "method" in event:
        read = f"HTTP/{event['version']}" if event["version"] else "HTTP"
        named = f"{event['method']} {event['template']} {event['status']}"
        many = f"{event['calls']} calls" if event["calls"] > 1 else ""
        yield _join(begin, read, named, many, f"counted for {event['service']}")
        yield from _format_reason(event)
    else:
        yield _join(begin, "stops at describe")
        yield from _format_reason(event)


def _format_port(event: Event) -> Iterator[str]:
    names = {"connections": "connection", "bytes": "byte", "calls": "call", "lost_calls": "lost call"}
    counts = [(event[key], name) for key, name in names.items() if event[key]]
    counted = ", ".join(f"{count:,} {name}{'s' if count > 1 else ''}" for count, name in counts)
    is_of_node = event["protocol"] in ("missed", "left_out")  # Whose address says what was missed or excluded.
    name = f"{event['protocol']} ({event['address']})" if is_of_node else event["protocol"]
    yield _join(f"-- {event['role']} {event['service']}", name, counted, "no call is reported")
    yield from _format_reason(event)


def _format_end(event: Event) -> Iterator[str]:
    found = {**{name: event["sums"].get(name, 0) for name in _SUMS}, **event["sums"]}
    sums = ", ".join(f"{name} {count:,}" for name, count in found.items() if count) or "nothing"
    yield f"end after {event['why']}: {sums}"
    if numbers := event.get("waiting_rows"):
        yield f"{_list_numbers(numbers)} are counted, and their rows have not left: they leave with their window"
    if numbers := event.get("unacknowledged"):
        yield f"{_list_numbers(numbers)} are sent, and not acknowledged"
    if event.get("lost_events"):
        yield f"{event['lost_events']:,} lines were too many for this terminal"
    if event.get("advice"):
        yield f"  fix: {event['advice']}"


def _format_reason(event: Event) -> Iterator[str]:
    if event.get("reason"):
        yield f"  why: {event['reason']}"
    yield from _format_fix(event)


def _format_fix(event: Event) -> Iterator[str]:
    if event.get("fix"):
        yield f"  fix: {event['fix']}"


def _list_numbers(numbers: list[int]) -> str:
    """`#1`, or `#1 to #4` where none is missing, else each."""
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"#{numbers[0]} to #{numbers[-1]}"
    return ", ".join(f"#{number}" for number in numbers)


def _join(*parts: str) -> str:
    return _ARROW.join(part for part in parts if part)
