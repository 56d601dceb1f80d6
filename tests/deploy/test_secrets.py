"""What the chart makes and must keep: tokens, and an authority of which the collector makes certificates."""

import base64
import contextlib
import ssl
import time
from pathlib import Path

import pytest
import yaml

from collector.core.config import load_settings
from collector.trust.authority import issue_server_certificate, read_authority
from scripts.helm.render import run_helm
from scripts.helm.settings_schema import CHART
from tests.deploy.chart import VERSIONS, Document, documents, find, need_helm
from tests.deploy.discovery import serve


def render_in_cluster(version: int, secrets: dict[str, Document], *arguments: str) -> dict[str, Document]:
    """The Secrets that the chart makes where these are in the cluster already."""
    with serve(secrets) as address:
        where = ("--namespace", "apidae", "--dry-run=server", "--kube-apiserver", address)
        values = ("--disable-openapi-validation", "--set", "image.repository=r.example/a", *arguments)
        done = run_helm(version, "template", "apidae", str(CHART), *where, *values)
    assert done.status == 0, done.errors
    rendered = (document for document in yaml.safe_load_all(done.text) if document)
    made = {d["metadata"]["name"]: d for d in rendered if d["kind"] == "Secret"}
    for secret in made.values():
        # As an installation leaves them.
        owner = {"meta.helm.sh/release-name": "apidae", "meta.helm.sh/release-namespace": "apidae"}
        secret["metadata"].setdefault("annotations", {}).update(owner)
    return made


@pytest.mark.parametrize("version", VERSIONS)
def test_secrets_are_kept_in_upgrades(version: int) -> None:
    need_helm(version)
    first = render_in_cluster(version, {})
    assert set(first) == {"apidae-tokens", "apidae-authority"}
    again = render_in_cluster(version, first)
    assert {name: secret["data"] for name, secret in again.items()} == {
        name: secret["data"] for name, secret in first.items()
    }


def test_tokens_are_as_long_as_the_collector_asks() -> None:
    need_helm()
    data = find(documents("smallest"), "Secret", "tokens")["data"]
    for name in ("sensor-token", "api-token"):
        token = base64.b64decode(data[name]).decode()
        assert len(token) >= 32 and token.isascii() and token.isprintable()
    assert data["sensor-token"] != data["api-token"]


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
    data = find(rendered, "Secret", "authority")["data"]
    authority_pem, key_pem = (base64.b64decode(data[file]) for file in ("ca.crt", "ca.key"))
    (directory / "settings.toml").write_text(find(rendered, "ConfigMap", "collector")["data"]["collector.toml"])
    settings = load_settings({}, config_path=directory / "settings.toml", environment={})
    authority = read_authority(authority_pem, key_pem)
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
