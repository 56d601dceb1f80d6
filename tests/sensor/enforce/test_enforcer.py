"""What a sensor enforces: within its own limits, for as long as it was asked, and never by itself."""

from ipaddress import ip_network
from pathlib import Path

import pytest

from sensor.core.config import EnforcementSettings
from sensor.ebpf.abi import SLOT, SLOTS_MAX, STOP_COUNT, VERDICT, VERDICT_SCOPE, EnforcementMark, StopCount
from sensor.enforce.block import BLOCKS_LIMIT, CREDENTIALS_LIMIT, Block, BlockKind, Scope, find_fault
from sensor.enforce.enforcer import ALIVE_SECONDS, LOGGED_MAX
from sensor.enforce.history import SETTLE_SECONDS
from sensor.enforce.tables import Server, pack_network
from tests.figures import read_values
from tests.sensor.enforce.node import LIMITS, SECOND_NS, Node, address, call, credential, mapped


def test_an_address_is_enforced_until_its_time_is_over() -> None:
    node = Node()
    node.take(address("203.0.113.7", seconds=30))
    assert node.blocked() == {mapped("203.0.113.7")}
    generation, alive_ns, marks, secret = node.kernel.state
    assert generation and marks == 0 and secret == b"k" * 16
    assert alive_ns == node.clock.monotonic_ns() + int(ALIVE_SECONDS * SECOND_NS)
    found = VERDICT.unpack(next(iter(node.kernel.maps["verdicts"].values())))
    assert found == (node.clock.monotonic_ns() + 30 * SECOND_NS, 0, 0)
    node.pass_seconds(29)
    assert node.blocked()
    node.pass_seconds(2)
    assert not node.blocked() and node.kernel.state[0] == 0


def test_a_step_of_the_wall_clock_changes_nothing() -> None:
    node = Node()
    node.take(address("203.0.113.7", seconds=30))
    node.clock.step(1e9)
    node.pass_seconds(1)
    assert node.blocked()
    node.clock.step(-2e9)
    node.pass_seconds(30)
    assert not node.blocked()


def test_what_is_told_again_never_lasts_longer() -> None:
    node = Node()
    node.take(address("203.0.113.7", seconds=30))
    node.pass_seconds(20)
    node.take(address("203.0.113.7", seconds=90))  # The collector's clock was set back by 80 s.
    node.pass_seconds(9)
    assert node.blocked()
    node.pass_seconds(2)
    assert not node.blocked()


def test_off_by_default() -> None:
    node = Node(EnforcementSettings())
    node.take(address("203.0.113.7"))
    assert not node.blocked()
    assert "off in this sensor's settings" in node.reasons()["a"]
    assert not node.enforcer.report().is_enabled


def test_the_switch_lifts_and_enforces_again() -> None:
    node = Node()
    node.take(address("203.0.113.7"))
    node.switch = "by the operator"
    node.pass_seconds(1)
    assert not node.blocked() and "by the operator" in node.reasons()["a"]
    node.switch = ""
    node.pass_seconds(1)
    assert node.blocked()


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (address("10.1.2.3"), "never blocked"),
        (address("10.1.0.0/24"), "never blocked"),
        (address("203.0.0.0/16"), "wider than /24"),
        (address("2001:db8::/32"), "wider than /56"),
        (address("::/56"), "holds all of IPv4"),
        (address("203.0.113.7", seconds=100_000), "limit is 86400 s"),
        (credential(9, key_id=2), "installation key 2"),
    ],
)
def test_limits_no_collector_can_raise(block: Block, reason: str) -> None:
    node = Node()
    node.take(block)
    assert reason in node.reasons()[block.id]
    assert not node.enforcer.is_live and node.kernel.state[0] == 0


def test_a_share_of_the_traffic_is_the_limit() -> None:
    node = Node()
    node.share = 0.6
    node.take(address("203.0.113.7"))
    assert "60% of this node's calls" in node.reasons()["a"]
    node.share = 0.4
    node.pass_seconds(1)
    assert node.blocked()
    node.share = 0.9  # It is blocked already, so this is not of its doing.
    node.pass_seconds(1)
    assert node.blocked()


def test_a_sensor_that_has_seen_little_waits_for_calls_to_measure_by() -> None:
    node = Node(calls=3)
    node.share = 0.6
    node.take(address("203.0.113.7"))
    assert "has seen 3 calls since its start" in node.reasons()["a"] and not node.blocked()
    node.history.calls = 1_000
    node.pass_seconds(1)
    assert "60% of this node's calls" in node.reasons()["a"]
    node.share = 0.4
    node.pass_seconds(1)
    assert node.blocked()


@pytest.mark.parametrize(("stopped", "is_lifted"), [(10, False), (500, True)])
def test_a_block_of_an_idle_node_is_measured_once_calls_come(stopped: int, is_lifted: bool) -> None:
    """A network blocked at night is not to stop the day's traffic."""
    node = Node(calls=0)
    node.pass_seconds(SETTLE_SECONDS)
    node.take(address("203.0.113.0/24", seconds=1_000))
    assert node.blocked("blocked_networks")
    slot = SLOT.unpack(next(iter(node.kernel.maps["blocked_networks"].values())))[0]
    node.kernel.stopped = {slot: StopCount(stopped, 0, 0, 0)}
    node.history.calls = 100
    node.pass_seconds(1)
    assert bool(node.blocked("blocked_networks")) is not is_lifted
    assert ("while this node was idle, and made 83%" in node.reasons()["a"]) is is_lifted


def test_what_was_in_force_before_a_start_is_at_once_again(tmp_path: Path) -> None:
    before = Node(state=tmp_path / "enforced.json")
    before.take(address("203.0.113.7"))
    before.enforcer.end()
    after = Node(state=tmp_path / "enforced.json", calls=0)
    after.take(address("203.0.113.7"), address("203.0.113.8", id="b"))
    assert after.blocked() == {mapped("203.0.113.7")}
    other = Node(state=tmp_path / "enforced.json", calls=0)
    other.take(address("203.0.113.9"))  # Another client under a known id.
    assert not other.blocked()


@pytest.mark.parametrize("text", ["", "{", "{}", "[1, null]", '"a"', "[]"])
def test_a_damaged_list_of_what_was_in_force_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "enforced.json"
    path.write_text(text)
    node = Node(state=path)
    node.take(address("203.0.113.7"))
    assert node.blocked()


def test_a_flood_does_not_push_out_what_is_in_force() -> None:
    node = Node()
    node.take(address("203.0.113.7", id="z"))
    node.take(*(address(f"198.51.100.{n}", id=f"f{n}") for n in range(200)), address("203.0.113.7", id="z"))
    assert len(node.blocked()) == 3 and mapped("203.0.113.7") in node.blocked()
    assert sum("limit of 3 blocks" in reason for reason in node.reasons().values()) == 198


def test_more_names_than_the_kernel_holds_end_nothing() -> None:
    """Its table of credentials takes so many; one more, and it took none of the blocks any more."""
    node = Node(LIMITS.model_copy(update={"max_blocks": 1_000}))
    each = CREDENTIALS_LIMIT + 1
    fit = SLOTS_MAX // each
    principals = [
        Block(
            id=f"p{number}",
            kind=BlockKind.PRINCIPAL,
            hash=number * each + 1,
            key_id=1,
            credentials=tuple(number * each + other for other in range(2, each + 1)),
            left_ms=100_000,
        )
        for number in range(fit + 1)
    ]
    node.take(*principals)
    assert len(node.blocked("blocked_credentials")) == fit * each <= SLOTS_MAX
    assert f"it holds {SLOTS_MAX}" in node.reasons()[f"p{fit}"]
    for credential_seen in range(1, SLOTS_MAX - fit * each + 4):
        node.enforcer.see(*call(credential=10**6 + credential_seen, principal=1))
    assert len(node.blocked("blocked_credentials")) == SLOTS_MAX
    node.pass_seconds(1)
    assert len(node.blocked("blocked_credentials")) == SLOTS_MAX


def test_after_it_stood_still_connections_are_judged_anew() -> None:
    node = Node()
    node.take(address("203.0.113.7", seconds=600))
    generation = node.kernel.state[0]
    node.pass_seconds(1)
    assert node.kernel.state[0] == generation
    node.pass_seconds(ALIVE_SECONDS + 1)  # Meanwhile the kernel let everything through.
    assert node.kernel.state[0] > generation and node.blocked()


def test_many_changes_are_a_few_lines_and_a_sum(caplog: pytest.LogCaptureFixture) -> None:
    node = Node(LIMITS.model_copy(update={"max_blocks": 100}))
    with caplog.at_level("INFO", logger="sensor.enforce.enforcer"):
        node.take(*(address(f"198.51.100.{n}", id=f"f{n:03}") for n in range(90)))
        node.take()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2 * (LOGGED_MAX + 1)
    assert lines[0] == "block f000 is enforced" and "90 blocks are enforced and 0 lifted, in all" in lines
    assert lines[-1] == "0 blocks are enforced and 90 lifted, in all"


def test_the_allow_list_goes_to_the_kernel_where_a_network_holds_one() -> None:
    limits = LIMITS.model_copy(update={"never_block_cidrs": (ip_network("203.0.113.9/32"),)})
    node = Node(limits)
    node.take(address("203.0.113.0/24"))
    assert node.blocked("blocked_networks") == {pack_network(ip_network("203.0.113.0/24"))}
    assert node.blocked("spared_networks") == {pack_network(ip_network("203.0.113.9/32"))}
    assert node.kernel.state[2] == EnforcementMark.NETWORKS


def test_a_network_in_a_wider_one_is_blocked_wherever_that_is() -> None:
    node = Node()
    cart = (Scope(namespace="shop", workload="cart"),)
    node.take(
        address("203.0.113.0/24", id="wide", seconds=50),
        address("203.0.113.16/28", id="narrow", seconds=100, scopes=cart),
        address("198.51.100.0/28", id="apart", seconds=100, scopes=cart),
    )

    def verdict(network: str) -> tuple[int, int, int]:
        slot = node.kernel.maps["blocked_networks"][pack_network(ip_network(network))]
        return VERDICT.unpack(node.kernel.maps["verdicts"][slot])  # type: ignore[return-value]

    # The kernel finds no other than the narrowest.
    assert [verdict(network)[1] for network in ("203.0.113.16/28", "198.51.100.0/28")] == [0, 1]
    node.pass_seconds(51)
    assert verdict("203.0.113.16/28")[1] == 1


def test_scopes_follow_the_servers() -> None:
    node = Node()
    node.take(address("203.0.113.7", scopes=(Scope(namespace="shop", workload="cart"),)))
    slot = SLOT.unpack(next(iter(node.kernel.maps["blocked_addresses"].values())))[0]
    assert node.blocked("verdict_scopes") == {VERDICT_SCOPE.pack(7, slot, 8080)}
    node.servers = [Server(cgroup_id=8, port=8080, namespace="shop", workload="cart")]
    node.pass_seconds(1)
    assert node.blocked("verdict_scopes") == {VERDICT_SCOPE.pack(8, slot, 8080)}


def test_a_scope_of_a_namespace_is_all_its_servers_and_no_others() -> None:
    node = Node()
    node.servers = [
        Server(cgroup_id=7, port=8080, namespace="shop", workload="cart"),
        Server(cgroup_id=8, port=9090, namespace="shop", workload="users"),
        Server(cgroup_id=9, port=8080, namespace="bank", workload="cart"),
        Server(cgroup_id=10, port=8080, namespace="", workload="cart"),
    ]
    node.take(address("203.0.113.7", scopes=(Scope(namespace="shop"),)))
    slot = SLOT.unpack(next(iter(node.kernel.maps["blocked_addresses"].values())))[0]
    assert node.blocked("verdict_scopes") == {VERDICT_SCOPE.pack(7, slot, 8080), VERDICT_SCOPE.pack(8, slot, 9090)}


def test_without_the_collector_it_lifts() -> None:
    node = Node()
    node.take(address("203.0.113.7", seconds=10_000))
    node.enforcer.on_connection(False)
    node.pass_seconds(59)
    assert node.blocked()
    node.pass_seconds(2)
    assert not node.blocked() and "away" in node.reasons()["a"]
    node.enforcer.on_connection(True)
    node.pass_seconds(1)
    assert node.blocked()


def test_the_end_lifts_everything() -> None:
    node = Node()
    node.take(address("203.0.113.7"), credential(9))
    node.enforcer.end()
    assert not node.blocked() and not node.blocked("blocked_credentials") and node.kernel.state[0] == 0


def test_who_is_watched_changes_with_what_is_in_force() -> None:
    node = Node()
    before = node.enforcer.changes
    node.take(address("203.0.113.7"))
    assert node.enforcer.changes == before + 1 and not node.enforcer.is_naming
    node.take(credential(9))
    assert node.enforcer.changes == before + 2 and node.enforcer.is_naming
    node.pass_seconds(1)
    assert node.enforcer.changes == before + 2


def test_what_was_stopped_is_told_by_block() -> None:
    node = Node()
    node.take(address("203.0.113.7"))
    slot = SLOT.unpack(next(iter(node.kernel.maps["blocked_addresses"].values())))[0]
    assert node.kernel.maps["stop_counts"][SLOT.pack(slot)] == bytes(STOP_COUNT.size)
    node.kernel.stopped = {slot: StopCount(connections=2, bytes=700, spared=1, lost=0)}
    node.watch.first_unix_ns[slot] = 8_000_000
    status = node.enforcer.report().blocks[0]
    assert (status.stopped_connections, status.stopped_bytes, status.spared_requests) == (2, 700, 1)
    assert (status.first_stop_unix_ms, status.failed_resets) == (8, 0)


def test_a_reset_that_no_ring_or_queue_had_room_for_is_a_failed_one() -> None:
    """Each is in the report of its block, and in the metric by its reason."""
    node = Node()
    node.take(address("203.0.113.7"))
    slot = SLOT.unpack(next(iter(node.kernel.maps["blocked_addresses"].values())))[0]
    node.kernel.stopped = {slot: StopCount(connections=9, bytes=900, spared=0, lost=4)}
    node.kernel.lost = 5  # One is of a block that has ended.
    node.watch.failures[slot], node.watch.unqueued[slot], node.watch.resets[slot] = 2, 1, 6
    assert node.enforcer.report().blocks[0].failed_resets == 4 + 2 + 1
    assert read_values(node.enforcer.figures()) == {
        "resets": 6,
        "failed_resets/ring_full": 5,
        "failed_resets/queue_full": 1,
        "failed_resets/refused": 2,
    }


@pytest.mark.parametrize(
    "blocks",
    [
        (address("203.0.113.7", id=""),),
        (address("203.0.113.7", id="\x1b[31m"),),
        (address("203.0.113.7"), address("203.0.113.8")),
        (Block(id="a", kind=None),),
        (Block(id="a", kind=BlockKind.ADDRESS),),
        (Block(id="a", kind=BlockKind.CREDENTIAL),),
        (address("203.0.113.7", scopes=(Scope(port=70_000),)),),
        (credential(9, credentials=tuple(range(1, 66))),),
        tuple(address("203.0.113.7", id=str(n)) for n in range(BLOCKS_LIMIT + 1)),
    ],
)
def test_a_set_that_cannot_be_is_refused_whole(blocks: tuple[Block, ...]) -> None:
    assert find_fault(blocks)


def test_a_sound_set_has_no_fault() -> None:
    assert not find_fault((address("203.0.113.7"), credential(9)))
