"""An enforcer with its kernel, its watch and its clock in a test's hands."""

from collections import Counter
from collections.abc import Iterable
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sensor.core.calls import AuthenticationKind, Credentials, Ends, PrincipalKind, Role
from sensor.core.config import EnforcementSettings
from sensor.ebpf.abi import ENFORCEMENT, StopCount
from sensor.enforce.block import Block, BlockKind, KnownBlocks
from sensor.enforce.enforcer import Enforcer
from sensor.enforce.reset import Connection
from sensor.enforce.tables import Server, pack_network
from tests.sensor.clocks import FakeClock

SECOND_NS = 1_000_000_000
LIMITS = EnforcementSettings(
    enabled=True, never_block_cidrs=(ip_network("10.0.0.0/8"),), max_blocks=3, fail_open_after_seconds=60
)


class FakeKernel:
    """Maps as dictionaries."""

    def __init__(self) -> None:
        self.maps: dict[str, dict[bytes, bytes]] = {}
        self.stopped: dict[int, StopCount] = {}
        self.lost = 0

    def update(self, name: str, elements: dict[bytes, bytes]) -> None:
        self.maps.setdefault(name, {}).update(elements)

    def delete(self, name: str, keys: Iterable[bytes]) -> None:
        for key in keys:
            self.maps[name].pop(key, None)

    def counts(self) -> dict[int, StopCount]:
        return self.stopped

    def count_lost(self) -> int:
        return self.lost

    @property
    def state(self) -> tuple[int, int, int, bytes]:
        return ENFORCEMENT.unpack(self.maps.get("enforcement", {}).get(bytes(4), bytes(ENFORCEMENT.size)))  # type: ignore[return-value]


class FakeWatch:
    def __init__(self) -> None:
        self.asked: list[tuple[int, Connection]] = []
        self.failures: Counter[int] = Counter()
        self.resets: Counter[int] = Counter()
        self.unqueued: Counter[int] = Counter()
        self.first_unix_ns: dict[int, int] = {}

    def ask(self, slot: int, connection: Connection) -> None:
        self.asked.append((slot, connection))

    def stop(self) -> None: ...


class Node:
    """An enforcer with everything around it in a test's hands."""

    def __init__(self, limits: EnforcementSettings = LIMITS, state: Path | None = None, calls: int = 1_000) -> None:
        self.history = SimpleNamespace(calls=calls, measure_share=lambda blocks: self.share)
        self.clock, self.kernel, self.watch = FakeClock(), FakeKernel(), FakeWatch()
        self.switch, self.share = "", 0.0
        self.servers = [Server(cgroup_id=7, port=8080, namespace="shop", workload="cart")]
        self.enforcer = Enforcer(
            limits=limits,
            clock=self.clock,  # type: ignore[arg-type]
            read_switch=lambda: self.switch,
            history=self.history,  # type: ignore[arg-type]
            list_servers=lambda: self.servers,
            known=KnownBlocks(state),
        )
        self.enforcer.set_key(1, b"k" * 16)
        self.enforcer.begin(self.kernel, self.watch, "")  # type: ignore[arg-type]

    def take(self, *blocks: Block) -> None:
        self.enforcer.take(blocks, 5)

    def blocked(self, name: str = "blocked_addresses") -> set[bytes]:
        return set(self.kernel.maps.get(name, {}))

    def reasons(self) -> dict[str, str]:
        return {status.id: status.reason for status in self.enforcer.report().blocks}

    def pass_seconds(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.enforcer.tick()


def address(text: str, id: str = "a", seconds: float = 100, **more: Any) -> Block:
    return Block(id=id, kind=BlockKind.ADDRESS, network=ip_network(text), left_ms=int(seconds * 1_000), **more)


def credential(value: int, id: str = "c", key_id: int = 1, **more: Any) -> Block:
    return Block(id=id, kind=BlockKind.CREDENTIAL, hash=value, key_id=key_id, left_ms=100_000, **more)


def mapped(text: str) -> bytes:
    return pack_network(ip_network(text))[4:]


def call(
    credential: int = 0, principal: int = 0, remote: str = "203.0.113.7", port: int = 80, is_encrypted: bool = False
) -> tuple[Ends, Credentials]:
    ends = Ends(3, Role.SERVER, 7, 0, "192.0.2.1", port, remote, 9, is_encrypted=is_encrypted)
    kind = PrincipalKind.TOKEN if principal else PrincipalKind.UNSPECIFIED
    return ends, Credentials(AuthenticationKind.BEARER_OPAQUE, principal, kind, credential, False)
