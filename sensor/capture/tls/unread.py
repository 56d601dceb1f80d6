"""Why the TLS of a process is not read, for the coverage: one thread looks at processes and writes it, the report reads
it.
"""

from sensor.coverage.report import NO_LIBRARY


class UnreadProcesses:
    """Empty until somebody looks: then every process is read or has a reason, or both: a server of rustls in Python has
    Python's own OpenSSL too. Threads share it."""

    def __init__(self) -> None:
        self._reasons: dict[int, str] | None = None

    def update(self, reasons: dict[int, str] | None) -> None:
        """Reasons by process, empty where all is read; None: nobody looks any more."""
        self._reasons = reasons

    def why(self, pid: int) -> str:
        """What of it is not read, in a sentence; empty where all is, or where nobody looks."""
        return "" if self._reasons is None else self._reasons.get(pid, NO_LIBRARY)
