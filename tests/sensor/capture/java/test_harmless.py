"""The Java agent never harms its process, whatever that process does, and takes nothing that is not HTTP."""

import os
import shutil
import ssl
import struct
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sensor.capture.java.ring import STATE_READING
from sensor.ebpf.abi import SyscallEvent, SyscallKind
from tests.e2e.tls_cases import make_context
from tests.e2e.traffic import MIX, send_mix
from tests.e2e.wire import RawClient, build_request
from tests.sensor.capture.java.jvms import ADDRESS, READY_SECONDS, Jvms, Sensor, read_state
from tests.waiting import wait_for_equal, wait_until

pytestmark = [pytest.mark.full("sensor.capture.java")]

VERSION = ssl.TLSVersion.TLSv1_3
OLDEST_CLASS = "io/apidae/java/Agent.class"
JAVA8, JAVA11 = 52, 55  # Versions of class files.
# Its version cannot be set before it starts.
JAVA8_PROGRAM = """
public class Old {
  public static void main(String[] arguments) {
    System.setProperty("java.specification.version", "1.8");
    io.apidae.java.Agent.premain("", null);
    System.out.println("runs");
  }
}
"""
LARGE = 1 << 25  # More than the kernel's buffers hold.
SMALL_MOUNT = 'mount -t tmpfs -o size=1m none /dev/shm && mount -t tmpfs -o size=1m none /run && exec "$@"'


@pytest.fixture(scope="module")
def jvms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jvms]:
    running = Jvms(tmp_path_factory.mktemp("jvms"))
    yield running
    running.stop()


def connect(jvms: Jvms, port: int) -> RawClient:
    return RawClient(ADDRESS, port, tls=make_context(jvms.certificate, VERSION))


def test_where_there_is_no_room_for_all_its_memory_the_agent_does_not_start(jvms: Jvms) -> None:
    """Else the first write to a page beyond would end the process (SIGBUS)."""
    if os.geteuid() or shutil.which("unshare") is None or os.path.ismount("/tmp"):
        pytest.skip("needs root, unshare (apt-get install util-linux) and a /tmp that is no mount")
    program, port = jvms.start("socket", within=("unshare", "--mount", "sh", "-c", SMALL_MOUNT, "sh"))
    with connect(jvms, port) as client:
        send_mix(client)
    log = program.log_path.read_text()
    assert "the Java agent does not start" in log and "No space left on device" in log
    assert Sensor(program.pid).look() is None


def test_java_8_loads_one_class_and_starts_without_the_agent(jvms: Jvms, tmp_path: Path) -> None:
    with zipfile.ZipFile(jvms.jar) as jar:
        versions = {name: struct.unpack_from(">H", jar.read(name), 6)[0] for name in jar.namelist() if ".class" in name}
    assert versions.pop(OLDEST_CLASS) == JAVA8 and set(versions.values()) == {JAVA11}
    program = tmp_path / "Old.java"
    program.write_text(JAVA8_PROGRAM)
    command = ["java", "-cp", str(jvms.jar), str(program)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=READY_SECONDS)
    assert "it needs Java 11, and this is Java 1.8" in done.stderr and done.stdout == "runs\n"


def test_a_jar_that_is_overwritten_while_its_process_runs_is_not_missed(jvms: Jvms, tmp_path: Path) -> None:
    jar = Path(shutil.copy(jvms.jar, tmp_path))
    program, port = jvms.start("socket", jar=jar)
    jar.write_bytes(bytes(jar.stat().st_size))
    sensor = Sensor(program.pid)
    sensor.start()
    with connect(jvms, port) as client:
        send_mix(client)
    wait_for_equal(sensor.read, len(MIX), "calls")
    assert sensor.agents.counts.failures == 0
    sensor.end()


def test_an_interrupted_agent_goes_on(jvms: Jvms) -> None:
    program, port = jvms.start("socket")  # It interrupts it with each connection.
    sensor = Sensor(program.pid)
    sensor.start()
    for number in range(1, 4):
        with connect(jvms, port) as client:
            send_mix(client)
        wait_for_equal(sensor.read, number * len(MIX), "calls")
    assert read_state(program.pid) == STATE_READING
    sensor.end()


def test_a_channel_that_a_thread_read_for_something_else_gives_no_address(jvms: Jvms) -> None:
    program, port = jvms.start("stream")
    sensor = Sensor(program.pid)
    sensor.start()
    with connect(jvms, port) as client:
        for number in range(23):
            client.call("GET", f"/orders/{number}")
    wait_for_equal(sensor.read, 23, "calls")
    assert {(call.ends.local_port, call.ends.remote_port) for call in sensor.calls} == {(0, 0)}
    assert sensor.agents.counts.ambiguous == 0
    sensor.end()


@pytest.mark.parametrize("kind", ["engine", "socket"])
def test_a_message_in_single_bytes_is_read_and_other_protocols_are_not(jvms: Jvms, kind: str) -> None:
    program, port = jvms.start(kind)
    sensor = Sensor(program.pid)
    sensor.start()
    # Each byte, or each word, might begin a message of HTTP.
    for other in (b"PGDHOCT", b"PING", b"GET key", b"HTTP ", b"PUTS"):
        with connect(jvms, port) as client:
            client.send_pieces(bytes((one,)) for one in other)
    with connect(jvms, port) as client:
        for _ in range(3):
            client.call("GET", "/orders/1", cuts=tuple(range(1, len(build_request("GET", "/orders/1")))))
    events: list[tuple[SyscallEvent, bytes]] = []

    def join_requests() -> bytes:
        events.extend(sensor.agents.read(1_000))
        return b"".join(bytes(data) for event, data in events if event.kind == SyscallKind.READ)

    wait_for_equal(join_requests, 3 * build_request("GET", "/orders/1"), "requests")
    assert len({event.socket for event, _ in events}) == 1, "nothing of the other connections"
    sensor.end()


def test_an_answer_is_recorded_before_it_is_sent(jvms: Jvms) -> None:
    """The thread of a client may read the answer to a request before the one that sent it goes on."""
    program, port = jvms.start("socket")
    sensor = Sensor(program.pid)
    sensor.start()
    with connect(jvms, port) as client:
        client.send_pieces([build_request("GET", f"/large/{LARGE}")])
        events: list[SyscallEvent] = []

        def has_answer() -> bool:
            events.extend(event for event, _ in sensor.agents.read(1_000))
            return any(event.kind == SyscallKind.WRITE and event.size > LARGE for event in events)

        wait_until(has_answer, "the answer, which nobody reads")
    sensor.end()
