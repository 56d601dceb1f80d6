"""Who is off or left alone has no probe, a trial has its slots, and many processes of a file follow each other."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from sensor.capture.tls.finder import Found, search_file
from sensor.capture.tls.places import MAX_APART
from sensor.capture.tls.processes import LONGEST_REST_SECONDS
from sensor.capture.tls.turns import EVERYBODY, REFUSED_SECONDS, ROTATION_SECONDS, SHARES_FILE
from sensor.capture.tls.waits import Port
from sensor.core.read_tls import ReadTls, TlsChoice
from tests.sensor.capture.tls.test_attacher import LIBSSL, Node
from tests.waiting import wait_until

OFF = TlsChoice(mode=ReadTls.OFF, reason="Its Pod says so.")
SO = "/lib/libssl.so.3"


class Trials:
    """Wants what a test says."""

    trials_total = stops_total = doubted_total = left_out = 0

    def __init__(self) -> None:
        self.slots: Mapping[int, bool] = {}
        self.stopped: Mapping[int, str] = {}
        self.members: Mapping[Port, Mapping[int, bool]] = {}
        self.work_ns: Mapping[int, float] = {}

    def list_ports(self, now: float, members: Mapping[Port, Mapping[int, bool]]) -> list[Port]:
        return list(members)

    def step(
        self,
        now: float,
        waits: Mapping[Port, Sequence[int]],
        members: Mapping[Port, Mapping[int, bool]],
        work_ns: Mapping[int, float],
    ) -> None:
        self.members, self.work_ns = members, work_ns

    def next_switch(self) -> float:
        return float("inf")


@pytest.fixture
def node(tmp_path: Path) -> Node:
    if not LIBSSL.exists():
        pytest.skip("no libssl.so.3")
    return Node(tmp_path, ReadTls.AUTO)


@pytest.fixture
def trials(node: Node) -> Trials:
    node.turns.trials = trials = Trials()
    return trials


def test_a_process_that_is_off_never_has_probes(node: Node) -> None:
    node.chosen["/pods/off"] = OFF
    node.run(10, SO, LIBSSL, "/pods/off")
    node.attacher.look()
    assert node.prober.probed == set()
    node.run(11, SO, LIBSSL, "/pods/shop")
    node.attacher.look()
    assert node.prober.probed == {11}
    assert (node.unread.why(10), node.unread.why(11)) == ("Its Pod says so.", "")


def test_what_is_seen_while_probes_come_out_is_of_no_call(node: Node) -> None:
    """Else the answer to a request that met no probe any more would seem to have none."""
    node.run(10, SO, LIBSSL, "/pods/shop")
    node.attacher.look()

    def list_closing() -> list[bool]:
        return [node.turns.was_closing(10, int((node.now + ago) * 1e9)) for ago in (-0.05, 0.0, 0.05)]

    closing = [list_closing()]

    def pass_time() -> None:
        closing.append(list_closing())
        node.now += 0.1

    node.prober.on_close = pass_time
    node.chosen["/pods/shop"] = OFF
    node.turns.step()
    assert closing == [[False] * 3, [False, True, True]]
    assert list_closing() == [True, True, False]


def test_a_choice_takes_effect_without_a_look_for_files(node: Node) -> None:
    node.run(10, SO, LIBSSL, "/pods/shop")
    node.attacher.look()
    assert node.prober.probed == {EVERYBODY}
    node.chosen["/pods/shop"] = OFF
    node.turns.step()
    assert node.prober.probed == set() and 10 in node.prober.looked_away
    del node.chosen["/pods/shop"]
    node.turns.step()
    assert node.prober.probed == {EVERYBODY}


def test_a_number_that_is_used_again_loses_the_probes_of_the_first(node: Node) -> None:
    node.chosen["/pods/off"] = OFF
    node.run(10, SO, LIBSSL, "/pods/off")
    node.run(11, SO, LIBSSL, "/pods/shop")
    node.attacher.look()
    node.prober.calls[11] = 5
    before = set(node.prober.open)
    stat = node.root / "11" / "stat"
    stat.write_text(stat.read_text().rpartition(" 0")[0].rpartition(" ")[0] + f" {int(node.now * 100) - 4_000} 0")
    node.now += LONGEST_REST_SECONDS
    node.attacher.look()
    assert node.prober.probed == {11} and not before & set(node.prober.open)
    assert 11 not in node.prober.calls, "its account is another one's"


def test_a_trial_has_its_slots_and_who_is_left_alone_a_reason(node: Node, trials: Trials) -> None:
    for pid in (10, 11):
        node.run(pid, SO, LIBSSL)
    node.attacher.look()
    node.turns.members = {(1, 443): {10, 99}}
    trials.slots = {10: False}
    node.turns.step()
    assert node.prober.probed == {11} and node.turns.over == {10: 0.5}
    trials.slots = {10: True}
    node.turns.step()
    node.turns.step()
    assert node.prober.probed == {10, 11}
    assert trials.members == {(1, 443): {10: True}}, "99 has ended"
    trials.slots, trials.stopped = {}, {10: "Answers took 8 % longer."}
    node.turns.step()
    node.attacher.look()
    assert node.prober.probed == {11} and node.turns.over == {10: 0.0}
    assert node.unread.why(10) == "Answers took 8 % longer."


def test_a_trial_ends_for_a_process_that_it_would_read_far_beyond_its_budget(node: Node, trials: Trials) -> None:
    for pid in (10, 11):
        node.run(pid, SO, LIBSSL)
    node.turns.members = {(1, 443): {10}, (2, 443): {11}}
    trials.slots = {10: True, 11: True}
    node.live(8, {10: 4_000, 11: 400})
    assert trials.members == {(1, 443): {}, (2, 443): {11: True}}


def test_who_is_in_full_is_in_no_trial(node: Node, trials: Trials) -> None:
    node.chosen["/pods/full"] = TlsChoice(mode=ReadTls.FULL)
    node.run(10, SO, LIBSSL, "/pods/full")
    node.attacher.look()
    node.turns.members = {(1, 443): {10}}
    node.turns.step()
    assert trials.members == {(1, 443): {}}


def test_many_processes_of_a_file_follow_each_other_where_one_may_not_be_read(node: Node) -> None:
    node.chosen["/pods/off"] = OFF
    node.run(9, SO, LIBSSL, "/pods/off")
    pids = set(range(10, 10 + 2 * MAX_APART))
    for pid in pids:
        node.run(pid, SO, LIBSSL)
    node.attacher.look()
    seen: set[int] = set()
    for _ in range(2):
        probed = node.prober.probed
        assert len(probed) == MAX_APART
        seen |= probed
        node.now += ROTATION_SECONDS
        node.turns.step()
    assert seen == pids
    assert node.turns.over[10] == 0.5


def test_a_process_that_maps_a_library_late_is_looked_at_at_once(node: Node) -> None:
    """Its probes are there already: those of all who run the file."""
    node.price_ns = 1_000.0
    node.chosen["/pods/off"] = OFF
    for pid, cgroup in ((11, "/pods/off"), (12, "/pods/shop")):
        node.run(pid, "/lib/other.so", Path(__file__), cgroup)
    node.run(10, SO, LIBSSL, "/pods/shop")
    node.live(10, {})
    assert node.prober.probed == {EVERYBODY}
    line = (node.root / "10" / "maps").read_text()
    for pid in (11, 12):
        with (node.root / str(pid) / "maps").open("a") as maps:
            maps.write(line)
        node.prober.calls[pid] = 5
    node.prober.calls[99] = 5  # Ended at once.
    node.live(2, {12: 4_000})
    assert node.prober.probed <= {10, 12} and 99 not in node.prober.calls
    node.live(6, {12: 4_000})
    assert node.turns.over[12] < 1 and node.turns.late == []


def test_many_sleeping_processes_of_one_cgroup_take_no_place_of_another(node: Node) -> None:
    """Whoever makes them maps the library of a server, and is not to be read himself."""
    node.chosen["/pods/off"] = OFF
    node.run(9, SO, LIBSSL, "/pods/off")
    node.run(5_000, SO, LIBSSL, "/pods/shop")
    for pid in range(10, 310):
        node.run(pid, SO, LIBSSL, f"/pods/evil/{pid % 50}")
    for _ in range(4):
        node.attacher.look()
        assert 5_000 in node.prober.probed and len(node.prober.probed) == MAX_APART
        node.now += ROTATION_SECONDS
    assert 5_000 not in node.turns.over and node.turns.over[10] == pytest.approx(31 / 300, abs=0.1)
    assert "301 run this one" in node.turns.describe(10) and "run this one" not in node.turns.describe(5_000)


def test_processes_without_calls_leave_places_to_those_with_calls(node: Node) -> None:
    node.chosen["/pods/off"] = OFF
    node.run(9, SO, LIBSSL, "/pods/off")
    for pid in range(100, 400):
        node.run(pid, SO, LIBSSL, "/pods/shop")
    node.prober.calls = dict.fromkeys(range(390, 400), 5)
    rounds = []
    for _ in range(40):
        node.attacher.look()
        rounds.append(node.prober.probed)
        node.now += ROTATION_SECONDS
    assert set().union(*rounds) == set(range(100, 400)), "each one comes"
    assert sum(390 in probed for probed in rounds) >= 4 * sum(100 in probed for probed in rounds)


def test_where_the_kernel_cannot_choose_nobody_is_read_beside_one_who_is_off(node: Node) -> None:
    node.prober.is_choosing = False
    node.chosen["/pods/off"], node.chosen["/pods/full"] = OFF, TlsChoice(mode=ReadTls.FULL)
    node.run(11, SO, LIBSSL, "/pods/full")
    node.attacher.look()
    assert node.prober.probed == {EVERYBODY}
    node.run(10, SO, LIBSSL, "/pods/off")
    node.attacher.look()
    assert node.prober.probed == set()
    node.attacher.look()
    assert node.unread.why(11) == SHARES_FILE and node.turns.over[11] == 0, "never without a word"
    assert node.unread.why(10) == "Its Pod says so." and node.attacher.files[0].probes == 0


def test_where_the_kernel_cannot_choose_all_processes_of_a_file_have_turns_and_the_busiest_decides(node: Node) -> None:
    node.prober.is_choosing = False
    for pid in (10, 11):
        node.run(pid, SO, LIBSSL)
    node.attacher.look()
    had = node.live(60, {10: 2_000, 11: 10})[8:]
    # Of 2,000 calls/s of one process 200 are read, so a tenth of the time.
    assert sum(EVERYBODY in one for one in had) == pytest.approx(len(had) / 10, abs=3)
    assert node.turns.over == {pid: pytest.approx(0.1, abs=0.02) for pid in (10, 11)}
    assert node.prober.looked_away.count(11) == node.prober.looked_away.count(10) > 3
    assert node.unread.why(11) == "" and "all 2 processes of its library" in node.turns.describe(11)
    node.live(22, {10: 50, 11: 10})
    assert node.turns.over == {} and node.prober.probed == {EVERYBODY}
    assert "together" not in node.turns.describe(11)


def test_where_the_kernel_cannot_choose_breakpoints_take_a_thousandth_of_a_core(node: Node) -> None:
    """Nobody knows whose processor time a file's is, so the least holds."""
    node.prober.is_choosing = False
    node.price_ns = 5_000.0
    node.run(10, SO, LIBSSL)
    node.core_share[10] = 1.0
    node.attacher.look()
    had = node.live(60, {10: 100})[14:]
    # 100 calls/s of six breakpoints that take 5 us each: 3 ms a second, three times as much.
    assert sum(EVERYBODY in one for one in had) == pytest.approx(len(had) / 3, abs=4)


def test_where_the_kernel_cannot_choose_who_is_in_full_alone_has_no_turns(node: Node) -> None:
    node.prober.is_choosing = False
    node.chosen["/pods/full"] = TlsChoice(mode=ReadTls.FULL)
    node.run(10, SO, LIBSSL, "/pods/full")
    node.run(11, SO, LIBSSL, "/pods/full")
    node.live(20, {10: 4_000, 11: 10})
    assert node.prober.calls[11] >= 19 * 10 and node.turns.over == {}
    node.run(12, SO, LIBSSL)
    node.live(20, {10: 4_000, 11: 10})
    assert node.turns.over.keys() == {10, 11, 12}, "one of them is in auto"


def test_where_the_kernel_cannot_choose_a_trial_is_of_all_processes_of_a_file(node: Node, trials: Trials) -> None:
    node.prober.is_choosing = False
    for pid in (10, 11):
        node.run(pid, SO, LIBSSL)
    node.run(12, "/lib/other/libssl.so.3", LIBSSL)
    node.price_ns = 1_000.0
    node.live(2, {10: 20, 11: 10, 12: 5})
    node.turns.members = {(1, 443): {10, 99}, (1, 8443): {11}, (2, 443): {12}}
    node.turns.step()
    first, second = (trials.members[port] for port in ((1, 443), (2, 443)))
    assert trials.members[1, 8443] == first, "the same file, so never at the same time"
    ((unit, is_in_place),) = first.items()
    assert unit < 0 and is_in_place and unit not in second
    assert trials.work_ns[unit] == 6_000.0
    trials.slots = {unit: False}
    node.turns.step()
    assert node.turns.over == {10: 0.5, 11: 0.5} and node.turns.slots == {10: False, 11: False}
    node.turns.step()
    assert trials.members[1, 443] == {unit: False} and list(trials.members[2, 443].values()) == [True]
    trials.slots, trials.stopped = {}, {unit: "Answers took 8 % longer."}
    node.turns.step()
    node.attacher.look()
    assert node.turns.over == {10: 0.0, 11: 0.0} and node.unread.why(11) == "Answers took 8 % longer."
    assert node.unread.why(12) == "" and node.prober.probed == {EVERYBODY}
    trials.stopped = {}
    node.turns.step()
    assert node.turns.over == {} and len(node.prober.open) == 2 * len(node.attacher.files[0].sites)


def test_what_the_kernel_refuses_of_one_process_is_tried_less_and_less_often_and_shows(node: Node) -> None:
    node.chosen["/pods/off"] = OFF
    node.run(9, SO, LIBSSL, "/pods/off")
    for pid in (10, 11):
        node.run(pid, SO, LIBSSL)
    node.prober.refused = {10}
    node.attacher.look()
    node.attacher.look()
    assert node.prober.probed == {11} and node.prober.tried == 1
    assert node.unread.why(10) == "The kernel refused the probes: Operation not permitted."
    assert node.turns.refused_total == 1 and node.turns.over[10] == 0 and 11 not in node.turns.over
    for seconds, tried in ((REFUSED_SECONDS, 2), (REFUSED_SECONDS, 2), (REFUSED_SECONDS, 3)):
        node.now += seconds
        node.turns.step()
        assert node.prober.tried == tried
    node.prober.refused = set()
    node.now += 4 * REFUSED_SECONDS
    node.attacher.look()
    assert node.prober.probed == {10, 11} and node.unread.why(10) == "" and not node.turns.over.get(10, 1) < 1


def test_whatever_fails_in_deciding_what_is_off_comes_out(node: Node, trials: Trials) -> None:
    for pid in (10, 11):
        node.run(pid, SO, LIBSSL, f"/pods/{pid}")
    node.live(8, {11: 4_000})
    assert 11 in node.turns.parts
    node.run(12, SO, LIBSSL, "/pods/12")
    node.attacher.look()
    node.turns.members = {(1, 443): {12}}
    trials.slots = {12: False}
    node.turns.step()
    assert 12 not in node.prober.probed

    def fail(*_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    trials.step = fail  # type: ignore[method-assign]
    node.chosen["/pods/10"] = OFF
    node.turns.step()
    assert 10 not in node.prober.probed and 12 in node.prober.probed, "nothing is compared meanwhile"
    node.prober.read_accounts = fail  # type: ignore[method-assign,assignment]
    node.now += 100
    node.turns.step()
    assert node.prober.probed == {12}, "what is in turns is not read where nobody knows what it takes"
    assert node.turns._find_next() == float("inf"), "and is not asked again and again"


def test_what_is_to_come_out_of_all_files_comes_out_at_once_and_first(node: Node) -> None:
    for number in range(3):
        node.run(10 + number, f"/lib/libssl-{number}.so.3", LIBSSL, "/pods/shop")
    node.attacher.look()
    places = len(node.prober.open) // 3
    node.prober.closings.clear()
    node.chosen["/pods/shop"] = OFF
    node.turns.step()
    assert [count for count in node.prober.closings if count] == [3 * places]


def test_an_end_does_not_wait_for_the_other_files_of_a_step(node: Node) -> None:
    for number in range(3):
        node.run(10 + number, f"/lib/libssl-{number}.so.3", LIBSSL, f"/pods/{number}")
    node.attacher.look()
    for number in range(3):
        node.chosen[f"/pods/{number}"] = OFF
    node.turns.step()
    assert node.prober.probed == set()
    node.chosen.clear()
    opened: list[int] = []

    def stop() -> None:
        opened.append(1)
        node.turns._is_stopping = True

    node.prober.on_open = stop
    node.turns.step()
    assert len(opened) == 1


def test_a_long_search_holds_no_switch_and_no_end(node: Node) -> None:
    """One file is searched for as long as the test wants."""
    node.run(10, SO, LIBSSL, "/pods/shop")
    node.attacher.look()
    node.run(11, "/evil/libssl-evil.so", LIBSSL, "/pods/evil")
    is_searching, may_end = threading.Event(), threading.Event()

    def search(fd: int, name: str) -> Found:
        is_searching.set()
        assert may_end.wait(60)
        return search_file(fd, name)

    node.searcher.search = search
    looking = threading.Thread(target=node.attacher.look)
    looking.start()
    assert is_searching.wait(60)
    node.chosen["/pods/shop"] = OFF
    node.turns.step()
    assert node.prober.probed == set()
    del node.chosen["/pods/shop"]
    node.turns.step()
    assert node.prober.probed == {EVERYBODY}
    node.turns.stop()
    assert node.prober.probed == set()
    may_end.set()
    looking.join()
    assert node.prober.probed == set(), "nothing goes in after the end"


def test_a_thread_switches_by_itself(node: Node) -> None:
    node.run(10, SO, LIBSSL, "/pods/shop")
    node.attacher.start()
    try:
        wait_until(lambda: node.prober.probed == {EVERYBODY}, "the first look is over")
        node.chosen["/pods/shop"] = OFF
        node.now += 100
        wait_until(lambda: node.prober.probed == set(), "its probes are out")
    finally:
        node.attacher.stop()
