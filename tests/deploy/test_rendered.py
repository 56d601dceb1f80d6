"""The chart as real Helm renders it: the same in Helm 3 and 4 and as it is kept, valid in four versions of Kubernetes,
with no more rights than it says."""

import functools
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate import utils

from collector.server.grpc_server import AUDIENCE
from scripts.containers.containerfile import read_stages
from scripts.containers.rootfs import CONTAINERFILES
from scripts.helm.render import RENDERED, list_examples, render, render_example, rendered_path, run_helm
from scripts.helm.settings_schema import CHART, SIDES
from sensor.capture.java.consent import FILE_NAME
from sensor.cli.commands import READY_FILE
from tests.deploy.chart import VERSIONS, Document, container, default_values, documents, find, need_helm
from tests.deploy.cluster import serve
from tests.documented import BLOCKS, SHELL

EXAMPLES = [path.name.removesuffix("-values.yaml") for path in list_examples()]
KUBERNETES = ("1.29.0", "1.31.0", "1.34.0", "1.37.0")
# Kinds of others, of which kubernetes-validate has no schema.
FOREIGN = {
    *("Certificate", "HTTPRoute", "BackendTLSPolicy", "SecurityContextConstraints"),
    *("ServiceMonitor", "PodMonitor", "PrometheusRule"),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("example", EXAMPLES)
def test_rendered_as_kept(example: str, version: int) -> None:
    need_helm(version)
    path = next(path for path in list_examples() if path.name == f"{example}-values.yaml")
    assert render_example(version, path) == rendered_path(path).read_text(), (
        "run scripts/generate, and look at the diff"
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_lint(version: int) -> None:
    need_helm(version)
    for path in list_examples():
        done = run_helm(version, "lint", "--strict", str(CHART), "--values", str(path))
        assert done.status == 0, done.text + done.errors


@pytest.mark.parametrize("kubernetes", KUBERNETES)
def test_valid_in_kubernetes(kubernetes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    need_helm()
    # It reads its files for each document; they are megabytes.
    monkeypatch.setattr(utils, "schema_contents", functools.cache(utils.schema_contents))
    seen = set()
    for example in EXAMPLES:
        for document in documents(example, kubernetes=kubernetes):
            seen.add(document["kind"])
            if document["kind"] not in FOREIGN:
                assert kubernetes.startswith(kubernetes_validate.validate(document, kubernetes, strict=True))
    assert seen >= FOREIGN


def test_app_armor_is_said_as_the_version_knows_it() -> None:
    need_helm()
    for kubernetes, is_field in (("1.29.0", False), ("1.30.0", True)):
        template = find(documents("smallest", kubernetes=kubernetes), "DaemonSet")["spec"]["template"]
        annotation = "container.apparmor.security.beta.kubernetes.io/sensor"
        assert (annotation in template["metadata"]["annotations"]) != is_field
        assert ("appArmorProfile" in template["spec"]["containers"][0]["securityContext"]) == is_field


def test_the_sensor_has_the_rights_it_says_and_no_others() -> None:
    need_helm()
    pod = find(documents("smallest"), "DaemonSet")["spec"]["template"]["spec"]
    security = container(documents("smallest"), "sensor")["securityContext"]
    assert (pod["hostPID"], pod["hostNetwork"], pod.get("hostIPC")) == (True, False, None)
    assert (security["privileged"], security["allowPrivilegeEscalation"]) == (False, False)
    assert security["readOnlyRootFilesystem"] is True
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security["capabilities"]["drop"] == ["ALL"]
    table = (CHART.parents[2] / "docs" / "use" / "kubernetes.md").read_text()
    for name in security["capabilities"]["add"]:
        assert f"| `{name}` |" in table, f"docs/use/kubernetes.md does not say what {name} is for"


def test_to_attach_to_jvms_the_sensor_has_three_rights_more_and_the_nodes_processes() -> None:
    need_helm()
    rendered = documents("everything")
    added = set(container(rendered, "sensor")["securityContext"]["capabilities"]["add"])
    assert added - set(default_values()["sensor"]["capabilities"]) == {"SYS_CHROOT", "SETUID", "SETGID"}
    assert find(rendered, "DaemonSet")["spec"]["template"]["spec"]["hostPID"] is True
    config = find(rendered, "ConfigMap", "sensor")["data"]
    assert config[FILE_NAME] == "shop/*\n/system.slice/tomcat*.service\nannotated\n"
    # It lies beside the settings file, where the sensor looks for it.
    (mount,) = [one for one in container(rendered, "sensor")["volumeMounts"] if one["name"] == "config"]
    (variable,) = [one for one in container(rendered, "sensor")["env"] if one["name"] == "APIDAE_SENSOR_CONFIG"]
    assert str(Path(variable["value"]).parent) == mount["mountPath"]
    allowed = find(rendered, "SecurityContextConstraints")
    assert allowed["allowHostPID"] is True and set(allowed["allowedCapabilities"]) == added
    table = (CHART.parents[2] / "docs" / "use" / "kubernetes.md").read_text()
    for name in added:
        assert f"`{name}`" in table, f"docs/use/kubernetes.md does not say what {name} is for"


def test_to_read_tls_the_sensor_joins_the_nodes_pid_namespace() -> None:
    need_helm()
    for mode, joins in (("off", False), ("auto", True), ("full", True)):
        done = render(4, "--set", "image.repository=a.example/b", "--set", f"sensor.settings.read_tls={mode}")
        assert done.status == 0, done.errors
        assert f"hostPID: {str(joins).lower()}" in done.text


def test_jvms_are_attached_to_only_where_tls_is_read() -> None:
    need_helm()
    done = render(
        4,
        "--set",
        "image.repository=a.example/b",
        "--set",
        "sensor.javaAttach={shop/*}",
        "--set",
        "sensor.settings.read_tls=off",
    )
    assert done.status and "sensor.settings.read_tls is off: set it to auto or full" in done.errors


@pytest.mark.parametrize("example", EXAMPLES)
def test_only_values_make_it_privileged(example: str) -> None:
    need_helm()
    rendered = documents(example)
    is_privileged = container(rendered, "sensor")["securityContext"].get("privileged", False)
    assert is_privileged == (example == "privileged")
    collector = container(rendered, "collector")["securityContext"]
    assert collector["capabilities"] == {"drop": ["ALL"]} and not collector["allowPrivilegeEscalation"]
    assert collector["readOnlyRootFilesystem"]
    pod = find(rendered, "StatefulSet")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] and "hostPID" not in pod and "hostNetwork" not in pod


@pytest.mark.parametrize("example", EXAMPLES)
def test_mounts_of_the_node_are_read_only_but_two(example: str) -> None:
    need_helm()
    pod = find(documents(example), "DaemonSet")["spec"]["template"]["spec"]
    of_node = {volume["name"] for volume in pod["volumes"] if "hostPath" in volume}
    written = {
        mount["name"]
        for mount in container(documents(example), "sensor")["volumeMounts"]
        if mount["name"] in of_node and not mount.get("readOnly")
    }
    assert written == {"state", "run"}


@pytest.mark.parametrize("example", ["smallest", "everything"])
def test_sensors_enrol_with_their_service_account(example: str) -> None:
    need_helm()
    rendered = documents(example)
    (sensor,) = (document for document in rendered if document["kind"] == "DaemonSet")
    pod = sensor["spec"]["template"]["spec"]
    told = {side: tomllib.loads(find(rendered, "ConfigMap", side)["data"][f"{side}.toml"]) for side in SIDES}
    account = f"{sensor['metadata']['namespace']}/{pod['serviceAccountName']}"
    assert told["collector"]["kubernetes_enrollment_accounts"] == [account]
    (projected,) = (volume["projected"] for volume in pod["volumes"] if "projected" in volume)
    (source,) = (source["serviceAccountToken"] for source in projected["sources"])
    assert source["audience"] == AUDIENCE
    (mount,) = (m for m in container(rendered, "sensor")["volumeMounts"] if m["name"] == "enrollment")
    assert told["sensor"]["enrollment_token_file"] == f"{mount['mountPath']}/{source['path']}"
    # Certificates by default: nothing turns them off.
    assert "sensor_auth" not in told["collector"]


def test_roles_are_to_read_only() -> None:
    need_helm()
    granted = {
        document["metadata"]["labels"]["app.kubernetes.io/component"]: {
            (resource, verb) for rule in document["rules"] for resource in rule["resources"] for verb in rule["verbs"]
        }
        for document in documents("smallest")
        if document["kind"] == "ClusterRole"
    }
    followed = {(resource, verb) for resource in ("pods", "namespaces") for verb in ("list", "watch")}
    assert granted["sensor"] == {*followed, ("nodes", "get")}
    reviews = ("tokenreviews", "create")  # Whose token it is that a sensor enrols with.
    assert {verb for _, verb in granted["collector"] - {reviews}} == {"list", "watch"}
    assert reviews in granted["collector"]
    assert find(documents("smallest"), "Role", "-collector")["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    ]
    assert not any(resource in ("secrets", "*") for side in granted.values() for resource, _ in side)


def test_the_next_sensor_is_there_before_the_last_one_goes() -> None:
    need_helm()
    for example, nodes in (("smallest", "10%"), ("existing", 2)):
        beside = find(documents(example), "DaemonSet")["spec"]["updateStrategy"]["rollingUpdate"]
        assert beside == {"maxSurge": nodes, "maxUnavailable": 0}
        assert "takeover_wait_seconds = 600" in find(documents(example), "ConfigMap", "sensor")["data"]["sensor.toml"]


def test_on_the_nodes_network_two_sensors_have_no_port_that_only_one_can_have() -> None:
    need_helm()
    sensor = container(documents("existing"), "sensor")
    # A port of a Pod on the node's network is the node's: the scheduler keeps two that name it apart.
    assert "ports" not in sensor
    # The port answers for the other one still.
    assert sensor["readinessProbe"]["exec"]["command"] == ["test", "-e", str(READY_FILE)]
    assert sensor["livenessProbe"]["httpGet"]["port"] == 9999
    (service,) = (
        one for one in documents("existing") if one["kind"] == "Service" and one["metadata"]["name"].endswith("-sensor")
    )
    assert [port["targetPort"] for port in service["spec"]["ports"]] == [9999]
    beside = container(documents("smallest"), "sensor")
    assert "httpGet" in beside["readinessProbe"] and [port["name"] for port in beside["ports"]] == ["metrics"]


def test_a_start_is_one_probe_that_waits(tmp_path: Path) -> None:
    """Each probe that fails is a Warning event of the Pod."""
    need_helm()
    probe = container(documents("smallest"), "sensor")["startupProbe"]
    command = [part.replace(str(READY_FILE), str(tmp_path / "ready")) for part in probe["exec"]["command"]]
    with subprocess.Popen(command) as waiting:
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(1.0)
        (tmp_path / "ready").touch()
        assert waiting.wait(10.0) == 0
    (script,) = container(documents("smallest"), "collector")["startupProbe"]["exec"]["command"][2:]
    program = re.search(r"until (.+?) 2>/dev/null; do sleep 1; done", script)
    image = read_stages(CONTAINERFILES / "collector.Containerfile")[-1]
    assert program and program[1].split() == image.healthcheck


def test_nodes_get_no_key_that_others_have() -> None:
    need_helm()
    pod = find(documents("smallest"), "DaemonSet")["spec"]["template"]["spec"]
    secrets = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
    assert [(secret["secretName"], secret["items"]) for secret in secrets] == [
        ("apidae-authority", [{"key": "ca.crt", "path": "ca.crt"}])
    ]
    (projected,) = (volume["projected"] for volume in pod["volumes"] if "projected" in volume)
    assert projected["sources"][0]["serviceAccountToken"]["audience"] == "apidae"


def test_network_policy_follows_where_sensors_come_from() -> None:
    need_helm()
    policy = find(documents("everything"), "NetworkPolicy", "collector")["spec"]["ingress"]
    grpc = next(rule for rule in policy if rule["ports"] == [{"port": "grpc"}])
    assert {"ipBlock": {"cidr": "192.0.2.0/24"}} in grpc["from"]
    assert any("podSelector" in peer for peer in grpc["from"])
    assert not [document for document in documents("existing") if document["kind"] == "NetworkPolicy"]


# Fields that Kubernetes lets nobody change.
FIXED = {
    "DaemonSet": [("spec", "selector")],
    "StatefulSet": [("spec", "selector"), ("spec", "serviceName"), ("spec", "volumeClaimTemplates")],
}


def test_upgrade_from_the_chart_before_changes_nothing_that_is_fixed() -> None:
    need_helm()
    old = tuple(d for d in yaml.safe_load_all((RENDERED / "chart-0.1.0.yaml").read_text()) if d)
    new = {(d["kind"], d["metadata"]["name"]): d for d in documents("smallest")}
    compared = 0
    for document in old:
        if document["kind"] == "Secret":
            continue  # Kept in the cluster, and rendered no more (test_secrets.py).
        successor = new.get((document["kind"], document["metadata"]["name"]))
        assert successor is not None, f"{document['kind']} {document['metadata']['name']} goes"
        for path in FIXED.get(document["kind"], []):
            compared += 1
            assert _at(document, path) == _at(successor, path), path
    assert compared == 4
    # The Secret that 0.1 was given stays in use, and has the names it had.
    given = render(4, "--set", "image.repository=r.example/a,tls.existingSecret=apidae-certificate")
    assert "secretName: apidae-certificate" in given.text
    # Where keys, spool and lock lie on the node, and data in the volume: else an upgrade would begin anew.
    places = [{v["name"]: v["hostPath"] for v in _pod(d)["volumes"] if "hostPath" in v} for d in (_set(old), new[KEY])]
    assert places[0].items() <= places[1].items()
    grace = [_pod(d)["terminationGracePeriodSeconds"] for d in (_set(old), new[KEY])]
    assert grace[0] == grace[1]


KEY = ("DaemonSet", "apidae-sensor")


def _set(old: tuple[Document, ...]) -> Document:
    return find(old, "DaemonSet")


def _pod(document: Document) -> Document:
    pod: Document = document["spec"]["template"]["spec"]
    return pod


def _at(document: Document, path: tuple[str, ...]) -> Any:
    for name in path:
        document = document[name]
    return document


@pytest.mark.parametrize("version", VERSIONS)
def test_notes_name_what_there_is(version: int, tmp_path: Path) -> None:
    need_helm(version)
    values = ("--set", "image.repository=registry.example/apidae")
    with serve(tmp_path) as cluster:
        where = (
            "--namespace",
            "watch",
            "--dry-run=client",
            "--kube-apiserver",
            cluster.url,
            "--disable-openapi-validation",
        )
        done = run_helm(version, "install", "one", str(CHART), *where, *values)
    assert done.status == 0, done.errors
    manifests, _, notes = done.text.partition("\nNOTES:\n")
    names = set(re.findall(r"(?:ds|svc|secret)[/ ]([a-z0-9-]+)", notes))
    assert names == {"one-apidae-sensor", "one-apidae-collector", "one-apidae-tokens"}
    for name in names:
        assert re.search(rf"[nN]ame: {name}\b", manifests)
    assert "exec one-apidae-collector-0 -- apidae get endpoints" in notes
    assert "Calls over TLS are read on Linux 6.6 or newer." in notes


def list_documented_commands() -> list[str]:
    """Of Helm, in all pages."""
    shells = [block for block in BLOCKS if block.language in SHELL]
    return [command for block in shells for command in block.commands if command.startswith("helm ")]


@pytest.mark.parametrize("command", list_documented_commands())
def test_documented_helm_commands_render(command: str) -> None:
    need_helm()
    _, verb, release, chart, *arguments = shlex.split(command)
    assert verb in ("install", "upgrade") and (release, chart) == ("apidae", "deploy/helm/apidae")
    if "--kubeconfig" in arguments:
        place = arguments.index("--kubeconfig")
        del arguments[place : place + 2]
    arguments = [str(CHART.parents[2] / one) if one.startswith("deploy/") else one for one in arguments]
    done = run_helm(4, "template", release, str(CHART), *arguments)
    assert done.status == 0, done.errors
    assert "-sensor:" in done.text


def test_several_collectors_are_spread_share_a_key_and_pass_changes_on() -> None:
    need_helm()
    for name, parts in (("pair", {"collector": 2}), ("large", {"collector": 2, "ingest": 4})):
        made = documents(name)
        for part, replicas in parts.items():
            own = find(made, "StatefulSet" if part == "collector" else "Deployment", part)["spec"]
            pod = own["template"]
            labels = pod["metadata"]["labels"]
            assert own["replicas"] == replicas and own["selector"]["matchLabels"].items() <= labels.items()
            (spread,) = pod["spec"]["topologySpreadConstraints"]
            budget = find(made, "PodDisruptionBudget", part)["spec"]
            for selector in (spread["labelSelector"], budget["selector"]):
                assert selector["matchLabels"] == own["selector"]["matchLabels"]
            assert budget["maxUnavailable"] == 1 and spread["topologyKey"] == "kubernetes.io/hostname"
            mounts = {one["name"]: one["mountPath"] for one in pod["spec"]["containers"][0]["volumeMounts"]}
            assert mounts["state-key"] == "/etc/apidae/state"
            for kind in ("Service", "NetworkPolicy"):
                spec = find(made, kind, "collector")["spec"]
                selected = spec["selector"] if kind == "Service" else spec["podSelector"]["matchLabels"]
                assert selected.items() <= labels.items()
    (https,) = (rule for rule in find(documents("large"), "NetworkPolicy", "collector")["spec"]["ingress"]
                if rule["ports"] == [{"port": "https"}])  # fmt: skip
    assert https["from"][-1]["podSelector"]["matchLabels"]["apidae/collector"] == "true"
    one = find(documents("smallest"), "StatefulSet")["spec"]
    assert one["replicas"] == 1 and "topologySpreadConstraints" not in one["template"]["spec"]


def test_pods_that_only_take_rows_get_all_of_them_and_no_request_of_the_api() -> None:
    need_helm()
    made = documents("large")
    settings = tomllib.loads(find(made, "ConfigMap", "collector")["data"]["collector.toml"])
    assert settings["roles"] == ["writer", "detect", "jobs", "api"]
    ports = {}
    for kind in ("StatefulSet", "Deployment"):
        (one,) = find(made, kind)["spec"]["template"]["spec"]["containers"]
        ports[kind] = {port["name"] for port in one["ports"]}
        roles = [entry["value"] for entry in one["env"] if entry["name"] == "APIDAE_COLLECTOR_ROLES"]
        assert roles == (["ingest"] if kind == "Deployment" else [])
    assert ports == {"StatefulSet": {"https"}, "Deployment": {"grpc", "health"}}
    service = {port["name"]: port["targetPort"] for port in find(made, "Service", "collector")["spec"]["ports"]}
    assert service == {"grpc": "grpc", "https": "https", "health": "health"}
