"""Microsoft Teams: an adaptive card as a workflow's webhook trigger takes it (learn.microsoft.com: "Create incoming
webhooks with Workflows"; adaptivecards.io schema 1.4). Pure.

Texts are runs of rich text blocks, which are shown as they are: in text blocks and fact sets, markdown of a title would
become a link. A message has at most 28 KB.
"""

from typing import Any, Final

import msgspec

from collector.alerts.alert import Alert, AlertState, Severity
from collector.alerts.facts import cut, headline, list_facts

TITLE_CHARACTERS_MAX: Final = 500
TEXT_CHARACTERS_MAX: Final = 3_000
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
