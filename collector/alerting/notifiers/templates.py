"""Bodies of alerts as Jinja templates: those of `bodies/`, one for each receiver of JSON, and the operator's own.

A template sees `alert` with the fields of `collector.alerting.alert.Alert`. Those of `bodies/` also see the `headline`,
the `facts` and the `address` of the caller, and the names that the receiver's row gives. An unknown name is an error at
the start, not an empty text. It runs in Jinja's sandbox. Filters: `tojson` quotes for JSON, `rfc3339` shows a time,
`cut` shortens a text, `known` skips what is empty.

`list_facts` gives what people read of an alert besides its title, as pairs of label and text. Pure.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from jinja2 import TemplateError

from collector.alerting.alert import Alert, AlertState, LabelledAlert, Severity, list_fields
from collector.alerting.notifiers.delivery import make_test_alert
from collector.alerting.notifiers.http import UnwritableError
from collector.alerting.wording import format_minute
from collector.core.templates import compile_template
from collector.trust.audit import AuditLine

TEMPLATE_BYTES_MAX: Final = 64 << 10
BODY_BYTES_MAX: Final = 256 << 10
_BODIES: Final = Path(__file__).parent / "bodies"
_HOSTILE: Final = 'a "quoted" \\ text\nof two lines'


def headline(alert: Alert) -> str:
    """One line."""
    return flatten(f"Closed: {alert.title}" if alert.state is AlertState.CLOSED else alert.title)


def list_facts(alert: Alert) -> list[tuple[str, str]]:
    """Those that are known; ten at most."""
    facts = (
        ("Severity", alert.severity.value),
        ("Confidence", alert.confidence.value),
        ("Kind", alert.kind.value),
        ("Consumer", name_consumer(alert)),
        ("Node", alert.node),
        ("Risk", alert.risk),
        ("Opened", format_minute(alert.opened_at)),
        ("Closed", format_minute(alert.closed_at) if alert.closed_at is not None else ""),
        ("Incident", alert.incident_id),
        ("Service", alert.service),
    )
    return [(label, flatten(value)) for label, value in facts if value]


def name_consumer(alert: Alert) -> str:
    """The consumer, with what people call it."""
    label = alert.consumer_label if isinstance(alert, LabelledAlert) else ""
    return f"{label} ({alert.consumer})" if label else alert.consumer


def show_time(seconds: float) -> str:
    """RFC 3339, milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def flatten(text: str) -> str:
    """One line: what came from outside breaks no header and no record."""
    return "".join(c if c.isprintable() else " " for c in text)


def cut(text: str, characters_max: int) -> str:
    """At most this many characters; an ellipsis says that it was longer."""
    return text if len(text) <= characters_max else text[: characters_max - 1] + "…"


def find_address(alert: Alert) -> str:
    """The consumer's address, where it is named by one."""
    return alert.consumer.removeprefix("address:") if alert.consumer.startswith("address:") else ""


def write_json(name: str, **names: str) -> Callable[[Alert], bytes]:
    """What writes the body `bodies/NAME.json` of an alert, on one line. `names`: what else the template sees."""
    template = compile_template((_BODIES / f"{name}.json").read_text(), _FILTERS)

    def write(alert: Alert) -> bytes:
        seen = {"headline": headline(alert), "facts": list_facts(alert), "address": find_address(alert), **names}
        return msgspec.json.encode(msgspec.json.decode(template.render(alert=list_fields(alert), **seen)))

    return write


def write_entries_json(name: str, **names: str) -> Callable[[Sequence[AuditLine]], bytes]:
    """What writes the body `bodies/audit/NAME.json` of entries of the audit log, on one line; the template sees them as
    `entries`."""
    template = compile_template((_BODIES / "audit" / f"{name}.json").read_text(), _FILTERS)

    def write(entries: Sequence[AuditLine]) -> bytes:
        return msgspec.json.encode(
            msgspec.json.decode(template.render(entries=[asdict(one) for one in entries], **names))
        )

    return write


def load_template(path: Path, content_type: str) -> Callable[[Alert], bytes]:
    """What writes a body of an alert, tried with one whose texts have quotes and line ends. Raises ValueError with one
    sentence."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); correct it") from None
    if len(text) > TEMPLATE_BYTES_MAX:
        raise ValueError(f"{path} has {len(text)} bytes; at most {TEMPLATE_BYTES_MAX} are read")
    try:
        template = compile_template(text.decode(), _FILTERS)
    except (TemplateError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no template of Jinja ({_first_line(error)}); correct it") from None

    def write(alert: Alert) -> bytes:
        try:
            body = template.render(alert=list_fields(alert)).encode()
        except Exception as error:  # Whatever a template does is its author's.
            raise UnwritableError(f"{path}: {_first_line(error)}") from None
        if len(body) > BODY_BYTES_MAX:
            raise UnwritableError(f"{path} makes {len(body)} bytes of an alert; at most {BODY_BYTES_MAX} are sent")
        return body

    closed = replace(
        make_test_alert("", 0.0), title=_HOSTILE, why=_HOSTILE, endpoint_id="0123456789abcdef", route_ids=(1,)
    )
    opened = replace(closed, state=AlertState.OPEN, closed_at=None, severity=Severity.HIGH, consumer=_HOSTILE, node="")
    try:
        for alert in (opened, closed):
            body = write(alert)
            if "json" in content_type:
                json.loads(body)
    except UnwritableError as error:
        raise ValueError(f"{error}; correct the template") from None
    except ValueError as error:
        raise ValueError(f"{path} makes no JSON ({error}); put values through `tojson`") from None
    return write


def _keep_known(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}


_FILTERS: Final[dict[str, Callable[..., Any]]] = {"cut": cut, "known": _keep_known, "rfc3339": show_time}


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
