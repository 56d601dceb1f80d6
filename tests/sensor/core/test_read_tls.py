"""How much is read: the operator's off is final, a namespace chooses, and its Pod may only choose less."""

import pytest

from common.settings import ConfigError
from sensor.core.config import load_settings
from sensor.core.read_tls import ReadTls, choose

OFF, AUTO, FULL = ReadTls


@pytest.mark.parametrize(
    ("setting", "namespace", "pod", "mode"),
    [
        (AUTO, "", "", AUTO),
        (FULL, "", "", FULL),
        (OFF, "full", "full", OFF),
        (AUTO, "", "off", OFF),
        (FULL, "off", "full", OFF),
        (FULL, "auto", "full", AUTO),
        (AUTO, "full", "", FULL),
        (AUTO, "", "full", AUTO),
        (FULL, "auto", "", AUTO),
        (AUTO, "full", "auto", AUTO),
        (FULL, "", "auto", AUTO),
        (AUTO, "", "no", OFF),
        (FULL, "Full", "full", OFF),
    ],
)
def test_a_namespace_chooses_and_its_pod_less(setting: ReadTls, namespace: str, pod: str, mode: ReadTls) -> None:
    choice = choose(setting, namespace=namespace, pod=pod)
    assert choice.mode is mode
    assert bool(choice.reason) == (mode is OFF and setting is not OFF)


def test_a_reason_names_what_to_change() -> None:
    assert choose(AUTO, namespace="off", pod="auto").reason == (
        "Reading TLS is switched off by the label apidae.io/read-tls of its namespace."
    )
    assert choose(AUTO, namespace="auto", pod="nein").reason == (
        "It is not read, for the annotation apidae.io/read-tls of its Pod is not off, auto or full."
    )


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        *((word, "takes off, auto or full: give full") for word in ("true", "1", "YES", "on")),
        *((word, 'takes off, auto or full: give "off", with quotes in YAML') for word in ("False", "0", "no")),
        ("much", "off"),
    ],
)
def test_earlier_values_are_refused_with_the_one_to_give(value: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match="read_tls") as refusal:
        load_settings({"collector": "127.0.0.1:1"}, environment={"APIDAE_SENSOR_READ_TLS": value})
    assert sentence in str(refusal.value)


def test_tls_is_read_by_default() -> None:
    assert load_settings({"collector": "127.0.0.1:1"}, environment={}).read_tls is AUTO
