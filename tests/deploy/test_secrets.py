"""What the chart makes and must keep: tokens, an authority, a certificate that its names hold for."""

import base64
import ssl
from pathlib import Path

import pytest
import yaml

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
    assert set(first) == {"apidae-tokens", "apidae-authority", "apidae-collector-tls"}
    again = render_in_cluster(version, first)
    assert {name: secret["data"] for name, secret in again.items()} == {
        name: secret["data"] for name, secret in first.items()
    }
    # New names: another certificate by the same authority.
    named = render_in_cluster(version, first, "--set", "tls.extraNames={apidae.example}")
    assert named["apidae-authority"]["data"] == first["apidae-authority"]["data"]
    assert named["apidae-collector-tls"]["data"]["ca.crt"] == first["apidae-collector-tls"]["data"]["ca.crt"]
    assert named["apidae-collector-tls"]["data"]["tls.crt"] != first["apidae-collector-tls"]["data"]["tls.crt"]


def test_tokens_are_as_long_as_the_collector_asks() -> None:
    need_helm()
    data = find(documents("smallest"), "Secret", "tokens")["data"]
    for name in ("sensor-token", "api-token"):
        token = base64.b64decode(data[name]).decode()
        assert len(token) >= 32 and token.isascii() and token.isprintable()
    assert data["sensor-token"] != data["api-token"]


@pytest.mark.parametrize("name", ["apidae-collector.apidae.svc", "localhost", "127.0.0.1", "apis.example.org"])
def test_the_certificate_is_good_for_its_names(name: str, tmp_path: Path) -> None:
    need_helm()
    shake_hands(find(documents("privileged"), "Secret", "collector-tls")["data"], name, tmp_path)


def test_the_certificate_is_good_for_no_other_name(tmp_path: Path) -> None:
    need_helm()
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(find(documents("smallest"), "Secret", "collector-tls")["data"], "apis.example.org", tmp_path)


def shake_hands(data: dict[str, str], name: str, directory: Path) -> None:
    """TLS between a client that trusts the authority and asks for `name`, and a server with the certificate."""
    for file in ("ca.crt", "tls.crt", "tls.key"):
        (directory / file).write_bytes(base64.b64decode(data[file]))
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(directory / "tls.crt", directory / "tls.key")
    client_context = ssl.create_default_context(cafile=str(directory / "ca.crt"))
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(back, there, server_hostname=name)
    server = server_context.wrap_bio(there, back, server_side=True)
    for _ in range(3):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert client.version() is not None and client.getpeercert()
