"""Consumers of `scripts/bench simulation --pauses` that stop for good reasons: weekends, holidays that many share, keys
that are changed, callers that are wound down; and with `--fall DAY` one that just falls silent. That one keeps its key
and is not wound down before: who is new, or calls little, is not judged.

How often is assumed, by the constants; draws are its own.
"""

from dataclasses import dataclass, field

import numpy as np

_DAY = 86_400
_WEEKENDS_SHARE = 0.3  # Of consumers rest on them.
_HOLIDAYS_A_DAY = 0.1  # Of weekdays and weekends alike,
_HOLIDAY_SHARE = 0.6  # and so many consumers rest.
_KEY_DAYS = 90.0  # From one key of a consumer to the next, on average.
_RETIRED_A_DAY = 1 / 300  # Of a consumer: it calls half as much each day,
_RETIRED_DAYS = 8  # and after so many no more.
_FALL_RATE = 80 / 3_600 / 0.3  # Of who may fall silent, calls a second: 80 an hour at night.
_FALL_HOUR = 12


@dataclass(kw_only=True)
class Pauses:
    """`consumer` and `rate` are by pair; consumers are numbered and stay who they are when their key changes."""

    random: np.random.Generator
    consumer: np.ndarray
    rate: np.ndarray
    start: int
    step: int
    fall_day: int | None = None
    has_reasons: bool = True
    fallen: int | None = None  # Consumer that falls silent.
    fell_on_holiday: bool = False
    _retired: dict[int, int] = field(default_factory=dict)  # Since when.

    def __post_init__(self) -> None:
        self._owner = self.consumer.copy()  # Before any key changed.
        count = int(self._owner.max()) + 1
        self._weekends = self.random.random(count) < _WEEKENDS_SHARE
        self._holiday = np.zeros(count, np.bool_)
        self.eligible = np.flatnonzero(np.bincount(self._owner, self.rate, count) >= _FALL_RATE)
        self._chosen = int(self.random.choice(self.eligible)) if len(self.eligible) else None

    def change(self, at: int, consumer: np.ndarray, next_consumer: int) -> int:
        """Keys that change in this step, in place; gives the next free number."""
        if not self.has_reasons:
            return next_consumer
        if at % _DAY < self.step:
            is_holiday = self.random.random() < _HOLIDAYS_A_DAY
            self._holiday = self.random.random(len(self._holiday)) < _HOLIDAY_SHARE * is_holiday
        for owner in self._choose(self.step / _DAY / _KEY_DAYS):
            consumer[self._owner == owner] = next_consumer
            next_consumer += 1
        for owner in self._choose(self.step / _DAY * _RETIRED_A_DAY):
            self._retired.setdefault(owner, at)
        return next_consumer

    def _choose(self, chance: float) -> list[int]:
        """Some consumers, but who is to fall silent."""
        chosen: list[int] = np.flatnonzero(self.random.random(len(self._weekends)) < chance).tolist()
        return [owner for owner in chosen if self.fall_day is None or owner != self._chosen]

    def thin(self, at: int, counts: np.ndarray, consumer: np.ndarray) -> np.ndarray:
        """What is left of the calls of each pair."""
        if self.has_reasons:
            is_weekend = (at // _DAY + 4) % 7 in (0, 6)
            is_off = self._holiday | (self._weekends & is_weekend)
            counts = np.where(is_off[self._owner], 0, counts)
            for owner, since in self._retired.items():
                days = (at - since) // _DAY + 1
                own = np.flatnonzero(self._owner == owner)
                left = 0.5**days if days <= _RETIRED_DAYS else 0.0
                counts[own] = self.random.binomial(counts[own], left)
        if self.fall_day is not None and self._chosen is not None:
            begin = self.start + self.fall_day * _DAY + _FALL_HOUR * 3_600
            own = self._owner == self._chosen
            if at == begin:
                # Deploys gave some of its pairs to others: the name that most of its calls have.
                self.fallen = int(np.bincount(consumer[own], self.rate[own]).argmax())
                self.fell_on_holiday = bool(self._holiday.any())
            if begin <= at < begin + _DAY:
                counts = np.where(own, 0, counts)
        return counts
