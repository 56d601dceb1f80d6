"""What the sensor did to JVMs: it attached its agent, failed to, or stopped reading. For the collector's audit log.

A `Journal` keeps the latest of them. Each stream to a collector gets all that are kept, and then what is new. The
collector knows each by its id, so it writes every one once. What is evicted before anybody had it is counted.
"""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from common.figures import Figure, make_totals
from sensor.core.calls import Service

RECORDS_MAX: Final = 256


class ConsentKind(IntEnum):
    """Where consent to the agent stands; as on the wire."""

    LINE = 1  # Of the file java-attach.
    ANNOTATION = 2  # Of the Pod.
    LABEL = 3  # Of the Pod's namespace.


@dataclass(frozen=True, slots=True, kw_only=True)
class PodConsent:
    """What a Pod and its namespace say of apidae.io/attach-java; None: nothing."""

    namespace: str
    name: str
    annotated: bool | None
    labelled: bool | None


@dataclass(frozen=True, slots=True)
class Grant:
    """Consent that covers a JVM. `text`: number and text of the line; `namespace/name` of the Pod; the namespace."""

    kind: ConsentKind
    text: str


class AttachmentEvent(IntEnum):
    """What happened to a JVM; as on the wire."""

    ATTACHED = 1
    FAILED = 2  # To attach.
    DETACHED = 3  # Consent was withdrawn: the agent takes its patches out.
    REATTACHED = 4  # Consent was given again, to the same agent.


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentRecord:
    """One of them. `id` names it among all of the node, whichever sensor reports it."""

    id: str
    event: AttachmentEvent
    service: Service  # Of port 0.
    process: int
    process_name: str
    grant: Grant | None  # None: nothing covers it any more.
    reason: str = ""  # Of a failure.
    monotonic_ns: int


class Journal:
    """The latest records. Thread-safe: one thread adds, one reads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: deque[AttachmentRecord] = deque()
        self._added = 0
        self._read = 0  # Of those that were added, so many were read.
        self.lost = 0  # Those that were evicted before anybody read them.

    def add(self, record: AttachmentRecord) -> bool:
        """Whether it is new: of an id that is kept it is not."""
        with self._lock:
            if any(one.id == record.id for one in self._records):
                return False
            self._records.append(record)
            self._added += 1
            if len(self._records) > RECORDS_MAX:
                self._records.popleft()
                self.lost += self._added - RECORDS_MAX > self._read
            return True

    def read_after(self, number: int) -> tuple[int, Sequence[AttachmentRecord]]:
        """All that were added after the first `number` ones, as far as they are kept; and how many were added in
        all."""
        with self._lock:
            wanted = min(self._added - number, len(self._records))
            self._read = self._added
            return self._added, list(self._records)[len(self._records) - wanted :] if wanted > 0 else []

    def figures(self) -> tuple[Figure, ...]:
        """For metrics."""
        text = f"Attachments to JVMs that were not reported: no collector was there, and {RECORDS_MAX} newer ones came."
        return make_totals([("tls_java_unreported", text, self.lost)])
