"""Whose Pod a Kubernetes token is: the API is asked, and believed only for our audience and our accounts."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.core.config import CollectorSettings
from collector.server.grpc_server import StartError, _open_reviewer
from collector.trust.enrollment import EnrollmentRefusedError, TokenReviewer
from common.kubernetes.reflector import AccessError, ApiError
from tests.collector.trust.token_reviews import FakeReviews, serve_reviews


@pytest.fixture
def reviews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeReviews]:
    with serve_reviews(tmp_path) as served:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(served.port))
        yield served


def find_node(reviews: FakeReviews, token: str) -> str:
    reviewer = TokenReviewer(account_dir=reviews.account_dir, audience="apidae", accounts=("apidae/sensor",))
    return asyncio.run(reviewer.find_node(token))


def test_the_node_is_in_the_review(reviews: FakeReviews) -> None:
    reviews.add("t", node_name="node-1", pod_name="sensor-x", pod_uid="u")
    assert find_node(reviews, "t") == "node-1"
    assert reviews.asked == ["POST /apis/authentication.k8s.io/v1/tokenreviews"]


def test_before_1_30_the_pod_is_read(reviews: FakeReviews) -> None:
    reviews.add("t", pod_name="sensor-x", pod_uid="u")
    pod = {"metadata": {"uid": "u"}, "spec": {"nodeName": "node-2"}}
    reviews.pods["/api/v1/namespaces/apidae/pods/sensor-x"] = pod
    assert find_node(reviews, "t") == "node-2"
    pod["metadata"] = {"uid": "another Pod of that name"}
    with pytest.raises(EnrollmentRefusedError, match="is gone"):
        find_node(reviews, "t")
    reviews.add("path", pod_name="../../secrets", pod_uid="u")
    with pytest.raises(EnrollmentRefusedError, match="bound to no Pod"):
        find_node(reviews, "path")


def test_who_is_not_let_in(reviews: FakeReviews) -> None:
    reviews.add("audience", audience="https://kubernetes.default.svc", node_name="n")
    reviews.add("account", account="default/default", node_name="n")
    reviews.add("unbound")
    for token, reason in (
        ("unknown", "kubernetes_token"),
        ("audience", "kubernetes_token"),
        ("account", "kubernetes_account"),
        ("unbound", "kubernetes_unbound"),
    ):
        with pytest.raises(EnrollmentRefusedError) as error:
            find_node(reviews, token)
        assert error.value.reason == reason
    # An API that does not look at audiences says "authenticated" of a token for somebody else.
    reviews.knows_audiences = False
    with pytest.raises(EnrollmentRefusedError, match="not for the audience apidae"):
        find_node(reviews, "audience")


def test_an_api_that_does_not_answer(reviews: FakeReviews) -> None:
    reviews.add("t", node_name="n")
    reviews.status = 403
    with pytest.raises(ApiError, match=r"answered 403 .*; give the service account this right"):
        find_node(reviews, "t")
    reviews.status = 200
    (reviews.account_dir / "token").unlink()
    with pytest.raises(AccessError, match=r"this Pod's service account in .* cannot be used .*token"):
        find_node(reviews, "t")


def test_outside_a_cluster_a_start_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    settings = CollectorSettings(data_dir=tmp_path, kubernetes_enrollment_accounts=("apidae/sensor",))
    with pytest.raises(StartError, match="outside a cluster"):
        _open_reviewer(settings)
