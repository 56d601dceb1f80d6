"""When counts of who used something are reported, and until when: of MCP servers, and of model APIs.

They name callers, so they are kept for about an hour after they were first reported.
"""

from dataclasses import dataclass
from typing import Final

from sensor.core.calls import Credentials, NamedEnds, PrincipalKind

_SECOND_NS: Final = 1_000_000_000
USES_NS: Final = 3_600 * _SECOND_NS
# Counts of callers that are known are reported at once in the first minute, and then so often.
_YOUNG_NS: Final = 60 * _SECOND_NS
USES_REFRESH_NS: Final = 300 * _SECOND_NS

# Principal with its kind, credential, address, workload.
Caller = tuple[int, PrincipalKind, int, str, str]


def name_caller(credentials: Credentials, ends: NamedEnds) -> Caller:
    """What distinguishes callers."""
    return (
        credentials.principal,
        credentials.principal_kind,
        credentials.credential,
        ends.client_address,
        ends.client_workload,
    )


@dataclass(slots=True)
class Uses:
    """The times of the reports of one state. Not thread-safe."""

    _has_news: bool = False  # Calls that were not reported.
    _began_ns: int | None = None  # When it was reported first,
    _reported_ns: int = 0  # and last.

    def note_call(self) -> None:
        """There is something to report."""
        self._has_news = True

    def note_report(self, now_ns: int) -> None:
        """All of it is reported now."""
        if self._began_ns is None:
            self._began_ns = now_ns
        self._reported_ns, self._has_news = now_ns, False

    def is_over(self, now_ns: int) -> bool:
        """Whether they have been reported for so long that others are to follow. Always asked by one clock."""
        return self._began_ns is not None and now_ns - self._began_ns >= USES_NS

    def is_due(self, now_ns: int) -> bool:
        """Whether calls wait to be reported. By the clock of `is_over`."""
        if not self._has_news or self._began_ns is None:
            return self._has_news
        age = now_ns - self._began_ns
        return age < _YOUNG_NS or age >= USES_NS or now_ns - self._reported_ns >= USES_REFRESH_NS
