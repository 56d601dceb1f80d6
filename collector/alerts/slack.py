"""Slack: an incoming webhook's message in blocks (docs.slack.dev: block kit, incoming webhooks). Pure.

All texts in blocks are `plain_text`, so that nothing of a title mentions a channel or links anywhere; `text`, which
clients show in notifications, is escaped as Slack asks.
"""

from typing import Any, Final

import msgspec

from collector.alerts.alert import Alert
from collector.alerts.facts import cut, headline, list_facts

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
