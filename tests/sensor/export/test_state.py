"""Keys and policy on disk: whole, private, and never a reason not to start."""

import stat
from pathlib import Path

import pytest

from common.consumer_order import ConsumerColumn
from sensor.aggregate.aggregator import Triggers
from sensor.core.keyed import InstallationKey
from sensor.enrich.own_traffic import NOTHING_OWN, CollectorTraffic
from sensor.export.policy import Policy
from sensor.export.state import StateDirectory, StateError

KEYS = (InstallationKey(key_id=2, secret=b"b" * 16), InstallationKey(key_id=1, secret=b"a" * 16))
OWN = CollectorTraffic(
    boot_id="4e329f51-57b3-4b79-8a67-cab3c5dd05ea", process_mark="apidae-" + 64 * "5", ends=(("10.0.0.9", 8443),)
)
POLICY = Policy(
    epoch=9,
    triggers=Triggers(distinct_objects_per_second=3, calls_per_second=4),
    consumer_order=(ConsumerColumn.CLIENT_WORKLOAD, ConsumerColumn.PRINCIPAL),
)


def test_what_is_saved_is_loaded_by_the_next_process(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "a" / "b")
    state.save_keys(KEYS)
    state.save_policy(POLICY)
    state.save_own_traffic(OWN)
    later = StateDirectory(tmp_path / "a" / "b")
    assert later.load_keys() == KEYS
    assert later.load_policy() == POLICY
    assert later.load_own_traffic() == OWN
    for name in ("keys.json", "policy.json", "own_traffic.json"):
        assert stat.S_IMODE((state.path / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(state.path.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '{"boot_id": 1, "process_mark": [], "ends": [[1]]}',
        '{"boot_id": "x", "process_mark": "apidae", "ends": [["10.0.0.9", 0], ["localhost", 80]]}',
        '{"keys": 5, "epoch": 1}',
        '{"keys": [{"key_id": 1, "secret": "zz"}], "epoch": "x", "triggers": {}}',
        '{"keys": [{"key_id": 0, "secret": "' + "00" * 16 + '"}], "epoch": 1, "triggers": []}',
        '{"keys": [{"key_id": 1, "secret": "00"}], '
        '"epoch": 1, "triggers": {"distinct_objects_per_second": 0, "calls_per_second": 1}}',
    ],
)
def test_a_damaged_file_is_as_none(tmp_path: Path, content: str) -> None:
    state = StateDirectory(tmp_path)
    (tmp_path / "keys.json").write_text(content)
    (tmp_path / "policy.json").write_text(content)
    (tmp_path / "own_traffic.json").write_text(content)
    assert state.load_keys() == ()
    assert state.load_policy() == Policy()
    assert state.load_own_traffic() == NOTHING_OWN


def test_a_directory_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        StateError, match=r"the state directory .*file/x cannot be used \(Not a directory\).*--state-dir"
    ):
        StateDirectory(tmp_path / "file" / "x")


def test_a_disk_that_refuses_is_one_sentence_without_the_secret(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    (tmp_path / "keys.json.new").mkdir()
    with pytest.raises(StateError, match=r"keys.json cannot be written \(Is a directory\)") as caught:
        state.save_keys(KEYS)
    assert "62626262" not in str(caught.value)
    assert "bbbb" not in repr(KEYS)
