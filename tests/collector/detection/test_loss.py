"""Loss is by node, by way and by subject: what one sensor says of itself is nobody else's."""

from dataclasses import replace

import numpy as np
import pytest

from collector.alerting.alert import AlertSignal
from collector.core.rows import ServiceLoss
from collector.detection.checkpoint import Checkpoint
from collector.detection.engine import Engine
from collector.detection.framework.loss import NODES_MAX, NodeLoss
from collector.detection.framework.rows import FLAG_ENCRYPTED
from collector.detection.read_boundaries import split_group
from collector.log.base import Position
from collector.storage.columns import RowBatch
from collector.storage.row_group import join_groups, make_group
from tests.collector.detection.states import decode_state, encode_state
from tests.collector.detection.stream import START, Row, make_batch

HUGE = 2**39
HONEST, HOSTILE = "node-a", "node-evil"


def feed(engine: Engine, *batches: RowBatch) -> list[AlertSignal]:
    """As the follower does: what came together is judged as one."""
    signals = []
    rows = join_groups([make_group(batch) for batch in batches])
    for group in split_group(rows, [START + 100_000] * len(batches)):
        signals += engine.feed(group.rows, group.received_of_rows)
    return [signal for signal in signals if isinstance(signal, AlertSignal)]


def make(node: str, window: int, *rows: tuple[int, int, int], lost: int = 0, flags: int = 0, tls: int = 0) -> RowBatch:
    """Rows of (route, consumer, calls) of a node."""
    made = [Row(route=r, consumer=c, calls=n, window=START + window, flags=flags) for r, c, n in rows]
    return make_batch(made, node=node, lost=lost, tls_lost=tls, tls_seen=tls)


def share(engine: Engine, route: int) -> float:
    """The loss of an endpoint."""
    slots = engine.subjects.endpoints.live()
    ids = {engine.subjects.endpoints.name(slot).route_ids[0]: slot for slot in slots.tolist()}
    return engine.losses.endpoints.share(np.array([ids[route + 1]]))


def test_word_of_one_node_is_not_the_fleets_and_passes() -> None:
    engine = Engine()
    for window in range(0, 60, 10):
        feed(engine, make(HONEST, window, (1, 1, 100_000)), make(HOSTILE, window, (2, 2, 50)))
    feed(engine, make(HONEST, 60, (1, 1, 100_000)), make(HOSTILE, 60, (2, 2, 50), lost=HUGE))
    now = START + 60
    assert engine.losses.nodes.ratios(HONEST, now) == (0, 0)
    assert engine.losses.nodes.ratios(HOSTILE, now)[0] > 0.5
    assert share(engine, 1) == 0 and share(engine, 2) > 0.5
    consumers = engine.losses.consumers.ratios(engine.subjects.consumers.live())
    assert consumers is not None and sorted(consumers > 0.5) == [False, True]
    for window in range(70, 420, 10):
        feed(engine, make(HONEST, window, (1, 1, 100_000)), make(HOSTILE, window, (2, 2, 50)))
    assert engine.losses.nodes.ratios(HOSTILE, START + 410)[0] < 0.001
    assert share(engine, 2) < 0.02


@pytest.mark.parametrize("lost", [1, 1_000, HUGE])
def test_loss_weighs_no_more_than_what_the_node_delivers(lost: int) -> None:
    """A subject on two nodes: one reports all its calls lost, and delivers one in a hundred."""
    engine = Engine()
    for window in range(0, 100, 10):
        feed(engine, make(HONEST, window, (1, 1, 990)), make(HOSTILE, window, (1, 2, 10), lost=lost))
    assert 0 <= share(engine, 1) <= 0.011
    assert share(engine, 1) == pytest.approx(0.01 * min(1, lost / 10), rel=0.2)


def test_node_that_delivers_little_of_what_it_sees_has_its_loss() -> None:
    losses = NodeLoss()
    for at in range(0, 100, 10):
        batch = make("n", at, (1, 1, 60))
        losses.add(START + at, make_group(replace(batch, seen_calls=100, lost_calls=40)))
    assert losses.ratios("n", START + 90)[0] == pytest.approx(0.4)
    assert losses.ratios("n", START + 90 + 601) == (0, 0)
    assert losses.ratios("another", START) == (0, 0)


def test_loss_of_tls_is_not_that_of_calls_in_the_clear() -> None:
    engine = Engine()
    for window in range(0, 100, 10):
        feed(
            engine,
            make("n", window, (1, 1, 100), tls=900),
            make("n", window, (2, 2, 100), tls=900, flags=FLAG_ENCRYPTED),
        )
    assert share(engine, 1) == 0
    assert share(engine, 2) > 0.8


def of_service(batch: RowBatch, port: int, lost: int, *, is_encrypted: bool = False) -> RowBatch:
    """The rows as of another port, and what was lost there."""
    routes = tuple(replace(route, service=replace(route.service, port=port)) for route in batch.routes)
    loss = ServiceLoss(service=routes[0].service, is_encrypted=is_encrypted, lost_calls=lost)
    return replace(batch, routes=routes, service_losses=(loss,) if lost else ())


def test_loss_of_one_service_is_not_that_of_its_neighbours() -> None:
    """Three services of one node over TLS, one of which lost calls; and its calls in the clear, which lost none."""
    engine = Engine()
    for window in range(0, 100, 10):
        feed(
            engine,
            of_service(make("n", window, (1, 1, 100), flags=FLAG_ENCRYPTED), 8443, 0),
            of_service(make("n", window, (2, 2, 100), flags=FLAG_ENCRYPTED), 9443, 50, is_encrypted=True),
            of_service(make("n", window, (3, 3, 100)), 9443, 0),
        )
    assert share(engine, 2) == pytest.approx(1 / 3, abs=0.02)
    assert share(engine, 1) == share(engine, 3) == 0
    again = Engine()
    decode_state(encode_state(engine, Checkpoint(position=Position(1, 0), next_signal=1)), again)
    assert again.losses.nodes.dump().keys() == engine.losses.nodes.dump().keys()
    feed(again, of_service(make("n", 100, (2, 2, 100), flags=FLAG_ENCRYPTED), 9443, 0))
    assert 0.1 < share(again, 2) < 0.34
    for window in range(110, 900, 10):
        feed(again, of_service(make("n", window, (2, 2, 100), flags=FLAG_ENCRYPTED), 9443, 0))
    assert share(again, 2) < 0.001


def test_alert_speaks_of_the_loss_of_its_own_calls() -> None:
    """Two scrapers at two services; the node of one of them loses a tenth."""
    engine = Engine()
    for window in range(0, 60, 10):
        feed(engine, make("calm", window, (1, 1, 20)), make("lossy", window, (2, 2, 20), lost=2))
    scrapes = []
    for node, route, lost in (("calm", 1, 0), ("lossy", 2, 60)):
        row = Row(route=route, consumer=8 + route, window=START + 60, calls=600, objects=tuple(range(1, 257)))
        scrapes.append(make_batch([row], node=node, lost=lost))
    told = feed(engine, *scrapes)
    ratios = {signal.route_ids: signal.loss_ratio for signal in told if signal.route_ids}
    assert ratios.pop((2,)) == 0
    assert ratios.pop((3,)) == pytest.approx(0.1, abs=0.02)


def test_losses_go_through_a_checkpoint() -> None:
    engine, again = Engine(), Engine()
    feed(engine, make(HONEST, 0, (1, 1, 100)), make(HOSTILE, 0, (2, 2, 50), lost=25))
    decode_state(encode_state(engine, Checkpoint(position=Position(1, 0), next_signal=1)), again)
    assert again.losses.nodes.ratios(HOSTILE, START) == engine.losses.nodes.ratios(HOSTILE, START) != (0, 0)
    assert share(again, 2) == share(engine, 2) > 0 and share(again, 1) == 0


def test_nodes_are_bounded_and_nothing_is_kept_of_subjects_long_after() -> None:
    losses = NodeLoss()
    batch = make("n", 0, (1, 1, 1))
    for number in range(NODES_MAX + 5):
        losses.add(START, make_group(replace(batch, node=f"node-{number}")))
    assert losses.ratios("n", START) == (0, 0) and len(losses._accounts) == NODES_MAX
    engine = Engine()
    feed(engine, make("n", 0, (1, 1, 10), lost=5))
    assert engine.losses.is_known
    feed(engine, make("n", 700, (1, 1, 10)), make("n", 1_400, (1, 1, 10)))
    assert not engine.losses.is_known and not len(engine.losses.endpoints.dump()["calls"])
