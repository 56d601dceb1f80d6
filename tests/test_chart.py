"""The chart sets only what the programs know: its variables and flags against the settings themselves.

Reads the templates as text: helm is not installed everywhere, and the names stand in them literally.
"""

import json
import re
from pathlib import Path

import pytest

from collector.config import CollectorSettings
from collector.config import load_settings as load_collector
from sensor.config import SensorSettings
from sensor.config import load_settings as load_sensor

CHART = Path(__file__).parents[1] / "deploy" / "helm" / "apidae"
SETTINGS = {"sensor": set(SensorSettings.model_fields), "collector": set(CollectorSettings.model_fields)}
VARIABLE = re.compile(r"- name: APIDAE_(SENSOR|COLLECTOR)_([A-Z_]+)\n\s+value: (\S+)")
ANY_VARIABLE = re.compile(r"APIDAE_(SENSOR|COLLECTOR)_([A-Z_]+)\n")
FLAG = re.compile(r"- --([a-z-]+)=(.*)")


def read(name: str) -> str:
    return (CHART / "templates" / f"{name}.yaml").read_text()


@pytest.mark.parametrize("side", ["sensor", "collector"])
def test_every_variable_and_flag_is_a_setting(side: str) -> None:
    text = read(side)
    variables = ANY_VARIABLE.findall(text)
    flags = {name.replace("-", "_") for name, _ in FLAG.findall(text)}
    assert variables and flags
    assert {of for of, _ in variables} == {side.upper()}
    assert {name.lower() for _, name in variables} | flags <= SETTINGS[side]


def test_collector_starts_with_what_the_chart_sets() -> None:
    text = read("collector")
    environment = {f"APIDAE_{of}_{name}": value for of, name, value in VARIABLE.findall(text)}
    flags = {name.replace("-", "_"): value for name, value in FLAG.findall(text)}
    settings = load_collector(flags, environment=environment)
    mounts = dict(re.findall(r"\{name: (\w+), mountPath: ([^,}]+)", text))
    for path, volume in (
        (settings.sensor_token_file, "tokens"),
        (settings.api_token_file, "tokens"),
        (settings.tls_cert_file, "tls"),
        (settings.tls_key_file, "tls"),
    ):
        assert path is not None and str(path.parent) == mounts[volume]
    assert str(settings.data_dir) == mounts["data"]
    secret = read("secret")
    assert all(f"{path.name}: " in secret for path in (settings.sensor_token_file, settings.api_token_file) if path)


def test_sensor_starts_with_what_the_chart_sets() -> None:
    text = read("sensor")
    environment = {
        f"APIDAE_{of}_{name}": value for of, name, value in VARIABLE.findall(text) if not value.startswith("{{")
    }
    settings = load_sensor({"collector": "apidae-collector.apidae.svc:7443"}, environment=environment)
    mounts = dict(re.findall(r"\{name: (\w+), mountPath: ([^,}]+)", text))
    assert settings.token_file is not None and str(settings.token_file.parent) == mounts["tokens"]
    assert settings.collector_ca_file is not None and str(settings.collector_ca_file.parent) == mounts["ca"]
    assert str(settings.run_dir) == mounts["run"]
    assert mounts["cgroup"] == str(settings.cgroup_path)


@pytest.mark.parametrize("side", ["sensor", "collector"])
def test_kubernetes_adds_no_variables_of_its_own(side: str) -> None:
    # For a Service apidae-collector it would set APIDAE_COLLECTOR_PORT and more, which are no settings.
    assert "enableServiceLinks: false" in read(side)


def test_values_are_those_of_the_schema() -> None:
    yaml = pytest.importorskip("yaml", reason="needs a YAML parser: apt-get install python3-yaml")
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())

    def compare(value: object, part: dict[str, object], place: str) -> None:
        properties = part.get("properties")
        if isinstance(value, dict) and isinstance(properties, dict):
            assert set(value) <= set(properties), place
            for name, inner in value.items():
                compare(inner, properties[name], f"{place}.{name}")

    compare(values, schema, "values")
    used = {
        match
        for template in (CHART / "templates").iterdir()
        for match in re.findall(r"\.Values\.([A-Za-z.]+)", template.read_text())
    }
    assert used
    for path in used:
        node: object = values
        for name in path.split("."):
            assert isinstance(node, dict) and name in node, f"values.yaml has no {path}"
            node = node[name]
