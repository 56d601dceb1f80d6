"""What a person is told of an alert besides its title, as pairs of a label and a text. Pure."""

from datetime import UTC, datetime

from collector.alerts.alert import Alert, AlertState


def headline(alert: Alert) -> str:
    """One line."""
    return flatten(f"Closed: {alert.title}" if alert.state is AlertState.CLOSED else alert.title)


def list_facts(alert: Alert) -> list[tuple[str, str]]:
    """Those that are known; nine at most."""
    facts = (
        ("Severity", alert.severity.value),
        ("Confidence", alert.confidence.value),
        ("Kind", alert.kind.value),
        ("Consumer", alert.consumer),
        ("Node", alert.node),
        ("Risk", alert.risk),
        ("Opened", show_minute(alert.opened_at)),
        ("Closed", show_minute(alert.closed_at) if alert.closed_at is not None else ""),
        ("Incident", alert.incident_id),
    )
    return [(label, flatten(value)) for label, value in facts if value]


def show_minute(seconds: float) -> str:
    """For people."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def show_time(seconds: float) -> str:
    """RFC 3339, milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def flatten(text: str) -> str:
    """One line: what came from outside breaks no header and no record."""
    return "".join(c if c.isprintable() else " " for c in text)


def cut(text: str, characters_max: int) -> str:
    """At most so long; an ellipsis says that it was longer."""
    return text if len(text) <= characters_max else text[: characters_max - 1] + "…"
