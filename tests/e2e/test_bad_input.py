"""What a user sees who sets something wrong: one sentence that names the thing, the value and the fix; never a
traceback, never exit code 0. The real command, as a process of its own.
"""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.collector.running import RunningCollector, clean_environment
from tests.e2e.conftest import read_own_places
from tests.with_constants import make_command

FREE = ["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]
NOBODY = 65534
LIMIT_SECONDS = 60
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason=f"needs root to take rights away (uid {os.geteuid()})")
pytestmark = pytest.mark.store


def refuse(
    *arguments: str,
    before: tuple[str, ...] = (),
    output: str = "stderr",
    first_contact_seconds: float = 1,
    **variables: str,
) -> str:
    """Run `apidae ARGUMENTS`, which must fail well; the sentence it ends with. `output`: where that is."""
    is_sensor = arguments[0] == "sensor"
    apidae = make_command({"sensor.agent.compose.FIRST_CONTACT_SECONDS": first_contact_seconds} if is_sensor else {})
    done = subprocess.run(
        [*before, *apidae, *arguments],
        env={**clean_environment(), **read_own_places(), **variables},
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert done.returncode in (1, 2), done.stderr
    assert "Traceback" not in done.stderr
    # A log line may come first, as JSON or from the preflight; the last line is for the person.
    return str(getattr(done, output).splitlines()[-1])


@pytest.fixture
def sensor(tmp_path: Path) -> list[str]:
    """A sensor; nothing listens on its collector's port unless given."""
    paths = ["--state-dir", str(tmp_path / "state"), "--run-dir", str(tmp_path / "run")]
    return ["sensor", *paths]


@pytest.fixture
def taken() -> Iterator[str]:
    """A HOST:PORT in use by a program that never says anything."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def refusing() -> Iterator[str]:
    """A HOST:PORT that nobody listens on and nobody else gets."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


@pytest.mark.full("sensor.cli", "sensor.core", "collector.cli", "collector.core")
@pytest.mark.parametrize(
    ("arguments", "variables", "told"),
    [
        (["collector"], {"APIDAE_COLLECTOR_DTA_DIR": "/x"}, ["APIDAE_COLLECTOR_DTA_DIR", "APIDAE_COLLECTOR_DATA_DIR?"]),
        (["sensor"], {"APIDAE_SENSOR_COLECTOR": "x"}, ["APIDAE_SENSOR_COLECTOR", "APIDAE_SENSOR_COLLECTOR?"]),
        (["collector"], {"APIDAE_COLLECTOR_NO_AUTH": "perhaps"}, ["no_auth is 'perhaps'", "APIDAE_COLLECTOR_NO_AUTH"]),
        (["sensor", "--collector", "h:1"], {"APIDAE_SENSOR_SPOOL_BYTES": "x"}, ["spool_bytes is 'x'", "integer"]),
        (["collector", "--log-level", "loud"], {}, ["log_level is 'loud'", "'debug', 'info', 'warning' or 'error'"]),
        (["sensor"], {}, ["collector is not set", "--collector"]),
        (["sensor", "--collector", "nowhere"], {}, ["'nowhere'", "HOST:PORT"]),
        (["collector", "--http-listen", "127.0.0.1:99999"], {}, ["127.0.0.1:99999", "HOST:PORT"]),
        (["collector", "--no-auth", "--grpc-listen", "0.0.0.0:0"], {}, ["0.0.0.0:0", "loopback only", "--no-auth"]),
        (["collector"], {"APIDAE_COLLECTOR_CA_KEY_FILE": "/k"}, ["ca_key_file needs ca_cert_file", "set both"]),
        (["sensor", "--collector", "h:1", "--client-cert-file", "/c"], {}, ["client_key_file", "set both or none"]),
        (["enroll", "--collector", "nowhere"], {}, ["'nowhere'", "HOST:PORT"]),
        (["certificates", "revoke", "--data-dir", "/nonexistent"], {}, ["--node or --serial"]),
        (
            ["enrollment", "create", "--data-dir", "/nonexistent"],
            {},
            ["no state in /nonexistent", "start the collector", "--data-dir"],
        ),
        (["sensor", "--collector", ""], {}, ["collector is ''", "HOST:PORT"]),
        (["sensor", "--collector", "http://127.0.0.1:1"], {}, ["'http://127.0.0.1:1'", "HOST:PORT"]),
        (["sensor", "--collector", "h:1", "--ring-bytes", "many"], {}, ["'--ring-bytes'", "integer"]),
        (["sensor", "--collector", "h:1", "--ring-bytes", "12"], {}, ["ring_bytes is 12", "4096"]),
        (["sensor", "--collector", "h:1", "--trusted-proxy-cidrs", "x"], {}, ["trusted_proxy_cidrs is 'x'", "network"]),
        (["pause", "--run-dir", "/nonexistent"], {}, ["/nonexistent", "No sensor runs here", "apidae sensor"]),
        (["get", "endpoints", "--url", "http://127.0.0.1:1"], {}, ["http://127.0.0.1:1", "refused", "APIDAE_URL"]),
        (["get", "endpoints", "--url", "nonsense"], {}, ["'nonsense'", "http:// or https://", "APIDAE_URL"]),
        (["get", "endpoints", "--token", "\u00e9"], {}, ["not printable ASCII", "--token"]),
        (["get", "alerts"], {"APIDAE_URL": "nonsense"}, ["'nonsense'", "http:// or https://", "APIDAE_URL"]),
        (["get", "endpoints", "-o", "xml"], {}, ["'xml'", "'table', 'wide', 'json', 'yaml', 'csv', 'name'"]),
        (["endpoint"], {}, ["There is no command 'endpoint'", "apidae describe endpoint", "apidae --help"]),
        (["nothing"], {}, ["No such command 'nothing'", "apidae --help"]),
        (["collector", "--config", "/nonexistent.toml"], {}, ["/nonexistent.toml", "--config"]),
    ],
)
def test_wrong_setting(arguments: list[str], variables: dict[str, str], told: list[str]) -> None:
    sentence = refuse(*arguments, **variables)
    assert all(part in sentence for part in told), sentence


@pytest.mark.full("sensor.cli", "sensor.core", "collector.cli", "collector.core")
def test_listener_cannot_be_had(tmp_path: Path, taken: str) -> None:
    data = ["collector", "--data-dir", str(tmp_path / "data"), "--no-auth", *FREE]
    for name in ("grpc_listen", "http_listen"):
        sentence = refuse(*data, f"--{name.replace('_', '-')}", taken)
        assert f"{name} {taken}" in sentence and "in use" in sentence and "GRPC_VERBOSITY" not in sentence
    gone = refuse(*data, "--tls-cert-file", "/nonexistent", "--tls-key-file", "/nonexistent")
    assert "tls_cert_file /nonexistent cannot be read" in gone
    (tmp_path / "no.pem").write_text("no certificate")
    pair = ["--tls-cert-file", str(tmp_path / "no.pem"), "--tls-key-file", str(tmp_path / "no.pem")]
    assert f"tls_cert_file {tmp_path / 'no.pem'}" in refuse(*data, *pair)


@pytest.mark.full("sensor.cli", "sensor.core", "collector.cli", "collector.core")
def test_data_directory_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    sentence = refuse("collector", "--data-dir", str(tmp_path / "file"), "--no-auth", *FREE)
    assert f"{tmp_path / 'file'} cannot be written (it is a file)" in sentence
    (tmp_path / "policy.json").write_text("{")
    assert f"{tmp_path / 'policy.json'} is damaged" in refuse(
        "collector", "--data-dir", str(tmp_path), "--no-auth", *FREE
    )


@pytest.mark.full("sensor.cli", "sensor.core", "collector.cli", "collector.core")
def test_store_and_webhook(tmp_path: Path, refusing: str) -> None:
    data = ["collector", "--data-dir", str(tmp_path), "--no-auth", *FREE]
    sentence = refuse(*data, APIDAE_COLLECTOR_STORE_URL=f"http://user:hidden@{refusing}")
    assert f"http://{refusing} cannot be used (no connection: connection refused)" in sentence
    assert "store_url" in sentence and "hidden" not in sentence
    sentence = refuse(*data, APIDAE_COLLECTOR_STORE_URL="http://user:hid/den@host")
    assert "The store_url is not" in sentence and "hid" not in sentence
    webhook = '[{"kind": "webhook", "url": "nonsense"}]'
    assert "notifiers[0], webhook" in refuse(*data, APIDAE_COLLECTOR_NOTIFIERS=webhook)


@pytest.mark.full("sensor.cli", "sensor.core", "collector.cli", "collector.core")
def test_token_files(tmp_path: Path) -> None:
    data = ["collector", "--data-dir", str(tmp_path / "data"), *FREE]
    gone = tmp_path / "gone"
    assert f"{gone} does not exist" in refuse(*data, APIDAE_COLLECTOR_API_TOKEN_FILE=str(gone))
    short = tmp_path / "short"
    short.write_text("short\n")
    short.chmod(0o640)
    sentence = refuse(*data, APIDAE_COLLECTOR_SENSOR_TOKEN_FILE=str(short))
    assert "has 5 characters" in sentence and "openssl rand" in sentence
    short.chmod(0o644)
    assert f"chmod 600 {short}" in refuse(*data, APIDAE_COLLECTOR_SENSOR_TOKEN_FILE=str(short))


@needs_root
def test_rights_taken_away(tmp_path: Path) -> None:
    # Everybody may reach the directory, and only root may write there.
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o755)
    before = ("setpriv", f"--reuid={NOBODY}", "--clear-groups")
    sentence = refuse("collector", "--data-dir", str(tmp_path / "data"), "--no-auth", *FREE, before=before)
    assert f"{tmp_path / 'data'} cannot be written (Permission denied)" in sentence
    sentence = refuse("sensor", "--collector", "127.0.0.1:1", before=before)
    assert "not root" in sentence and "sudo" in sentence


@pytest.mark.full("sensor.cli", "sensor.core", "collector.cli", "collector.core")
@needs_root
def test_machine_without_avx2(tmp_path: Path) -> None:
    if "avx2" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this machine has no AVX2 to hide")
    less = tmp_path / "cpuinfo"
    less.write_text(Path("/proc/cpuinfo").read_text().replace(" avx2", ""))
    hide = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /proc/cpuinfo && exec "$@"', str(less))
    sentence = refuse("collector", "--data-dir", str(tmp_path / "data"), "--no-auth", *FREE, before=hide)
    assert "no AVX2" in sentence and "store_url" in sentence


def test_old_kernel(capture_host: None) -> None:
    sentence = refuse("sensor", "--collector", "127.0.0.1:1", before=("setarch", "--uname-2.6"))
    assert "kernel is Linux 2.6" in sentence and "5.12 or later" in sentence


@pytest.mark.parametrize("way", ["auto", "cgroup_skb", "syscalls"])
def test_a_scope_that_cannot_be_kept(tmp_path: Path, capture_host: None, cgroup_root: str, way: str) -> None:
    """It is refused, whatever could see more; the preflight says the same."""
    gone = f"{cgroup_root}/apidae_gone.service"
    for path, why in (
        (str(tmp_path), "is not a directory of cgroup v2 and has no mount of it below"),
        (gone, "cannot be read (No such file or directory)"),
    ):
        sentence = refuse("sensor", "--collector", "127.0.0.1:1", "--capture", way, "--cgroup-path", path)
        assert sentence.startswith(f"apidae: scope is {path}, which {why}. ")
        assert sentence.endswith("with cgroup_path, or leave it out to watch the whole host.")
    assert "capture does not work here" in refuse("preflight", "--cgroup-path", gone, output="stdout")


def test_collector_out_of_reach(sensor: list[str], refusing: str, capture_host: None, tmp_path: Path) -> None:
    sentence = refuse(*sensor, "--collector", refusing)
    assert f"{refusing} cannot be reached" in sentence and "connection refused" in sentence
    assert sentence.endswith("start it or correct --collector")
    for flag, name in (("--token-file", "gone"), ("--collector-ca-file", "gone")):
        sentence = refuse(*sensor, "--collector", refusing, flag, str(tmp_path / name))
        assert f"{tmp_path / name} cannot be read" in sentence and flag in sentence
    (tmp_path / "no.pem").write_text("no certificate")
    sentence = refuse(*sensor, "--collector", refusing, "--collector-ca-file", str(tmp_path / "no.pem"))
    assert f"{tmp_path / 'no.pem'} holds no certificates" in sentence
    (tmp_path / "token").write_text("é")
    sentence = refuse(*sensor, "--collector", refusing, "--token-file", str(tmp_path / "token"))
    assert "not printable ASCII" in sentence and "é" not in sentence


@pytest.mark.full("sensor.cli", "sensor.core", "collector.cli", "collector.core")
def test_sensor_directories(sensor: list[str], capture_host: None, taken: str) -> None:
    sentence = refuse(*sensor, "--collector", taken, "--state-dir", "/proc/apidae")
    assert "/proc/apidae" in sentence and "--state-dir" in sentence
    assert f"{taken} has not answered yet" in refuse(*sensor, "--collector", taken)
    sentence = refuse(*sensor, "--collector", taken, "--run-dir", "/proc/apidae")
    assert "/proc/apidae" in sentence and "--run-dir" in sentence
    sentence = refuse(*sensor, "--collector", taken, "--metrics-listen", taken)
    assert f"metrics_listen {taken}" in sentence and "in use" in sentence


def test_wrong_token_and_wrong_collector(sensor: list[str], capture_host: None, tmp_path: Path) -> None:
    collector = RunningCollector(tmp_path / "data")
    try:
        grpc, http = collector.ready["grpc"], collector.ready["http"]
        (tmp_path / "token").write_text("wrong\n")
        for token in ([], ["--token-file", str(tmp_path / "token")]):
            # grpcio tells a write that meets the end of a stream as an error of its own; the next dial is told why.
            sentence = refuse(*sensor, "--collector", grpc, *token, first_contact_seconds=30)
            assert f"{grpc} rejects this sensor (UNAUTHENTICATED" in sentence and "--token-file" in sentence
        assert "does not speak gRPC" in refuse(*sensor, "--collector", http)
        assert "did not accept the API token" in refuse(
            "get", "endpoints", "--url", f"http://{http}", "--token", "wrong"
        )
        sentence = refuse("collector", "--data-dir", str(tmp_path / "data"), *FREE)
        assert f"in use by another collector (process {collector.ready['pid']})" in sentence
    finally:
        assert collector.stop() == 0
