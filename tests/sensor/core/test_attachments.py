"""The journal of what was done to JVMs: each stream gets all that is kept, and what nobody had is counted."""

import pytest

from sensor.core import attachments as module
from sensor.core.attachments import AttachmentEvent, AttachmentRecord, Journal
from tests.sensor.records import make_service


def make_record(name: str) -> AttachmentRecord:
    return AttachmentRecord(
        id=name, event=AttachmentEvent.ATTACHED, service=make_service(), process=1, process_name="java", grant=None,
        monotonic_ns=1,
    )  # fmt: skip


def list_ids(journal: Journal, after: int) -> tuple[int, list[str]]:
    number, records = journal.read_after(after)
    return number, [record.id for record in records]


def test_a_stream_gets_all_and_then_what_is_new() -> None:
    journal = Journal()
    assert list_ids(journal, 0) == (0, [])
    assert [journal.add(make_record(name)) for name in "aba"] == [True, True, False]
    assert list_ids(journal, 0) == (2, ["a", "b"])
    assert list_ids(journal, 2) == (2, [])
    journal.add(make_record("c"))
    assert list_ids(journal, 2) == (3, ["c"])
    assert list_ids(journal, 0) == (3, ["a", "b", "c"])


def test_what_is_evicted_before_anybody_read_it_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECORDS_MAX", 2)
    journal = Journal()
    for name in "ab":
        journal.add(make_record(name))
    journal.read_after(0)
    journal.add(make_record("c"))  # Instead of one that was read.
    assert journal.lost == 0 and list_ids(journal, 0) == (3, ["b", "c"])
    for name in "def":
        journal.add(make_record(name))
    assert journal.lost == 1 and list_ids(journal, 3) == (6, ["e", "f"])
    (figure,) = journal.figures()
    assert figure.name == "tls_java_unreported"
