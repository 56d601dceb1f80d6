"""Each rule of the selection, and which goes before which."""

import logging

import pytest
from msgspec import structs

from sensor.enrich.kubernetes.cluster import (
    ANNOTATED,
    EXCLUDED,
    LABELLED,
    SYSTEM,
    AttachChoices,
    Selection,
    SelectionRules,
)
from sensor.enrich.kubernetes.pod import Pod


def make(namespace: str = "shop", watch: str = "", *, is_ingress: bool = False) -> Pod:
    return Pod(
        uid="u", object_uid="u", namespace=namespace, name="cart-0", workload="cart", workload_kind="StatefulSet",
        labels=(), watch=watch, is_host_network=False, addresses=(), containers=(), is_ingress=is_ingress,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("pod", "rules", "label", "expected"),
    [
        (make(), {}, "", ""),
        (make("kube-system"), {}, "", SYSTEM),
        (make("openshift-dns"), {}, "", SYSTEM),
        (make("kube-system", is_ingress=True), {}, "", ""),
        (make("kube-system"), {"included": ("kube-*",)}, "", ""),
        (make("kube-system"), {}, "true", ""),
        (make("kube-system"), {"included": ("kube-system/cart",)}, "", ""),
        (make(), {}, "false", LABELLED),
        (make(watch="true"), {}, "false", ""),
        (make(watch="false"), {}, "true", ANNOTATED),
        (make("kube-system", "true"), {}, "", ""),
        (make("kube-system", "false", is_ingress=True), {}, "", ANNOTATED),
        (make(watch="false"), {"included": ("shop",)}, "false", ""),
        (make(watch="true"), {"excluded": ("sh*",)}, "true", EXCLUDED),
        (make(), {"excluded": ("shop/ca*",)}, "", EXCLUDED),
        (make(), {"excluded": ("shop/web", "other")}, "", ""),
        (make(), {"excluded": ("shop",), "included": ("shop",)}, "", EXCLUDED),
    ],
)  # fmt: skip
def test_rules(pod: Pod, rules: dict[str, tuple[str, ...] | bool], label: str, expected: str) -> None:
    selection = Selection(SelectionRules(**rules))  # type: ignore[arg-type]
    selection.set_labels({pod.namespace: label} if label else {})
    assert selection.find_exclusion(pod) == expected


def test_a_value_that_is_neither_is_told_once_and_ignored(caplog: pytest.LogCaptureFixture) -> None:
    selection = Selection(SelectionRules())
    with caplog.at_level(logging.WARNING):
        assert selection.find_exclusion(make(watch="off")) == ""
        assert selection.find_exclusion(make(watch="off")) == ""
        selection.set_labels({"shop": "nein"})
    assert [record.getMessage() for record in caplog.records] == [
        'the apidae.io/watch annotation of the Pod shop/cart-0 is \'off\', which is ignored; give "true" or "false"',
        'the apidae.io/watch label of the namespace shop is \'nein\', which is ignored; give "true" or "false"',
    ]


def test_a_change_of_labels_makes_verdicts_old() -> None:
    selection = Selection(SelectionRules())
    selection.set_labels({"shop": "false"})
    selection.set_labels({"shop": "false"})
    assert selection.generation == 1


@pytest.mark.parametrize(
    ("annotation", "label", "expected"),
    [("true", "", (True, None)), ("", "true", (None, True)), ("FALSE", "yes", (False, None)), ("1", "", (None, None))],
)
def test_a_pod_and_its_namespace_consent_to_the_java_agent(
    annotation: str, label: str, expected: tuple[bool | None, bool | None]
) -> None:
    choices = AttachChoices()
    choices.set_labels({"shop": label} if label else {})
    consent = choices.find(structs.replace(make(), attach_java=annotation))
    assert (consent.namespace, consent.name) == ("shop", "cart-0")
    assert (consent.annotated, consent.labelled) == expected


def test_another_label_may_be_another_consent() -> None:
    choices = AttachChoices()
    choices.set_labels({"shop": "true"})
    choices.set_labels({"shop": "true"})
    assert choices.generation == 1
    choices.set_labels({})
    assert choices.generation == 2 and choices.find(make()).labelled is None
