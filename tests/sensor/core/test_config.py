"""Settings: their order, and one sentence for each mistake."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from common.settings import ConfigError
from sensor.core.config import SensorSettings, load_settings

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
    path = write_file(tmp_path, "heads_per_second = 30\nring_bytes = 4096\nspool_bytes = 2000000\n")
    environment = {"APIDAE_SENSOR_HEADS_PER_SECOND": "40", "APIDAE_SENSOR_RING_BYTES": "8192"}
    settings = load({"heads_per_second": 50, "ring_bytes": None}, environment, path)
    assert (settings.heads_per_second, settings.ring_bytes, settings.spool_bytes) == (50, 8192, 2_000_000)
    assert settings.body_bytes_per_second == 1024 * 1024


def test_the_environment_may_name_the_file(tmp_path: Path) -> None:
    path = write_file(tmp_path, 'cluster = "east"\n')
    assert load(None, {"APIDAE_SENSOR_CONFIG": str(path)}).cluster == "east"
    assert load(None, {"APIDAE_SENSOR_CONFIG": str(path)}).directory == path.parent


def test_lists_come_with_commas_or_as_toml(tmp_path: Path) -> None:
    path = write_file(tmp_path, 'pod_labels = ["app"]\ntrusted_proxy_cidrs = ["10.0.0.0/8"]\n')
    settings = load({"trusted_proxy_cidrs": "192.0.2.0/24, 2001:db8::/32"}, None, path)
    assert [str(network) for network in settings.trusted_proxy_cidrs] == ["192.0.2.0/24", "2001:db8::/32"]
    assert settings.pod_labels == ("app",)


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
            "APIDAE_SENSOR_RNG_BYTES is not a setting.*did you mean APIDAE_SENSOR_RING_BYTES",
        ),
        ({}, {}, "colector = 1", "colector in the file .*sensor.toml is not a setting.*did you mean collector"),
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
        ({}, {}, "heads_per_second = 0", r"heads_per_second is 0 \(from the file .*\): input should be greater"),
        ({}, {"APIDAE_SENSOR_STATE_DIR": ""}, "", "state_dir is ''.*must name a file or a directory"),
        ({}, {}, "= broken", "is not TOML"),
        ({"trusted_proxy_cidrs": "10.0.0.1/8"}, {}, "", "trusted_proxy_cidrs"),
        (
            {
                "enforcement_never_block_cidrs": ",".join(f"10.0.{n >> 8}.{n & 255}" for n in range(1_024)),
                "enforcement_enabled": True,
            },
            {"APIDAE_SENSOR_TRUSTED_PROXY_CIDRS": "10.0.0.0,10.1.0.0"},
            "",
            "enforcement.never_block_cidrs and trusted_proxy_cidrs name 1025 networks; a sensor .* holds 1024",
        ),
        ({}, {}, "window_seconds = 7", "window_seconds in the file .* was removed in 0.2: .*remove it"),
        ({"window_seconds": "7"}, {}, "", "^--window-seconds was removed in 0.2"),
        ({}, {"APIDAE_SENSOR_IS_ENFORCING": "1"}, "", "^APIDAE_SENSOR_IS_ENFORCING was .*: now enforcement.enabled$"),
        ({}, {}, "enforcement = true", r"enforcement in the file .* is not a table; write \[enforcement\]"),
        ({}, {}, "[enforcement]\nmax_blocs = 1", "enforcement.max_blocs in .*did you mean enforcement.max_blocks"),
        ({}, {}, "[enforcement]\nmax_blocks = 0", r"enforcement.max_blocks is 0 \(from the file .*\): input should be"),
        ({"custom_data_classes": "x{1,2}"}, {}, "", "custom_data_classes .*must be a list; .*JSON"),
        ({}, {"APIDAE_SENSOR_CUSTOM_DATA_CLASSES": "["}, "", "custom_data_classes .*is not JSON"),
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
        {
            "trusted_proxy_cidrs": "::ffff:10.0.0.0/104",
            "enforcement.never_block_cidrs": "::ffff:192.0.2.7,2001:db8::/32",
        }
    )
    assert [str(network) for network in settings.trusted_proxy_cidrs] == ["10.0.0.0/8"]
    assert [str(network) for network in settings.enforcement.never_block_cidrs] == ["192.0.2.7/32", "2001:db8::/32"]


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.toml cannot be read \(No such file or directory\)"):
        load(config=tmp_path / "nowhere.toml")


def test_a_group_has_a_value_from_each_source(tmp_path: Path) -> None:
    path = write_file(tmp_path, "[enforcement]\nenabled = true\nmax_blocks = 5\nmax_block_seconds = 5\n")
    environment = {"APIDAE_SENSOR_ENFORCEMENT_MAX_BLOCKS": "6", "APIDAE_SENSOR_ENFORCEMENT_MAX_BLOCK_SECONDS": "6"}
    own = load({"enforcement_max_block_seconds": 7}, environment, path).enforcement
    assert (own.enabled, own.max_blocks, own.max_block_seconds, own.max_call_share) == (True, 6, 7, 0.5)


def test_the_token_is_read_each_time(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one\n")
    settings = load({"token_file": path})
    assert settings.read_token() == "one"
    path.write_text("two\n")
    assert settings.read_token() == "two"
    assert load().read_token() == ""


def test_an_empty_variable_names_no_kubeconfig() -> None:
    assert load(None, {"APIDAE_SENSOR_KUBECONFIG": ""}).kubeconfig is None


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        load().node = "other"  # type: ignore[misc]
