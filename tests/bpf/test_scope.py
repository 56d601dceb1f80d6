"""What is seen of a node by a sensor that watches one cgroup: the calls of sockets that were made in it or below it, at
whichever end, straight from each way of capture.
"""

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.vm.images import RING_BYTES, find_images
from sensor.capture.packets.capture import PacketCapture
from sensor.capture.syscalls.capture import SyscallCapture
from sensor.core.calls import Exchange, Role
from sensor.core.clock import Clock
from sensor.ebpf.tracepoints import ProbeSettings
from tests.bpf.cgroups import enter, remove
from tests.bpf.wire import connected, receive_exactly, request, response, serving

pytestmark = pytest.mark.kernel

WAIT_SECONDS = 60.0
CALLS = 3  # Of one connection.
SENT, ANSWER = request("GET", "/scope"), response(200)
INSIDE, BELOW, OUTSIDE, ALIKE = "scope", "scope/below", "other", "scope.d"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoped:
    """A capture of one cgroup, and cgroups in and beside it by name."""

    capture: PacketCapture | SyscallCapture
    home: Path

    def read_until(self, last: int) -> dict[int, list[Role]]:
        """The ends that reported calls, by the port of the server, until all calls of the server `last` are there."""
        found: dict[int, list[Role]] = defaultdict(list)
        deadline = time.monotonic() + WAIT_SECONDS
        while len(found[last]) < CALLS:
            assert time.monotonic() < deadline, found
            for one in self.capture.read():
                if isinstance(one, Exchange):
                    found[one.ends.local_port if one.ends.role is Role.SERVER else one.ends.remote_port].append(
                        one.ends.role
                    )
            time.sleep(0.02)
        return found

    def converse(self, server: str, client: str) -> int:
        """Calls of a client in one cgroup to a server in another; the server's port."""
        with contextlib.ExitStack() as stack:
            with enter(self.home / server):
                port = stack.enter_context(serving(_answer))
            with enter(self.home / client):
                connection = stack.enter_context(connected(port))
            for _ in range(CALLS):
                connection.sendall(SENT)
                receive_exactly(connection, len(ANSWER))
        return port


def _answer(connection: object) -> None:
    for _ in range(CALLS):
        receive_exactly(connection, len(SENT))  # type: ignore[arg-type]
        connection.sendall(ANSWER)  # type: ignore[attr-defined]


@pytest.fixture(scope="module", params=["cgroup_skb", "syscalls"])
def scoped(request: pytest.FixtureRequest, home: Path) -> Iterator[Scoped]:
    with contextlib.ExitStack() as stack:
        for name in (INSIDE, BELOW, OUTSIDE, ALIKE):
            (home / name).mkdir()
            stack.callback(remove, home / name)
        scope = home / INSIDE
        capture: PacketCapture | SyscallCapture
        if request.param == "syscalls":
            settings = ProbeSettings(ring_bytes=RING_BYTES, scope_id=scope.stat().st_ino)
            capture = SyscallCapture.load(settings, clock=Clock(), cache_directory=find_images())
        else:
            capture = PacketCapture.load(
                cgroup_path=scope,
                ring_bytes=RING_BYTES,
                is_root_cgroup=False,
                clock=Clock(),
                cache_directory=find_images(),
            )
        stack.callback(capture.close)
        yield Scoped(capture=capture, home=home)


@pytest.mark.parametrize(
    ("server", "client", "seen_by"),
    [
        (INSIDE, OUTSIDE, Role.SERVER),
        (BELOW, OUTSIDE, Role.SERVER),
        (OUTSIDE, INSIDE, Role.CLIENT),
        (ALIKE, BELOW, Role.CLIENT),
        (INSIDE, INSIDE, Role.SERVER),
        (INSIDE, BELOW, Role.SERVER),
        (OUTSIDE, OUTSIDE, None),
        (ALIKE, OUTSIDE, None),
        (OUTSIDE, ".", None),
    ],
)
def test_calls_of_sockets_in_the_scope_are_seen_once(
    scoped: Scoped, server: str, client: str, seen_by: Role | None
) -> None:
    port = scoped.converse(server, client)
    last = scoped.converse(INSIDE, OUTSIDE)  # Comes after all of it.
    reports = scoped.read_until(last)
    assert reports.pop(last) == [Role.SERVER] * CALLS
    assert reports == ({port: [seen_by] * CALLS} if seen_by is not None else {})
