"""How a client's end is named for the capture below."""

import pytest

from sensor.capture.tls.capture import find_client_key
from sensor.ebpf.abi import PEER_KEY, ConnectionKind, SyscallEvent, SyscallKind

FOUR = bytes((192, 0, 2, 7))
SIX = bytes.fromhex("20010db8000000000000000000000007")


@pytest.mark.parametrize(
    ("family", "address", "named"),
    [
        (4, FOUR + bytes(12), (4, FOUR + bytes(12))),
        (6, SIX, (6, SIX)),
        (6, bytes(10) + b"\xff\xff" + FOUR, (4, FOUR + bytes(12))),  # A server that listens to both at once.
    ],
)
def test_a_clients_end_is_named_as_its_packets_are(family: int, address: bytes, named: tuple[int, bytes]) -> None:
    event = SyscallEvent(
        time_ns=1,
        socket=2,
        cgroup_id=3,
        sequence=0,
        other=0,
        size=0,
        length=0,
        hash=0,
        local_port=443,
        remote_port=50_000,
        kind=SyscallKind.READ,
        family=family,
        bound=0,
        library=0,
        process=0,
        local_address=bytes(16),
        remote_address=address,
    )
    assert PEER_KEY.unpack(find_client_key(event)) == (3, named[1], 50_000, named[0], ConnectionKind.UPGRADED)
