"""Containers of one image on one node: each has its own overlay of the same file, and each call is read once."""

import contextlib
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.live.program import Program
from tests.e2e.application import HERE, READY_SECONDS
from tests.e2e.certificates import Certificate
from tests.e2e.conftest import Product
from tests.e2e.tls_cases import ADDRESS, LIBSSL
from tests.e2e.wire import RawClient
from tests.waiting import wait_until, wait_until_still

pytestmark = [pytest.mark.kernel, pytest.mark.e2e, pytest.mark.full("sensor.capture.tls", "sensor.ebpf")]

CONTAINERS, CALLS = 3, 23
STILL_SECONDS = 4.0


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """What overlays are made of: a directory with OpenSSL."""
    image = tmp_path / "image"
    image.mkdir()
    (image / "libssl.so.3").write_bytes(LIBSSL.read_bytes())
    return image


def enclose(directory: Path, image: Path) -> list[str]:
    """A mount namespace with an overlay of the image at `directory`, whose library is the system's there."""
    directory.mkdir()
    scratch = directory.with_suffix(".scratch")
    scratch.mkdir()
    mount = (
        f"mount -t tmpfs none {scratch} && mkdir {scratch}/upper {scratch}/work && mount -t overlay overlay -o "
        f"lowerdir={image},upperdir={scratch}/upper,workdir={scratch}/work {directory} && "
        f"mount --bind {directory}/libssl.so.3 {LIBSSL.resolve()}"
    )
    command = ["unshare", "--mount", "sh", "-c"]
    probed = subprocess.run([*command, mount], capture_output=True, text=True, check=False, timeout=60)
    if probed.returncode:
        pytest.skip(f"no overlays here: {probed.stderr.strip()}")
    return [*command, f'{mount} && exec "$@"', "sh"]


@pytest.fixture
def ports(tmp_path: Path, image: Path, certificate: Certificate) -> Iterator[list[int]]:
    """Servers in Python, one a container."""
    files = (str(certificate.certificate), str(certificate.key))
    with contextlib.ExitStack() as stack:
        found = []
        for number in range(CONTAINERS):
            before = enclose(tmp_path / f"container{number}", image)
            command = [*before, sys.executable, str(HERE / "app_tls.py"), ADDRESS, *files]
            program = Program("tls", command, tmp_path / f"server{number}.log")
            stack.callback(program.stop)
            found.append(int(program.wait_for("ready", READY_SECONDS)["port"]))
        yield found


def test_each_call_is_read_once(product: Product, ports: list[int], certificate: Certificate, tmp_path: Path) -> None:
    _, address = product.start_collector()
    config = tmp_path / "sensor.toml"
    config.write_text("read_tls = 'full'\n")
    sensor = product.start_sensor(address, "--config", str(config))
    inventory = product.open_inventory(address)
    wait_until(lambda: "libssl" in sensor.log_path.read_text(), "libraries are found")
    time.sleep(3.0)
    context = ssl.create_default_context(cafile=str(certificate.authority))
    for port in ports:
        with RawClient(ADDRESS, port, tls=context) as client:
            for _ in range(CALLS):
                assert client.call("GET", "/orders/7").status == 200
    wait_until_still(lambda: inventory.count_calls(*ports), STILL_SECONDS)
    log = sensor.log_path.read_text()
    assert sensor.stop() == 0, sensor.log_tail()
    wait_until_still(lambda: inventory.count_calls(*ports), STILL_SECONDS)
    assert [inventory.count_calls(port) for port in ports] == [CALLS] * CONTAINERS, log
