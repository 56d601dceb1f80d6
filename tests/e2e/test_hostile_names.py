"""Cgroups of any name, made while a sensor runs, with a server in each: it goes on, names them in print, and counts
their calls. One that starts later finds the same names. So it is with programs of any name, and with files of theirs
that a reader would wait for, open a device by, or take all memory for."""

import contextlib
import os
import shutil
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from sensor.core.printable import make_printable
from tests.bpf.cgroups import enter, remove
from tests.cluster.pod_programs import SERVER
from tests.e2e.application import Servers
from tests.e2e.conftest import Product
from tests.e2e.inventory import Inventory
from tests.e2e.wire import RawClient
from tests.waiting import wait_for_equal

pytestmark = [pytest.mark.kernel, pytest.mark.e2e]

ADDRESS = "127.0.0.1"
CALLS, LATER_CALLS = 23, 7
NAMES = (
    b"\xff\xfe\x80.service",
    b"\xff" * 60 + b".service",
    b"<svg onload=alert(1)>.service",
    b"\x1b[31mred.service",
    b"=cmd.service",
)
WORKLOADS = [make_printable(name) for name in NAMES]
NOBODY = 65_534


@contextlib.contextmanager
def new_cgroup(path: Path, uid: int = 0) -> Iterator[Path]:
    """As systemd lets a user make some below one of its own."""
    os.chown(path.parent, uid, -1)
    subprocess.run(["mkdir", path], check=True, user=uid)
    try:
        yield path
    finally:
        remove(path)


def call(ports: Collection[int], times: int) -> None:
    for port in ports:
        client = RawClient(ADDRESS, port)
        for _ in range(times):
            client.call("GET", "/orders/1")
        client.close()


def count_calls(inventory: Inventory, ports: Collection[int]) -> Counter[str]:
    """By workload."""
    counts = Counter[str]()
    for item in inventory.list_items("/endpoints", operations="exclude"):
        if item["service"]["port"] in ports:
            counts[item["service"]["workload"]] += item["calls"]
    return counts


def list_covered(inventory: Inventory, ports: Collection[int]) -> set[str]:
    """Workloads whose calls the coverage has."""
    rows = inventory.list_items("/coverage/ports")
    return {row["service"]["workload"] for row in rows if row["service"]["port"] in ports and row["calls"]}


def test_a_sensor_outlives_cgroups_of_any_name_and_counts_their_calls(
    product: Product, servers: Servers, cgroup_root: str
) -> None:
    with contextlib.ExitStack() as stack:
        # A unit is named by its slice's child.
        scope = stack.enter_context(new_cgroup(Path(cgroup_root) / f"apidae_test_names_{os.getpid()}.slice"))
        _, address = product.start_collector()
        inventory = product.open_inventory(address)
        sensor = product.start_sensor(address, "--cgroup-path", str(scope))
        ports = []
        for name in NAMES:
            cgroup = stack.enter_context(new_cgroup(scope / os.fsdecode(name), NOBODY))
            stack.callback(servers.stop)  # Before its cgroup goes.
            with enter(cgroup):
                ports.append(servers.start("python", ADDRESS).port)
        call(ports, CALLS)
        expected = dict.fromkeys(WORKLOADS, CALLS)
        wait_for_equal(lambda: count_calls(inventory, ports), expected, "23 calls of each")
        wait_for_equal(lambda: list_covered(inventory, ports), set(WORKLOADS), "each in the coverage")
        assert sensor.is_running
        assert sensor.stop() == 0
        assert "traceback" not in sensor.log_path.read_text()

        sensor = product.start_sensor(address, "--cgroup-path", str(scope))
        call(ports, LATER_CALLS)
        expected = dict.fromkeys(WORKLOADS, CALLS + LATER_CALLS)
        wait_for_equal(lambda: count_calls(inventory, ports), expected, "seven more of each")
        assert sensor.is_running and sensor.stop() == 0


def put_nothing(path: Path) -> None: ...


def put_pipe(path: Path) -> None:
    os.mkfifo(path)


def put_device(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # The zero device.


def put_huge_file(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2 << 30)


def put_deep_file(path: Path) -> None:
    path.write_text('{"name":' * 100_000)


def put_link_out(path: Path) -> None:
    outside = path.parent / "of-the-host.json"
    outside.write_text('{"name": "of-the-host"}')
    path.symlink_to(f"../../../../../../../../..{outside}")


def put_name(path: Path) -> None:
    path.write_text('{"name": "\\u001b[31m\\u202e<svg onload=alert(1)>\\n"}')


# Directory, executable, script, its package.json; the workload.
PROGRAMS = (
    (b"\xff\xfe\x80", b"\x1b[31m\xff=cmd\n", b"server.py", put_nothing, "x1b_31m_xff_cmd_n"),
    (b"pipe", b"node", b"\xed\xa0\x80<svg onload=alert(1)>.js", put_pipe, "xed_xa0_x80_svg_onload_alert_1_.js"),
    (b"device", b"node", b"device.js", put_device, "device.js"),
    (b"huge", b"node", b"huge.js", put_huge_file, "huge.js"),
    (b"deep", b"node", b"deep.js", put_deep_file, "deep.js"),
    (b"link", b"node", b"link.js", put_link_out, "of-the-host"),
    (b"name", b"node", b"name.js", put_name, "31m_svg_onload_alert_1"),
)


def test_a_sensor_outlives_programs_and_files_of_any_kind(product: Product, cgroup_root: str, tmp_path: Path) -> None:
    """Each is a copy of an interpreter under another name, and is named by its file or by its package."""
    with contextlib.ExitStack() as stack:
        scope = stack.enter_context(new_cgroup(Path(cgroup_root) / f"apidae_test_programs_{os.getpid()}.slice"))
        _, address = product.start_collector()
        inventory = product.open_inventory(address)
        sensor = product.start_sensor(address, "--cgroup-path", str(scope))
        ports = []
        for directory, executable, script, put, _ in PROGRAMS:
            home = os.fsencode(tmp_path) + b"/" + directory
            os.mkdir(home)  # noqa: PTH102 - of any bytes.
            shutil.copy(Path(sys.executable).resolve(), home + b"/" + executable)
            with open(home + b"/" + script, "w") as file:  # noqa: PTH123
                file.write(SERVER)
            put(Path(os.fsdecode(home)) / "package.json")
            with enter(scope):
                command = [home + b"/" + executable, "-S", script]
                server = stack.enter_context(subprocess.Popen(command, cwd=home, stdout=subprocess.PIPE, text=True))
            stack.callback(server.kill)
            assert server.stdout is not None
            ports.append(int(server.stdout.readline()))
        call(ports, CALLS)
        expected = Counter({workload: CALLS for *_, workload in PROGRAMS})
        wait_for_equal(lambda: count_calls(inventory, ports), expected, "23 calls of each")
        assert sensor.is_running and sensor.stop() == 0
        assert "traceback" not in sensor.log_path.read_text()
