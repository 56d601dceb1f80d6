"""Signals name the nodes whose sensors saw it, and the other nodes that serve the same."""

from dataclasses import replace

import numpy as np
import pytest

from collector.alerting.alert import AlertKind, AlertSignal, Basis, Direction, Report, Signal
from collector.alerting.wording import name_holder, report_signal
from collector.core.rows import Service
from collector.detection.engine import Engine
from collector.detection.framework import witnesses as module
from collector.detection.framework.witnesses import NODES_KEPT, SubjectNodes
from collector.detection.read_boundaries import split_group
from collector.storage.columns import RowBatch
from collector.storage.row_group import join_groups, make_group
from tests.collector.detection.scene import EngineScene
from tests.collector.detection.stream import START, Row, make_batch

SCRAPER = 7


def feed(engine: Engine, *batches: RowBatch) -> list[Signal]:
    """As the follower does: what came together is judged as one."""
    signals: list[Signal] = []
    rows = join_groups([make_group(batch) for batch in batches])
    for group in split_group(rows, [START + 100_000] * len(batches)):
        signals += engine.feed(group.rows, group.received_of_rows)
    return signals


CART = Service(cluster="", namespace="shop", workload="cart", workload_kind=5, host_name="", port=80)


def make(node: str, *rows: tuple[int, int], at: int = 0, service: Service = CART) -> RowBatch:
    """Rows of (route, consumer) of a node, at one service."""
    batch = make_batch([Row(route=r, consumer=c, window=START + at) for r, c in rows], node=node)
    return replace(batch, routes=tuple(replace(route, service=service) for route in batch.routes))


def ask(engine: Engine, route: int, consumer: int = SCRAPER) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The nodes, and the other ones, of a signal about a consumer (0: all) at a route (0: at all)."""
    slots = engine.subjects.endpoints.live().tolist()
    ids = {engine.subjects.endpoints.name(slot).route_ids[0]: engine.subjects.endpoints.name(slot) for slot in slots}
    (attached,) = engine.witnesses.attach([make_signal(ids[route + 1].endpoint_id if route else "", consumer)])
    return attached.nodes, attached.other_nodes


def make_signal(endpoint_id: str, consumer: int) -> AlertSignal:
    return AlertSignal(
        kind=AlertKind.VOLUME_PAIR,
        direction=Direction.ABOVE,
        endpoint_id=endpoint_id,
        endpoint_label="GET /orders/{order_id}",
        route_ids=(1,),
        consumer=f"principal:{consumer:016x}" if consumer else "",
        window_start=START,
        window_seconds=10,
        calls=100,
        expected_rate=0.5,
        threshold_rate=2.0,
        score=0.9,
        excess=1.0,
        basis=Basis.PEERS,
        novel_objects=0,
        peers=9,
        loss_ratio=0.0,
    )


def test_a_signal_names_who_saw_it_and_who_else_serves_it() -> None:
    engine = Engine()
    feed(engine, make("a", (1, 1), (2, 2)), make("b", (1, SCRAPER), (1, 3)), make("c", (1, 4)))
    assert ask(engine, 1) == (("b",), ("a", "c"))
    assert ask(engine, 1, 0) == (("a", "b", "c"), ())
    assert ask(engine, 0) == (("b",), ("a", "c"))  # Of the consumer, at all that it calls.
    assert ask(engine, 2, 2) == (("a",), ("b", "c"))  # Other endpoints of the service are on these.
    feed(engine, make("a", (1, SCRAPER), at=10))
    assert ask(engine, 1) == (("a", "b"), ("c",))


def test_it_holds_over_a_restart_and_passes_with_time() -> None:
    scene = EngineScene()
    feed(scene.engine, make("a", (1, 1)), make("b", (1, SCRAPER)))
    scene.restart()
    assert ask(scene.engine, 1) == (("b",), ("a",))
    feed(scene.engine, make("a", (1, SCRAPER), at=3 * 3_600))
    assert ask(scene.engine, 1) == (("a",), ())


def test_the_last_nodes_are_kept_and_rows_of_a_batch_are_distinguished() -> None:
    engine = Engine()
    for number in range(2 * NODES_KEPT):
        feed(engine, make(f"n{number}", (1, SCRAPER), at=number * 3_600))
    nodes, _ = ask(engine, 1)
    assert nodes == (f"n{2 * NODES_KEPT - 2}", f"n{2 * NODES_KEPT - 1}")
    kept = SubjectNodes()
    kept.grow(2)
    numbers = np.array([5, 4, 3, 2, 1, 9, 9], np.uint64)
    kept.take(np.array([0, 0, 0, 0, 0, 1, -1]), numbers << np.uint64(32) | np.uint64(8))
    assert len(kept.list_numbers([0], 8)) == NODES_KEPT and kept.list_numbers([1], 8) == {9}
    assert kept.list_numbers([0, 1], 9) == set()


def test_more_nodes_than_there_are_numbers_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_NUMBERS_MAX", 2)
    engine = Engine()
    feed(engine, make("a", (1, 1)), make("b", (1, SCRAPER)))
    feed(engine, make("c", (1, SCRAPER)))
    assert ask(engine, 1) == (("c",), ())


def test_a_service_that_was_moved_to_a_node_is_no_replica_of_the_one_it_claims() -> None:
    """What collector/receiver/witness.py makes of rows of another node's service."""
    moved = Service(cluster="", namespace="", workload="shop/cart", workload_kind=0, host_name="evil", port=80)
    engine = Engine()
    feed(engine, make("honest", (1, 1)), make("evil", (2, SCRAPER), service=moved))
    assert ask(engine, 1, 0) == (("honest",), ())
    assert ask(engine, 2) == (("evil",), ())


def test_services_of_two_hosts_are_two_whatever_they_are_called() -> None:
    first, second = (replace(CART, namespace="", workload="nginx", workload_kind=1, host_name=n) for n in ("a", "b"))
    engine = Engine()
    feed(engine, make("a", (1, SCRAPER), service=first), make("b", (2, 1), service=second))
    assert ask(engine, 1) == (("a",), ())


def test_an_alert_says_that_one_node_alone_saw_it() -> None:
    signal = make_signal("e", SCRAPER)
    alone = report_signal(AlertSignal(**{**as_dict(signal), "nodes": ("b",), "other_nodes": ("a", "c")}))
    assert (alone.nodes, alone.other_nodes) == (("b",), ("a", "c"))
    assert alone.why.endswith(" Only the sensor of b saw it, though a, c saw calls of the service too.")
    both = report_signal(AlertSignal(**{**as_dict(signal), "nodes": ("a", "b"), "other_nodes": ("c",)}))
    assert "Only the sensor" not in both.why


def as_dict(signal: Signal) -> dict[str, object]:
    return {name: getattr(signal, name) for name in signal.__struct_fields__}


def test_an_alert_names_the_workload_in_its_title_and_the_pod_in_full() -> None:
    report: Report = report_signal(make_signal("e", SCRAPER))
    named = name_holder(report, "shop/scraper", "pod shop/scraper-7d4-a of shop/Deployment/scraper since 05:42 UTC")
    assert named.title.startswith(f"{report.consumer} (shop/scraper) calls") and named.subject == report.subject
    assert named.held_by in named.why and named.held_by.startswith("pod shop/scraper-7d4-a")
