"""Settings: their order, and one sentence for each mistake."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from sensor.core.config import ConfigError, ConsumerColumn, SensorSettings, load_settings

GIVEN = {"collector": "127.0.0.1:1"}


def load(
    flags: dict[str, object] | None = None, environment: dict[str, str] | None = None, config: Path | None = None
) -> SensorSettings:
    return load_settings({**GIVEN, **(flags or {})}, config_path=config, environment=environment or {})


def write_file(directory: Path, text: str) -> Path:
    path = directory / "sensor.toml"
    path.write_text(text)
    return path


def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(tmp_path: Path) -> None:
    path = write_file(tmp_path, "poll_interval_ms = 30\nring_bytes = 4096\nspool_bytes = 2000000\n")
    environment = {"APIDAE_SENSOR_POLL_INTERVAL_MS": "40", "APIDAE_SENSOR_RING_BYTES": "8192"}
    settings = load({"poll_interval_ms": 50, "ring_bytes": None}, environment, path)
    assert (settings.poll_interval_ms, settings.ring_bytes, settings.spool_bytes) == (50, 8192, 2_000_000)
    assert settings.window_seconds == 10


def test_the_environment_may_name_the_file(tmp_path: Path) -> None:
    path = write_file(tmp_path, 'cluster = "east"\n')
    assert load(None, {"APIDAE_SENSOR_CONFIG": str(path)}).cluster == "east"


def test_lists_come_with_commas_or_as_toml(tmp_path: Path) -> None:
    path = write_file(tmp_path, 'consumer_order = ["client_address"]\ntrusted_proxy_cidrs = ["10.0.0.0/8"]\n')
    settings = load({"trusted_proxy_cidrs": "192.0.2.0/24, 2001:db8::/32"}, None, path)
    assert [str(network) for network in settings.trusted_proxy_cidrs] == ["192.0.2.0/24", "2001:db8::/32"]
    assert settings.consumer_order == (ConsumerColumn.CLIENT_ADDRESS,)


@pytest.mark.parametrize(
    ("flags", "environment", "file", "sentence"),
    [
        ({"collector": None}, {}, "", "collector is not set; give --collector or APIDAE_SENSOR_COLLECTOR"),
        ({"collector": ""}, {}, "", r"collector is '' \(from --collector\): must be HOST:PORT"),
        ({"collector": "http://h:1"}, {}, "", r"collector is 'http://h:1' \(from --collector\): must be HOST:PORT"),
        ({"collector": "nowhere"}, {}, "", r"collector is 'nowhere' \(from --collector\): must be HOST:PORT"),
        (
            {},
            {"APIDAE_SENSOR_RNG_BYTES": "1"},
            "",
            "RNG_BYTES in the environment is no setting.*did you mean APIDAE_SENSOR_RING_BYTES",
        ),
        ({}, {}, "colector = 1", "colector in the file .*sensor.toml is no setting.*did you mean collector"),
        (
            {"excluded_workloads": "shop,Shop/*"},
            {},
            "",
            r"excluded_workloads is 'shop,Shop/\*' .*: has 'Shop/\*'; give NAMESPACE or NAMESPACE/WORKLOAD",
        ),
        ({"included_workloads": "a/b/c"}, {}, "", "has 'a/b/c'; give NAMESPACE or NAMESPACE/WORKLOAD"),
        ({"kubernetes": "yes"}, {}, "", "kubernetes is 'yes' .*: input should be 'auto', 'on' or 'off'"),
        ({}, {}, "xyzzy = 1", "xyzzy in the file .*; remove it"),
        (
            {},
            {"APIDAE_SENSOR_RING_BYTES": "abc"},
            "",
            r"ring_bytes is 'abc' \(from APIDAE_SENSOR_RING_BYTES\): input should be",
        ),
        ({"ring_bytes": 5000}, {}, "", r"ring_bytes is 5000 \(from --ring-bytes\): must be a power of two"),
        ({}, {}, "poll_interval_ms = 0", r"poll_interval_ms is 0 \(from the file .*\): input should be greater"),
        ({}, {"APIDAE_SENSOR_STATE_DIR": ""}, "", "state_dir is ''.*must name a directory"),
        ({}, {}, "= broken", "is not TOML"),
        ({"trusted_proxy_cidrs": "10.0.0.1/8"}, {}, "", "trusted_proxy_cidrs"),
        (
            {"never_block_cidrs": ",".join(f"10.0.{n >> 8}.{n & 255}" for n in range(1_024)), "is_enforcing": True},
            {"APIDAE_SENSOR_TRUSTED_PROXY_CIDRS": "10.0.0.0,10.1.0.0"},
            "",
            "never_block_cidrs and trusted_proxy_cidrs name 1025 networks; a sensor that enforces holds 1024",
        ),
        ({"consumer_order": "principal,principal"}, {}, "", "none twice"),
        ({"consumer_order": "somebody"}, {}, "", "consumer_order"),
        ({"window_seconds": 7}, {}, "", "merged_window_seconds is 60; it must be a multiple of window_seconds, 7"),
        ({"metrics_listen": "9090"}, {}, "", "metrics_listen is '9090'"),
        ({"log_level": "loud"}, {}, "", "log_level is 'loud'"),
    ],
)
def test_a_mistake_is_one_sentence(
    tmp_path: Path, flags: dict[str, object], environment: dict[str, str], file: str, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        load(flags, environment, write_file(tmp_path, file))
    assert "\n" not in str(caught.value)


def test_networks_of_ipv4_are_that_however_they_are_written(tmp_path: Path) -> None:
    settings = load(
        {"trusted_proxy_cidrs": "::ffff:10.0.0.0/104", "never_block_cidrs": "::ffff:192.0.2.7,2001:db8::/32"}
    )
    assert [str(network) for network in settings.trusted_proxy_cidrs] == ["10.0.0.0/8"]
    assert [str(network) for network in settings.never_block_cidrs] == ["192.0.2.7/32", "2001:db8::/32"]


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.toml cannot be read \(No such file or directory\)"):
        load(config=tmp_path / "nowhere.toml")


class TestToken:
    """The secret among the settings."""

    def test_it_is_in_no_repr_and_no_error(self) -> None:
        settings = load(None, {"APIDAE_SENSOR_TOKEN": "s3cret"})
        assert settings.read_token() == "s3cret"
        assert "s3cret" not in repr(settings)
        with pytest.raises(ConfigError) as caught:
            load({"token_file": "x"}, {"APIDAE_SENSOR_TOKEN": "s3cret"})
        assert "token and token_file are both set" in str(caught.value)
        assert "s3cret" not in str(caught.value)

    def test_a_file_is_read_each_time(self, tmp_path: Path) -> None:
        path = tmp_path / "token"
        path.write_text("one\n")
        settings = load({"token_file": path})
        assert settings.read_token() == "one"
        path.write_text("two\n")
        assert settings.read_token() == "two"

    def test_none_is_empty(self) -> None:
        assert load().read_token() == ""


def test_an_empty_variable_names_no_kubeconfig() -> None:
    assert load(None, {"APIDAE_SENSOR_KUBECONFIG": ""}).kubeconfig is None


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        load().node = "other"  # type: ignore[misc]
