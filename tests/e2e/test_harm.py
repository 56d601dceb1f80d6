"""A sensor that is attached, paused, stopped and killed at random moments, under load: no call fails, and nothing of it
is left in the kernel. `scripts/bench harm` is the long form, with latencies.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from scripts.bench_cases.harming.disturber import Disturber
from scripts.live.kernel_objects import list_left
from tests.e2e.application import Server, Servers
from tests.e2e.conftest import Product
from tests.e2e.wire import RawClient
from tests.waiting import wait_until

pytestmark = [pytest.mark.kernel, pytest.mark.e2e, pytest.mark.full("sensor.ebpf")]

CLIENTS = 3
QUIET_SECONDS = 3.0
# Until a sensor was attached and killed, at least so long, at most the other.
DISTURBED_SECONDS = (15.0, 60.0)
PACE_SECONDS = 0.002


@dataclass(slots=True)
class Load:
    """Clients that call one after the other until told to stop; a call that differs from the first fails."""

    server: Server
    calls: int = 0
    failures: list[str] = field(default_factory=list)
    is_over: bool = False

    def run(self) -> None:
        """One client; a new connection now and then."""
        number = 0
        while not self.is_over:
            try:
                with RawClient(self.server.address, self.server.port) as client:
                    for _ in range(100):
                        number += 1
                        call = client.call("GET", f"/orders/{number}")
                        self.calls += 1
                        if call.status != 200:
                            self.failures.append(f"status {call.status}")
                        time.sleep(PACE_SECONDS)
            except Exception as error:  # Whatever it is, the application would have seen it.
                self.failures.append(repr(error))


@pytest.fixture
def load(servers: Servers) -> Iterator[Load]:
    """Clients at work."""
    load = Load(servers.start("python", "127.0.0.1"))
    threads = [threading.Thread(target=load.run) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    yield load
    load.is_over = True
    for thread in threads:
        thread.join()


def test_a_sensor_that_comes_and_goes_harms_nobody(product: Product, load: Load, tmp_path: Path) -> None:
    _, address = product.start_collector()
    time.sleep(QUIET_SECONDS)
    quiet_calls, quiet_failures = load.calls, list(load.failures)
    began = time.monotonic()
    with Disturber(address, tmp_path, seed=5) as disturber:
        shortest, longest = (began + seconds for seconds in DISTURBED_SECONDS)
        while time.monotonic() < shortest or (not disturber.actions["killed"] and time.monotonic() < longest):
            time.sleep(0.1)
    disturbed_calls = load.calls - quiet_calls
    assert disturber.failures == []
    assert disturber.actions["attached"] and disturber.actions["killed"], disturber.actions
    assert quiet_calls and disturbed_calls
    assert load.failures == quiet_failures == []
    assert disturber.held
    wait_until(lambda: not list_left(disturber.held), "nothing is left of what the sensors held")
