"""Which alerts one receiver gets, and when: filters of its entry in `notifiers`, and its quiet hours. Pure.

In quiet hours an alert below high severity waits for their end. One that opens and closes within them is not sent.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

from collector.alerting.alert import Alert, AlertKind, Severity
from collector.core.rates import LocalTime

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY_MINUTES: Final = 24 * 60
_WEEK_MINUTES: Final = 7 * _DAY_MINUTES
_EPOCH_WEEKDAY: Final = 3  # 1970-01-01 was a Thursday.
_DAY: Final = "|".join(_DAYS)
_TIME: Final = "([01][0-9]|2[0-4]):([0-5][0-9])"
_ENTRY: Final = re.compile(rf"(?:((?:{_DAY})(?:[-,](?:{_DAY}))*) )?{_TIME}-{_TIME}\Z")


class QuietHours:
    """Spans of the week by the clocks of one place."""

    def __init__(self, entries: Sequence[str], local_time: LocalTime) -> None:
        """`entries` as `Mon-Fri 20:00-07:00`, `Sat,Sun 00:00-24:00`, or without days for all. One whose end is not
        after its start ends the next day. Raises ValueError with one sentence."""
        self._local_time = local_time
        self._is_quiet = bytearray(_WEEK_MINUTES)
        for entry in entries:
            self._add(entry)
        if entries and all(self._is_quiet):
            raise ValueError("quiet_hours are the whole week; leave hours in which alerts are sent")

    def find_end(self, now: float) -> float:
        """When the quiet hours around a unix time end; 0 outside them."""
        local = self._local_time.read(now)
        minute = (int(local // 60) + _EPOCH_WEEKDAY * _DAY_MINUTES) % _WEEK_MINUTES
        rest = 0
        while self._is_quiet[(minute + rest) % _WEEK_MINUTES]:
            rest += 1
        return now - local % 60 + 60 * rest if rest else 0.0

    def _add(self, entry: str) -> None:
        found = _ENTRY.match(entry)
        start = int(found[2]) * 60 + int(found[3]) if found else _WEEK_MINUTES
        end = int(found[4]) * 60 + int(found[5]) if found else 0
        if found is None or start >= _DAY_MINUTES or end > _DAY_MINUTES:
            raise ValueError(f"quiet_hours has {entry!r}; write `Mon-Fri 20:00-07:00`, or `22:00-06:00` for every day")
        length = end - start if end > start else end - start + _DAY_MINUTES
        for day in _list_days(found[1]) if found[1] else range(len(_DAYS)):
            for minute in range(length):
                self._is_quiet[(day * _DAY_MINUTES + start + minute) % _WEEK_MINUTES] = 1


def _list_days(words: str) -> list[int]:
    """`Mon-Wed,Sat` as numbers; `Sat-Mon` goes on over the end of the week."""
    found = []
    for part in words.split(","):
        first, _, last = part.partition("-")
        start, end = _DAYS.index(first), _DAYS.index(last.partition("-")[0] or first)
        found += [(start + step) % len(_DAYS) for step in range((end - start) % len(_DAYS) + 1)]
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Patterns have `*` and `?`; without any of a kind every alert fits. Raises ValueError with one sentence."""

    severity: Severity = Severity.LOW
    kinds: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    quiet_hours: QuietHours = field(default_factory=lambda: QuietHours((), LocalTime()))

    def __post_init__(self) -> None:
        known = [kind.value for kind in AlertKind]
        for pattern in self.kinds:
            if not any(fnmatchcase(kind, pattern) for kind in known):
                raise ValueError(f"kinds has {pattern!r}, which fits no kind of alert; see docs/use/alerts.md")

    def has(self, alert: Alert) -> bool:
        """Whether the receiver gets it."""
        return alert.severity.rank >= self.severity.rank and all(
            not patterns or any(fnmatchcase(value, pattern) for pattern in patterns)
            for patterns, value in (
                (self.kinds, alert.kind.value),
                (self.services, alert.service),
                (self.namespaces, alert.namespace),
            )
        )

    def find_hold(self, alert: Alert, now: float) -> float:
        """Until when it waits; 0: it is sent at once."""
        return 0.0 if alert.severity is Severity.HIGH else self.quiet_hours.find_end(now)
