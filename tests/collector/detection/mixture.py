"""A mixture of honest callers and of every kind of abuse that the detectors know, as batches: what their signals are
held against when the code is made faster, not other."""

from collections.abc import Iterator

import numpy as np

from collector.storage.columns import RowBatch
from tests.collector.detection.stream import START, Row, make_batch

_CLIENTS = 40
_ROUTES = 8
_ADMIN, _LOGIN = 8, 9


def make_mixture(seed: int, windows: int) -> Iterator[tuple[RowBatch, int]]:
    """Batches and when they were received. A batch is one window of 10 s, or a part of it; abuse sets in by turns."""
    random = np.random.default_rng(seed)
    for number in range(windows):
        at = START + 10 * number + (7_200 if number > windows * 3 // 4 else 0)  # Once nothing comes for two hours.
        rows = [*_list_honest(random, at), *_list_abuse(random, at, number)]
        cut = int(random.integers(1, len(rows)))
        for part in (rows[:cut], rows[cut:]):
            lost = int(random.integers(0, 3)) if number % 50 == 0 else 0
            yield make_batch(part, sequence=number + 1, lost=lost), at + 11


def _list_honest(random: np.random.Generator, at: int) -> list[Row]:
    rows = []
    for client in random.choice(_CLIENTS, 12, replace=False).tolist():
        calls = int(random.geometric(0.3))
        objects = tuple(sorted({client * 1_000 + int(value) for value in random.integers(1, 30, min(calls, 8))}))
        rows.append(
            Row(
                route=int(random.integers(0, _ROUTES)),
                consumer=client + 1,
                credential=client + 1,
                authentication=1,
                window=at - 10 * int(random.random() < 0.1),
                calls=calls,
                objects=objects,
                address=f"91.{client}.0.{int(random.integers(1, 4))}",
                status=200 if random.random() < 0.95 else 404,
            )
        )
    rows.append(Row(route=_LOGIN, window=at, method="POST", address="91.3.0.1", passwords=1))
    rows.append(Row(route=0, window=at, calls=int(random.integers(1, 30)), role=2))
    rows.append(Row(route=1, window=at, calls=int(random.integers(1, 30)), hop=2))
    rows.append(Row(route=2, window=at - 60, calls=3, consumer=7, length=60))
    rows.append(Row(route=3, window=at, calls=9, flags=1 << 1, address="10.0.0.9"))
    return rows


def _list_abuse(random: np.random.Generator, at: int, number: int) -> list[Row]:
    """Nothing in most windows; every kind has runs of its own."""
    turn, who = number // 6 % 12, 100 + number // 72
    own = {"consumer": who, "credential": who, "authentication": 1, "window": at}
    match turn:
        case 1:
            objects = tuple(sorted(random.integers(1, 2**60, 90).tolist()))
            return [Row(route=1, calls=90, objects=objects, address="185.1.1.1", **own)]
        case 2:
            return [Row(route=0, calls=2, records=2_000, address="185.1.2.1", **own)]
        case 3:
            return [
                Row(route=_LOGIN, window=at, method="POST", calls=4, status=401, address=f"185.2.{i}.1")
                for i in range(6)
            ]
        case 4:
            asked = random.integers(100, 400, 12).tolist()
            return [Row(route=route, window=at, status=404, address="185.3.0.1") for route in sorted(set(asked))]
        case 5:
            return [Row(route=2, address=f"185.{4 + i}.{number % 200}.1", **own) for i in range(3)]
        case 6:
            return [Row(route=2, calls=40, status=429, address="185.5.0.1", **own)]
        case 7:
            return [Row(route=_ADMIN, status=403, address="185.6.0.1", **own)]
        case 8:
            victims = random.choice(_CLIENTS, 5, replace=False).tolist()
            objects = tuple(sorted({victim * 1_000 + value for victim in victims for value in range(1, 6)}))
            return [Row(route=3, calls=len(objects), objects=objects, address="185.7.0.1", **own)]
        case 9:
            payloads = tuple(sorted({int(value) << 8 | 1 for value in random.integers(1, 2**40, 2)}))
            return [Row(route=4, payloads=payloads, address="185.8.0.1", **own)]
        case 10:
            return [Row(route=5, calls=int(random.integers(300, 900)), address="10.1.0.1", **own)]
    return []
