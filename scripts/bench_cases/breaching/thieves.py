"""The thieves: who takes accounts how, and how soon they are to be found."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from collector.detection.framework.distinct import mix
from scripts.bench_cases.breaching.calls import LIST, Calls, Ints, make_calls
from scripts.bench_cases.breaching.software import APP, OWN, SCRIPT
from scripts.bench_cases.breaching.world import PARTNER, THIEF, THIEVES_AT, World

RATE = 10.4  # Records a second: 37 million accounts in 41 days.
LIST_RECORDS, LIST_SECONDS = 1_000, 2  # Records a call, seconds between calls.
STOLEN_KEYS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Thief:
    """One of them. `steal` gives the calls of a span that starts `offset` seconds after the first call, made at
    `begin`."""

    name: str
    history_days: float  # Before the first call.
    bar_seconds: float | None
    bar_records: int
    patience_seconds: int  # After which the bench gives up.
    is_accused: bool  # Else it is a notice.
    steal: Callable[[World, int, int, int], Calls]
    names: Callable[[str], bool]  # Whether an alert about this consumer (empty: nobody) is about the thief.
    records_a_call: int = 1
    rate: float = RATE
    accomplices: tuple[str, ...] = ()  # Of the honest side: whose key it is.


def _take(begin: int, offset: int, seconds: int, rate: float) -> tuple[Ints, np.ndarray]:
    """Seconds and objects of calls at an even rate, one object after the other."""
    number = np.arange(np.ceil(offset * rate), np.ceil((offset + seconds) * rate)).astype(np.int64)
    item = mix(np.full(len(number), 31, np.uint64), number.astype(np.uint64))
    return begin + (number / rate).astype(np.int64), item


def _one_key(addresses: int, rate: float = RATE) -> Callable[[World, int, int, int], Calls]:
    def steal(world: World, begin: int, offset: int, seconds: int) -> Calls:
        second, item = _take(begin, offset, seconds, rate)
        return make_calls(second, THIEF, THIEVES_AT + np.arange(len(second)) % addresses, item)

    return steal


def _one_address(world: World, begin: int, offset: int, seconds: int) -> Calls:
    second, item = _take(begin, offset, seconds, RATE)
    return make_calls(second, 0, THIEVES_AT, item)


def _list(world: World, begin: int, offset: int, seconds: int) -> Calls:
    second, item = _take(begin, offset, seconds, 1 / LIST_SECONDS)
    return make_calls(second, THIEF, THIEVES_AT, np.zeros_like(item), endpoint=LIST, records=LIST_RECORDS)


def _stolen_keys(software: int, rate: float = RATE) -> Callable[[World, int, int, int], Calls]:
    """Each call with a random one of a thousand keys, from the address that the key was given, made by `software`."""

    def steal(world: World, begin: int, offset: int, seconds: int) -> Calls:
        second, item = _take(begin, offset, seconds, rate)
        keys = np.random.default_rng(world.seed + 1).permutation(20_000)[:STOLEN_KEYS]
        chosen = (mix(np.full(len(item), 5, np.uint64), item) % np.uint64(STOLEN_KEYS)).astype(np.int64)
        who = (1 + keys[chosen]).astype(np.uint64)
        return make_calls(second, who, THIEVES_AT + chosen, item, software=software)

    return steal


def _partner(world: World, begin: int, offset: int, seconds: int) -> Calls:
    second, item = _take(begin, offset, seconds, RATE)
    return make_calls(second, PARTNER, THIEVES_AT, item)


def _is_thief(consumer: str) -> bool:
    return consumer == f"principal:{THIEF:016x}"


def _is_address(consumer: str) -> bool:
    return consumer.startswith("address:185.")


def _is_crowd(consumer: str) -> bool:
    return not consumer


def _is_partner(consumer: str) -> bool:
    return consumer == f"principal:{PARTNER:016x}"


THIEVES = (
    Thief(name="one_key", history_days=3, bar_seconds=8, bar_records=85, patience_seconds=60, is_accused=True,
          steal=_one_key(1), names=_is_thief),
    Thief(name="one_address", history_days=3, bar_seconds=8, bar_records=85, patience_seconds=60, is_accused=True,
          steal=_one_address, names=_is_address),
    Thief(name="one_key_100_addresses", history_days=3, bar_seconds=10, bar_records=105, patience_seconds=60,
          is_accused=True, steal=_one_key(100), names=_is_thief),
    Thief(name="list_1000_records", history_days=3, bar_seconds=None, bar_records=3_000, patience_seconds=60,
          is_accused=True, steal=_list, names=_is_thief, records_a_call=LIST_RECORDS, rate=1 / LIST_SECONDS),
    Thief(name="1000_stolen_keys", history_days=3, bar_seconds=600, bar_records=6_500, patience_seconds=1_800,
          is_accused=True, steal=_stolen_keys(SCRIPT), names=_is_crowd),
    Thief(name="1000_stolen_keys_by_the_app", history_days=3, bar_seconds=600, bar_records=6_500,
          patience_seconds=1_800, is_accused=True, steal=_stolen_keys(APP), names=_is_crowd),
    Thief(name="1000_stolen_keys_by_each_own_software", history_days=3, bar_seconds=600, bar_records=6_500,
          patience_seconds=1_800, is_accused=True, steal=_stolen_keys(OWN), names=_is_crowd),
    Thief(name="1000_stolen_keys_at_1_a_second", history_days=3, bar_seconds=None, bar_records=6_500,
          patience_seconds=1_800, is_accused=True, steal=_stolen_keys(SCRIPT, 1.0), names=_is_crowd, rate=1.0),
    Thief(name="slow_0.1_a_second", history_days=3, bar_seconds=None, bar_records=250, patience_seconds=7_200,
          is_accused=True, steal=_one_key(1, 0.1), names=_is_thief, rate=0.1),
    Thief(name="in_partner_key", history_days=3, bar_seconds=900, bar_records=9_400, patience_seconds=3_600,
          is_accused=True, steal=_partner, names=_is_partner, accomplices=("partner",)),
    Thief(name="first_hour", history_days=0.02, bar_seconds=30, bar_records=320, patience_seconds=120,
          is_accused=False, steal=_one_key(1), names=_is_thief),
)  # fmt: skip
