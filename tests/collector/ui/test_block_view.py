"""Blocks as a person reads them, on a few nodes and on thousands."""

from collector.receiver.policy import BlockStatus, EnforcementReport
from collector.ui.response.page import NODES_NAMED_MAX, NodeRefusal, view_nodes, view_statuses


def status(reason: str = "", *, connections: int = 0, first: float = 0.0) -> BlockStatus:
    return BlockStatus(
        id="b",
        is_enforced=not reason,
        reason=reason,
        stopped_connections=connections,
        stopped_bytes=10 * connections,
        failed_resets=0,
        spared_requests=1,
        first_stop_at=first,
    )


def report(reason: str = "") -> EnforcementReport:
    return EnforcementReport(epoch=1, is_enabled=not reason, reason=reason, blocks=())


def test_what_nodes_stopped_is_one_line_and_refusals_one_each() -> None:
    told = [("a", status(connections=3, first=50.0)), ("b", status(connections=4, first=20.0)), ("c", status("off"))]
    view = view_statuses(told)
    assert (view.enforcing, view.total, view.stopped_connections, view.stopped_bytes) == (2, 3, 7, 70)
    assert view.first_stop_at == 20.0 and view.spared_requests == 3
    assert view.refusals == (NodeRefusal(reason="off", nodes=("c",), nodes_total=1),)


def test_nobody_has_said_anything() -> None:
    assert (view_statuses([]).total, view_statuses([]).first_stop_at, view_nodes([]).total) == (0, 0.0, 0)


def test_thousands_of_nodes_are_a_few_names() -> None:
    told = [(f"n{number:04}", report("off" if number < 3_000 else "full")) for number in range(3_100)]
    view = view_nodes([*told, ("last", report())])
    assert (view.enforcing, view.total) == (1, 3_101)
    assert [(one.reason, one.nodes_total, len(one.nodes)) for one in view.refusals] == [
        ("off", 3_000, NODES_NAMED_MAX),
        ("full", 100, NODES_NAMED_MAX),
    ]
