"""Secrets that the chart's Job makes: what exists is kept, what is missing is added."""

import asyncio
import base64
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from collector.trust.authority import read_authority
from collector.trust.cluster_secrets import SecretNames, create_secrets
from common.kubernetes.reflector import ApiError, open_client
from tests.deploy.cluster import FakeCluster, serve

NAMES: Final = SecretNames(namespace="apidae", authority="ca", authority_config_map="ca", tokens="tokens")
PATH: Final = "/api/v1/namespaces/apidae"
NOW: Final = 1_700_000_000.0
DAY: Final = 86_400


def run(cluster: FakeCluster, names: SecretNames = NAMES) -> tuple[str, ...]:
    kubeconfig = cluster.write_kubeconfig()
    return asyncio.run(create_secrets(partial(open_client, kubeconfig), names, now=NOW, validity_seconds=90 * DAY))


def read(cluster: FakeCluster, name: str, key: str) -> bytes:
    return base64.b64decode(cluster.secret(name)[key])


def put(cluster: FakeCluster, name: str, data: dict[str, str]) -> None:
    item: dict[str, Any] = {"metadata": {"name": name}, "data": data}
    cluster.write(f"{PATH}/secrets/{name}", item)


def test_everything_is_made_and_then_kept(tmp_path: Path) -> None:
    with serve(tmp_path) as cluster:
        assert run(cluster) == ("Secret ca", "ConfigMap ca", "Secret tokens")
        authority = read_authority(read(cluster, "ca", "ca.crt"), read(cluster, "ca", "ca.key"))
        assert authority.certificate.not_valid_after_utc.timestamp() == NOW + 90 * DAY
        shown = cluster.objects[f"{PATH}/configmaps/ca"]["data"]["ca.crt"]
        assert shown.encode() == read(cluster, "ca", "ca.crt")
        before = {path: item["data"] for path, item in cluster.objects.items()}
        assert run(cluster) == ()
        assert {path: item["data"] for path, item in cluster.objects.items()} == before


def test_only_what_is_missing_is_added(tmp_path: Path) -> None:
    token = base64.b64encode(b"of a person, of 32 characters or more").decode()
    with serve(tmp_path) as cluster:
        put(cluster, "tokens", {"api-token": token})
        assert run(cluster, SecretNames(namespace="apidae", tokens="tokens")) == ("Secret tokens",)
        assert cluster.secret("tokens")["api-token"] == token and len(read(cluster, "tokens", "sensor-token")) >= 32
        kept = cluster.objects[f"{PATH}/secrets/tokens"]["metadata"]["annotations"]
        assert kept == {"helm.sh/resource-policy": "keep"}


def test_half_an_authority_is_made_anew(tmp_path: Path) -> None:
    """A certificate without its key signs nothing, and belongs to no other key."""
    with serve(tmp_path) as cluster:
        put(cluster, "ca", {"ca.crt": "b2xk"})
        run(cluster, SecretNames(namespace="apidae", authority="ca"))
        assert read_authority(read(cluster, "ca", "ca.crt"), read(cluster, "ca", "ca.key")).key is not None


def test_the_certificate_that_is_shown_follows_the_authority(tmp_path: Path) -> None:
    with serve(tmp_path) as cluster:
        run(cluster)
        cluster.objects[f"{PATH}/configmaps/ca"]["data"]["ca.crt"] = "of another one"
        assert run(cluster) == ("ConfigMap ca",)
        shown = cluster.objects[f"{PATH}/configmaps/ca"]["data"]["ca.crt"]
        assert shown.encode() == read(cluster, "ca", "ca.crt")


def test_a_refusal_is_an_error(tmp_path: Path) -> None:
    with serve(tmp_path) as cluster:
        kubeconfig = cluster.write_kubeconfig()
    with pytest.raises(ApiError, match="does not answer"):
        asyncio.run(create_secrets(partial(open_client, kubeconfig), NAMES, now=NOW, validity_seconds=DAY))
