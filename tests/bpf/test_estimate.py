"""Estimated calls of encrypted connections against the truth: nginx and curl over HTTP/1.1 and HTTP/2, whose numbers
are known. Prints the error (`pytest -s`).
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.demo.nginx import Nginx, find_nginx
from scripts.ports import take_port
from sensor.capture.packets.capture import PacketCapture
from tests.bpf.test_coverage import find, has_exchanges
from tests.bpf.tls import make_certificate

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("counted_anew")]

CALLS = 23
SERVER = """
        listen 127.0.0.1:{port} ssl;
        http2 on;
        ssl_certificate {certificate};
        ssl_certificate_key {certificate};
        ssl_protocols {version};
        client_max_body_size 10m;
        location / {{ return 200 '{body}'; }}
"""


@pytest.fixture(params=["TLSv1.2", "TLSv1.3"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[int, str]]:
    """Port and version of an nginx that speaks both."""
    if find_nginx() is None or shutil.which("curl") is None:
        pytest.skip("nginx or curl is not installed: apt-get install nginx-light curl")
    port, certificate = take_port(), make_certificate(tmp_path)
    text = SERVER.format(port=port, certificate=certificate, version=request.param, body="x" * 900)
    nginx = Nginx(tmp_path / "nginx", text)
    yield port, request.param
    nginx.stop()


@pytest.mark.parametrize(
    ("name", "options", "least", "most"),
    [
        ("HTTP/1.1", ["--http1.1"], CALLS, CALLS),
        ("HTTP/2, one after the other", ["--http2"], CALLS, CALLS + 2),
        ("HTTP/2, at once", ["--http2", "--parallel", "--parallel-max", "10"], 1, CALLS + 2),
    ],
)
def test_estimate(
    capture: PacketCapture,
    served: tuple[int, str],
    name: str,
    options: list[str],
    least: int,
    most: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In turns the estimate is the number of calls; streams that overlap share a turn."""
    port, version = served
    urls = [f"https://127.0.0.1:{port}/{number}" for number in range(CALLS)]
    command = ["curl", "--silent", "--insecure", "--noproxy", "*", *options, *urls]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    (found,) = find(capture, port, has_exchanges(least))
    error = (found.exchanges - CALLS) / CALLS
    with capsys.disabled():
        print(f"\n{version}, {name}: {found.exchanges} estimated of {CALLS} calls, {error:+.0%}", end="")
    assert least <= found.exchanges <= most
