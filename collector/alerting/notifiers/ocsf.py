"""OCSF: writes alerts as JSON findings, for a webhook or into a file, one a line. EDGE: the file.

They are Detection Findings (class 2004) of the Open Cybersecurity Schema Framework 1.3. Times are unix milliseconds.
What the schema has no attribute for is in `unmapped`.
"""

import os
import re
from pathlib import Path
from typing import Any, Final

import msgspec

from collector.alerting.alert import Alert, AlertState, Confidence, Severity
from collector.alerting.notifiers.delivery import Outcome

SCHEMA_VERSION: Final = "1.3.0"
CLASS: Final = 2004  # Detection Finding, of category 2, Findings.
FILE_BYTES_MAX: Final = 64 << 20  # Then it becomes NAME.1, and the NAME.1 of before is gone.
_CREATE, _UPDATE, _CLOSE = (1, "Create"), (2, "Update"), (3, "Close")
_SEVERITIES: Final = {Severity.LOW: (2, "Low"), Severity.MEDIUM: (3, "Medium"), Severity.HIGH: (4, "High")}
_CONFIDENCES: Final = {Confidence.LOW: (1, "Low"), Confidence.MEDIUM: (2, "Medium"), Confidence.HIGH: (3, "High")}


def write_ocsf(alert: Alert, *, version: str, cluster: str) -> bytes:
    """One finding, one line."""
    activity, activity_name = _CREATE if alert.updated_at <= alert.opened_at else _UPDATE
    status, status_name = (2, "In Progress") if alert.acknowledged_by else (1, "New")
    if alert.state is AlertState.CLOSED:
        (activity, activity_name), (status, status_name) = _CLOSE, (4, "Resolved")
    severity, severity_name = _SEVERITIES[alert.severity]
    confidence, confidence_name = _CONFIDENCES[alert.confidence]
    finding: dict[str, Any] = {
        "class_uid": CLASS,
        "class_name": "Detection Finding",
        "category_uid": 2,
        "category_name": "Findings",
        "activity_id": activity,
        "activity_name": activity_name,
        "type_uid": CLASS * 100 + activity,
        "type_name": f"Detection Finding: {activity_name}",
        "time": _milliseconds(alert.updated_at),
        "start_time": _milliseconds(alert.window_start),
        "end_time": _milliseconds(alert.window_end),
        "severity_id": severity,
        "severity": severity_name,
        "confidence_id": confidence,
        "confidence": confidence_name,
        "status_id": status,
        "status": status_name,
        "message": alert.title,
        "metadata": {
            "version": SCHEMA_VERSION,
            "product": {"name": "Apidae", "vendor_name": "Apidae", "version": version},
            "correlation_uid": alert.incident_id or alert.id,
        },
        "finding_info": {
            "uid": alert.id,
            "title": alert.title,
            "desc": alert.why,
            "types": [alert.kind.value],
            "created_time": _milliseconds(alert.opened_at),
            "modified_time": _milliseconds(alert.updated_at),
        },
    }
    return msgspec.json.encode(finding | _describe_more(alert, cluster))


def _describe_more(alert: Alert, cluster: str) -> dict[str, Any]:
    """Who did it, to what, and the rest; only what is known."""
    more: dict[str, Any] = {}
    if alert.consumer.startswith("address:"):
        more["evidences"] = [{"src_endpoint": {"ip": alert.consumer.removeprefix("address:")}}]
    elif alert.consumer:
        more["evidences"] = [{"actor": {"user": {"uid": alert.consumer}}}]
    resources = [{"uid": alert.endpoint_id, "type": "API endpoint"}] if alert.endpoint_id else []
    if alert.node:
        resources.append({"name": alert.node, "type": "Node"})
    if resources:
        more["resources"] = resources
    if alert.advice:
        more["remediation"] = {"desc": alert.advice}
    rest = {"owasp": alert.risk, "calls": alert.calls, "score": alert.score, "cluster": cluster}
    more["unmapped"] = {key: value for key, value in rest.items() if value}
    return more


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1_000)


class OcsfFile:
    """A carrier into a file of bounded size, for a shipper of logs beside the collector."""

    name = "ocsf_file"
    takes_updates = False

    def __init__(self, path: Path, *, version: str, cluster: str, bytes_max: int = FILE_BYTES_MAX) -> None:
        """Raises ValueError with one sentence where the directory is none."""
        if not path.parent.is_dir():
            raise ValueError(f"{path.parent} is no directory; make it, or name another file")
        self.target = f"file {path.name}"
        self._path, self._bytes_max = path, bytes_max
        self._version, self._cluster = version, cluster

    def send(self, alert: Alert) -> Outcome:
        """One line more."""
        line = write_ocsf(alert, version=self._version, cluster=self._cluster) + b"\n"
        try:
            with open(os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640), "ab") as file:  # noqa: PTH123
                file.write(line)
                size = file.tell()
            if size >= self._bytes_max:
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        except OSError:
            return Outcome.UNANSWERED
        return Outcome.DELIVERED

    def erase(self, pattern: re.Pattern[str]) -> int:
        """Blank a name in place, byte for byte, so that a shipper's place in the file stays right."""
        wanted = re.compile(pattern.pattern.encode())
        count = 0
        for path in (self._path, self._path.with_name(f"{self._path.name}.1")):
            if not path.exists():
                continue
            with path.open("r+b") as file:
                found = [match.span() for match in wanted.finditer(file.read())]
                for start, end in found:
                    file.seek(start)
                    file.write(b"-" * (end - start))
            count += len(found)
        return count

    def close(self) -> None:
        """Nothing is open between two lines."""
