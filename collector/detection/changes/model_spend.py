"""Compares what each caller spends on each model with what it spent on the days before.

Tokens of the last 24 hours, of prompts and answers, against those of each of the seven times 24 hours before. With
T(0) of the last and T(1) .. T(7) of the others, a caller and model is reported where at least three of T(1) .. T(7) are
not 0 and

    T(0) > max(FACTOR * max T(d), max T(d) + TOKENS_MIN)

A day without tokens is not compared, so a weekend or a sensor that was away makes no Monday unusual. The largest day
counts and not the mean, so a weekly job is no news. One alert a caller names the model that grew most; it closes when
no look has reported it for a day.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from collector.alerting.alert import AlertKind, Report
from collector.alerting.lifecycle import CHANGE_SECONDS
from collector.core.kinds import Sensitivity
from collector.core.moments import DAY_SECONDS
from collector.core.rates import Interval
from collector.inventory.models.states import read_daily_tokens
from collector.storage.records import Reader
from common.figures import Figure, make_totals

LOOK_SECONDS: Final = 900.0  # The statement reads eight days of states.
DAYS: Final = 7
DAYS_MIN: Final = 3
FACTOR: Final = 3
TOKENS_MIN: Final = 500_000
REPORTS_MAX: Final = 20  # Of one look, those that grew most; further ones are counted.


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelGrowth:
    """A caller's tokens of one model: those of the last 24 hours, and of the largest day before."""

    caller: str
    model: str
    provider: str
    tokens: int
    most: int
    days: int  # Before, with tokens.

    @property
    def limit(self) -> int:
        """The most that is expected."""
        return max(FACTOR * self.most, self.most + TOKENS_MIN)


def find_growth(rows: Sequence[Mapping[str, Any]]) -> list[ModelGrowth]:
    """What is past its limit, most growth first. `rows`: tokens by caller, provider, model and days ago. Pure."""
    by_model: dict[tuple[str, str, str], dict[int, int]] = defaultdict(dict)
    for row in rows:
        by_model[row["caller"], row["provider"], row["model"]][int(row["days_ago"])] = int(row["tokens"])
    found = []
    for (caller, provider, model), tokens in by_model.items():
        before = [count for day, count in tokens.items() if 0 < day <= DAYS and count]
        if caller and len(before) >= DAYS_MIN:
            one = ModelGrowth(
                caller=caller,
                provider=provider,
                model=model,
                tokens=tokens.get(0, 0),
                most=max(before),
                days=len(before),
            )
            found += [one] if one.tokens > one.limit else []
    return sorted(found, key=lambda one: (-one.tokens / one.most, one.caller, one.provider, one.model))


class ModelSpendWatch:
    """Called by one thread."""

    def __init__(
        self,
        *,
        reader: Reader,
        clock: Callable[[], float],
        report: Callable[[Sequence[Report]], object],
        tick: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader, self._clock, self._report = reader, clock, report
        self._due = Interval(LOOK_SECONDS, clock=tick)
        self.dropped_count = 0  # Callers above what is expected, and states, that looks did not read or report.

    def figures(self) -> tuple[Figure, ...]:
        """For metrics."""
        text = (
            "Callers that spend more tokens on a model than expected and were not reported, and states of sensors that "
            "were not read: there were too many for one look. Each look of 15 minutes counts its own."
        )
        return make_totals([("model_spend_dropped", text, self.dropped_count)])

    def look(self) -> None:
        """One look, unless the last one was just now. Raises StoreError."""
        if not self._due.take():
            return
        now = self._clock()
        daily = read_daily_tokens(self._reader, int(now) + 1, DAYS, TOKENS_MIN)
        reports = list(_report_growth(find_growth(daily.rows), now))
        self.dropped_count += daily.left_out + daily.unread_states + max(0, len(reports) - REPORTS_MAX)
        if reports:
            self._report(reports[:REPORTS_MAX])


def _report_growth(found: Sequence[ModelGrowth], now: float) -> Iterator[Report]:
    kind = AlertKind.MODEL_SPEND
    by_caller: dict[str, list[ModelGrowth]] = defaultdict(list)
    for one in found:
        by_caller[one.caller].append(one)
    for caller, several in by_caller.items():
        first, others = several[0], len(several) - 1
        name = caller.partition(":")[2]
        model = first.model if first.model not in ("", "_OTHER") else "a model"
        more = f" So did {others} other model{'s' if others > 1 else ''} of this caller." if others else ""
        yield Report(
            kind=kind,
            severity=kind.row.severity,
            title=f"{name} spends {first.tokens / first.most:.1f} times as many tokens on {model} as on any day before",
            why=f"{first.tokens:,} tokens in the last 24 hours. Expected were at most {first.limit:,}: the largest of "
            f"{first.days} days before had {first.most:,}.{more}",
            calm_seconds=CHANGE_SECONDS,
            window_start=now - DAY_SECONDS,
            window_end=now,
            namespace=name.partition("/")[0] if "/" in name else "",
            consumer=caller,
            risk=kind.row.owasp,
            advice=kind.row.advice,
            measure=float(first.tokens),
            measure_limit=float(first.limit),
            quietest=Sensitivity.NORMAL,
        )
