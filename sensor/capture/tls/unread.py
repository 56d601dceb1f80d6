"""Why the TLS of a process is not read, for the coverage: one thread looks at processes and writes it, the report reads
it.
"""

from collections.abc import Iterable
from typing import Final, Protocol

NOT_FOUND: Final = "No library of TLS that can be read was found in its process."


class Probed(Protocol):
    """`sensor.capture.tls.attacher.ProbedFile`."""

    @property
    def pids(self) -> tuple[int, ...]: ...

    @property
    def sites(self) -> tuple[object, ...]: ...

    @property
    def reason(self) -> str: ...


class UnreadProcesses:
    """Empty until somebody looks: then every process is read or has a reason, or both: a server of rustls in Python has
    Python's own OpenSSL too. Threads share it."""

    def __init__(self) -> None:
        self._reasons: dict[int, str] | None = None

    def update(self, files: Iterable[Probed] | None) -> None:
        """Files with a library of TLS, all of the node; None: nobody looks any more."""
        if files is None:
            self._reasons = None
            return
        reasons: dict[int, str] = {}
        for file in files:
            for pid in file.pids:
                reasons[pid] = reasons.get(pid) or ("" if file.sites else file.reason)
        self._reasons = reasons

    def why(self, pid: int) -> str:
        """What of it is not read, in a sentence; empty where all is, or where nobody looks."""
        return "" if self._reasons is None else self._reasons.get(pid, NOT_FOUND)
