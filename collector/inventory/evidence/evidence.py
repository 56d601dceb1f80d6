"""Reads the rows behind an alert: the calls it is about, from an hour before it opened to ten minutes after the last
report.

It also gives the window that the detector scored. The question is one that anybody may send to `/api/v1/calls`, so the
figures can be read again without the alert.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from collector.alerting.alert import Alert, KindGroup, Subject
from collector.core.kinds import ConsumerKind
from collector.core.rates import CALLS_A_SECOND
from collector.inventory.consumers.consumer import ConsumerError, ConsumerName, parse_consumer
from collector.inventory.endpoints.bodies import Bodies
from collector.inventory.evidence.calls import CallInventory, CallPage, CallQuestion, CallSums, Resolution
from collector.inventory.evidence.cohort import BEFORE_SECONDS as CROWD_BEFORE_SECONDS
from collector.inventory.evidence.cohort import Crowd
from collector.inventory.evidence.explanation import Explanation, ExplanationReader

BEFORE_SECONDS: Final = 3_600
AFTER_SECONDS: Final = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertEvidence:
    """What is behind one alert. `question` is None where it is about no calls, and then nothing was counted."""

    unit: str
    observed: float | None  # In `unit`, as are the next two; None: it is in the alert's words only.
    expected: float | None
    limit: float | None
    question: CallQuestion | None = None
    page: CallPage | None = None
    window: CallSums | None = None  # All rows that the window touches that was scored,
    window_seconds: int = 0  # as far as their time has passed.
    is_aligned: bool = False  # The window begins and ends where rows do.
    notes: tuple[str, ...] = ()  # Sentences on how far the rows go.
    # Who called, on the first page, where an endpoint alone is named and rows are of minutes.
    crowd: Crowd | None = None
    explanation: Explanation | None = None  # On the first page.


class EvidenceReader:
    def __init__(self, *, calls: CallInventory, explanations: ExplanationReader, clock: Callable[[], float]) -> None:
        self._calls = calls
        self._explanations = explanations
        self._clock = clock

    def read(self, alert: Alert, *, limit: int, cursor: str = "") -> AlertEvidence:
        """One page of it. Raises CursorError where the cursor is not of this alert's question, StoreError."""
        figures = _find_figures(alert)
        question = _ask(alert)
        if question is None:
            notes: tuple[str, ...] = ("This alert is about no calls, so no rows are behind it; see its words.",)
            return replace(figures, notes=notes)
        question = replace(self._choose_rows(question), limit=limit, cursor=cursor)
        seconds = question.resolution.seconds
        start, end = int(alert.window_start), int(alert.window_end)
        is_windowed = alert.kind.row.is_windowed
        # Of abuse the window ends with the begin of the newest row that was counted.
        last = -(-end // seconds) * seconds if is_windowed else (end // seconds + 1) * seconds
        window = self._calls.sum_calls(replace(question, start=start // seconds * seconds, end=last))
        is_aligned = is_windowed and start % seconds == 0 and end % seconds == 0
        notes = (
            *self._explain(alert, question, window, is_aligned=is_aligned),
            *self._describe_answers(alert, question),
        )
        return replace(
            figures,
            question=question,
            page=self._calls.list_calls(question),
            window=window,
            window_seconds=min(window.end, int(self._clock())) - window.start,
            is_aligned=is_aligned,
            notes=notes,
            crowd=self._find_crowd(question, window),
            explanation=None if cursor else self._explanations.read(alert, question, window, self._clock()),
        )

    def read_bodies(self, alert: Alert) -> Bodies | None:
        """What the sampled calls of an alert held; None where it is about no calls, or no body was read."""
        question = _ask(alert)
        return None if question is None else self._explanations.read_bodies(alert, self._choose_rows(question))

    def _choose_rows(self, question: CallQuestion) -> CallQuestion:
        """Minutes while there are any of the whole time, hours beyond."""
        now = self._clock()
        minutes = _align(question, Resolution.MINUTE)
        is_kept = minutes.start >= now - self._calls.find_kept_seconds(Resolution.MINUTE)
        if is_kept and not self._calls.was_dropped(minutes):
            return minutes
        return _align(question, Resolution.HOUR)

    def _find_crowd(self, question: CallQuestion, window: CallSums) -> Crowd | None:
        """Of many callers what they share, on the first page; of one there is nothing to share."""
        is_one = question.consumer is not None or question.address
        if is_one or question.cursor or question.resolution is not Resolution.MINUTE:
            return None
        both = replace(question, start=window.start - CROWD_BEFORE_SECONDS, end=window.end)
        return self._calls.compare_callers(both, window.start)

    def _describe_answers(self, alert: Alert, question: CallQuestion) -> list[str]:
        """Whether who reads what may be others' was answered, on the first page."""
        if not alert.kind.row.reads_objects or question.consumer is None or question.cursor:
            return []
        said = self._calls.read_answers(question).describe()
        return [said] if said else []

    def _explain(self, alert: Alert, question: CallQuestion, window: CallSums, *, is_aligned: bool) -> list[str]:
        seconds, kept = question.resolution.seconds, self._calls.find_kept_seconds(question.resolution)
        notes = []
        oldest = self._clock() - kept
        if question.end <= oldest:
            notes.append(f"Rows are kept for {kept // 86_400} days; those of this alert are gone.")
        elif question.start < oldest:
            notes.append(f"Rows are kept for {kept // 86_400} days; the oldest of this alert are gone.")
        elif question.resolution is Resolution.HOUR:
            hours = self._calls.find_kept_seconds(Resolution.MINUTE) // 3_600
            notes.append(f"Rows of minutes are kept for {hours} h, or until the disk limit; these are of hours.")
        if question.resolution is Resolution.HOUR and self._calls.was_dropped(question):
            notes.append("The disk limit dropped rows of this time.")
        if alert.kind.row.group is KindGroup.HEALTH:
            notes.append("Where several endpoints of a service are reported together, the rows are those of the first.")
        elif alert.kind.row.group is not KindGroup.VOLUME:
            counted = (
                f"The alert counts only {unit}" if (unit := alert.kind.row.unit) else "The alert counts some of them"
            )
            notes.append(f"The rows count all calls of this client or endpoint. {counted}; older ones count less.")
        elif not is_aligned:
            notes.append(
                f"The window of the alert lies within rows of {seconds} s, so they hold its calls and those beside it."
            )
        elif window.calls > alert.calls:
            notes.append("The detector looked while the window was open, or rows came later: it has more calls now.")
        return notes


def _find_figures(alert: Alert) -> AlertEvidence:
    """Unit, observed, expected and limit."""
    if alert.kind.row.group is KindGroup.VOLUME:
        return AlertEvidence(
            unit=CALLS_A_SECOND,
            observed=alert.observed_rate,
            expected=alert.expected_rate,
            limit=alert.threshold_rate,
        )
    unit = alert.kind.row.unit
    # Alerts from before the limit was kept have none.
    return AlertEvidence(
        unit=unit, observed=alert.measure if unit else None, expected=None, limit=alert.measure_limit or None
    )


def _ask(alert: Alert) -> CallQuestion | None:
    """Whose calls, from when to when; rows' edges are found later."""
    consumer, address = _name_caller(alert)
    endpoint_id = "" if alert.kind.row.subject is Subject.CONSUMER and alert.consumer else alert.endpoint_id
    if alert.node or not (endpoint_id or consumer or address):
        return None
    return CallQuestion(
        start=int(min(alert.opened_at - BEFORE_SECONDS, alert.window_start)),
        end=int(max(alert.opened_at, alert.window_end) + AFTER_SECONDS),
        resolution=Resolution.MINUTE,
        endpoint_id=endpoint_id,
        consumer=consumer,
        address=address,
        whole_service=alert.kind.row.subject is Subject.SERVICE,
    )


def _name_caller(alert: Alert) -> tuple[ConsumerName | None, str]:
    """The consumer, or the address that calls came from."""
    if not alert.consumer:
        return None, ""
    try:
        name = parse_consumer(alert.consumer)
    except ConsumerError:  # A name that no row has.
        return None, ""
    if name.kind is ConsumerKind.ADDRESS and alert.kind.row.subject is Subject.ADDRESS:
        return None, name.value
    return name, ""


def _align(question: CallQuestion, resolution: Resolution) -> CallQuestion:
    """From the begin of the first row to the end of the last one."""
    seconds = resolution.seconds
    start, end = question.start // seconds * seconds, -(-question.end // seconds) * seconds
    return replace(question, start=start, end=end, resolution=resolution)
