"""Fixtures of the end-to-end tests: real servers, a sensor and a collector as a user would start them, all ended at
the end.
"""

import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from scripts.live.host import CollectorAddress, start_collector, start_sensor
from scripts.live.program import Program
from tests.bpf.cgroups import in_cgroup
from tests.collector.running import PATIENCE
from tests.e2e.application import Servers
from tests.e2e.certificates import Certificate, make_certificate
from tests.e2e.inventory import Inventory
from tests.waiting import wait_until
from tests.with_constants import make_command

FOLLOW_SECONDS = 90
READY_FILE_NAME = "ready"
OWN_PLACES = ("APIDAE_SENSOR_CGROUP_PATH", "APIDAE_SENSOR_RUN_DIR")
READY_TO_FOLLOW = "ready to capture as soon as"


def find_cgroup_root() -> str | None:
    """Where cgroup v2 is mounted."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        fields = line.split()
        if fields[2] == "cgroup2":
            return fields[1]
    return None


def why_no_capture() -> str:
    """Why a sensor cannot run here; empty where it can."""
    if os.geteuid() != 0:
        return f"needs root to attach to the kernel (uid {os.geteuid()})"
    if find_cgroup_root() is None:
        return "needs cgroup v2, which is not mounted"
    if importlib.util.find_spec("bcc") is None:
        return "needs bcc: apt-get install python3-bpfcc"
    return ""


@pytest.fixture(scope="session")
def capture_host() -> None:
    """Skips, with the reason, where no sensor can run."""
    reason = why_no_capture()
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def own_places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """This run in a cgroup of its own, which its sensors watch, with sockets apart from those of any other:
    whatever starts a sensor passes this environment on."""
    if why_no_capture():
        yield
        return
    root = find_cgroup_root()
    assert root is not None
    with (
        in_cgroup("e2e", Path(root)) as cgroup,
        TemporaryDirectory(prefix="apidae-run-") as run,  # A socket's path is short.
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, place in zip(OWN_PLACES, (cgroup, run), strict=True):
            patch.setenv(name, str(place))
        yield


def read_own_places() -> dict[str, str]:
    """The variables by which a sensor keeps to this run's places, for an environment without any other of ours."""
    return {name: os.environ[name] for name in OWN_PLACES if name in os.environ}


def is_full(request: pytest.FixtureRequest) -> bool:
    """Whether tests of the fixture's module that the gate leaves out run: else it need not make what only they ask
    for."""
    items = [item for item in request.session.items if item.path == request.path]
    return any(item.get_closest_marker("full") for item in items)


@pytest.fixture(scope="session")
def cgroup_root(capture_host: None) -> str:
    """Where cgroup v2 is mounted."""
    root = find_cgroup_root()
    assert root is not None
    return root


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Starts test servers; all end with the module."""
    running = Servers(tmp_path_factory.mktemp("servers"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory, capture_host: None) -> Iterator["Product"]:
    """A product that is not started yet; what it started ends with the module."""
    with ExitStack() as stack:
        yield Product(tmp_path_factory.mktemp("product"), stack.callback)


class Product:
    """A collector with its own data directory, and sensors that send to it."""

    def __init__(self, directory: Path, at_end: Callable[[Callable[[], object]], object]) -> None:
        self.data_directory = directory / "data"
        self.state_directory = directory / "sensor"
        self._logs = directory / "logs"
        self._logs.mkdir()
        self._at_end = at_end
        self._running: dict[str, Program] = {}

    def _replace(self, name: str) -> None:
        """Stops the one before: a data directory and a node have one each."""
        if name in self._running:
            self._running.pop(name).stop()

    def start_collector(
        self, *extra: str, grpc_listen: str = "127.0.0.1:0", constants: Mapping[str, object] | None = None
    ) -> tuple[Program, CollectorAddress]:
        """Ready when it returns; the one before is stopped first."""
        self._replace("collector")
        program = make_command({**PATIENCE, **(constants or {})})
        collector, address = start_collector(
            self.data_directory, self._logs, *extra, grpc_listen=grpc_listen, program=program
        )
        self._running["collector"] = collector
        self._at_end(collector.stop)
        return collector, address

    def start_sensor(
        self,
        address: CollectorAddress,
        *extra: str,
        wait: bool = True,
        constants: Mapping[str, object] | None = None,
    ) -> Program:
        """Capturing when it returns, unless told not to wait; the one before is stopped first."""
        self._replace("sensor")
        program = make_command(constants or {})
        sensor = start_sensor(address, self.state_directory, self._logs, *extra, wait=wait, program=program)
        self._running["sensor"] = sensor
        self._at_end(sensor.stop)
        return sensor

    def follow_sensor(self, address: CollectorAddress) -> tuple[Program, Program]:
        """The sensor that runs, and the next one, which waits beside it and is ready to go on in its place."""
        before = self._running["sensor"]
        logs = self._logs / f"next-{len(list(self._logs.iterdir()))}"
        logs.mkdir()
        # As in a Pod, where a file says that the sensor is ready.
        program = make_command({"sensor.cli.commands.READY_FILE": str(logs / READY_FILE_NAME)})
        waiting = ("--takeover-wait-seconds", str(FOLLOW_SECONDS), "--kubernetes", "off")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
            after = start_sensor(address, self.state_directory, logs, *waiting, wait=False, program=program)
        self._running["sensor"] = after
        self._at_end(after.stop)
        wait_until(
            lambda: READY_TO_FOLLOW in after.log_path.read_text(), "the next sensor waits", seconds=FOLLOW_SECONDS
        )
        return before, after

    def open_inventory(self, address: CollectorAddress) -> Inventory:
        """Its API; closed with the module."""
        inventory = Inventory(address.url)
        self._at_end(inventory.close)
        return inventory


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Of a server on this host."""
    return make_certificate(tmp_path_factory.mktemp("certificate"), "server", "IP:127.0.0.1")
