"""What the chart's Job makes and must keep: tokens, and an authority of which the collector makes certificates."""

import base64
import contextlib
import json
import shutil
import ssl
import time
from pathlib import Path
from typing import Final

import pytest
import yaml

from collector.core.config import load_settings
from collector.trust.authority import (
    issue_server_certificate,
    make_authority,
    read_authority,
    write_certificates,
    write_key,
)
from scripts.helm.render import EXAMPLES as VALUES
from scripts.helm.render import list_examples, render, run_helm
from scripts.helm.settings_schema import CHART
from tests.deploy.chart import VERSIONS, documents, find, need_helm
from tests.deploy.cluster import FakeCluster, serve

EXAMPLES: Final = [path.name.removesuffix("-values.yaml") for path in list_examples()]


# As the chart rendered them before its Job made them.
PREVIOUS_SECRETS: Final = """
apiVersion: v1
kind: Secret
metadata: {{name: {name}, namespace: apidae}}
type: Opaque
data: {data}
"""


def _encode(value: bytes) -> str:
    return base64.b64encode(value).decode()


def run_in_cluster(version: int, cluster: FakeCluster, *arguments: str, chart: Path = CHART) -> None:
    """Helm against a cluster, with the smallest values."""
    where = ("--namespace", "apidae", "--kube-apiserver", cluster.url)
    values = ("--disable-openapi-validation", "--set", "image.repository=r.example/a", "--timeout", "60s")
    rendering = [] if arguments[0] == "uninstall" else [str(chart), *values]
    done = run_helm(version, *arguments, *rendering, *where)
    assert done.status == 0, f"{done.text}{done.errors}{cluster.jobs}"


def make_previous_chart(directory: Path, data_of: dict[str, dict[str, str]]) -> Path:
    """This chart, rendering its Secrets as before."""
    chart = directory / "previous"
    shutil.copytree(CHART, chart)
    secrets = [PREVIOUS_SECRETS.format(name=name, data=json.dumps(data)) for name, data in data_of.items()]
    (chart / "templates" / "secret.yaml").write_text("---".join(secrets))
    return chart


@pytest.mark.parametrize("version", VERSIONS)
def test_a_job_makes_the_secrets_once(version: int, tmp_path: Path) -> None:
    need_helm(version)
    with serve(tmp_path) as cluster:
        run_in_cluster(version, cluster, "install", "apidae")
        tokens, authority = cluster.secret("apidae-tokens"), cluster.secret("apidae-authority")
        values = {name: base64.b64decode(value).decode() for name, value in tokens.items()}
        assert len(values["api-token"]) >= 32 and len({*values.values()}) == 2
        certificate, key = (base64.b64decode(authority[name]) for name in ("ca.crt", "ca.key"))
        assert read_authority(certificate, key).key is not None
        # Rights on Secrets end with the Job.
        assert cluster.names("jobs") == set()
        assert cluster.names("serviceaccounts") == {"apidae-sensor", "apidae-collector"}
        run_in_cluster(version, cluster, "upgrade", "apidae")
        assert cluster.jobs[-1] == "All exist.\n"
        assert (cluster.secret("apidae-tokens"), cluster.secret("apidae-authority")) == (tokens, authority)
        run_in_cluster(version, cluster, "uninstall", "apidae")
        assert cluster.names("secrets") == {"apidae-tokens", "apidae-authority"}
        assert not cluster.names("roles") and not cluster.names("daemonsets")


@pytest.mark.parametrize("version", VERSIONS)
def test_an_upgrade_keeps_secrets_that_the_chart_rendered_before(version: int, tmp_path: Path) -> None:
    need_helm(version)
    made = make_authority(1_700_000_000.0)
    assert made.key is not None
    pair = {"ca.crt": _encode(write_certificates((made.certificate,))), "ca.key": _encode(write_key(made.key))}
    tokens = {"sensor-token": _encode(b"s" * 43), "api-token": _encode(b"a" * 43)}
    previous = {"apidae-authority": pair, "apidae-tokens": tokens}
    with serve(tmp_path) as cluster:
        run_in_cluster(version, cluster, "install", "apidae", chart=make_previous_chart(tmp_path, previous))
        assert cluster.secret("apidae-authority") == pair and not cluster.jobs
        for _ in range(2):
            run_in_cluster(version, cluster, "upgrade", "apidae")
            assert cluster.jobs[-1] == "All exist.\n"
            assert {name: cluster.secret(name) for name in previous} == previous
        # The way back: `helm rollback` of Helm 3 refuses Secrets that exist and are not of its release.
        run_in_cluster(version, cluster, "upgrade", "apidae", chart=tmp_path / "previous")
        assert {name: cluster.secret(name) for name in previous} == previous


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("example", EXAMPLES)
def test_two_renderings_are_equal_and_hold_no_secret(example: str, version: int) -> None:
    """Argo CD, Flux and `helm template | kubectl apply` render each time."""
    need_helm(version)
    one, other = (render(version, "--values", str(VALUES / f"{example}-values.yaml")) for _ in range(2))
    assert one.status == 0 and one == other
    assert not [d for d in yaml.safe_load_all(one.text) if d and d["kind"] == "Secret"]


def test_the_job_is_there_only_where_it_makes_something() -> None:
    need_helm()
    jobs = {name: [d for d in documents(name) if d["kind"] == "Job"] for name in EXAMPLES}
    arguments = {
        name: found[0]["spec"]["template"]["spec"]["containers"][0]["args"] for name, found in jobs.items() if found
    }
    assert set(arguments) == {"smallest", "everything", "privileged", "pair", "large"}
    assert "--authority" not in arguments["everything"] and "--tokens" in arguments["everything"]
    assert arguments["privileged"][-2:] == ["--tokens", "apidae-tokens"]
    assert {"--authority-config-map", "365"} <= set(arguments["privileged"])
    for name in arguments:
        (role,) = (d for d in documents(name) if d["kind"] == "Role" and d["metadata"]["name"].endswith("-secrets"))
        assert all("resourceNames" in rule for rule in role["rules"] if rule["verbs"] != ["create"])


def test_another_job_has_another_name() -> None:
    """A Job cannot be changed: `kubectl apply` would be refused."""
    need_helm()
    names = set()
    for values in ("image.tag=1", "image.tag=2", "image.tag=1,collector.podLabels.team=a", "image.tag=1"):
        done = render(4, "--set-string", f"image.repository=r.example/a,{values}")
        names.add(find(tuple(d for d in yaml.safe_load_all(done.text) if d), "Job")["metadata"]["name"])
    assert len(names) == 3


@pytest.mark.parametrize(
    "name", ["apidae-collector.apidae.svc", "localhost", "apidae.internal.example", "apis.example.org"]
)
def test_the_collector_is_known_by_its_names(name: str, tmp_path: Path) -> None:
    need_helm()
    client = shake_hands("privileged", name, tmp_path)
    assert client.version() is not None and client.getpeercert()


def test_and_by_no_other(tmp_path: Path) -> None:
    need_helm()
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands("smallest", "apis.example.org", tmp_path)


def shake_hands(example: str, name: str, directory: Path) -> ssl.SSLObject:
    """TLS between a client that trusts the chart's authority and asks for `name`, and a collector, as the chart has it
    make a certificate."""
    rendered = documents(example)
    authority = make_authority(time.time())
    authority_pem = write_certificates((authority.certificate,))
    (directory / "settings.toml").write_text(find(rendered, "ConfigMap", "collector")["data"]["collector.toml"])
    settings = load_settings({}, config_path=directory / "settings.toml", environment={})
    pair = issue_server_certificate(authority, settings.tls_server_names, now=time.time(), seconds=3600)
    (directory / "pair.pem").write_bytes(pair.key + pair.chain)
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(directory / "pair.pem")
    client_context = ssl.create_default_context(cadata=authority_pem.decode())
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(back, there, server_hostname=name)
    server = server_context.wrap_bio(there, back, server_side=True)
    for _ in range(3):
        for side in (client, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    return client
