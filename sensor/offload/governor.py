"""Keeps the sensor's processor time within its budget: it lowers the limits of bodies, then of heads, and of TLS calls.

Each second it compares the processor time used, the kernel's programs included, with what the calls of that second
allow. Above the budget, fewer bytes of bodies are copied. Where that is not enough, fewer heads a second of unknown
calls are copied. Those calls are then counted under the `other` route of their service. Well below the budget heads
come back first, then bodies. A limit drops at once by the excess and rises in steps, so it settles just below the
budget. Calls are counted in any case.

TLS is assessed over 10 s, because it is read in turns (`sensor.capture.tls.duty`). If it is above the budget, or the
other limits have no room to recover, fewer calls a second of a process are read. The rest of them is estimated.
"""

from dataclasses import dataclass
from typing import Final

from common.figures import Figure, make_gauges
from sensor.coverage.limits import Limit, Restraint

INTERVAL_NS: Final = 1_000_000_000
# A budget is given for so many calls a second; fewer than these have as much.
BUDGET_CALLS: Final = 10_000
_LEAST_FACTOR: Final = 0.1
_UP: Final = 1.25
# Below this part of the budget there is room for more.
_COMFORT: Final = 0.7
# Fewer heads than this part of the limit are not what costs.
_HEADS_PART: Final = 0.25
# Seconds above the budget before anything is done: a burst of new things to learn is over by then.
_PATIENCE: Final = 2
# The longest period of turns, and windows above the budget before TLS gives way: libraries are searched at the start.
TLS_INTERVAL_NS: Final = 10 * INTERVAL_NS
_TLS_PATIENCE: Final = 2
# Of the budget, what is left to use when TLS has given way: bodies and heads come back below `_COMFORT`.
_TLS_TARGET: Final = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class GovernorSettings:
    """`core_share`: of one core, for 10,000 calls a second."""

    core_share: float
    heads_per_second: int
    floor_heads_per_second: int
    body_bytes_per_second: int = 0  # 0: no bodies.
    floor_body_bytes_per_second: int = 0
    tls_calls_per_second: int = 0  # Of one process; 0: TLS is not read.
    floor_tls_calls_per_second: int = 0


@dataclass(frozen=True, slots=True)
class _Totals:
    """Since the start."""

    now_ns: int
    cpu_ns: int
    calls: int
    heads: int
    body_bytes: int
    tls_calls: int


class Governor:
    """Decides on heads, bytes of bodies and calls over TLS a second. Pure: figures come in with `observe`."""

    def __init__(self, settings: GovernorSettings) -> None:
        self._settings = settings
        self._last: _Totals | None = None
        self._seconds_over = 0
        self._held_seconds = 0.0
        self.heads_per_second = settings.heads_per_second
        self.body_bytes_per_second = settings.body_bytes_per_second
        self.tls_calls_per_second = settings.tls_calls_per_second
        self._tls_began: _Totals | None = None
        self._tls_windows_over = 0
        self.used_share = 0.0  # Of the budget, in the last second.

    @property
    def is_holding_back(self) -> bool:
        """Whether fewer heads and bodies are copied than the settings allow."""
        settings = self._settings
        return (
            self.heads_per_second < settings.heads_per_second
            or self.body_bytes_per_second < settings.body_bytes_per_second
        )

    def report_restraint(self) -> Restraint:
        """How it held back so far, and how far it does now."""
        settings = self._settings
        return Restraint(
            held_seconds=self._held_seconds,
            limits=(
                Limit(name="request heads of a cgroup", value=self.heads_per_second, most=settings.heads_per_second),
                Limit(
                    name="bytes of bodies of a cgroup",
                    value=self.body_bytes_per_second,
                    most=settings.body_bytes_per_second,
                ),
                Limit(
                    name="calls over TLS of a process",
                    value=self.tls_calls_per_second,
                    most=settings.tls_calls_per_second,
                ),
            ),
        )

    def figures(self) -> tuple[Figure, ...]:
        """For metrics: the limits now, and how much of the budget was used."""
        gauges: list[tuple[str, str, float]] = [
            (
                "heads_per_second_limit",
                "Request heads a second of one cgroup that the governor lets the kernel copy.",
                self.heads_per_second,
            ),
            (
                "body_bytes_per_second_limit",
                "Bytes of bodies a second of one cgroup that the governor lets the kernel copy.",
                self.body_bytes_per_second,
            ),
            (
                "budget_used_ratio",
                "Processor time of the last second, kernel programs included, relative to its budget.",
                self.used_share,
            ),
        ]
        if self.tls_calls_per_second:
            text = "Calls over TLS a second of one process that the governor lets be read."
            gauges.append(("tls_calls_per_second_limit", text, self.tls_calls_per_second))
        return make_gauges(gauges)

    def is_due(self, now_ns: int) -> bool:
        """Whether a second has passed since the last `observe`."""
        return self._last is None or now_ns - self._last.now_ns >= INTERVAL_NS

    def observe(
        self, *, now_ns: int, cpu_ns: int, calls: int, heads: int, body_bytes: int = 0, tls_calls: int = 0
    ) -> bool:
        """Takes totals since the start: processor time, calls (those over TLS too), heads and bytes of bodies copied,
        calls read over TLS. Says whether a limit changed."""
        totals = _Totals(now_ns, cpu_ns, calls, heads, body_bytes, tls_calls)
        before, self._last = self._last, totals
        if before is None or now_ns <= before.now_ns:
            self._tls_began = totals
            return False
        seconds = (now_ns - before.now_ns) / 1e9
        if self.is_holding_back or self.tls_calls_per_second < self._settings.tls_calls_per_second:
            self._held_seconds += seconds
        self.used_share = self._find_used(seconds, cpu_ns - before.cpu_ns, calls - before.calls)
        has_changed = self._steer((heads - before.heads) / seconds, (body_bytes - before.body_bytes) / seconds)
        return self._steer_tls(totals) or has_changed

    def _find_used(self, seconds: float, cpu_ns: int, calls: int) -> float:
        """The part of the budget that was used in so many seconds."""
        allowed = self._settings.core_share * max(calls / seconds / BUDGET_CALLS, 1.0)
        return cpu_ns / 1e9 / seconds / allowed

    def _steer_tls(self, totals: _Totals) -> bool:
        began, settings, limit = self._tls_began, self._settings, self.tls_calls_per_second
        if not settings.tls_calls_per_second or began is None or totals.now_ns - began.now_ns < TLS_INTERVAL_NS:
            return False
        self._tls_began = totals
        seconds = (totals.now_ns - began.now_ns) / 1e9
        used = self._find_used(seconds, totals.cpu_ns - began.cpu_ns, totals.calls - began.calls)
        is_over = used > (_COMFORT if self.is_holding_back else 1)
        self._tls_windows_over = self._tls_windows_over + 1 if is_over else 0
        if self._tls_windows_over >= _TLS_PATIENCE:
            read = int(min(limit, (totals.tls_calls - began.tls_calls) / seconds))
            lower = int(read * max(_LEAST_FACTOR, _TLS_TARGET / used))
            if read > settings.floor_tls_calls_per_second:
                self.tls_calls_per_second = max(settings.floor_tls_calls_per_second, lower)
        elif used < _COMFORT and not self.is_holding_back:
            self.tls_calls_per_second = min(settings.tls_calls_per_second, int(limit * _UP) + 1)
        return self.tls_calls_per_second != limit

    def _steer(self, heads_rate: float, body_rate: float) -> bool:
        limits, settings = (self.heads_per_second, self.body_bytes_per_second), self._settings
        heads, body_bytes = limits
        self._seconds_over = self._seconds_over + 1 if self.used_share > 1 else 0
        if self._seconds_over >= _PATIENCE:
            factor = max(_LEAST_FACTOR, 1 / self.used_share)
            if min(body_rate, body_bytes) > settings.floor_body_bytes_per_second:
                lower = int(min(body_rate, body_bytes) * factor)
                self.body_bytes_per_second = max(settings.floor_body_bytes_per_second, lower)
            elif heads_rate >= _HEADS_PART * heads:
                self.heads_per_second = max(settings.floor_heads_per_second, int(heads * factor))
        elif self.used_share < _COMFORT:
            if heads < settings.heads_per_second:
                self.heads_per_second = min(settings.heads_per_second, int(heads * _UP) + 1)
            elif body_bytes < settings.body_bytes_per_second:
                self.body_bytes_per_second = min(settings.body_bytes_per_second, int(body_bytes * _UP) + 1)
        return (self.heads_per_second, self.body_bytes_per_second) != limits
