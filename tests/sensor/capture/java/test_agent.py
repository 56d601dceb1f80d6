"""The Java agent in real processes: every call of servers over SSLEngine and SSLSocket, and nothing left behind."""

import ssl
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from sensor.core.calls import Role
from tests.e2e.application import Servers
from tests.e2e.tls_cases import make_context
from tests.e2e.traffic import MIX, expect, send_mix
from tests.e2e.wire import RawClient, Sent
from tests.sensor.capture.java.jvms import ADDRESS, CGROUP_ID, READY_SECONDS, Jvms, Sensor, find_memory, tabulate
from tests.waiting import wait_for_equal, wait_until

pytestmark = [pytest.mark.full("sensor.capture.java")]

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@pytest.fixture(scope="module")
def jvms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jvms]:
    running = Jvms(tmp_path_factory.mktemp("jvms"))
    yield running
    running.stop()


def send(jvms: Jvms, port: int, version: ssl.TLSVersion) -> list[Sent]:
    """23 calls over one connection."""
    with RawClient(ADDRESS, port, tls=make_context(jvms.certificate, version)) as client:
        send_mix(client)
        return client.calls


@pytest.mark.parametrize("kind", ["engine", "socket"])
def test_every_call_is_read_with_its_status_its_bytes_and_its_addresses(jvms: Jvms, kind: str) -> None:
    program, port = jvms.start(kind)
    sensor = Sensor(program.pid)
    sensor.start()
    sent: list[Sent] = []
    for version in VERSIONS:
        with RawClient(ADDRESS, port, tls=make_context(jvms.certificate, version)) as client:
            send_mix(client)
            sent += client.calls
            wait_for_equal(sensor.read, len(sent), "calls")
    assert tabulate(sensor.calls) == expect(sent)
    ends = [call.ends for call in sensor.calls]
    server = {(one.role, one.process, one.cgroup_id, one.local_address, one.local_port) for one in ends}
    assert server == {(Role.SERVER, program.pid, CGROUP_ID, ADDRESS, port)}
    assert len({one.remote_port for one in ends} - {0}) == len(VERSIONS)
    counts = sensor.agents.counts
    assert (counts.lost_records, counts.ambiguous, counts.failures, counts.unproven) == (0, 0, 0, 0)
    # A sensor may be root without the right to write to files of others.
    memory = find_memory(program.pid).stat()
    assert (memory.st_nlink, memory.st_mode & 0o777) == (0, 0o666)
    sensor.end()


def test_of_a_connection_that_has_gone_only_the_end_of_the_server_is_proven(jvms: Jvms) -> None:
    program, port = jvms.start("socket")
    sensor = Sensor(program.pid)
    sensor.start()
    send(jvms, port, ssl.TLSVersion.TLSv1_3)
    wait_until(lambda: not list_connections(port), "it is gone")
    wait_for_equal(sensor.read, len(MIX), "calls")
    ends = {
        (one.local_address, one.local_port, one.remote_address, one.remote_port)
        for one in [call.ends for call in sensor.calls]
    }
    assert ends == {(ADDRESS, port, "::", 0)} and sensor.reader.unbound_calls == len(MIX)
    assert sum(one.calls for one in sensor.reader.ports.values()) == len(MIX)
    sensor.end()


def list_connections(port: int) -> list[str]:
    """Of a server, those that are open."""
    lines = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    return [line[2] for line in lines if line[1].endswith(f":{port:04X}") and line[3] not in ("0A", "06")]


def test_patches_are_out_while_no_sensor_reads_and_in_again_for_the_next(jvms: Jvms) -> None:
    program, port = jvms.start("engine")
    killed = Sensor(program.pid)  # It says nothing when it ends.
    killed.start()
    killed.wait_until_patches_are_out()
    send(jvms, port, ssl.TLSVersion.TLSv1_3)
    assert killed.read() == 0, "the classes are as the JDK made them"
    following = Sensor(program.pid)
    following.start()
    send(jvms, port, ssl.TLSVersion.TLSv1_3)
    wait_for_equal(following.read, len(MIX), "calls")
    following.end()
    killed.agents.close()
    killed.wait_until_patches_are_out()
    send(jvms, port, ssl.TLSVersion.TLSv1_3)
    assert program.is_running


@pytest.mark.parametrize("kind", ["engine", "socket"])
def test_calls_beyond_the_budget_are_counted_and_not_copied(jvms: Jvms, kind: str) -> None:
    program, port = jvms.start(kind)
    sensor = Sensor(program.pid, requests_per_second=1)
    sensor.start()
    send(jvms, port, ssl.TLSVersion.TLSv1_3)
    wait_for_equal(lambda: sensor.read() + sensor.agents.counts.over_budget, len(MIX), "calls")
    assert sensor.agents.counts.over_budget
    sensor.end()


def test_calls_of_the_jdks_client_over_http2_are_read(jvms: Jvms, tmp_path: Path) -> None:
    servers = Servers(tmp_path, jvms.certificate)
    try:
        port = servers.start("nginx", ADDRESS).port
        start = tmp_path / "start"
        program = jvms.start_client(port, start)
        sensor = Sensor(program.pid, requests_per_second=24)  # Of which other frames take none.
        sensor.start()
        start.touch()
        program.wait_for("done", READY_SECONDS)
        wait_for_equal(sensor.read, 23, "calls")
    finally:
        servers.stop()
    assert Counter(call.figures.status_code for call in sensor.calls) == {200: 17, 404: 6}
    assert {call.ends.role for call in sensor.calls} == {Role.CLIENT}
    assert (sensor.agents.counts.failures, sensor.agents.counts.over_budget) == (0, 0)
    sensor.end()
