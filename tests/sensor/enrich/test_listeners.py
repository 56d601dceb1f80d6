"""Which listener answers for a connection, what a reading costs and when it is made."""

from pathlib import Path

import pytest

from sensor.enrich.budget import Budget
from sensor.enrich.listeners import MIN_REST_SECONDS, ListenerTable
from sensor.enrich.processes import ProcessTable
from tests.sensor.enrich.fakes import FakeClock, FakeProc, FakeSockets, make_socket


class Node:
    def __init__(self, root: Path) -> None:
        self.proc = FakeProc(root)
        self.sockets = FakeSockets()
        self.clock = FakeClock()
        self.table = ListenerTable(self.sockets, ProcessTable(root), clock=self.clock)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def found_inode(node: Node, cgroup_id: int, address: str) -> int | None:
    node.table.refresh()
    listener = node.table.known(cgroup_id, 80, address)
    return listener.inode if listener else None


def test_exact_address_goes_before_any_address(node: Node) -> None:
    node.sockets.sockets[1] = [make_socket(80, 501), make_socket(80, 502, address="10.0.0.5")]
    assert found_inode(node, 1, "10.0.0.5") == 502
    assert found_inode(node, 1, "10.0.0.6") == 501


def test_any_address_of_ipv6_answers_for_ipv4(node: Node) -> None:
    node.sockets.sockets[1] = [make_socket(80, 501, address="::")]
    assert found_inode(node, 1, "10.0.0.5") == 501


def test_other_address_and_other_port_do_not_answer(node: Node) -> None:
    node.sockets.sockets[1] = [make_socket(80, 501, address="127.0.0.1"), make_socket(81, 502)]
    assert found_inode(node, 1, "10.0.0.5") is None


def test_without_an_address_one_that_is_bound_exactly_answers_too(node: Node) -> None:
    """Of what is only counted by port nobody knows the address."""
    node.sockets.sockets[1] = [make_socket(80, 501, address="127.0.0.1", cgroup_id=7)]
    assert found_inode(node, 7, "") == 501
    assert found_inode(node, 8, "") is None


def test_other_cgroup_does_not_answer_but_an_untold_one_may(node: Node) -> None:
    node.sockets.sockets[1] = [make_socket(80, 501, cgroup_id=7)]
    assert found_inode(node, 8, "10.0.0.5") is None
    assert found_inode(node, 7, "10.0.0.5") == 501
    node.sockets.sockets[1] = [make_socket(80, 502, cgroup_id=0)]
    assert found_inode(node, 8, "10.0.0.5") == 502


def test_namespace_that_has_the_address_goes_first(node: Node) -> None:
    node.sockets.sockets = {1: [make_socket(80, 501)], 2: [make_socket(80, 502)]}
    node.sockets.addresses = {1: frozenset({"10.0.0.1"}), 2: frozenset({"10.0.0.2"})}
    assert found_inode(node, 1, "10.0.0.1") == 501
    assert found_inode(node, 1, "10.0.0.2") == 502


def test_missing_listeners_are_looked_for_within_the_budget(node: Node) -> None:
    assert node.table.find(1, 80, "10.0.0.5") is None
    assert node.table.find(1, 80, "10.0.0.5") is None
    assert node.sockets.readings == 1
    node.clock.now += MIN_REST_SECONDS
    assert node.table.find(1, 80, "10.0.0.5") is None
    assert node.sockets.readings == 2


def test_listener_whose_process_ended_is_looked_for_once_more(node: Node) -> None:
    node.proc.add(70, sockets=(501,))
    node.sockets.sockets[1] = [make_socket(80, 501)]
    node.table.refresh()
    node.proc.remove(70)
    node.proc.add(71, executable="/usr/bin/next", sockets=(501,))
    listener = node.table.find(1, 80, "10.0.0.5")
    assert listener is not None
    assert listener.process is not None
    assert listener.process.name == "next"


def test_last_known_listener_answers_after_it_has_closed(node: Node) -> None:
    node.proc.add(70, sockets=(501,))
    node.sockets.sockets[1] = [make_socket(80, 501)]
    node.table.refresh()
    node.proc.remove(70)
    node.sockets.sockets.clear()
    listener = node.table.find(1, 80, "10.0.0.5")
    assert listener is not None
    assert listener.process is not None
    assert listener.process.pid == 70
    assert node.table.all() == []


def test_reading_on_demand_keeps_what_is_known(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.proc.add(70, sockets=(501,))
    node.sockets.sockets[1] = [make_socket(80, 501), make_socket(81, 502)]
    node.table.refresh()
    monkeypatch.setattr(ProcessTable, "find_owners", lambda *_: pytest.fail("nothing is new"))
    assert node.table.find(1, 82, "10.0.0.5") is None
    assert [listener.process is not None for listener in node.table.all()] == [True, False]


def test_what_cannot_be_read_is_counted(node: Node) -> None:
    (node.proc.root / "70").mkdir()
    node.sockets.sockets[1] = [make_socket(80, 501)]
    node.sockets.unreadable = 3
    node.table.refresh()
    assert node.table.loss.unreadable_namespace_count == 3
    assert node.table.loss.unreadable_process_count == 1


def test_budget_saves_a_second_and_earns_five_percent() -> None:
    """Of processor time: what others use meanwhile is not taken."""
    clock, used = FakeClock(), FakeClock()
    budget = Budget(clock=clock, minimum_rest_seconds=0.2, core_share=0.05, used=used)

    def read() -> None:
        used.now += 0.5
        clock.now += 1.0

    budget.run(read)
    assert not budget.is_open  # The rest between two.
    clock.now += 0.2
    assert budget.is_open
    budget.run(read)
    budget.run(read)
    clock.now += 0.2
    assert not budget.is_open  # A second and a half spent of one saved.
    clock.now += 0.5 / 0.05
    assert budget.is_open
