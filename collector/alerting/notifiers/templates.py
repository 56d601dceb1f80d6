"""Bodies that the operator writes as a Jinja template of an alert, and the facts and texts that all notifiers share.

A template sees `alert` with the fields of `collector.alerting.alert.Alert` and nothing else. An unknown name is an
error at the start, not an empty text. `tojson` quotes for JSON, `rfc3339` shows a time. It runs in Jinja's sandbox.

`list_facts` gives what people read of an alert besides its title, as pairs of label and text. Pure.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from collector.alerting.alert import Alert, AlertKind, AlertState, Severity, list_fields
from collector.alerting.notifiers.http import UnwritableError


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


TEMPLATE_BYTES_MAX: Final = 64 << 10
BODY_BYTES_MAX: Final = 256 << 10
_HOSTILE: Final = 'a "quoted" \\ text\nof two lines'


def load_template(path: Path, content_type: str) -> Callable[[Alert], bytes]:
    """What writes a body of an alert, tried with one whose texts have quotes and line ends. Raises ValueError with one
    sentence."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); correct it") from None
    if len(text) > TEMPLATE_BYTES_MAX:
        raise ValueError(f"{path} has {len(text)} bytes; at most {TEMPLATE_BYTES_MAX} are read")
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
    environment.filters["rfc3339"] = show_time
    # A name that is not there says so by being shown.
    environment.policies["json.dumps_function"] = partial(json.dumps, default=str)
    try:
        template = environment.from_string(text.decode())
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

    try:
        for alert in _samples():
            body = write(alert)
            if "json" in content_type:
                json.loads(body)
    except UnwritableError as error:
        raise ValueError(f"{error}; correct the template") from None
    except ValueError as error:
        raise ValueError(f"{path} makes no JSON ({error}); put values through `tojson`") from None
    return write


def _samples() -> tuple[Alert, Alert]:
    """One that is open and one that is closed."""
    opened = Alert(
        id="sample",
        kind=AlertKind.ENUMERATION,
        state=AlertState.OPEN,
        severity=Severity.HIGH,
        title=_HOSTILE,
        why=_HOSTILE,
        endpoint_id="0123456789abcdef",
        route_ids=(1,),
        consumer=_HOSTILE,
        node="",
        opened_at=0.0,
        updated_at=0.0,
        closed_at=None,
        window_start=0.0,
        window_end=0.0,
        observed_rate=1.5,
        expected_rate=0.0,
        threshold_rate=0.0,
        score=0.5,
        calls=23,
        loss_ratio=0.0,
    )
    fields = {**asdict(opened), "state": AlertState.CLOSED, "closed_at": 1.0, "consumer": "", "node": "node-1"}
    return opened, Alert(**fields)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
