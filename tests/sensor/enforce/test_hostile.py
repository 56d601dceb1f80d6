"""Whoever holds the collector's key, and whatever they send: a sensor stays within its limits, and all of it ends."""

from ipaddress import IPv6Address, IPv6Network, ip_network

from apidae.v1 import stream_pb2
from hypothesis import given
from hypothesis import strategies as st

from sensor.ebpf.abi import NETWORK_KEY, VERDICT
from sensor.enforce.block import find_fault
from sensor.export.messages import read_blocks
from tests.sensor.enforce.node import LIMITS, SECOND_NS, Node

HONEST = ip_network("10.0.0.0/8")  # LIMITS.never_block_cidrs.
ADDRESSES = st.sampled_from(
    (
        *("10.1.2.3", "10.0.0.0/24", "0.0.0.0/0", "::/0", "::ffff:10.1.2.3", "::ffff:0:0/96", "203.0.113.7"),
        *("203.0.113.0/24", "203.0.113.0/8", "2001:db8::/56", "2001:db8::1", "localhost", "", "1.2.3.4/33", "\x00"),
    )
)
U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
SCOPES = st.lists(
    st.builds(
        stream_pb2.BlockScope,
        namespace=st.sampled_from(("", "shop", "x" * 300)),
        workload=st.sampled_from(("", "cart")),
        port=st.sampled_from((0, 8080, 70_000)),
    ),
    max_size=3,
)
# Most are sound, for one that is not has all refused.
SOUND = st.builds(
    stream_pb2.Block,
    kind=st.integers(1, 3),
    address=st.sampled_from(
        ("10.1.2.3", "::ffff:10.1.2.3", "::ffff:0:0/96", "::/56", "203.0.113.7", "203.0.113.0/24", "0.0.0.0/1")
    ),
    hash=st.integers(1, 3),
    key_id=st.just(1),
    expires_unix_ms=st.sampled_from((5_000, 60_000, 2**40)),
    is_confirmed=st.booleans(),
)
ODD = st.builds(
    stream_pb2.Block,
    id=st.sampled_from(("", "a", "b", "c", "d", "e", "x" * 400)),
    kind=st.integers(0, 5),
    address=ADDRESSES,
    hash=st.sampled_from((0, 1, 2**64 - 1)) | U64,
    key_id=st.sampled_from((0, 1, 2)),
    credentials=st.lists(U64, max_size=70),
    scopes=SCOPES,
    expires_unix_ms=st.sampled_from((0, 1, 5_000, 60_000, 2**63)) | U64,
    is_confirmed=st.booleans(),
)


def make_set(sound: list[stream_pb2.Block], odd: list[stream_pb2.Block], time_ms: int) -> stream_pb2.BlockSet:
    for number, block in enumerate(sound):
        block.id = f"s{number}"
    return stream_pb2.BlockSet(blocks=[*sound, *odd], time_unix_ms=time_ms)


POLICIES = st.lists(
    st.tuples(
        st.builds(make_set, st.lists(SOUND, max_size=6), st.lists(ODD, max_size=1), st.just(0) | U64),
        st.floats(-1e9, 1e9),  # A step of the wall clock after it.
        st.floats(0, 20),  # Seconds until the next.
    ),
    max_size=6,
)


def check_limits(node: Node) -> None:
    held = [status for status in node.enforcer.report().blocks if status.is_enforced]
    assert len(held) <= LIMITS.max_blocks
    now_ns = node.clock.monotonic_ns()
    for verdict in node.kernel.maps.get("verdicts", {}).values():
        assert VERDICT.unpack(verdict)[0] <= now_ns + LIMITS.max_block_seconds * SECOND_NS
    for key in node.blocked("blocked_addresses"):
        assert (IPv6Address(key).ipv4_mapped or IPv6Address(key)) not in HONEST
    for key in node.blocked("blocked_networks"):
        bits, address = NETWORK_KEY.unpack(key)
        network = IPv6Network((address, bits))
        mapped = network.network_address.ipv4_mapped
        assert bits >= (LIMITS.min_ipv4_prefix_bits + 96 if mapped else LIMITS.min_ipv6_prefix_bits)
        # Spared ones go first in the kernel.
        assert mapped is None or mapped not in HONEST


@given(POLICIES)
def test_no_policy_gets_past_the_limits(policies: list[tuple[stream_pb2.BlockSet, float, float]]) -> None:
    node = Node()
    for message, step, seconds in policies:
        blocks = read_blocks(message)
        if not find_fault(blocks):
            node.take(*blocks)
        check_limits(node)
        node.clock.step(step)
        node.pass_seconds(seconds)
        check_limits(node)
    node.enforcer.on_connection(False)  # A partition while they are live.
    node.pass_seconds(1)
    node.pass_seconds(LIMITS.fail_open_after_seconds + 1)
    assert not node.enforcer.is_live and node.kernel.state[0] == 0
    assert not any(node.blocked(name) for name in ("blocked_addresses", "blocked_networks", "blocked_credentials"))
