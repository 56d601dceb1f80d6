"""Sensor and people to a collector over TLS: the right authority, name and token get in, and nothing else does.

The sensor's own uplink against the real collector; no capture, so no root.
"""

import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.collector.running import RunningCollector
from tests.e2e.certificates import Certificate, make_certificate
from tests.e2e.enrolled import greet

pytestmark = [pytest.mark.store, pytest.mark.full("collector.trust", "collector.server", "sensor.export")]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"), "collector", "DNS:collector.test,IP:127.0.0.1")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def collector(data: Path, certificate: Certificate) -> Iterator[RunningCollector]:
    running = RunningCollector(
        data, "--tls-cert-file", str(certificate.certificate), "--tls-key-file", str(certificate.key)
    )
    yield running
    assert running.stop() == 0


def test_sensor_is_welcome_with_authority_name_and_token(
    collector: RunningCollector, certificate: Certificate, data: Path, tmp_path: Path
) -> None:
    token = (data / "sensor.token").read_text().strip()
    address = collector.ready["grpc"]
    assert greet(address, tmp_path, token=token, ca_file=certificate.authority) == ""
    name = "collector.test"
    assert greet(address, tmp_path, token=token, ca_file=certificate.authority, server_name=name) == ""


def test_sensor_trusts_no_other_authority(collector: RunningCollector, data: Path, tmp_path: Path) -> None:
    other = make_certificate(tmp_path, "other", "IP:127.0.0.1")
    token = (data / "sensor.token").read_text().strip()
    said = greet(collector.ready["grpc"], tmp_path, token=token, ca_file=other.authority)
    assert "not from an authority" in said and "--collector-ca-file" in said


def test_sensor_trusts_no_other_name(
    collector: RunningCollector, certificate: Certificate, data: Path, tmp_path: Path
) -> None:
    token = (data / "sensor.token").read_text().strip()
    said = greet(
        collector.ready["grpc"], tmp_path, token=token, ca_file=certificate.authority, server_name="other.test"
    )
    assert "another name" in said and "--collector-server-name" in said


@pytest.mark.parametrize("token", ["", "wrong" * 9])
def test_sensor_needs_the_token(
    collector: RunningCollector, certificate: Certificate, tmp_path: Path, token: str
) -> None:
    said = greet(collector.ready["grpc"], tmp_path, token=token, ca_file=certificate.authority)
    assert "UNAUTHENTICATED" in said and "--token-file" in said


def test_clear_text_gets_nowhere(collector: RunningCollector, data: Path, tmp_path: Path) -> None:
    token = (data / "sensor.token").read_text().strip()
    assert "UNAVAILABLE" in greet(collector.ready["grpc"], tmp_path, token=token, ca_file=None)
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://{collector.ready['http']}/healthz", timeout=60)


def test_api_over_https(collector: RunningCollector, certificate: Certificate, data: Path) -> None:
    root = f"https://{collector.ready['http']}"
    context = ssl.create_default_context(cafile=str(certificate.authority))
    with httpx.Client(verify=context, timeout=60) as client:
        token = (data / "api.token").read_text().strip()
        assert client.get(f"{root}/healthz").status_code == 200
        assert client.get(f"{root}/healthz", headers={"host": "10.1.2.3:8443"}).status_code == 200
        assert client.get(f"{root}/api/v1/endpoints").status_code == 401
        answer = client.get(f"{root}/api/v1/endpoints", headers={"authorization": f"Bearer {token}"})
        assert answer.status_code == 200 and answer.json()["items"] == []
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{root}/healthz", timeout=60)
