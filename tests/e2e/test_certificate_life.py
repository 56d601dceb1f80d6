"""Certificates and authorities that change while a collector and its sensors run: nobody is started again."""

import asyncio
import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from collector.trust.authority import Authority, issue_server_certificate, make_authority, write_certificates, write_key
from sensor.core.clock import Clock
from sensor.export.client import Uplink
from sensor.export.target import parse_target
from tests.collector.running import RunningCollector
from tests.collector.trust.token_reviews import FakeReviews, serve_reviews
from tests.e2e.authority import DAY, make_pair
from tests.e2e.enrolled import NODE, command, dialling, enroll, greet, read_serial, run, wait_for_line
from tests.sensor.export.sending import IDENTITY, make_keeper
from tests.waiting import DEADLINE_SECONDS

pytestmark = [pytest.mark.store, pytest.mark.full("collector.trust", "sensor.export")]


class LaterClock(Clock):
    """A clock of somebody whose time goes on when told."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead_seconds = 0.0

    def unix_ns(self) -> int:
        return super().unix_ns() + int(self.ahead_seconds * 1e9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """A collector with an authority of its own, and the account it has at a Kubernetes API."""

    collector: RunningCollector
    data: Path
    reviews: FakeReviews

    @property
    def address(self) -> str:
        return str(self.collector.ready["grpc"])


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    data = tmp_path_factory.mktemp("data")
    with serve_reviews(tmp_path_factory.mktemp("account")) as reviews:
        settings = data / "collector.toml"
        settings.write_text(
            f'kubernetes_enrollment_accounts = ["apidae/sensor"]\nkubernetes = "off"\ncluster = "{IDENTITY.cluster}"\n'
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
            patch.setenv("KUBERNETES_SERVICE_PORT", str(reviews.port))
            # All addresses: what holds off loopback holds here.
            collector = RunningCollector(
                data / "own",
                *("--grpc-listen", "0.0.0.0:0", "--config", str(settings)),
                constants={"collector.server.grpc_server.ACCOUNT_DIRECTORY": str(reviews.account_dir)},
            )
        yield Own(collector=collector, data=data / "own", reviews=reviews)
        assert collector.stop() == 0


def loopback(address: str) -> str:
    return f"127.0.0.1:{address.rpartition(':')[2]}"


async def wait_for_session(uplink: Uplink, count: int) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while uplink.sessions_count < count or not uplink.is_connected:
            await asyncio.sleep(0.01)


def test_off_loopback_certificates_are_the_default(own: Own, tmp_path: Path) -> None:
    assert not (own.data / "sensor.token").exists()
    said = greet(loopback(own.address), tmp_path, ca_file=own.data / "tls" / "ca.crt")
    assert "UNAUTHENTICATED: The sensor has no certificate" in said
    token = command(own.data, "enrollment", "create", *NODE)
    assert enroll(loopback(own.address), tmp_path / "state", token).returncode == 0
    assert greet(loopback(own.address), tmp_path) == ""


def test_a_certificate_is_renewed_beside_the_stream(own: Own, tmp_path: Path) -> None:
    address, clock = loopback(own.address), LaterClock()
    token = command(own.data, "enrollment", "create", *NODE)
    assert enroll(address, tmp_path / "state", token).returncode == 0
    file = tmp_path / "state" / "certificate.pem"
    first, first_key = read_serial(file), file.read_bytes().partition(b"-----END")[0]
    keeper = make_keeper(tmp_path, parse_target(address), clock=clock)

    async def main() -> None:
        async with dialling(address, tmp_path, keeper) as uplink:
            await wait_for_session(uplink, 1)
            clock.ahead_seconds = 21 * DAY  # Of 30: past two thirds.
            await wait_for_session(uplink, 2)

    asyncio.run(main())
    assert read_serial(file) != first and file.read_bytes().partition(b"-----END")[0] != first_key
    assert file.stat().st_mode & 0o777 == 0o600
    ways = [json.loads(line)["way"] for line in command(own.data, "certificates", "list").splitlines()]
    assert f"renewal of {first}" in ways


def test_a_pod_enrols_itself_with_its_service_account(own: Own, tmp_path: Path) -> None:
    address, reviews = loopback(own.address), own.reviews
    token = tmp_path / "token"
    token.write_text("bound.to.pod\n")
    reviews.add("bound.to.pod", node_name=IDENTITY.node, pod_name="sensor-x", pod_uid="u")
    files = {"ca_file": own.data / "tls" / "ca.crt", "token_file": token}
    assert greet(address, tmp_path, **files) == ""
    assert (tmp_path / "state" / "certificate.pem").exists()
    asked = len(reviews.asked)
    assert greet(address, tmp_path, **files) == "" and len(reviews.asked) == asked
    # A revoked node has its Pod's token still.
    command(own.data, "certificates", "revoke", *NODE)
    (tmp_path / "state" / "certificate.pem").unlink()
    said = greet(address, tmp_path, **files)
    assert "refuses to enrol this sensor (PERMISSION_DENIED): node node-1 is revoked" in said
    command(own.data, "certificates", "allow", *NODE)
    reviews.add("of.another.node", node_name="node-9", pod_name="sensor-y", pod_uid="v")
    token.write_text("of.another.node\n")
    assert "is of a Pod on node node-9, not on node-1; correct --node" in greet(address, tmp_path, **files)
    wait_for_line(own.collector, "The enrolment of the sensor at .* is of a Pod on node node-9, not on node-1")
    token.write_text("stolen\n")
    assert "does not know the service account token" in greet(address, tmp_path, **files)


def test_a_collector_that_was_installed_anew_takes_its_nodes_again(own: Own, tmp_path: Path) -> None:
    """The state directory outlives the collector: a certificate of an authority that is gone is replaced."""
    (tmp_path / "state").mkdir()
    pair = make_pair(tmp_path)
    (tmp_path / "state" / "certificate.pem").write_bytes(pair.key.read_bytes() + pair.certificate.read_bytes())
    token = tmp_path / "token"
    token.write_text("bound.to.pod.again\n")
    own.reviews.add("bound.to.pod.again", node_name=IDENTITY.node, pod_name="sensor-z", pod_uid="w")
    before = read_serial(tmp_path / "state" / "certificate.pem")
    keeper = make_keeper(
        tmp_path, parse_target(loopback(own.address)), ca_file=own.data / "tls" / "ca.crt", token_file=token
    )

    async def main() -> None:
        async with dialling(loopback(own.address), tmp_path, keeper) as uplink:
            await wait_for_session(uplink, 1)

    asyncio.run(main())
    assert read_serial(tmp_path / "state" / "certificate.pem") != before


def test_the_authority_is_rotated_and_nobody_is_left_behind(own: Own, tmp_path: Path) -> None:
    address = loopback(own.address)
    token, later = (command(own.data, "enrollment", "create", *NODE) for _ in range(2))
    assert enroll(address, tmp_path / "state", token).returncode == 0
    trusted = tmp_path / "state" / "collector-ca.pem"
    before = trusted.read_bytes()
    keeper = make_keeper(tmp_path, parse_target(address))

    async def main() -> None:
        async with dialling(address, tmp_path, keeper) as uplink:
            await wait_for_session(uplink, 1)
            await asyncio.to_thread(command, own.data, "certificates", "rotate-authority")
            # The sensor still knows the old one only, and is told the new one.
            await wait_for_session(uplink, 2)
            async with asyncio.timeout(DEADLINE_SECONDS):
                while trusted.read_bytes() == before:
                    await asyncio.sleep(0.01)

    asyncio.run(main())
    assert trusted.read_bytes().endswith(before) and trusted.read_bytes() != before
    assert greet(address, tmp_path) == ""
    # A token from before still finds the collector, and who comes now is signed by the new authority.
    assert enroll(address, tmp_path / "later" / "state", later).returncode == 0
    assert greet(address, tmp_path / "later") == ""
    again = run("certificates", "rotate-authority", "--data-dir", str(own.data))
    assert again.returncode == 1 and "lasts for 30.0 days more" in again.stderr


def write_server(directory: Path, authority: Authority, name: str = "127.0.0.1", *, age_seconds: float = 0.0) -> None:
    pair = issue_server_certificate(authority, [name], now=time.time() - age_seconds, seconds=DAY)
    replace(directory / "tls.key", pair.key)
    replace(directory / "tls.crt", pair.chain)


def replace(path: Path, content: bytes) -> None:
    """As Kubernetes and certbot do it: another file in its place."""
    aside = path.with_name(f"{path.name}.new")
    aside.write_bytes(content)
    aside.replace(path)


def write_authority(directory: Path, authority: Authority, *others: Authority) -> None:
    assert authority.key is not None
    replace(directory / "ca.key", write_key(authority.key))
    replace(directory / "ca.crt", write_certificates([item.certificate for item in (authority, *others)]))


def test_files_of_the_operator_are_read_again(tmp_path: Path) -> None:
    old, new = make_authority(time.time()), make_authority(time.time())
    files = tmp_path / "files"
    files.mkdir()
    write_authority(files, old)
    write_server(files, old)
    flags = [f"--{name}={files / file}" for name, file in FILES.items()]
    collector = RunningCollector(tmp_path / "data", "--sensor-auth", "certificate", *flags)
    try:
        address = collector.ready["grpc"]
        pair = make_pair(tmp_path, old)
        known = tmp_path / "known.crt"
        known.write_bytes(old.bundle)
        keeper = make_keeper(
            tmp_path, parse_target(address), ca_file=known, cert_file=pair.certificate, key_file=pair.key
        )

        async def main() -> None:
            async with dialling(address, tmp_path, keeper) as uplink:
                await wait_for_session(uplink, 1)
                # The sensors first learn the new authority, then collector and sensor go over to it, one by one.
                replace(known, old.bundle + new.bundle)
                await wait_for_session(uplink, 2)
                await asyncio.to_thread(write_authority, files, new, old)
                await asyncio.to_thread(write_server, files, new)
                await asyncio.to_thread(wait_for_line, collector, "Connections see other certificates")
                await wait_for_session(uplink, 3)
                await asyncio.sleep(1.1)  # The collector may look in between the two files, and again after them.
                count = uplink.sessions_count
                make_pair(tmp_path, new)
                await wait_for_session(uplink, count + 1)

        asyncio.run(main())
        context = ssl.create_default_context(cadata=new.bundle.decode())
        assert httpx.get(f"https://{collector.ready['http']}/healthz", verify=context, timeout=60).status_code == 200
        # What cannot be read leaves in use what was.
        replace(files / "tls.crt", b"nonsense")
        wait_for_line(collector, "What was read before stays in use: .*tls.crt")
        assert httpx.get(f"https://{collector.ready['http']}/healthz", verify=context, timeout=60).status_code == 200
    finally:
        assert collector.stop() == 0


@contextmanager
def receive_alerts() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A webhook's address, and the alerts that came."""
    received: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/alerts", received
        finally:
            server.shutdown()
            thread.join()


def test_certificates_that_end_unrenewed_are_alerts_until_they_are(tmp_path: Path) -> None:
    authority = make_authority(time.time())
    files = tmp_path / "files"
    files.mkdir()
    write_authority(files, authority)
    write_server(files, authority, age_seconds=0.9 * DAY)
    pair = make_pair(tmp_path, authority, seconds=2 * DAY)  # Of the 30 days that one is given for.
    flags = [f"--{name}={files / file}" for name, file in FILES.items()]
    with receive_alerts() as (url, told):
        settings = tmp_path / "collector.toml"
        settings.write_text(f'[[notifiers]]\nkind = "webhook"\nurl = "{url}"\n')
        collector = RunningCollector(
            tmp_path / "data", "--sensor-auth", "certificate", "--config", str(settings), *flags
        )
        try:
            own = {"ca_file": files / "ca.crt", "cert_file": pair.certificate, "key_file": pair.key}
            keeper = make_keeper(tmp_path, parse_target(collector.ready["grpc"]), **own)

            def are_told(state: str, *kinds: str) -> bool:
                return {alert["kind"] for alert in told if alert["state"] == state} == set(kinds)

            async def main() -> None:
                async with dialling(collector.ready["grpc"], tmp_path, keeper):
                    async with asyncio.timeout(DEADLINE_SECONDS):
                        while not are_told("open", "sensor_certificate", "collector_certificate"):
                            await asyncio.sleep(0.05)
                    await asyncio.to_thread(write_server, files, authority)
                    await asyncio.to_thread(make_pair, tmp_path, authority, seconds=30 * DAY)
                    async with asyncio.timeout(DEADLINE_SECONDS):
                        while not are_told("closed", "sensor_certificate", "collector_certificate"):
                            await asyncio.sleep(0.05)

            asyncio.run(main())
        finally:
            assert collector.stop() == 0
    titles = {alert["kind"]: alert["title"] for alert in told}
    assert titles["sensor_certificate"].startswith("The certificate of sensor node-1 expires on 20")
    assert titles["collector_certificate"].startswith("The certificate of the collector's listeners expires on 20")


FILES = {"tls-cert-file": "tls.crt", "tls-key-file": "tls.key", "ca-cert-file": "ca.crt", "ca-key-file": "ca.key"}
