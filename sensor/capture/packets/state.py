"""The state of capture as bytes that the next sensor takes up: tables of HTTP/2, calls that have not ended, baselines.

It holds heads and header values, as the process's memory does. So it only ever goes over a unix socket to a process of
the same user (sensor.ebpf.handover), never to a file.

Written by pickle, since it is the objects themselves, with what they share, that go on; read only where both sides have
the same modules (sensor.ebpf.pins), and of these nothing is called but classes named in `_MODULES`.
"""

import io
import pickle
from typing import Any, Final

import msgspec

from sensor.capture.http2.flow import FollowedStreams
from sensor.capture.packets.exchange import OpenCalls
from sensor.capture.packets.port_counts import PortTotals
from sensor.coverage.handshakes import HandshakeTable

# (last route, last profile, last node) that was taught: never used again.
Numbers = tuple[int, int, int]

_MODULES: Final = (
    *("sensor.core.calls", "sensor.coverage.", "sensor.ebpf.abi", "sensor.http.", "sensor.capture.http2."),
    *("sensor.capture.packets.exchange", "sensor.capture.packets.state"),
)
_BUILTINS: Final = {
    ("builtins", "set"),
    ("builtins", "bytearray"),
    ("collections", "Counter"),
    ("collections", "OrderedDict"),
    ("collections", "deque"),
}


class CaptureState(msgspec.Struct):
    """Everything that capture knows beside the kernel's maps."""

    numbers: Numbers
    counters: dict[int, int]  # Baselines: what the one before has told of.
    overflow: dict[bytes, tuple[int, int, int, int]]
    ports: PortTotals
    calls: OpenCalls
    streams: FollowedStreams
    handshakes: HandshakeTable

    def __repr__(self) -> str:
        return "CaptureState(redacted)"


class StateError(ValueError):
    """The bytes are no state."""


def write_state(state: CaptureState) -> bytes:
    """Some MB a second of busy connections; 10 ms each MB."""
    return pickle.dumps(state, pickle.HIGHEST_PROTOCOL)


def read_state(data: bytes) -> CaptureState:
    """Raises StateError."""
    try:
        state = _Reader(io.BytesIO(data)).load()
    except Exception as error:  # pickle raises whatever the classes it makes do.
        raise StateError(f"the state of the sensor before cannot be read: {error}") from error
    if not isinstance(state, CaptureState):
        raise StateError(f"the state of the sensor before is a {type(state).__name__}")
    return state


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Only classes, and only those that state is made of."""
        if (module, name) in _BUILTINS or module.startswith(_MODULES):
            found = super().find_class(module, name)
            if isinstance(found, type):
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is no part of it")
