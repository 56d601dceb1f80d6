"""The chart's values: what is refused, that each is explained, used and tried, and that each setting of the programs is
among them."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from collector.core.config import load_settings as load_collector
from scripts.helm.render import EXAMPLES, render
from scripts.helm.settings_schema import CHART, SCHEMA, SIDES, format_schema, insert_settings
from sensor.core.config import load_settings as load_sensor
from tests.deploy.chart import container, default_values, documents, find, look_up, need_helm, walk_leaves

LOAD = {"sensor": load_sensor, "collector": load_collector}
# Settings that must have a form, or that must fit to one another.
SAMPLES: dict[str, Any] = {
    "collector": "collector.example:7443",
    "metrics_listen": "127.0.0.1:9464",
    "grpc_listen": "127.0.0.1:7443",
    "http_listen": "127.0.0.1:8443",
    "trusted_proxy_cidrs": ["10.0.0.0/8"],
    "consumer_order": ["client_address", "principal"],
    "time_zone": "Europe/Berlin",
    "content_type": "text/plain",
    "project": "SEC",
    "public_url": "https://apidae.example",
    "issuer": "https://login.example",
    "socket": "/run/haproxy/admin.sock",
    "max_call_share": 0.25,
    "ring_bytes": 65_536,
    # They contradict each other, or ask for one another.
    "no_auth": False,
    "sensor_auth": "any",
}
SECRET = {"name": "my-secret", "key": "my-key"}
SECRET_TEXT = "https://from-a-secret.example"


def read_schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(SCHEMA.read_text())
    return schema


def settings_of(side: str) -> dict[str, Any]:
    properties: dict[str, Any] = read_schema()["definitions"][f"{side}Settings"]["properties"]
    return properties


def sample(name: str, told: dict[str, Any]) -> Any:
    """A value that the program takes."""
    if "$ref" in told:
        return SECRET
    if name in SAMPLES:
        return SAMPLES[name]
    if "properties" in told:
        return {inner: sample(inner, one) for inner, one in told["properties"].items()}
    if "const" in told or "enum" in told:
        return told.get("const") or told["enum"][-1]
    if told["type"] == "array":
        choices = told["items"].get("oneOf")
        if "enum" in told["items"]:
            return told["items"]["enum"]
        if choices is None:
            return [] if told["items"].get("type") == "string" and "minItems" not in told else ["told@example.org"]
        entries = [sample(name, choice) for choice in choices]
        return [{**entry, **({"name": entry["kind"]} if "name" in entry else {})} for entry in entries]
    text = "/some/where" if name.endswith(("_file", "_dir", "path", "config")) else "told"
    return {"string": text, "boolean": True, "integer": told.get("minimum", 1), "number": 2.5}[told["type"]]


def reveal(value: Any) -> Any:
    """The same with the text of each secret."""
    if value == SECRET:
        return SECRET_TEXT
    if isinstance(value, dict):
        return {name: reveal(one) for name, one in value.items()}
    return [reveal(one) for one in value] if isinstance(value, list) else value


def read_variables(rendered: tuple[Any, ...], side: str) -> dict[str, str]:
    """Those of the program's settings."""
    env = [entry for entry in container(rendered, side)["env"] if not entry["name"].endswith(("_CONFIG", "_URL"))]
    env += [entry for entry in container(rendered, side)["env"] if entry["name"].startswith("APIDAE_SECRET_")]
    return {entry["name"]: entry.get("value", SECRET_TEXT) for entry in env}


def test_every_setting_of_the_programs_is_a_value() -> None:
    schema = read_schema()
    assert format_schema(insert_settings(schema)) == SCHEMA.read_text(), (
        "settings of a program are not in the chart as they are in the program; run scripts/generate and commit"
    )
    for side, settings in SIDES.items():
        assert set(settings_of(side)) == set(settings.model_fields)


def test_a_scope_is_a_cgroup_of_the_nodes_tree(tmp_path: Path) -> None:
    """The tree was mounted where the scope was looked for, so that the scope was all of it."""
    need_helm()
    scope = "/host/cgroup/kubepods.slice"
    values = {"image": {"repository": "registry.example/apidae"}, "sensor": {"settings": {"cgroup_path": scope}}}
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
    done = render(4, "--values", str(tmp_path / "values.yaml"))
    assert done.status == 0, done.errors
    rendered = tuple(document for document in yaml.safe_load_all(done.text) if document)
    assert tomllib.loads(find(rendered, "ConfigMap", "sensor")["data"]["sensor.toml"])["cgroup_path"] == scope
    mounts = {mount["name"]: mount["mountPath"] for mount in container(rendered, "sensor")["volumeMounts"]}
    assert mounts["cgroup"] == "/host/cgroup"


@pytest.mark.parametrize("side", SIDES)
def test_every_setting_reaches_its_program(side: str, tmp_path: Path) -> None:
    need_helm()
    given = {name: sample(name, told) for name, told in settings_of(side).items()}
    values = {"image": {"repository": "registry.example/apidae"}, side: {"settings": given}}
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
    done = render(4, "--values", str(tmp_path / "values.yaml"))
    assert done.status == 0, done.errors
    rendered = tuple(document for document in yaml.safe_load_all(done.text) if document)
    text = find(rendered, "ConfigMap", side)["data"][f"{side}.toml"]
    (tmp_path / "settings.toml").write_text(text)
    assert tomllib.loads(text).keys() == given.keys() and SECRET_TEXT not in text
    variables = read_variables(rendered, side)
    settings = LOAD[side]({}, config_path=tmp_path / "settings.toml", environment=variables)
    assert (
        settings.model_dump() == SIDES[side].model_validate(reveal(given)).model_dump()
    )  # But for where each is from.


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("example", ["smallest", "existing", "everything", "privileged", "pair", "large"])
def test_programs_start_with_what_the_chart_says(side: str, example: str, tmp_path: Path) -> None:
    need_helm()
    rendered = documents(example)
    (tmp_path / "settings.toml").write_text(find(rendered, "ConfigMap", side)["data"][f"{side}.toml"])
    variables = read_variables(rendered, side)
    settings = LOAD[side]({}, config_path=tmp_path / "settings.toml", environment=variables)
    mounts = {mount["mountPath"]: mount for mount in container(rendered, side)["volumeMounts"]}
    for name, value in settings:
        if not isinstance(value, Path) or (name, str(value)) == ("proc_path", "/proc"):
            continue
        place = str(value.parent) if name.endswith("_file") else str(value)
        assert place in mounts, f"{name} is {value}, and nothing is mounted at {place}"
        is_written = name.endswith("_dir")
        assert bool(mounts[place].get("readOnly")) != is_written, name


def test_kubeconfigs_are_mounted_where_the_collector_looks_for_them(tmp_path: Path) -> None:
    need_helm()
    rendered = documents("existing")
    (tmp_path / "settings.toml").write_text(find(rendered, "ConfigMap", "collector")["data"]["collector.toml"])
    settings = load_collector(
        {}, config_path=tmp_path / "settings.toml", environment=read_variables(rendered, "collector")
    )
    (mount,) = (one for one in container(rendered, "collector")["volumeMounts"] if one["name"] == "clusters")
    volumes = find(rendered, "StatefulSet")["spec"]["template"]["spec"]["volumes"]
    (volume,) = (one["projected"] for one in volumes if one["name"] == "clusters")
    mounted = {
        f"{mount['mountPath']}/{item['path']}": (source["secret"]["name"], item["key"])
        for source in volume["sources"]
        for item in source["secret"]["items"]
    }
    assert mount["readOnly"] and volume["defaultMode"] == 0o440
    assert {name: mounted[file] for name, _, file in (one.partition("=") for one in settings.other_clusters)} == {
        "production-us": ("kubeconfigs", "us.yaml"),
        "2024": ("staging-kubeconfig", "value"),
    }
    others = find(documents("smallest"), "StatefulSet")["spec"]["template"]["spec"]["volumes"]
    assert "clusters" not in {one["name"] for one in others}


def test_each_value_is_explained() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    # What every chart has and Kubernetes explains, and groups that their members explain.
    known = re.compile(
        r"^(image|auth|rbac|sensor|collector|tls|networkPolicy|serviceMonitor|podMonitor|prometheusRule|dashboard|ingress|gateway|openshift"
        r"|storage|service|certManager|updateStrategy|podDisruptionBudget|issuerRef|name|kind|group|type|localhostProfile"
        r"|enabled|pullPolicy|resources|requests|limits|nodeSelector|tolerations|affinity|podLabels|podAnnotations"
        r"|priorityClassName|grpcPort|httpPort|annotations|replicas|key|interval|className|host|hostnames|validityDays|settings)$"
    )
    previous = ""
    for line in lines:
        match = re.match(r"^ *([A-Za-z]+):", line)
        if match and not known.match(match[1]):
            assert previous.lstrip().startswith("#") or "# " in line, f"{match[1]} has no comment"
        previous = line


def test_each_value_is_tried_by_an_example_and_used_by_a_template() -> None:
    defaults = default_values()
    examples = [yaml.safe_load(path.read_text()) for path in sorted(EXAMPLES.glob("*-values.yaml"))]
    templates = "".join(path.read_text() for path in (CHART / "templates").rglob("*.*"))
    templates = templates.replace("$sensor.", ".Values.sensor.").replace("$collector.", ".Values.collector.")
    templates = templates.replace("$policy.", ".Values.networkPolicy.").replace("$root.Values", ".Values")
    templates = templates.replace('index .Values $side "image"', ".Values.sensor.image .Values.collector.image")
    for path, value in walk_leaves(defaults):
        tried = [look_up(example, path) for example in examples]
        assert any(other is not None and other != value for other in tried), f"no example sets {'.'.join(path)}"
        used = [".Values." + ".".join(path[:length]) for length in range(len(path), 0, -1)]
        whole = {".Values.sensor", ".Values.collector", ".Values.networkPolicy", ".Values.tls"}
        assert any(re.search(re.escape(name) + r"(?![\w.])", templates) for name in used if name not in whole), path


WRONG = [
    ({"image": {"repositry": "x"}}, "repositry"),
    ({"sensr": {}}, "sensr"),
    ({"sensor": {"settings": {"spool_byte": 1}}}, "spool_byte"),
    ({"sensor": {"settings": {"spool_bytes": "many"}}}, "many"),
    ({"sensor": {"settings": {"spool_bytes": 1}}}, "1048576"),
    ({"sensor": {"settings": {"capture": "magic"}}}, "magic"),
    ({"collector": {"settings": {"consumer_order": ["nobody"]}}}, "nobody"),
    ({"sensor": {"settings": {"enforcement": {"max_blocs": 1}}}}, "max_blocs"),
    ({"collector": {"settings": {"store_url": {"name": "a"}}}}, "key"),
    ({"collector": {"settings": {"notifiers": [{"kind": "slack", "url": "https://hooks"}]}}}, "https://hooks"),
    ({"sensor": {"capabilities": ["ALL"]}}, "ALL"),
    ({"sensor": {"javaAttach": ["java"]}}, "java"),
    ({"sensor": {"javaAttach": ["shop/a b"]}}, "shop/a b"),
    ({"sensor": {"javaAttach": ["annotated/"]}}, "annotated/"),
    ({"sensor": {"stateDir": "relative"}}, "relative"),
    ({"sensor": {"hostPID": "yes"}}, "yes"),
    ({"sensor": {"metricsPort": 70000}}, "70000"),
    ({"sensor": {"updateStrategy": {"maxNodes": "some"}}}, "some"),
    ({"sensor": {"seccompProfile": {"type": "None"}}}, "None"),
    ({"collector": {"settings": {"store_url": "https://user:secret@host"}}}, "is not of type 'object'"),
    ({"collector": {"storage": {"size": "20"}}}, "20"),
    ({"collector": {"otherClusters": {"../west": {"name": "a", "key": "b"}}}}, "../west"),
    ({"collector": {"otherClusters": {"west": {"name": "only"}}}}, "key"),
    ({"collector": {"service": {"type": "ExternalName"}}}, "ExternalName"),
    ({"collector": {"resources": {"limit": {}}}}, "limit"),
    ({"collector": {"replicas": 0}}, "0 is less than the minimum"),
    ({"collector": {"ingest": {"pods": 2}}}, "pods"),
    ({"tls": {"source": "letsencrypt"}}, "letsencrypt"),
    ({"listenAddress": "10.0.0.1"}, "10.0.0.1"),
    ({"ingress": {"host": "Has Spaces"}}, "Has Spaces"),
    ({"serviceMonitor": {"interval": 30}}, "30"),
]


@pytest.mark.parametrize(("values", "told"), WRONG, ids=[told for _, told in WRONG])
def test_wrong_values_are_refused(values: dict[str, Any], told: str) -> None:
    validator = jsonschema.Draft7Validator(read_schema())
    validator.validate(default_values())
    faults = [fault.message for fault in validator.iter_errors({"image": {}, **values})]
    assert faults and any(told in fault for fault in faults), faults


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "image.repository is not set"),
        (("--set", "sensor.settings.ring_bytes=large"), "ring_bytes"),
        (("--set", "sensor.settings.ring_bits=1"), "ring_bits"),
        (("--set", "image.repository=x,tls.source=certManager"), "issuerRef.name is not set"),
        (("--set", "image.repository=x,tls.source=existingSecret"), "tls"),
        (("--set", "image.repository=x,ingress.enabled=true"), "ingress.host is not set"),
        (("--set", "image.repository=x,gateway.enabled=true"), "gateway.parentRefs is empty"),
        (
            (
                *("--set", "image.repository=x,collector.otherClusters.west.name=a,collector.otherClusters.west.key=b"),
                *("--set", "collector.settings.other_clusters={east=/e}"),
            ),
            "collector.otherClusters and collector.settings.other_clusters are both set",
        ),
        (("--set", "image.repository=x,sensor.seccompProfile.type=Localhost"), "localhostProfile is not set"),
        (("--set", "image.repository=x,collector.alertTemplate=x"), "collector.alertTemplate is used by no receiver"),
        (("--set", "image.repository=x,collector.replicas=2"), "collector.settings.state_url is not set"),
        (("--set", "image.repository=x,collector.ingest.replicas=2"), "collector.settings.state_url is not set"),
        (
            ("--values", str(EXAMPLES / "pair-values.yaml"), "--set", "collector.stateKey.name="),
            "collector.stateKey.name is not set",
        ),
    ],
)
def test_helm_says_what_is_wrong(arguments: tuple[str, ...], sentence: str) -> None:
    need_helm()
    done = render(4, *arguments)
    assert done.status != 0
    assert sentence in done.errors
