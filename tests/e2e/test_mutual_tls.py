"""Sensors known by certificates: who is let in, and the exact words on both sides for who is not.

The sensor's own uplink against the real collector; no capture, so no root.
"""

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from collector.core.config import CollectorSettings
from collector.storage.state.store import join_state
from collector.storage.state.tables.trust import ENROLLMENTS
from collector.trust.authority import Authority, load_own_authority
from collector.trust.secrets import SecretTable, open_state_key
from sensor.export.target import parse_target
from tests.collector.running import RunningCollector
from tests.e2e.authority import DAY, make_pair
from tests.e2e.certificates import make_certificate
from tests.e2e.enrolled import NODE, command, dialling, enroll, greet, read_serial, wait_for_line
from tests.sensor.export.sending import IDENTITY, make_keeper
from tests.waiting import DEADLINE_SECONDS, wait_until

pytestmark = pytest.mark.store


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def collector(data: Path) -> Iterator[RunningCollector]:
    running = RunningCollector(data, "--sensor-auth", "certificate")
    yield running
    assert running.stop() == 0


def read_authority(data: Path) -> Authority:
    with closing(join_state(data)) as state:
        secrets = SecretTable(state, open_state_key(CollectorSettings(data_dir=data), state))
        return load_own_authority(secrets, now=time.time(), overlap_seconds=DAY)


def count_refused(data: Path, collector: RunningCollector, reason: str) -> float:
    token = (data / "api.token").read_text().strip()
    pattern = rf'^apidae_collector_refused_total{{reason="{reason}"}} ([0-9.]+)$'
    found = re.search(pattern, collector.get("/metrics", token).text, re.MULTILINE)
    return float(found.group(1)) if found else 0.0


@pytest.fixture(scope="module")
def authority_file(collector: RunningCollector, data: Path) -> Path:
    return data / "tls" / "ca.crt"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory, collector: RunningCollector, data: Path) -> Path:
    """The state directory of a sensor that was enrolled as a person would."""
    directory = tmp_path_factory.mktemp("enrolled")
    token = command(data, "enrollment", "create", "--node", IDENTITY.node)
    done = enroll(collector.ready["grpc"], directory / "state", token)
    assert done.returncode == 0, done.stderr
    event = json.loads(done.stdout)
    assert event["event"] == "enrolled" and event["node"] == IDENTITY.node
    assert (directory / "state" / "certificate.pem").stat().st_mode & 0o777 == 0o600
    assert token not in done.stderr + done.stdout
    with closing(join_state(data)) as kept, kept.read() as connection:
        (made,) = connection.execute(select(ENROLLMENTS)).all()
    assert token.split(".")[2] not in str(made)
    return directory


def test_an_enrolled_sensor_is_welcome(collector: RunningCollector, state: Path) -> None:
    assert greet(collector.ready["grpc"], state) == ""


@pytest.mark.full("collector.trust", "collector.server", "sensor.export")
def test_a_token_is_used_once(collector: RunningCollector, data: Path, tmp_path: Path) -> None:
    address = collector.ready["grpc"]
    token = command(data, "enrollment", "create", *NODE)
    assert enroll(address, tmp_path / "first", token).returncode == 0
    again = enroll(address, tmp_path / "second", token)
    assert again.returncode == 1
    assert again.stderr.strip() == (
        f"apidae: the collector at {address} refuses to enrol this sensor (PERMISSION_DENIED): the enrolment token was "
        "used already, by node node-1 of cluster test; make another one"
    )
    line = wait_for_line(collector, "enrolment of the sensor at .* used already")
    assert "The enrolment of the sensor at 127.0.0.1:" in line and "is refused: The enrolment token was used" in line
    assert token not in "".join(collector.errors)
    assert count_refused(data, collector, "enrollment_used") == 1


@pytest.mark.full("collector.trust", "collector.server", "sensor.export")
def test_a_token_expires(collector: RunningCollector, data: Path, tmp_path: Path) -> None:
    address = collector.ready["grpc"]
    token = command(data, "enrollment", "create", "--ttl", "1", *NODE)
    time.sleep(1.0)
    done = enroll(address, tmp_path / "state", token)
    assert done.returncode == 1
    assert re.search(
        r"\(PERMISSION_DENIED\): the enrolment token expired \d+ s ago; make another one$", done.stderr.strip()
    ), done.stderr
    wait_for_line(collector, r"is refused: The enrolment token expired \d+ s ago; make another one\.")


@pytest.mark.full("collector.trust", "collector.server", "sensor.export")
def test_a_token_of_another_node_or_another_collector(collector: RunningCollector, data: Path, tmp_path: Path) -> None:
    address = collector.ready["grpc"]
    token = command(data, "enrollment", "create", "--node", "node-2")
    done = enroll(address, tmp_path / "state", token)
    assert "the enrolment token is for node node-2, not for node-1; correct --node" in done.stderr
    number, secret = token.split(".")[1:3]
    done = enroll(address, tmp_path / "state", f"apidae1.{number}.{secret}.{'0' * 64}")
    assert f"{address} is not the collector that made the enrolment token" in done.stderr and done.returncode == 1
    done = enroll(address, tmp_path / "state", token.replace(secret, "A" * 43))
    assert "the enrolment token is not one of this collector's; make one there" in done.stderr
    done = enroll(address, tmp_path / "state", token[:-9])
    assert "the enrolment token is not whole" in done.stderr
    assert not (tmp_path / "state" / "certificate.pem").exists()
    # None of it used the token up.
    assert enroll(address, tmp_path / "state", token, "--node", "node-2").returncode == 0


def test_a_sensor_without_a_certificate(
    collector: RunningCollector, data: Path, tmp_path: Path, authority_file: Path
) -> None:
    address = collector.ready["grpc"]
    assert greet(address, tmp_path, ca_file=authority_file) == (
        f"the collector at {address} rejects this sensor (UNAUTHENTICATED: The sensor has no certificate); enrol this "
        "sensor with `apidae enroll` and a token of `apidae enrollment create`"
    )
    wait_for_line(collector, r"The sensor at 127\.0\.0\.1:\d+ is refused: The sensor has no certificate; enrol it\.")
    # Each dial is counted: gRPC may lose the status of the first (`greet`).
    assert count_refused(data, collector, "no_certificate") >= 1


@pytest.mark.full("collector.trust", "collector.server", "sensor.export")
def test_a_certificate_of_another_authority(collector: RunningCollector, tmp_path: Path, authority_file: Path) -> None:
    pair = make_pair(tmp_path)
    said = greet(
        collector.ready["grpc"], tmp_path, ca_file=authority_file, cert_file=pair.certificate, key_file=pair.key
    )
    assert "it does not know the authority of this sensor's certificate, which is good from" in said
    assert said.endswith("; enrol this sensor with `apidae enroll`")
    wait_for_line(
        collector, r"is refused: its certificate is from an authority that this collector does not know; enrol it\."
    )


@pytest.mark.full("collector.trust", "collector.server", "sensor.export")
@pytest.mark.parametrize(
    ("starts", "seconds", "told", "logged"),
    [
        (
            -2 * DAY,
            DAY,
            "this sensor's certificate has expired, by the collector's clock, which is good from ",
            r"is refused: its certificate has expired; enrol it again\.",
        ),
        (
            DAY,
            2 * DAY,
            "it does not take this sensor's certificate, which is good from ",
            r"is refused: its certificate is not valid yet; is one of the two clocks wrong\?",
        ),
    ],
)
def test_a_certificate_out_of_its_time(
    collector: RunningCollector,
    data: Path,
    tmp_path: Path,
    authority_file: Path,
    starts: float,
    seconds: float,
    told: str,
    logged: str,
) -> None:
    authority = read_authority(data)
    pair = make_pair(tmp_path, authority, starts=starts, seconds=seconds)
    said = greet(
        collector.ready["grpc"], tmp_path, ca_file=authority_file, cert_file=pair.certificate, key_file=pair.key
    )
    assert told in said, said
    wait_for_line(collector, logged)


@pytest.mark.full("collector.trust", "collector.server", "sensor.export")
def test_a_certificate_of_another_node(
    collector: RunningCollector, data: Path, tmp_path: Path, authority_file: Path
) -> None:
    address = collector.ready["grpc"]
    pair = make_pair(tmp_path, read_authority(data), node="node-2")
    said = greet(address, tmp_path, ca_file=authority_file, cert_file=pair.certificate, key_file=pair.key)
    assert said == (
        f"the collector at {address} rejects this sensor (PERMISSION_DENIED: The certificate is for node node-2 of "
        "cluster test, and the sensor says it is node node-1 of cluster test); correct --node and --cluster, or enrol "
        "it again"
    )
    wait_for_line(collector, r"is refused: The certificate is for node node-2 of cluster test, and the sensor says it")


@pytest.mark.full("collector.trust", "collector.server", "sensor.export")
def test_a_server_that_is_not_trusted_or_has_another_name(
    collector: RunningCollector, state: Path, tmp_path: Path, authority_file: Path
) -> None:
    other = make_certificate(tmp_path, "other", "IP:127.0.0.1")
    assert "not from an authority" in greet(collector.ready["grpc"], tmp_path, ca_file=other.authority)
    wait_for_line(collector, "it ended the handshake.*; it may not trust this collector's certificate")
    said = greet(collector.ready["grpc"], state, server_name="other.test")
    assert "its certificate has another name" in said and "--collector-server-name" in said
    wait_for_line(
        collector, "it left right after the handshake; it may not take the name in this collector's certificate"
    )


@pytest.mark.full("collector.trust", "collector.server", "sensor.export")
def test_tls_and_clear_text_do_not_meet(
    collector: RunningCollector, data: Path, tmp_path: Path, authority_file: Path
) -> None:
    said = greet(collector.ready["grpc"], tmp_path)
    assert "it speaks TLS and this sensor does not); give --collector-ca-file, or enrol this sensor" in said
    wait_for_line(collector, "is refused: it speaks no TLS; give it this collector's authority, or enrol it")
    # The people's listener of this collector is on loopback, in the clear.
    said = greet(collector.ready["http"], tmp_path, ca_file=authority_file)
    assert "it does not speak TLS" in said


@pytest.mark.full("collector.trust", "collector.server", "sensor.export")
def test_revocation_ends_a_stream(collector: RunningCollector, data: Path, tmp_path: Path) -> None:
    address = collector.ready["grpc"]
    token = command(data, "enrollment", "create", *NODE)
    assert enroll(address, tmp_path / "state", token).returncode == 0
    keeper = make_keeper(tmp_path, parse_target(address))

    async def main() -> None:
        async with dialling(address, tmp_path, keeper) as uplink, asyncio.timeout(DEADLINE_SECONDS):
            await uplink.wait_welcome()
            serial = read_serial(tmp_path / "state" / "certificate.pem")
            await asyncio.to_thread(command, data, "certificates", "revoke", "--serial", serial)
            while not uplink.last_error:
                await asyncio.sleep(0.01)
            assert f"PERMISSION_DENIED: The stream ends, for certificate {serial} is revoked" in uplink.last_error
            assert "enrol this sensor with `apidae enroll`" in uplink.last_error
            while f"PERMISSION_DENIED: Certificate {serial} is revoked" not in uplink.last_error:
                await asyncio.sleep(0.01)

    asyncio.run(main())
    wait_for_line(collector, r"is refused: Certificate [0-9a-f]+ is revoked; enrol this sensor again\.")
    listed = [json.loads(line) for line in command(data, "certificates", "list").splitlines()]
    assert sum(item["is_revoked"] for item in listed) == 1


@pytest.mark.full("collector.trust", "collector.server", "sensor.export")
def test_who_dials_beside_the_gate_is_refused(collector: RunningCollector, tmp_path: Path) -> None:
    """gRPC's own port on loopback takes no sensor, whatever it says."""
    inner = wait_until(lambda: find_inner_port(collector), "the port on which it listens inside")
    assert "Dial the collector's own port" in greet(f"127.0.0.1:{inner}", tmp_path)
    wait_for_line(collector, r"The sensor at this machine is refused: Dial the collector's own port\.")


def find_inner_port(collector: RunningCollector) -> int:
    """The port on which the collector listens besides those it names; 0 where it was not seen, for connections come and
    go while they are listed."""
    sockets = set()
    for entry in Path(f"/proc/{collector.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            sockets.add(str(entry.readlink()))
    named = {int(collector.ready[name].rpartition(":")[2]) for name in ("grpc", "http")}
    lines = [line for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    for line in lines:
        fields = line.split()
        port = int(fields[1].partition(":")[2], 16)
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets and port not in named:
            return port
    return 0


@pytest.mark.full("collector.trust", "collector.server", "sensor.export")
def test_clear_words_where_the_people_come_in(collector: RunningCollector) -> None:
    assert httpx.get(f"http://{collector.ready['http']}/healthz", timeout=60).status_code == 200
