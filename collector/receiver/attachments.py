"""What sensors did to JVMs, as entries of the audit log: attached the Java agent, failed to, stopped reading.

A sensor says so of its own node alone. The node is in the actor and in the target, and `Witness` has moved workloads of
other nodes before. The text of an entry is made here, of parts that are cut and made printable. A sensor repeats what
it reported, on each new stream and after its restart, so each entry has an id and is written once.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from threading import Lock
from typing import Final

from apidae.v1 import data_pb2, stream_pb2

from collector.core.feature import Feature, Job, Role
from collector.receiver.columns import NAME_LIMIT_BYTES
from collector.receiver.sensor_status import Greeting
from collector.trust.audit import AuditEntry, AuditLog, make_entry
from common.bounded import BoundedDict
from common.figures import make_totals

MESSAGE_LIMIT: Final = 512  # Attachments of one message; a sensor keeps half as many.
WAITING_LIMIT: Final = 10_000  # Entries of all sensors that wait for the state.
# Of all sensors, whatever names of nodes they give: in 250 days they take the place of all decisions of people
# (`ENTRIES_MAX` of the audit log), not in one.
ENTRIES_A_DAY: Final = 2_000
CERTIFICATE: Final = "certificate"  # How a sensor showed which node it is of.
NO_CERTIFICATE: Final = "no certificate"
LOST: Final = "java.unreported"
_REASON_CHARACTERS: Final = 400
_AGE_LIMIT_SECONDS: Final = 365 * 86_400
_ACTIONS: Final = {
    stream_pb2.ATTACHMENT_EVENT_ATTACHED: "java.attached",
    stream_pb2.ATTACHMENT_EVENT_FAILED: "java.failed",
    stream_pb2.ATTACHMENT_EVENT_DETACHED: "java.detached",
    stream_pb2.ATTACHMENT_EVENT_REATTACHED: "java.reattached",
}
_CONSENTS: Final = {
    stream_pb2.CONSENT_KIND_LINE: "Consent: line {} of java-attach.",
    stream_pb2.CONSENT_KIND_ANNOTATION: "Consent: annotation of the Pod {}.",
    stream_pb2.CONSENT_KIND_LABEL: "Consent: label of the namespace {}.",
}
_NO_CONSENT: Final = "Consent was withdrawn."


def convert_attachments(
    message: stream_pb2.Attachments, greeting: Greeting, now: float, *, has_certificate: bool
) -> list[AuditEntry]:
    """Entries, whose `block_id` is the id of what happened. Events that this version does not know are of a newer
    sensor, and excluded. The services are the node's own already."""
    entries = [
        _convert(one, greeting.name, now) for one in message.attachments[:MESSAGE_LIMIT] if one.event in _ACTIONS
    ]
    if message.lost:
        why = f"{min(message.lost, 2**31)} attachments were evicted by newer ones before a collector had them."
        entry = make_entry(now, f"sensor:{greeting.name}", LOST, greeting.name, why=why)
        entries.append(_identify(entry, greeting.name, f"{greeting.boot_id} {message.lost}"))
    way = CERTIFICATE if has_certificate else NO_CERTIFICATE
    return [replace(entry, way=way) for entry in entries]


def _convert(one: stream_pb2.Attachment, node: str, now: float) -> AuditEntry:
    consent = _CONSENTS.get(one.consent, _NO_CONSENT).format(_print(one.consent_text))
    reason = _print(one.reason, _REASON_CHARACTERS)
    entry = make_entry(
        now,
        f"sensor:{node}",
        _ACTIONS[one.event],
        f"{node}: {_name_service(one.service)}, process {one.process} ({_print(one.process_name) or 'no name'})",
        why=f"{reason} {consent}".strip(),
        after={"happened": now - min(one.age_seconds, _AGE_LIMIT_SECONDS)},
    )
    return _identify(entry, node, one.id)


def _identify(entry: AuditEntry, node: str, name: str) -> AuditEntry:
    digest = hashlib.sha256(f"{node}\0{entry.action}\0{name}".encode()).hexdigest()
    return replace(entry, block_id=digest[:32])


def _name_service(service: data_pb2.Service) -> str:
    """A workload of Kubernetes with its namespace; others cannot look like one."""
    workload = _print(service.workload) or "no workload"
    return f"{_print(service.namespace)}/{workload}" if service.namespace else f"{workload} on the host"


def _print(text: str, most: int = NAME_LIMIT_BYTES) -> str:
    return "".join(one for one in text[:most] if one.isprintable())


class AttachmentLog:
    """Entries on their way into the audit log. The event loop adds, a thread flushes."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit
        self._lock = Lock()
        self._waiting: BoundedDict[str, AuditEntry] = BoundedDict(WAITING_LIMIT)
        self._dropped = 0
        self._day = self._written = 0  # Of that day.

    def add(self, entries: Sequence[AuditEntry]) -> None:
        """Keep for the next flush. Does not block."""
        with self._lock:
            for entry in entries:
                self._dropped += len(self._waiting) >= WAITING_LIMIT and entry.block_id not in self._waiting
                self._waiting[entry.block_id] = entry

    def flush(self) -> None:
        """Write what the log does not have yet. Blocks. Raises StoreError; what failed stays for the next flush."""
        with self._lock:
            waiting = list(self._waiting.values())
        if not waiting:
            return
        day = int(waiting[-1].time // 86_400)
        if day != self._day:
            self._day, self._written = day, 0
        written, beyond = self._audit.add_new(waiting, most=ENTRIES_A_DAY - self._written)
        self._written += written
        with self._lock:
            self._dropped += beyond
            for entry in waiting:
                self._waiting.pop(entry.block_id, None)

    @property
    def feature(self) -> Feature:
        """What the collector repeats and shows."""
        text = (
            "Attachments of the Java agent that are not in the audit log: all sensors had too many at once or in a day."
        )
        return Feature(
            name="attachments",
            role=Role.INGEST,
            jobs=(Job(works=(self.flush,)),),
            figures=lambda: make_totals([("attachments_dropped", text, self._dropped)]),
        )
