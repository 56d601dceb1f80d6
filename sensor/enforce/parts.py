"""What the enforcer needs of the rest of the sensor, as protocols; and what a call tells it."""

from collections.abc import Iterable
from typing import Protocol

from sensor.calls import Role
from sensor.enforce.block import Block
from sensor.kernel.stop_abi import StopCount


class KernelSide(Protocol):
    """`sensor.kernel.stops.StopMaps`, as far as the tables need it."""

    def update(self, name: str, elements: dict[bytes, bytes]) -> None: ...

    def delete(self, name: str, keys: Iterable[bytes]) -> None: ...

    def counts(self) -> dict[int, StopCount]: ...

    def count_lost(self) -> int: ...


class ShareMeter(Protocol):
    """`sensor.enforce.history.CallHistory`, as far as limits need it."""

    @property
    def calls(self) -> int:
        """That were seen lately."""
        ...

    def measure_share(self, blocks: Iterable[Block]) -> float: ...


class CallEnds(Protocol):
    """Where a call was seen: `sensor.calls.Exchange`, `sensor.streams.exchange.Ends`."""

    @property
    def connection(self) -> int: ...

    @property
    def role(self) -> Role: ...

    @property
    def cgroup_id(self) -> int: ...

    @property
    def local_address(self) -> str: ...

    @property
    def local_port(self) -> int: ...

    @property
    def remote_address(self) -> str: ...

    @property
    def remote_port(self) -> int: ...


class Caller(Protocol):
    """Who calls, by hashes; 0: not known."""

    @property
    def principal(self) -> int: ...

    @property
    def credential(self) -> int: ...
