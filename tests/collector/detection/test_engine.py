"""The demo's streams through the whole engine: a scraper is flagged in time, honest clients never; late rows, loss,
eviction."""

import numpy as np
import pytest

from collector.alerting.alert import AlertKind
from collector.detection.checkpoint import Checkpoint
from collector.detection.engine import Engine
from collector.detection.framework.rows import FLAG_ESTIMATED
from collector.log.base import Position
from common.consumer_order import ConsumerColumn
from tests.collector.detection.states import decode_state, encode_state
from tests.collector.detection.stream import START, Demo, Row, make_batch

SCRAPER = f"principal:{99:016x}"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("offset", [0.0, 2.5, 5.9, 6.1, 9.5])
def test_scraper_is_flagged_within_15_s_of_its_start_and_nobody_else(seed: int, offset: float) -> None:
    demo = Demo(seed=seed, offset=offset, clients=3 + seed)
    signals = demo.run(Engine())
    first = min(time for time, signal in signals if signal.consumer == SCRAPER)
    assert first - (START + offset + 20) <= 15
    assert {signal.consumer for _, signal in signals if signal.consumer} == {SCRAPER}


@pytest.mark.parametrize("seed", range(4))
def test_quiet_demo_raises_nothing_in_30_minutes(seed: int) -> None:
    assert Demo(seed=seed, offset=seed * 2.5, seconds=1_800, scraper_at=None, clients=3 + seed).run(Engine()) == []


def test_run_cut_by_a_checkpoint_equals_the_uninterrupted_run() -> None:
    rows = [
        [Row(route=r, consumer=c, window=START + 10 * w, calls=1 + (w * 7 + r + c) % 5, objects=(w % 9 + 1,))
         for r in range(3) for c in range(1, 5)]
        + ([Row(route=1, consumer=77, window=START + 10 * w, calls=150, objects=tuple(range(w * 150, w * 150 + 150)))]
           if w > 30 else [])
        for w in range(60)
    ]  # fmt: skip
    whole, cut = Engine(), Engine()
    expected = [signal for w, batch in enumerate(rows) for signal in whole.feed(make_batch(batch), START + 10 * w + 11)]
    got = []
    for w, batch in enumerate(rows):
        if w % 17 == 16:
            again = Engine()
            at = Checkpoint(position=Position(1, w), next_signal=w)
            assert decode_state(encode_state(cut, at), again) == at
            cut = again
        got += cut.feed(make_batch(batch), START + 10 * w + 11)
    assert got == expected
    assert any(signal.kind is AlertKind.VOLUME_PAIR for signal in got)


def test_every_call_is_used_or_counted_as_dropped() -> None:
    engine = Engine()
    rows = [
        Row(route=0, consumer=1, calls=5),
        Row(route=0, consumer=1, calls=7, role=2),
        Row(route=0, consumer=1, calls=11, hop=2),
        Row(route=0, consumer=1, calls=13, window=START + 1_000),
        Row(route=9, calls=23, flags=FLAG_ESTIMATED),
    ]
    engine.feed(make_batch(rows), START + 11)
    engine.feed(make_batch([Row(route=0, consumer=1, calls=17, window=START + 7_200)]), START + 7_211)
    engine.feed(make_batch([Row(route=0, consumer=1, calls=19)]), START + 7_211)
    assert engine.dropped_calls == {"client_side": 7, "proxy": 11, "estimated": 23, "late": 19, "ahead": 13}
    assert engine.used_calls == 5 + 17


def test_order_of_early_and_remaining_rows_does_not_change_the_counts() -> None:
    parts = [Row(route=0, consumer=1, calls=n) for n in (3, 4, 5)]
    first, second = Engine(), Engine()
    first.feed(make_batch(parts), START + 11)
    for row in reversed(parts):
        second.feed(make_batch([row]), START + 11)
    one, other = ({n: a for n, a in each.dump().items() if n.endswith(".sums")} for each in (first, second))
    assert one and all(np.array_equal(one[name], other[name]) for name in one)


def test_rows_of_the_cap_count_for_the_endpoint_and_for_no_consumer() -> None:
    engine = Engine()
    engine.feed(make_batch([Row(route=0, calls=500, flags=1 << 1, address="10.0.0.1")]), START + 11)
    assert len(engine.subjects.consumers) == 0
    assert engine.endpoints.windowed[60].windows.calls.sum() == 500


def test_subjects_are_bounded_and_evictions_counted() -> None:
    engine = Engine(endpoints_max=4, consumers_max=8, pairs_max=8)
    for consumer in range(1, 101):
        engine.feed(make_batch([Row(route=consumer % 7, consumer=consumer, window=START + consumer)]), START + 200)
    assert len(engine.subjects.pairs) <= 8
    assert engine.evicted_count >= 92


def test_many_newcomers_at_the_end_of_the_first_hour_are_taken_in() -> None:
    """More than there is room for, in the very batch with which the hour ends."""
    engine = Engine()
    for window in range(0, 3_600, 600):
        engine.feed(make_batch([Row(route=0, consumer=1, window=START + window, objects=(window + 1,))]), START + 3_611)
    crowd = [Row(route=0, consumer=number, window=START + 3_600) for number in range(1, 1_200)]
    engine.feed(make_batch(crowd), START + 3_611)
    assert len(engine.subjects.pairs) == 1_199
    assert engine.used_calls == 6 + 1_199


def test_consumer_is_the_first_known_actor() -> None:
    engine = Engine()
    rows = [
        Row(route=0, consumer=5, credential=6, address="10.0.0.1"),
        Row(route=0, credential=6, address="10.0.0.1"),
        Row(route=0, address="10.0.0.1"),
        Row(route=0),
    ]
    engine.feed(make_batch(rows), START + 11)
    names = {engine.subjects.consumers.name(slot).consumer for slot in engine.subjects.consumers.live().tolist()}
    assert names == {f"principal:{5:016x}", f"credential:{6:016x}", "address:10.0.0.1"}


def test_consumer_order_is_the_setting() -> None:
    engine = Engine(consumer_order=(ConsumerColumn.CLIENT_ADDRESS, ConsumerColumn.PRINCIPAL))
    rows = [Row(route=0, consumer=5, address="10.0.0.1"), Row(route=0, consumer=6), Row(route=0, credential=7)]
    engine.feed(make_batch(rows), START + 11)
    names = {engine.subjects.consumers.name(slot).consumer for slot in engine.subjects.consumers.live().tolist()}
    assert names == {f"principal:{6:016x}", "address:10.0.0.1"}


def test_endpoints_are_labelled_as_the_inventory_names_them() -> None:
    engine = Engine()
    engine.feed(make_batch([Row(route=3)]), START + 11)
    assert engine.subjects.endpoints.name(0).label == "GET /things3/{things3_id}"


def test_loss_widens_the_band_and_is_in_the_signal() -> None:
    calm, lossy = Engine(), Engine()
    for engine, lost in ((calm, 0), (lossy, 40)):
        for w in range(6):
            engine.feed(make_batch([Row(route=0, consumer=1, window=START + 10 * w, calls=20)], lost=lost), START + 99)
    scrape = [Row(route=0, consumer=9, window=START + 60, calls=60, objects=tuple(range(1, 61)))]
    plain = calm.feed(make_batch(scrape), START + 99)
    wide = lossy.feed(make_batch(scrape, lost=100), START + 99)
    assert plain
    assert plain[0].loss_ratio == 0
    assert all(signal.loss_ratio > 0.5 for signal in wide)
    assert len(wide) < len(plain)


def test_expected_level_is_learnt_at_once() -> None:
    engine = Engine()
    for w in range(6):
        engine.feed(make_batch([Row(route=0, consumer=1, window=START + 10 * w, calls=20)]), START + 99)
    burst = [Row(route=0, consumer=9, window=START + 60, calls=100, objects=tuple(range(1, 101)))]
    signals = engine.feed(make_batch(burst), START + 99)
    assert signals
    for signal in signals:
        assert engine.expect(signal.kind, signal.endpoint_id, signal.consumer, 12.0)
    again = [Row(route=0, consumer=9, window=START + 70, calls=100, objects=tuple(range(1_001, 1_101)))]
    assert engine.feed(make_batch(again), START + 99) == []
    assert not engine.expect(AlertKind.VOLUME_PAIR, "nowhere", "principal:00", 1.0)


@pytest.mark.parametrize("rate", [30, 50])
@pytest.mark.parametrize("begin", [0, 300])
@pytest.mark.parametrize("first_calls", [5, 150])
def test_steady_client_alone_on_its_endpoint_raises_nothing(rate: int, begin: int, first_calls: int) -> None:
    """Also from a cold start, and however little of its first window it fills."""
    engine, random = Engine(), np.random.default_rng(rate)
    signals = []
    for second in range(0, 2_400, 10):
        rows = [Row(route=5, consumer=50, window=START + second, calls=3)]
        if second >= begin:
            calls = first_calls if second == begin else int(random.poisson(10 * rate))
            rows.append(Row(route=0, consumer=1, window=START + second, calls=calls, objects=(7,)))
        signals += engine.feed(make_batch(rows), START + second + 11)
    assert [signal for signal in signals if signal.consumer == f"principal:{1:016x}"] == []


@pytest.mark.parametrize("days", [1, 5, 30, 400])
def test_who_comes_back_after_days_may_call_as_before_and_no_more(days: int) -> None:
    """A holiday, or clocks that are far ahead."""
    engine, first = Engine(), START // 3_600 * 3_600

    def call(begin: int, calls: int) -> set[str]:
        signals = []
        for at in range(begin, begin + 4 * 3_600, 300):
            rows = [Row(route=i % 3, consumer=1 + i // 3, window=at, length=300, calls=calls) for i in range(9)]
            signals += engine.feed(make_batch(rows), at + 301)
        return {signal.kind for signal in signals} & {AlertKind.VOLUME_PAIR, AlertKind.VOLUME_CONSUMER}

    assert call(first, 600) == set()
    back = first + days * 86_400
    assert call(back, 600) == set()
    assert call(back + 4 * 3_600, 3_000)


def test_newcomer_far_above_its_peers_is_flagged_without_new_objects() -> None:
    engine = Engine()
    signals = []
    for second in range(0, 600, 10):
        rows = [Row(route=0, consumer=1 + i, window=START + second, calls=20, objects=(7,)) for i in range(6)]
        if second >= 400:
            rows.append(Row(route=0, consumer=99, window=START + second, calls=600, objects=(7,)))
        signals += engine.feed(make_batch(rows), START + second + 11)
    assert {signal.consumer for signal in signals if signal.kind is AlertKind.VOLUME_PAIR} == {SCRAPER}


def test_state_of_another_time_zone_is_turned() -> None:
    engine = Engine()
    for hour in range(80):
        at = START // 3_600 * 3_600 + hour * 3_600
        engine.feed(make_batch([Row(route=0, consumer=1, window=at, calls=300 if hour % 24 < 6 else 3)]), at + 11)
    state, seasons = engine.dump(), []
    for zone in ("UTC", "Asia/Tokyo"):
        turned = Engine(time_zone=zone)
        turned.load(state)
        assert turned.make_new().dump()["time_zone"].tobytes().decode() == zone
        seasons.append(turned.endpoints.windowed[60].detector.dump()["profile.season"][:24, 0])
    assert seasons[0].any() and not np.array_equal(*seasons)
    assert np.array_equal(np.roll(seasons[0], 9), seasons[1])


@pytest.mark.parametrize("slot", [0, 1])
def test_who_calls_in_a_full_table_is_told_by_its_own_name_however_many_came_at_once(slot: int) -> None:
    """The table is full of pairs seen in one window, and one more comes with the batch in which one of them takes
    much."""
    engine = Engine(pairs_max=40)
    engine.feed(make_batch([Row(route=1, consumer=number) for number in range(1, 41)]), START + 11)
    taker = engine.subjects.pairs.name(slot).consumer
    rows = [Row(route=1, consumer=int(taker[10:], 16), objects=tuple(range(1, 400)), calls=400)]
    signals = engine.feed(make_batch([*rows, Row(route=1, consumer=999)]), START + 11)
    assert {signal.consumer for signal in signals} == {taker}
