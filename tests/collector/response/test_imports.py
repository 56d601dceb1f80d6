"""What earlier versions kept of blocks in files is in the state after the first start."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import msgspec
import pytest

from collector.alerting.alert import AlertKind
from collector.kubernetes.rows import PodHolder
from collector.receiver.policy import describe_terms
from collector.response.block import BlockState
from collector.response.block_store import BlockStore
from collector.response.imports import drop_imported, import_response
from collector.response.ladder import Ladder, LadderStep, Rung
from collector.response.policy_table import PolicyTable
from collector.storage.state.store import StateStore
from collector.trust.audit import AuditEntry, AuditLog
from common.consumer_order import ConsumerColumn
from tests.collector.response.test_webhook import BLOCK

ORDER = (ConsumerColumn.PRINCIPAL,)
HOLDER = PodHolder(
    cluster="east", namespace="shop", name="cart-1", workload_kind="Deployment", workload="cart", since=9
)
OPEN = replace(BLOCK, id="b2", holder=HOLDER, credentials=(2**64 - 1,), clusters=("east",), nodes=("n1",), share=0.25)
OVER = replace(BLOCK, id="b1", state=BlockState.LIFTED, ended_by="bob", ended_at=1_700_000_100.0, stopped_bytes=2**40)
RUNG = Rung(kind=AlertKind.SCANNING, step=LadderStep.ENFORCE, seconds=60, endpoints=("ep1",), set_by="ada")


def make_entry(time: float) -> AuditEntry:
    return AuditEntry(time=time, by="ada", action="began", block_id="b2", target="address:203.0.113.7", why="")


def write_files(directory: Path) -> None:
    """As the versions up to 0.2 wrote them; blocks of the first one had no clusters."""
    old = [asdict(OVER), asdict(OPEN)]
    del old[0]["clusters"]
    (directory / "blocks.json").write_bytes(msgspec.json.encode(old))
    (directory / "ladder.json").write_bytes(msgspec.json.encode([RUNG]))
    (directory / "policy.json").write_text(json.dumps({"epoch": 7, **describe_terms(ORDER)}))
    (directory / "audit.jsonl.1").write_bytes(msgspec.json.encode(make_entry(1)) + b"\n")
    (directory / "audit.jsonl").write_bytes(msgspec.json.encode(make_entry(2)) + b'\n{"time": 60, "by"')


def test_files_are_imported_once_and_put_aside(state: StateStore, tmp_path: Path) -> None:
    write_files(tmp_path)
    for _ in range(2):
        import_response(state, tmp_path, 5.0)
        policy = PolicyTable(state, ORDER)
        blocks = BlockStore(state, policy)
        assert blocks.list_blocks() == [OPEN, OVER] and blocks.list_open() == [OPEN]
        assert Ladder(state).find(AlertKind.SCANNING) == RUNG
        assert Ladder(state).find(AlertKind.ENUMERATION).step is LadderStep.PROPOSE
        assert policy.read().epoch == 7
        assert AuditLog(state).list_recent(9) == [make_entry(2), make_entry(1)]
    names = {"blocks.json", "ladder.json", "policy.json", "audit.jsonl.1", "audit.jsonl"}
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.imported" for name in names}
    drop_imported(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"ladder.json.imported", "policy.json.imported"}


@pytest.mark.parametrize("name", ["blocks.json", "ladder.json", "policy.json"])
@pytest.mark.parametrize("content", ["{", "null", "[null]", '[{"id": 1}]', '{"epoch": []}', "\0"])
def test_a_damaged_file_stops_the_start_with_one_sentence(
    sqlite_state: StateStore, tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=f"{name} is damaged; remove it: [^\n]*\\.$"):
        import_response(sqlite_state, tmp_path, 5.0)
    (tmp_path / name).unlink()
    write_files(tmp_path)
    import_response(sqlite_state, tmp_path, 5.0)  # Nothing of the damaged one was kept.
