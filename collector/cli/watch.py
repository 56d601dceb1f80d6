"""`apidae watch`: a line for each alert that opens, closes or changes, as it happens.

The collector's stream of events says when alerts changed (/events), and the list says what they are. While the stream
is away, the command tries again, and then asks for everything once.
"""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from collector.cli.client import Api, command, fail, say
from collector.cli.findings import Severity

if TYPE_CHECKING:
    import httpx

ALERTS_MAX = 200  # Of the newest; one page of the API.
SILENCE_SECONDS = 25.0  # The collector says something every 10 s.
RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0)
LOST_SECONDS = 60.0  # Without an answer for so long, the command ends.
ALERT_STATUS = 3


class Line(StrEnum):
    """How to print an alert."""

    TEXT = "text"
    JSON = "json"


def register_watch(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "watch", prints=False)(watch)


def watch(
    api: Api,
    severity: Annotated[Severity, typer.Option(help="This severity and graver ones.")] = Severity.LOW,
    kind: Annotated[str, typer.Option(metavar="KIND", help="Alerts of this kind only.")] = "",
    is_new: Annotated[bool, typer.Option("--new", help="Not the alerts that are open at the start.")] = False,
    once: Annotated[bool, typer.Option("--once", help="End with status 3 after the first alert.")] = False,
    seconds: Annotated[float, typer.Option(min=0, help="End with status 0 after so many seconds; 0: never.")] = 0.0,
    line: Annotated[Line, typer.Option("--output", "-o", help="Text for people, or a JSON object a line.")] = Line.TEXT,
) -> None:
    """Follow alerts: a line for each that opens, changes or closes. Without an answer for a minute it ends with 1."""
    follower = Follower(api, list(Severity)[: list(Severity).index(severity) + 1], kind)
    end = time.monotonic() + seconds if seconds else None
    is_first = True
    try:
        for found in follow(api, end):
            for alert in follower.list_changes(found):
                if not (is_first and (is_new or alert["state"] != "open")):
                    typer.echo(json.dumps(alert) if line is Line.JSON else write_alert(alert))
                    if once:
                        raise typer.Exit(ALERT_STATUS)
            is_first = False
    except KeyboardInterrupt:
        return


@dataclass(slots=True)
class Follower:
    """Remembers what was printed of each alert."""

    api: Api
    severities: list[Severity]
    kind: str
    _seen: dict[str, tuple[str, str]] = field(default_factory=dict)

    def list_changes(self, alerts: list[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """Alerts with another state or severity than before, oldest first."""
        known, self._seen = self._seen, {}
        for alert in reversed(alerts):
            now = (str(alert["state"]), str(alert["severity"]))
            self._seen[str(alert["id"])] = now
            is_wanted = alert["severity"] in self.severities and self.kind in ("", alert["kind"])
            if is_wanted and known.get(str(alert["id"])) != now:
                yield alert


def write_alert(alert: Mapping[str, Any]) -> str:
    """Time, severity, state, title and id; what others sent steers no terminal."""
    from common.log_lines import escape

    at = alert["closed_at"] if alert["state"] == "closed" else alert["updated_at"]
    style: Mapping[str, dict[str, Any]] = {
        "critical": {"fg": "red", "bold": True},
        "high": {"fg": "red"},
        "medium": {"fg": "yellow"},
    }
    severity = typer.style(f"{alert['severity']:8}", **style.get(str(alert["severity"]), {}))
    return f"{str(at)[:19]}Z  {severity}  {alert['state']:8}  {escape(str(alert['title']))}  {alert['id']}"


def follow(api: Api, end: float | None) -> Iterator[list[Mapping[str, Any]]]:
    """The newest alerts, now and after each change, until `end` on the monotonic clock. Raises typer.Exit(1) where the
    collector is lost."""
    import httpx

    yield _list_alerts(api)
    lost_at, tries = 0.0, 0
    while not _is_over(end):
        try:
            for has_changed in _read_stream(api, end):
                if has_changed:
                    yield _list_alerts(api)
                lost_at, tries = 0.0, 0
        except httpx.HTTPError as error:
            if _is_over(end):
                return
            now = time.monotonic()
            if not lost_at:
                lost_at = now
                say(f"{api.explain_failure(error)} Trying again for {LOST_SECONDS:.0f} s.", err=True)
            if now - lost_at >= LOST_SECONDS:
                raise fail(f"The collector at {api.url} did not answer for {LOST_SECONDS:.0f} s.") from error
        pause = RETRY_SECONDS[min(tries, len(RETRY_SECONDS) - 1)]
        tries += 1
        time.sleep(pause if end is None else max(0.0, min(pause, end - time.monotonic())))


def _is_over(end: float | None) -> bool:
    return end is not None and time.monotonic() >= end


def _list_alerts(api: Api) -> list[Mapping[str, Any]]:
    return list(api.fetch("alerts", {"limit": str(ALERTS_MAX)})["items"])


def _read_stream(api: Api, end: float | None) -> Iterator[bool]:
    """For each line of the stream whether alerts changed; a new stream counts as a change. Raises httpx's errors."""
    import httpx

    silence = SILENCE_SECONDS if end is None else max(0.1, min(SILENCE_SECONDS, end - time.monotonic()))
    timeout = httpx.Timeout(SILENCE_SECONDS, read=silence)
    with (
        httpx.Client(timeout=timeout, verify=api.make_trust()) as client,
        client.stream("GET", api.make_address("events"), headers=api.make_headers()) as response,
    ):
        _refuse_errors(api, response)
        event = ""
        for line in response.iter_lines():
            name, _, value = line.partition(":")
            if name == "event":
                event = value.strip()
            yield (event == "hello" and name == "data") or (name == "data" and "alerts" in _read_topics(value))
            if _is_over(end):
                return


def _refuse_errors(api: Api, response: "httpx.Response") -> None:
    """A refusal is final; too many streams, or a collector that stops, is not."""
    if response.is_error and response.status_code != 503:
        response.read()
        raise fail(api.explain_refusal(response.status_code, response.text[:200]))
    response.raise_for_status()


def _read_topics(data: str) -> list[str]:
    try:
        found = json.loads(data)
    except ValueError:
        return []
    topics = found.get("topics") if isinstance(found, dict) else None
    return topics if isinstance(topics, list) else []
