"""PagerDuty: events of its Events API, version 2 (developer.pagerduty.com: "Send an alert event"). Pure.

One alert is one `dedup_key`: what opens or changes triggers it, what closes resolves it.
"""

from typing import Final

import msgspec

from collector.alerts.alert import Alert, AlertState, Severity
from collector.alerts.facts import cut, headline, list_facts, show_time

SUMMARY_CHARACTERS_MAX: Final = 1_024
KEY_CHARACTERS_MAX: Final = 255
ROUTING_KEY_CHARACTERS: Final = 32
_SEVERITIES: Final = {Severity.HIGH: "critical", Severity.MEDIUM: "warning", Severity.LOW: "info"}


def check_routing_key(key: str) -> str:
    """The key. Raises ValueError with one sentence, which does not show it."""
    if len(key) != ROUTING_KEY_CHARACTERS or not key.isascii() or not key.isalnum():
        raise ValueError(
            f"it is no integration key of PagerDuty, which has {ROUTING_KEY_CHARACTERS} letters and digits; copy that "
            "of an Events API v2 integration"
        )
    return key


def write_pagerduty(alert: Alert, routing_key: str) -> bytes:
    """The body of one event."""
    event: dict[str, object] = {
        "routing_key": routing_key,
        "event_action": "resolve" if alert.state is AlertState.CLOSED else "trigger",
        "dedup_key": alert.id[:KEY_CHARACTERS_MAX],
    }
    if alert.state is AlertState.OPEN:
        details = {label.lower(): value for label, value in list_facts(alert)}
        event["client"] = "Apidae"
        event["payload"] = {
            "summary": cut(headline(alert), SUMMARY_CHARACTERS_MAX),
            "source": alert.node or alert.consumer or alert.endpoint_id or "apidae",
            "severity": _SEVERITIES[alert.severity],
            "timestamp": show_time(alert.opened_at),
            "class": alert.kind.value,
            "group": alert.incident_id or alert.id,
            "custom_details": {**details, "why": alert.why, "advice": alert.advice},
        }
    return msgspec.json.encode(event)
