"""OpenTelemetry: alerts as log records by OTLP/HTTP in JSON (opentelemetry.io: OTLP specification 1.x, its logs). Pure.

64-bit integers are texts and enums are numbers, as in the specification's JSON mapping. An answer may accept the
request and still refuse records (`partialSuccess`).
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import msgspec

from collector.alerting.alert import Alert, AlertState, Severity
from collector.alerting.notifiers.http import is_loopback

PATH: Final = "/v1/logs"
# SeverityNumber: INFO, WARN, ERROR; what is over is INFO.
_SEVERITIES: Final = {Severity.LOW: (9, "INFO"), Severity.MEDIUM: (13, "WARN"), Severity.HIGH: (17, "ERROR")}
_CLOSED: Final = (9, "INFO")


def check_endpoint(url: str, *, is_with_headers: bool) -> str:
    """The address for logs of an endpoint (`http://collector:4318`). Raises ValueError with one sentence."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or "@" in url:
        shown = f"{parts.scheme}://{parts.hostname or ''}"  # Never the rest: it may hold a token.
        raise ValueError(f"{shown!r} is no OTLP endpoint; use http://HOST:4318 or https://HOST, keys in otlp_headers")
    if is_with_headers and parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("otlp_headers would go in the clear; use https://")
    return url.rstrip("/").removesuffix(PATH) + PATH


def read_headers(text: str) -> dict[str, str]:
    """`name=value` with commas between, values percent-encoded (as OTEL_EXPORTER_OTLP_HEADERS). Raises ValueError with
    one sentence, which shows no value, unless both are ASCII."""
    headers = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, separator, value = part.partition("=")
        name, value = name.strip().lower(), unquote(value.strip())
        is_name = name.replace("-", "").replace("_", "").isalnum()
        if not (separator and is_name and value.isprintable() and f"{name}{value}".isascii()):
            raise ValueError(
                "otlp_headers must be NAME=VALUE with commas between, in ASCII, as in authorization=Bearer%20KEY"
            )
        headers[name] = value
    return headers


def write_otlp(alert: Alert, *, version: str, cluster: str) -> bytes:
    """An ExportLogsServiceRequest of one record."""
    number, text = _CLOSED if alert.state is AlertState.CLOSED else _SEVERITIES[alert.severity]
    record = {
        "timeUnixNano": str(int(alert.updated_at * 1e9)),
        "observedTimeUnixNano": str(int(alert.updated_at * 1e9)),
        "severityNumber": number,
        "severityText": text,
        "eventName": "apidae.alert",
        "body": {"stringValue": f"{alert.title}: {alert.why}"},
        "attributes": _attributes(_describe(alert)),
    }
    resource = {"service.name": "apidae-collector", "service.version": version, "k8s.cluster.name": cluster}
    request = {
        "resourceLogs": [
            {
                "resource": {"attributes": _attributes(resource)},
                "scopeLogs": [{"scope": {"name": "apidae.alerts", "version": version}, "logRecords": [record]}],
            }
        ]
    }
    return msgspec.json.encode(request)


def is_taken(answer: bytes) -> bool:
    """Whether no record was refused, by an ExportLogsServiceResponse."""
    try:
        told = msgspec.json.decode(answer) if answer else {}
    except msgspec.DecodeError:
        return True  # The status said yes.
    partial = told.get("partialSuccess") if isinstance(told, dict) else None
    refused = partial.get("rejectedLogRecords", 0) if isinstance(partial, dict) else 0
    return str(refused) in ("0", "")


def _describe(alert: Alert) -> dict[str, object]:
    address = alert.consumer.removeprefix("address:") if alert.consumer.startswith("address:") else ""
    return {
        "apidae.alert.id": alert.id,
        "apidae.alert.kind": alert.kind.value,
        "apidae.alert.state": alert.state.value,
        "apidae.alert.severity": alert.severity.value,
        "apidae.alert.confidence": alert.confidence.value,
        "apidae.alert.score": alert.score,
        "apidae.alert.calls": alert.calls,
        "apidae.incident.id": alert.incident_id,
        "apidae.consumer": alert.consumer,
        "apidae.endpoint.id": alert.endpoint_id,
        "apidae.risk": alert.risk,
        "apidae.advice": alert.advice,
        "client.address": address,
        "host.name": alert.node,
    }


def _attributes(values: Mapping[str, object]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items() if value not in ("", None)]


def _value(value: object) -> dict[str, Any]:
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": str(value)}
