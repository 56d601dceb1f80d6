"""Decisions about detection that people take at the same moment: each takes effect as a whole, one after the other."""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from collector.alerting.detection import ChosenLevel, Decided, Detection, DetectionDecision, DetectionTable
from collector.alerting.silences import RULES_MAX, KnownGood
from collector.core.errors import ConflictError
from collector.core.kinds import Sensitivity
from collector.trust.audit import AuditEntry, write_values

AT_ONCE = 12
NOW = 1_000_000.0


class MemoryTable:
    """Rules and decisions as they were written; each write waits a moment for others to come between."""

    def __init__(self) -> None:
        self.level: ChosenLevel | None = None
        self.rules: dict[str, KnownGood] = {}
        self.decisions: list[DetectionDecision] = []
        self.entries: list[AuditEntry] = []
        self.other_is_writing = threading.Event()

    def write_decision(
        self,
        decision: DetectionDecision,
        entry: AuditEntry,
        *,
        rule: KnownGood | None = None,
        level: ChosenLevel | None = None,
    ) -> None:
        self.meet()
        if rule is not None:
            self.rules[rule.id] = rule
        if level is not None:
            self.level = level
        self.decisions.append(decision)
        self.entries.append(entry)

    def read_decided(self) -> Decided:
        return Decided(level=self.level, rules=tuple(rule for rule in self.rules.values() if rule.ended_at is None))

    def list_rules(self) -> tuple[KnownGood, ...]:
        return tuple(self.rules.values())

    def meet(self) -> None:
        """Until another writer is here; where writers are kept apart, none comes."""
        if self.other_is_writing.is_set():
            self.other_is_writing.clear()
        else:
            self.other_is_writing.set()
            for _ in range(100):
                if not self.other_is_writing.is_set():
                    return
                threading.Event().wait(0.001)
            self.other_is_writing.clear()


def make_detection(table: MemoryTable) -> Detection:
    ids = itertools.count()
    return Detection(
        table=cast(DetectionTable, table),
        configured=Sensitivity.NORMAL,
        clock=lambda: NOW,
        new_id=lambda: f"r{next(ids)}",
    )


def add(detection: Detection, **named: Any) -> KnownGood:
    rest = dict.fromkeys(("network", "workload", "endpoint_id", "kind"), "")
    return detection.add_rule(by="ann", note="n", seconds=600, consumer="address:192.0.2.1", **{**rest, **named})


def at_once(work: Callable[[], object], count: int = AT_ONCE) -> list[bool]:
    """Which of them were done, and not told of a conflict."""
    started = threading.Barrier(count, timeout=60)

    def run(_: int) -> bool:
        started.wait()
        try:
            work()
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))


def test_a_rule_is_ended_once() -> None:
    table = MemoryTable()
    detection = make_detection(table)
    rule = add(detection)
    assert sum(at_once(lambda: detection.end_rule(rule.id, by="bob"))) == 1
    assert [one.action for one in table.decisions] == ["known_good", "end_known_good"]


def test_rules_stay_within_their_number() -> None:
    table = MemoryTable()
    detection = make_detection(table)
    table.meet = lambda: None  # type: ignore[method-assign]
    for _ in range(RULES_MAX - 1):
        add(detection)
    del table.meet
    assert sum(at_once(lambda: add(detection))) == 1
    assert len(table.rules) == RULES_MAX


def test_the_level_in_force_is_the_one_that_is_kept() -> None:
    table = MemoryTable()
    detection = make_detection(table)
    levels = [Sensitivity.QUIET, Sensitivity.PARANOID] * (AT_ONCE // 2)
    at_once(lambda: detection.choose(levels.pop(), by="ann"))
    again = make_detection(table)
    assert again.budget == detection.budget
    assert table.level is not None and table.level.level == table.decisions[-1].subject
    shown = ["normal", *(decision.subject for decision in table.decisions)]
    steps = [(write_values(level=old), write_values(level=new)) for old, new in itertools.pairwise(shown)]
    assert [(entry.before, entry.after) for entry in table.entries] == steps
