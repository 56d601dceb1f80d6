"""Sums of rows by slot, and the findings that a ceiling makes of them: what the detectors have in common."""

from collections.abc import Callable

import numpy as np

from collector.alerts.alert import AlertKind
from collector.anomaly.abuse.ceiling import Ceiling, Excess
from collector.anomaly.abuse.contract import Finding
from collector.anomaly.abuse.events import Bools
from collector.anomaly.detectors.contract import F64
from collector.anomaly.distinct import find_distinct
from collector.anomaly.slots import Slots
from collector.anomaly.subjects import SubjectName


def sum_by_slot(slots: Slots, amounts: F64) -> tuple[Slots, F64]:
    """Distinct slots (those of -1 left out) and the sum of each one's amounts, 0 too."""
    known = slots >= 0
    distinct, _, inverse = find_distinct(slots[known])
    return distinct, np.bincount(inverse, amounts[known], len(distinct)).astype(np.float64, copy=False)


def find(
    kind: Callable[[int], AlertKind],
    ceiling: Ceiling,
    excess: Excess,
    name: Callable[[int], SubjectName],
    slots: Slots,
    calls: F64,
    is_internal: Bools,
    is_notice: Callable[[int], bool] = lambda _: False,
    describe_walk: Callable[[int], str] = lambda _: "",
    describe: Callable[[int], str] = lambda _: "",
) -> list[Finding]:
    """Findings of an excess, whose slots ascend. `slots`, `calls` and `is_internal` are the rows'; `kind`, `name`,
    `is_notice`, `describe_walk` and `describe` (the detail) are asked by slot."""
    if not len(excess.slots):
        return []
    place = np.minimum(np.searchsorted(excess.slots, slots), len(excess.slots) - 1)
    own = (excess.slots[place] == slots).nonzero()[0]
    place = place[own]
    made = np.bincount(place, calls[own], len(excess.slots)).tolist()
    external = np.bincount(place, ~is_internal[own], len(excess.slots)).tolist()
    return [
        Finding(
            kind=kind(slot),
            subject=name(slot),
            count=float(excess.sums[index]),
            ceiling=float(excess.ceilings[index]),
            seconds=ceiling.plan[int(excess.horizon[index])].seconds,
            basis=excess.basis[index],
            calls=made[index],
            is_internal=not external[index],
            is_notice=is_notice(slot),
            detail=describe(slot),
            walk=describe_walk(slot),
        )
        for index, slot in enumerate(excess.slots.tolist())
    ]
