"""Message bodies for Slack, Microsoft Teams and PagerDuty. Pure.

Slack: an incoming webhook's message in blocks (docs.slack.dev: block kit, incoming webhooks). All texts in blocks are
`plain_text`, so that no title mentions a channel or links anywhere. `text`, which clients show in notifications, is
escaped as Slack asks.

Teams: an adaptive card as a workflow's webhook trigger takes it (learn.microsoft.com: "Create incoming webhooks with
Workflows"; adaptivecards.io schema 1.4). Texts are runs of rich text blocks, which are shown as they are. In text
blocks and fact sets, markdown of a title would become a link. A message has at most 28 KB.

PagerDuty: events of its Events API, version 2 (developer.pagerduty.com: "Send an alert event"). One alert is one
`dedup_key`: opening or changing triggers it, closing resolves it.
"""

from typing import Any, Final

import msgspec

from collector.alerting.alert import Alert, AlertState, Severity
from collector.alerting.notifiers.templates import cut, headline, list_facts, show_time

HEADER_CHARACTERS_MAX: Final = 150  # Of a header block.
TEXT_CHARACTERS_MAX: Final = 3_000  # Of a section's text.
FIELD_CHARACTERS_MAX: Final = 2_000  # Of one of a section's fields, of which there are ten at most.
_ESCAPES: Final = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"))


def write_slack(alert: Alert) -> bytes:
    """The body of one message."""
    line = headline(alert)
    fields = [_plain(cut(f"{label}: {value}", FIELD_CHARACTERS_MAX)) for label, value in list_facts(alert)]
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": _plain(cut(line, HEADER_CHARACTERS_MAX))},
        {"type": "section", "text": _plain(cut(alert.why or line, TEXT_CHARACTERS_MAX))},
        {"type": "section", "fields": fields},
    ]
    if alert.advice:
        blocks.append({"type": "context", "elements": [_plain(cut(alert.advice, FIELD_CHARACTERS_MAX))]})
    return msgspec.json.encode({"text": _escape(cut(line, TEXT_CHARACTERS_MAX)), "blocks": blocks})


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}


def _escape(text: str) -> str:
    for character, escape in _ESCAPES:
        text = text.replace(character, escape)
    return text


TITLE_CHARACTERS_MAX: Final = 500
FACT_CHARACTERS_MAX: Final = 500
_COLORS: Final = {Severity.HIGH: "attention", Severity.MEDIUM: "warning", Severity.LOW: "accent"}
_CARD: Final = "application/vnd.microsoft.card.adaptive"


def write_teams(alert: Alert) -> bytes:
    """The body of one message."""
    color = "good" if alert.state is AlertState.CLOSED else _COLORS[alert.severity]
    title = _run(cut(headline(alert), TITLE_CHARACTERS_MAX), size="large", weight="bolder", color=color)
    body = [_block(title), _block(_run(cut(alert.why, TEXT_CHARACTERS_MAX)))] if alert.why else [_block(title)]
    body += [
        _block(_run(f"{label}: ", weight="bolder"), _run(cut(value, FACT_CHARACTERS_MAX)))
        for label, value in list_facts(alert)
    ]
    if alert.advice:
        body.append(_block(_run(cut(alert.advice, FACT_CHARACTERS_MAX), isSubtle=True)))
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "fallbackText": cut(headline(alert), TITLE_CHARACTERS_MAX),
        "body": body,
    }
    attachment = {"contentType": _CARD, "contentUrl": None, "content": card}
    return msgspec.json.encode({"type": "message", "attachments": [attachment]})


def _block(*runs: dict[str, Any]) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": list(runs)}


def _run(text: str, **style: object) -> dict[str, Any]:
    return {"type": "TextRun", "text": text, **style}


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
